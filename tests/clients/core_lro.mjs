// @azure/core-lro: its poller follows a job with each polling mode, and distinguishes success, failure and cancellation.

import { createHttpPoller } from '@azure/core-lro';

import { check, Stage, URL } from './stage.mjs';

// Sends a request for the poller, as a generated client does.
async function send(method, url, body) {
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  const document = await response.json();
  if (!response.ok) throw Object.assign(new Error(document.title), { name: 'RestError', statusCode: response.status });
  const request = { method, url, body };
  const rawResponse = { statusCode: response.status, headers: Object.fromEntries(response.headers), body: document, request };
  return { flatResponse: document, rawResponse };
}

// Submits a job and returns a poller; `without` names headers to remove from the response, as of a simpler server.
function begin(path, body, { without = [], ...options } = {}) {
  const operation = {
    sendInitialRequest: async () => {
      const response = await send('POST', `${URL}${path}`, body);
      for (const header of without) delete response.rawResponse.headers[header];
      return response;
    },
    sendPollRequest: (url) => send('GET', url),
  };
  return createHttpPoller(operation, { intervalInMs: 200, ...options });
}

const submission = (stage, options = {}) => ({ task: 'act', payload: stage.payload, ...options });
const cancel = (id) => send('POST', `${URL}/jobs/${id}/cancel`);

async function testSuccess(stage) {
  for (const [what, path, body] of [
    ['POST /jobs', '/jobs', submission(stage)],
    ['POST /tasks/{task}/jobs', '/tasks/act/jobs', stage.payload],
  ]) {
    const connected = stage.waitForHandler();
    const poller = begin(path, body);
    const result = poller.pollUntilDone();
    const actor = await connected;
    actor.send({ progress: [0.5, 'half'] });
    actor.send({ return: { answer: 42 } });
    const job = await result;
    check([poller.operationState.status, job.id, job.result], ['succeeded', actor.id, { answer: 42 }], what);
  }
}

async function testShortRoutes() {
  for (const [what, options] of [
    ['POST /crunch with all headers', {}],
    ['POST /crunch by Operation-Location', { resourceLocationConfig: 'operation-location' }],
    ['POST /crunch by Location, that is /result/{token}', { without: ['operation-location'] }],
  ]) {
    const poller = begin('/crunch', { photons: 200_000 }, options);
    const job = await poller.pollUntilDone();
    check([poller.operationState.status, job.status, job.result.photons], ['succeeded', 'succeeded', 200_000], what);
  }
}

async function testFailure(stage) {
  const connected = stage.waitForHandler();
  const poller = begin('/jobs', submission(stage));
  const failure = poller.pollUntilDone().catch((error) => error.message);
  (await connected).send({ fail_for_good: 'out of luck' });
  const message = await failure;
  check([poller.operationState.status, message.includes('out of luck')], ['failed', true], `a failed job is a failure: ${message}`);
}

async function testCancellation(stage) {
  const connected = stage.waitForHandler();
  const poller = begin('/jobs', submission(stage));
  const failure = poller.pollUntilDone().catch((error) => error.message);
  const actor = await connected;
  await cancel(actor.id);
  await actor.waitForStopRequest();
  const message = await failure;
  check([poller.operationState.status, message], ['canceled', 'Operation was canceled'], 'a running job that is canceled');
}

// For a client that uses only the status code of /result/{token}, 200 means ended; the body has the status (docs/api.md).
async function testStatusCodeOnly() {
  const poller = begin('/crunch?delay_ms=3600000', { photons: 1 }, { without: ['operation-location'] });
  await poller.submitted();
  const { id } = await (await fetch(poller.operationState.config.operationLocation)).json();
  await cancel(id);
  const job = await poller.pollUntilDone();
  check([poller.operationState.status, job.status], ['succeeded', 'canceled'], 'with Location only, a canceled job is a document');
}

// Another poller, as in another process, continues from the serialized state of the first.
async function testContinuation(stage) {
  const connected = stage.waitForHandler();
  const first = begin('/jobs', submission(stage));
  const restoreFrom = await first.serialize();
  (await connected).send({ return: 1 });
  const second = createHttpPoller({ sendPollRequest: (url) => send('GET', url) }, { restoreFrom, intervalInMs: 200 });
  check((await second.pollUntilDone()).result, 1, 'a poller continues from a serialized state');
}

const stage = await Stage.open();
await testSuccess(stage);
await testShortRoutes();
await testFailure(stage);
await testCancellation(stage);
await testStatusCodeOnly();
await testContinuation(stage);
stage.close();
