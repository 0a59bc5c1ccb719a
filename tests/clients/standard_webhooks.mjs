// standardwebhooks (npm) as receiver: it accepts every message of Crunch, with either secret, and none that was altered.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

import { check, URL } from './stage.mjs';

// The API signs with both, as during the rotation of a secret.
const SECRETS = process.env.CRUNCH_WEBHOOK_SECRETS.split(',');

function rejects(secret, body, headers) {
  try {
    new Webhook(secret).verify(body, headers);
    return false;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return true;
    throw error;
  }
}

// Waits for the next message; returns its headers and body.
async function receive(server) {
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
const message = receive(server);
const submitted = await fetch(`${URL}/jobs`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ task: 'echo', payload: 'ü', webhook: { url } }),
});
const { id } = await submitted.json();
const { headers, body } = await message;
for (const secret of SECRETS) {
  const { type, data } = new Webhook(secret).verify(body, headers);
  check([type, data.id, data.result], ['job.succeeded', id, 'ü'], `verified with ${secret.slice(0, 10)}…`);
}
check(rejects(SECRETS[0], body.replace(id, '0'), headers), true, 'another body is rejected');
check(rejects(SECRETS[0], body, { ...headers, 'webhook-id': 'other' }), true, 'another id is rejected');
check(rejects(`whsec_${'A'.repeat(32)}`, body, headers), true, 'another secret is rejected');
server.close();
