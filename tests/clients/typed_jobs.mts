// Jobs by the client of examples/typescript: what it must do, and what must not compile.

import { Crunch, type Job, type Options, type Payload, ProblemError, type Result, type Task } from './typescript/crunch.js';
// @ts-expect-error: the module has no types
import { Cutter } from './cutter.mjs';
// @ts-expect-error: the module has no types
import { MadeUpAnswers, recordPauses } from './made_up_answers.mjs';
// @ts-expect-error: the module has no types
import { check, Stage, URL } from './stage.mjs';

const crunch = new Crunch(URL);
const LARGER_THAN_DOCUMENTS = 100_000;
const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

async function problemOf(work: Promise<unknown>) {
  const error = await work.then(() => 'no error', (error) => error);
  if (!(error instanceof ProblemError)) throw new Error(`not a problem: ${error}`);
  return error.problem;
}

function testTypes() {
  const task: Task = 'crunch';
  ({ photons: 1000, seed: 7 }) satisfies Payload<'crunch'>;
  // @ts-expect-error: there is no such task
  'crunsh' satisfies Task;
  // @ts-expect-error: there is no such member
  ({ fotons: 1000 }) satisfies Payload<'crunch'>;
  // @ts-expect-error: the member has another type
  ({ photons: '1000' }) satisfies Payload<'crunch'>;
  // @ts-expect-error: the task takes no JSON
  ({}) satisfies Payload<'image.thumbnail'>;
  // @ts-expect-error: there is no such option
  ({ delay: 1000 }) satisfies Options;
  return async (job: Job<typeof task>, result: Result<typeof task>) => {
    result.transmitted.fraction satisfies number;
    // @ts-expect-error: the result has no such member
    result.transmited;
    // @ts-expect-error: the document has no result while the job has not ended
    job.result.transmitted;
    // @ts-expect-error: a token has the task of its job
    (await crunch.result(job.token)).words;
    // @ts-expect-error: a payload of another task
    await crunch.submit('crunch', { text: 'to be or not to be' });
    // @ts-expect-error: there is no such path
    await crunch.api.GET('/nowhere');
  };
}

async function testSuccess() {
  const job = await crunch.submit('crunch', { photons: 1000, seed: 7 }, { metadata: { order: 17 }, priority: 'low' });
  const ended = await crunch.wait(job.token);
  check([ended.status, ended.result?.photons], ['succeeded', 1000], 'a job is submitted and ends');
  check([ended.metadata, ended.priority], [{ order: '17' }, 'low'], 'it has its options');
  const result = await crunch.result(job.token);
  check([result.photons, result.seed], [1000, 7], 'its result is returned');
  // As read from a database: the token is a string without a task.
  const token: string = job.token;
  check((await crunch.result<'crunch'>(token)).seed, 7, 'a token is a string');
}

async function testResults() {
  const text = 'x'.repeat(LARGER_THAN_DOCUMENTS);
  const large = await crunch.submit('echo', text);
  check(await crunch.result(large.token), text, 'a result that is too large for the document is returned');
  check((await crunch.wait(large.token)).result, null, 'the document does not have it');

  const body = Uint8Array.from(atob(PIXEL), (char) => char.charCodeAt(0));
  const headers = { 'Content-Type': 'image/png' };
  const picture = await (await fetch(`${URL}/tasks/image.thumbnail/jobs`, { method: 'POST', headers, body })).json();
  const thumbnail = await crunch.result<'image.thumbnail'>(picture.token);
  check(thumbnail instanceof Blob && thumbnail.type, 'image/png', 'a result that is not JSON is a blob');
}

