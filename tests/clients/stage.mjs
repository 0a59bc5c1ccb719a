// Controls handlers from a script: a job of the task `act` connects to the stage and executes its instructions.

import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { isDeepStrictEqual } from 'node:util';

export const URL = process.env.CRUNCH_URL;

// A listener that the handlers connect to.
export class Stage {
  static async open() {
    const stage = new Stage();
    stage.server = createServer();
    stage.server.listen(0, '127.0.0.1');
    await once(stage.server, 'listening');
    return stage;
  }

  // The payload of a job that connects here.
  get payload() {
    return { stage: `127.0.0.1:${this.server.address().port}` };
  }

  // Waits for the next run to start. Call it before the job is submitted.
  async waitForHandler() {
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

  // Sends one instruction: {progress: [0.5, 'half']}, {log: 'line'}, {return: …}, {fail: …}, {fail_for_good: …}.
  send(act) {
    this.socket.write(`${JSON.stringify(act)}\n`);
  }

  // Waits until the handler reports that it was asked to stop.
  async waitForStopRequest() {
    check((await this.lines.next()).value, 'stop', 'the handler is asked to stop');
  }
}

// Ends the script if the values differ.
export function check(value, expected, what) {
  if (!isDeepStrictEqual(value, expected)) {
    throw new Error(`${what}: ${JSON.stringify(value)} instead of ${JSON.stringify(expected)}`);
  }
  console.log(`ok: ${what}`);
}
