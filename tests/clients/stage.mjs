// A stage: where the task `act` calls to be told what to do, so that a script decides when a job moves and how it ends.

import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { isDeepStrictEqual } from 'node:util';

export const URL = process.env.CRUNCH_URL;

// Listens for handlers.
export class Stage {
  static async open() {
    const stage = new Stage();
    stage.server = createServer();
    stage.server.listen(0, '127.0.0.1');
    await once(stage.server, 'listening');
    return stage;
  }

  // Of a job that acts here.
  get payload() {
    return { stage: `127.0.0.1:${this.server.address().port}` };
  }

  // The next run that starts. Ask for it before the job is submitted.
  async enters() {
    const [socket] = await once(this.server, 'connection');
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    const { id } = JSON.parse((await lines.next()).value);
    return new Actor(socket, lines, id);
  }

  close() {
    this.server.close();
  }
}

// One run of a job, waiting for instructions.
class Actor {
  constructor(socket, lines, id) {
    Object.assign(this, { socket, lines, id });
  }

  // Gives one instruction: {progress: [0.5, 'half']}, {log: 'line'}, {return: …}, {fail: …}, {fail_for_good: …}.
  told(act) {
    this.socket.write(`${JSON.stringify(act)}\n`);
  }

  // Waits for it.
  async isAskedToStop() {
    check((await this.lines.next()).value, 'stop', 'the handler is asked to stop');
  }
}

// Ends the script if they differ.
export function check(value, expected, what) {
  if (!isDeepStrictEqual(value, expected)) {
    throw new Error(`${what}: ${JSON.stringify(value)} instead of ${JSON.stringify(expected)}`);
  }
  console.log(`ok: ${what}`);
}
