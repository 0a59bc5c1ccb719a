// examples/typescript: the commands of its README work, and so does what typed_jobs.mts does with the client.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { webcrypto } from 'node:crypto';

import { check, URL } from './stage.mjs';

const EXAMPLE = 'typescript';
// Node 18 has the global object `crypto` only with this option.
globalThis.crypto ??= webcrypto;
const [major] = process.versions.node.split('.');
const env = { ...process.env, npm_config_update_notifier: 'false' };
if (Number(major) < 20) env.NODE_OPTIONS = '--experimental-global-webcrypto';

// Runs a command in the folder of the example, and returns what it prints.
function run(command, ...options) {
  const output = execFileSync(command, options, { cwd: EXAMPLE, env, encoding: 'utf8' });
  console.log(output);
  return output;
}

// The example names the address of script/up.
for (const file of ['package.json', 'main.ts']) {
  const text = readFileSync(`${EXAMPLE}/${file}`, 'utf8');
  check(text.includes('http://127.0.0.1:8080'), true, `${file} names the address`);
  writeFileSync(`${EXAMPLE}/${file}`, text.replaceAll('http://127.0.0.1:8080', URL));
}

const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const example = JSON.parse(readFileSync(`${EXAMPLE}/package.json`, 'utf8'));
for (const [name, version] of Object.entries({ ...example.dependencies, ...example.devDependencies })) {
  check(version, dependencies[name], `the example has the tested version of ${name}`);
}

run('npm', 'run', 'generate');
const printed = run('npm', 'start').replace(/^(>.*)?\n/gm, '');
const readme = readFileSync(`${EXAMPLE}/README.md`, 'utf8');
check(readme.includes(`\n\`\`\`\n${printed}\`\`\`\n`), true, `the README shows what the program prints:\n${printed}`);

const options = ['--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext'];
run('tsc', ...options, '../typed_jobs.mts');
await import('./typed_jobs.mjs');
