// openapi-typescript and openapi-fetch: a program compiles against the types of /openapi.json, and its calls work.

import { execFileSync } from 'node:child_process';

import { URL } from './stage.mjs';

const run = (command, ...options) => execFileSync(command, options, { stdio: 'inherit' });
// A request may omit a member that has a default.
run('openapi-typescript', `${URL}/openapi.json`, '--output', 'api.d.ts', '--default-non-nullable', 'false');
run('tsc', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext', 'typed_calls.mts');
await import('./typed_calls.mjs');
