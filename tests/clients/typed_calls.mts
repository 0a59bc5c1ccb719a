// Must compile against the types of /openapi.json; names that are misspelled must not compile.

import createClient from 'openapi-fetch';

import type { components, paths } from './api.js';
// @ts-expect-error: the module has no types
import { check, URL } from './stage.mjs';

type Job = components['schemas']['Job'];
type Status = Job['status'];
const SUCCEEDED: Status = 'succeeded';

const api = createClient<paths>({ baseUrl: URL });

const crunched = await api.POST('/tasks/crunch/jobs', { body: { photons: 1000 }, params: { query: { wait: 30 } } });
const job = crunched.data!;
check([job.status, job.result?.photons], [SUCCEEDED, 1000], 'POST /tasks/crunch/jobs?wait=30');

const again = await api.GET('/jobs/{id}', { params: { path: { id: job.id } } });
check(again.data?.finished_at, job.finished_at, 'GET /jobs/{id}');

const later = await api.POST('/jobs', { body: { task: 'crunch', payload: { photons: 1 }, delay_ms: 3_600_000 } });
const canceled = await api.POST('/jobs/{id}/cancel', { params: { path: { id: later.data!.id } } });
check(canceled.data?.status, 'canceled' satisfies Status, 'POST /jobs/{id}/cancel');

const list = await api.GET('/jobs', { params: { query: { status: 'canceled', limit: 10 } } });
check(list.data?.items.map((item) => item.id), [later.data!.id], 'GET /jobs');

const rejected = await api.POST('/jobs', { body: { task: 'nope' } });
check([rejected.error?.type, rejected.error?.errors?.[0]?.pointer], ['/problems/invalid-submission', '/task'], 'a rejected submission is a problem');

// @ts-expect-error: there is no such member
({ task: 'crunch', nothing: 1 }) satisfies components['schemas']['Submission'];
// @ts-expect-error: there is no such path
await api.GET('/nowhere');