async function testFailures(stage: any) {
  const rejected = await problemOf(crunch.submit('crunch', { photons: 0 }));
  check([rejected.type, rejected.errors?.[0]?.pointer], ['/problems/invalid-submission', '/payload/photons'], 'a rejected payload is a problem');

  const connected = stage.waitForHandler();
  const failing = await crunch.submit('act', stage.payload);
  (await connected).send({ fail_for_good: 'out of luck' });
  const failed = await problemOf(crunch.result(failing.token));
  check([failed.type, failed.error?.message], ['/problems/job-failed', 'out of luck'], 'a failed job is a problem with its error');
  const document = await crunch.wait(failing.token);
  check([document.status, document.error?.message], ['failed', 'out of luck'], 'its document is no error');

  const later = await crunch.submit('crunch', {}, { delay_ms: 3_600_000 });
  await crunch.api.POST('/jobs/{id}/cancel', { params: { path: { id: later.id } } });
  check((await problemOf(crunch.result(later.token))).type, '/problems/job-canceled', 'a canceled job is a problem');
  check((await problemOf(crunch.wait('01a20c36-14f1-8000-8f8f-f34074aa25aa'))).status, 404, 'an unknown token is a problem');
}

async function testSignal() {
  const later = await crunch.submit('crunch', {}, { delay_ms: 3_600_000 });
  const controller = new AbortController();
  const pauses = await recordPauses(async () => {
    const waiting = crunch.wait(later.token, controller.signal).catch((error) => error.name);
    controller.abort();
    check(await waiting, 'AbortError', 'a signal ends the wait');
  });
  check(pauses, [], 'and the request is not repeated');
}

// The response to the submission is cut, so the client repeats the request.
async function testLostResponse() {
  const cutter = await Cutter.start(URL, [300, 900]);
  const job = await new Crunch(cutter.url).submit('echo', 'once', { queue: 'cut' });
  check(cutter.cuts, 2, 'the connection was cut');
  const { data } = await crunch.api.GET('/jobs', { params: { query: { queue: 'cut' } } });
  check(data!.items.map((item) => item.id), [job.id], 'there is one job');
  cutter.close();
}

async function testPauses() {
  const notNow = (seconds: string) => [503, { 'Retry-After': seconds }, { type: '/problems/full' }];
  const answers = [null, notNow('7'), [429, { 'Retry-After': '3' }, {}], [202, {}, { token: 't' }]];
  const server = await MadeUpAnswers.start([...answers, [202, { 'Retry-After': '5' }, {}], [200, {}, { status: 'failed' }]]);
  const client = new Crunch(server.url);
  const pauses = await recordPauses(async () => {
    const { token } = await client.submit('echo', 1);
    check((await client.wait(token)).status, 'failed', 'a client goes on until there is an answer');
  });
  check(pauses, [1000, 7000, 3000, 5000], 'it pauses as long as the answers say, and a second without an answer');
  const keys = new Set(server.requests.slice(0, 4).map(({ key }: { key: string }) => key));
  check([keys.size, keys.has(undefined as any)], [1, false], 'the requests of one submission have one key');
  await recordPauses(() => client.submit('echo', 1, { idempotency_key: 'order-17' }));
  check(server.requests.at(-1).key, 'order-17', 'the caller may set the key');
  server.close();
}

async function testLimits() {
  const busy = [503, { 'Retry-After': '1', 'Content-Type': 'application/problem+json' }, { type: '/problems/busy' }];
  const server = await MadeUpAnswers.start([busy]);
  const client = new Crunch(server.url);
  await recordPauses(async () => {
    check((await problemOf(client.wait('t'))).type, '/problems/busy', 'a client gives up');
  });
  check(server.requests.length, 10, 'after ten attempts');
  const cancel = client.api.POST('/jobs/{id}/cancel', { params: { path: { id: 't' } } });
  check((await problemOf(cancel)).type, '/problems/busy', 'a request that is not safe to repeat');
  check(server.requests.length, 11, 'is sent once');
  server.close();

  const proxy = await MadeUpAnswers.start([[502, {}, '<h1>Bad Gateway</h1>']]);
  const problem = await problemOf(new Crunch(proxy.url).wait('t'));
  check([problem.status, problem.detail], [502, '<h1>Bad Gateway</h1>'], 'an error of a proxy is a problem');
  proxy.close();
}

const stage = await Stage.open();
testTypes();
await testSuccess();
await testResults();
await testFailures(stage);
await testSignal();
await testLostResponse();
await testPauses();
await testLimits();
stage.close();
