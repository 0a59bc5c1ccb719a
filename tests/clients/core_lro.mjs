// @azure/core-lro: its poller follows a job by each of its ways, and tells success from failure and from cancellation.

import { createHttpPoller } from '@azure/core-lro';

import { check, Stage, URL } from './stage.mjs';

// What a generated client puts between the poller and the network.
async function send(method, url, body) {
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  const document = await response.json();
  if (!response.ok) throw Object.assign(new Error(document.title), { name: 'RestError', statusCode: response.status });
  const request = { method, url, body };
  const rawResponse = { statusCode: response.status, headers: Object.fromEntries(response.headers), body: document, request };
  return { flatResponse: document, rawResponse };
}

// Submits and polls; `without` are headers that a simpler server would not send.
function begin(path, body, { without = [], ...options } = {}) {
  const operation = {
    sendInitialRequest: async () => {
      const answer = await send('POST', `${URL}${path}`, body);
      for (const header of without) delete answer.rawResponse.headers[header];
      return answer;
    },
    sendPollRequest: (url) => send('GET', url),
  };
  return createHttpPoller(operation, { intervalInMs: 200, ...options });
}

const act = (stage, options = {}) => ({ task: 'act', payload: stage.payload, ...options });
const cancel = (id) => send('POST', `${URL}/jobs/${id}/cancel`);

async function succeeds(stage) {
  for (const [what, path, body] of [
    ['POST /jobs', '/jobs', act(stage)],
    ['POST /tasks/{task}/jobs', '/tasks/act/jobs', stage.payload],
  ]) {
    const entered = stage.enters();
    const poller = begin(path, body);
    const result = poller.pollUntilDone();
    const actor = await entered;
    actor.told({ progress: [0.5, 'half'] });
    actor.told({ return: { answer: 42 } });
    const job = await result;
    check([poller.operationState.status, job.id, job.result], ['succeeded', actor.id, { answer: 42 }], what);
  }
}

async function shortWay() {
  for (const [what, options] of [
    ['POST /crunch by all ways', {}],
    ['POST /crunch by Operation-Location', { resourceLocationConfig: 'operation-location' }],
    ['POST /crunch by Location, that is /result/{token}', { without: ['operation-location'] }],
  ]) {
    const poller = begin('/crunch', { photons: 200_000 }, options);
    const job = await poller.pollUntilDone();
    check([poller.operationState.status, job.status, job.result.photons], ['succeeded', 'succeeded', 200_000], what);
  }
}

async function fails(stage) {
  const entered = stage.enters();
  const poller = begin('/jobs', act(stage));
  const refused = poller.pollUntilDone().catch((error) => error.message);
  (await entered).told({ fail_for_good: 'out of luck' });
  const message = await refused;
  check([poller.operationState.status, message.includes('out of luck')], ['failed', true], `a failed job is a failure: ${message}`);
}

async function isCanceled(stage) {
  const entered = stage.enters();
  const poller = begin('/jobs', act(stage));
  const refused = poller.pollUntilDone().catch((error) => error.message);
  const actor = await entered;
  await cancel(actor.id);
  await actor.isAskedToStop();
  const message = await refused;
  check([poller.operationState.status, message], ['canceled', 'Operation was canceled'], 'a running job that is canceled');
}

// Whoever goes by the code of /result/{token} alone learns that it has ended, and reads how (docs/api.md).
async function codeAlone() {
  const poller = begin('/crunch?delay_ms=3600000', { photons: 1 }, { without: ['operation-location'] });
  await poller.submitted();
  const { id } = await (await fetch(poller.operationState.config.operationLocation)).json();
  await cancel(id);
  const job = await poller.pollUntilDone();
  check([poller.operationState.status, job.status], ['succeeded', 'canceled'], 'by Location alone a canceled job is a document');
}

// What another process needs to go on.
async function goesOnElsewhere(stage) {
  const entered = stage.enters();
  const first = begin('/jobs', act(stage));
  const restoreFrom = await first.serialize();
  (await entered).told({ return: 1 });
  const second = createHttpPoller({ sendPollRequest: (url) => send('GET', url) }, { restoreFrom, intervalInMs: 200 });
  check((await second.pollUntilDone()).result, 1, 'a serialized poller is taken up');
}

const stage = await Stage.open();
await succeeds(stage);
await shortWay();
await fails(stage);
await isCanceled(stage);
await codeAlone();
await goesOnElsewhere(stage);
stage.close();
