// A typed client of Crunch. `npm run generate` writes the types of an API and its tasks to api.d.ts.

import createClient from 'openapi-fetch';

import type { components, paths } from './api.js';

type TaskIn<Path> = Path extends `/tasks/${infer Name}/jobs` ? Name : never;
/** A task that a worker had declared when api.d.ts was generated. */
export type Task = Exclude<TaskIn<keyof paths>, '{task}'>;
type Post<T extends Task> = paths[`/tasks/${T}/jobs`]['post'];
/** The payload of a task: `unknown` if it declares no schema, `never` if it takes no JSON. */
export type Payload<T extends Task> =
  Post<T>['requestBody']['content'] extends { 'application/json': infer Json } ? Json : never;
/** Identifies a job: a string whose type has the job's task. */
export type Token<T extends Task> = string & { task?: T };
/** The document of a job. */
export type Job<T extends Task> = Post<T>['responses'][202]['content']['application/json'] & { token: Token<T> };
/** The result of a task: `unknown` if it declares no schema. */
export type Result<T extends Task> = Exclude<Job<T>['result'], null | undefined>;
/** What `POST /jobs` takes beside task and payload. */
export type Options = Omit<components['schemas']['Submission'], 'task' | 'payload'>;
export type Problem = components['schemas']['Problem'];

/** The API rejected the request, or the job has no result: `problem.type` gives the reason. */
export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** How long a request waits for the end of a job, in seconds. */
const WAIT = 30;
/** How long a response may take, in milliseconds: longer than the API waits at most, which is a minute. */
const TIMEOUT = 70_000;
/** How often a request is sent while there is no response, or one that says "not now". */
const ATTEMPTS = 10;
const NOT_NOW = [429, 503];

export class Crunch {
  /** All routes of the API, with their types, such as `crunch.api.POST('/jobs/{id}/cancel', …)`. */
  readonly api;

  constructor(baseUrl: string, key?: string) {
    const headers = key === undefined ? {} : { Authorization: `Bearer ${key}` };
    this.api = createClient<paths>({ baseUrl, headers, fetch: send });
    this.api.use({ onResponse: ({ response }) => throwProblem(response) });
  }

  /** Submits a job. Its idempotency key is random unless `options` has one. */
  async submit<T extends Task>(task: T, payload: Payload<T>, options: Options = {}): Promise<Job<T>> {
    const { idempotency_key: key, ...rest } = options;
    const header = { 'Idempotency-Key': key ?? crypto.randomUUID() };
    const { data } = await this.api.POST('/jobs', { body: { task, payload, ...rest }, params: { header } });
    return data as Job<T>;
  }

  /** Waits until a job has ended; `status` says how. */
  async wait<T extends Task>(token: Token<T>, signal: AbortSignal | null = null): Promise<Job<T>> {
    const params = { path: { token }, query: { wait: WAIT } };
    const { data } = await poll(() => this.api.GET('/result/{token}', { params, signal }));
    return data as Job<T>;
  }

  /** Waits for the result of a job: a value if it is JSON, else a `Blob`. A job that failed is a `ProblemError`. */
  async result<T extends Task>(token: Token<T>, signal: AbortSignal | null = null): Promise<Result<T>> {
    const params = { path: { id: token }, query: { wait: WAIT } };
    const { response } = await poll(() => this.api.GET('/jobs/{id}/result', { params, signal, parseAs: 'stream' }));
    const isJson = /[/+]json\b/.test(response.headers.get('Content-Type') ?? '');
    return (await (isJson ? response.json() : response.blob())) as Result<T>;
  }
}

async function poll<Answer extends { response: Response }>(read: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await read();
    if (answer.response.status !== 202) return answer;
    await pause(answer.response);
  }
}

// Sends a request, again and again if it may be repeated: a read, or a submission with an idempotency key.
async function send(request: Request): Promise<Response> {
  const attempts = request.method === 'GET' || request.headers.has('Idempotency-Key') ? ATTEMPTS : 1;
  for (let attempt = 1; ; attempt += 1) {
    let response: Response | undefined;
    try {
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(TIMEOUT)]);
      const incoming = await fetch(request.clone(), { signal });
      const body = await incoming.blob(); // throws if the connection is cut
      response = new Response(body.size > 0 ? body : null, incoming);
      if (attempt === attempts || !NOT_NOW.includes(response.status)) return response;
    } catch (error) {
      if (attempt === attempts || request.signal.aborted) throw error;
    }
    await pause(response);
  }
}

function pause(response?: Response): Promise<void> {
  const seconds = Number(response?.headers.get('Retry-After')) || 1;
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

async function throwProblem(response: Response): Promise<void> {
  if (response.ok || response.status === 304) return;
  const { status, statusText: title } = response;
  const detail = await response.text();
  if (response.headers.get('Content-Type')?.startsWith('application/problem+json')) {
    throw new ProblemError(JSON.parse(detail));
  }
  // It is not from the API, but from a proxy before it.
  throw new ProblemError({ type: 'about:blank', title, status, detail, instance: '' });
}
