// standardwebhooks (npm) as receiver: it takes every message of ours, with either secret, and none that was touched.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

import { check, URL } from './stage.mjs';

// The API signs with both, as while a secret is changed.
const SECRETS = process.env.CRUNCH_WEBHOOK_SECRETS.split(',');

function refuses(secret, body, headers) {
  try {
    new Webhook(secret).verify(body, headers);
    return false;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return true;
    throw error;
  }
}

// The next message: headers and body.
async function called(server) {
  const [request, response] = await once(server, 'request');
  let body = '';
  request.setEncoding('utf8');
  for await (const part of request) body += part;
  response.writeHead(204).end();
  return { headers: request.headers, body };
}

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const url = `http://127.0.0.1:${server.address().port}/hook`;
const message = called(server);
const answer = await fetch(`${URL}/jobs`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ task: 'echo', payload: 'ü', webhook: { url } }),
});
const { id } = await answer.json();
const { headers, body } = await message;
for (const secret of SECRETS) {
  const { type, data } = new Webhook(secret).verify(body, headers);
  check([type, data.id, data.result], ['job.succeeded', id, 'ü'], `verified with ${secret.slice(0, 10)}…`);
}
check(refuses(SECRETS[0], body.replace(id, '0'), headers), true, 'another body is refused');
check(refuses(SECRETS[0], body, { ...headers, 'webhook-id': 'other' }), true, 'another id is refused');
check(refuses(`whsec_${'A'.repeat(32)}`, body, headers), true, 'another secret is refused');
server.close();
