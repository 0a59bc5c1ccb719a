// A server that answers as a test says, and pauses that end at once.

import { once } from 'node:events';
import { createServer } from 'node:http';

export class MadeUpAnswers {
  // Each answer is `[status, headers, body]`, or `null` to close the connection; the last one is repeated.
  static async start(answers) {
    const made = new MadeUpAnswers();
    Object.assign(made, { answers: [...answers], requests: [] });
    made.server = createServer((request, response) => made.answer(request, response));
    made.server.listen(0, '127.0.0.1');
    await once(made.server, 'listening');
    return made;
  }

  get url() {
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  async answer(request, response) {
    const { method, url, headers } = request;
    this.requests.push({ method, url, key: headers['idempotency-key'] });
    request.resume();
    await once(request, 'end');
    const answer = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
    if (answer === null) return request.socket.destroy();
    const [status, more, body] = answer;
    const isText = typeof body === 'string';
    response.writeHead(status, { 'Content-Type': isText ? 'text/html' : 'application/json', ...more });
    return response.end(isText ? body : JSON.stringify(body));
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

// Runs `work` while pauses end at once; returns their times, in milliseconds.
export async function recordPauses(work) {
  const { setTimeout } = globalThis;
  const pauses = [];
  globalThis.setTimeout = (callback, time, ...values) => {
    // A pause resolves a promise; Node's own timers, for connections, call other functions.
    const isPause = String(callback).includes('[native code]');
    if (isPause) pauses.push(time);
    return setTimeout(callback, isPause ? 0 : time, ...values);
  };
  try {
    await work();
  } finally {
    globalThis.setTimeout = setTimeout;
  }
  return pauses;
}
