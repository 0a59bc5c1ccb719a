// openapi-typescript and openapi-fetch: the types made of /openapi.json fit a program that uses them, and its calls work.

import { execFileSync } from 'node:child_process';

import { URL } from './stage.mjs';

const run = (command, ...words) => execFileSync(command, words, { stdio: 'inherit' });
// A member with a default may be left out of a request.
run('openapi-typescript', `${URL}/openapi.json`, '--output', 'api.d.ts', '--default-non-nullable', 'false');
run('tsc', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext', 'typed_calls.mts');
await import('./typed_calls.mjs');
