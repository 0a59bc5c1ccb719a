#!/usr/bin/env node
// A child for Node: it runs several jobs at once (CRUNCH_CONCURRENCY, by default 4), so their logs are sent as messages.
// The argument, if there is one, is a prefix for the names of its tasks.
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const prefix = process.argv[2] ?? "";
const concurrency = Number(process.env.CRUNCH_CONCURRENCY ?? 4);
// Node has marked both descriptors close-on-exec: programs that a task starts do not get them.
const input = new Socket({ fd: Number(process.env.CRUNCH_IN_FD), readable: true, writable: false });
const output = new Socket({ fd: Number(process.env.CRUNCH_OUT_FD), readable: false, writable: true });

/** Thrown by a task to choose the error of its job. Other errors fail the job too, and it is tried again. */
class TaskError extends Error {
  constructor(code, message, retryable = true) {
    super(message);
    Object.assign(this, { code, retryable });
  }
}

/** A task returns its result: a Buffer, or any other value, which becomes JSON. */
const tasks = {
  async echo(job) {
    job.resultType = job.content_type;
    return job.payload;
  },

  async fail() {
    throw new TaskError("on_purpose", "this task always fails", false);
  },

  async wait(job) {
    while (!job.signal.aborted) {
      job.progress(0.5, "waiting to be canceled");
      await sleep(100);
    }
    throw new TaskError("canceled", `stopped: ${job.signal.reason}`);
  },

  async log(job) {
    job.log(job.payload.toString());
    return null;
  },
};

/** Sends a message with its body in one piece, so that those of other jobs cannot come between. */
function send(message, body = Buffer.alloc(0)) {
  output.write(Buffer.concat([Buffer.from(JSON.stringify(message) + "\n"), body]));
}

/** Runs one job and answers it. */
async function run(message, payload, signal) {
  const { id, epoch } = message;
  const answer = (type, members, body) => send({ type, id, epoch, ...members }, body);
  const progress = (progress, text) => answer("progress", { progress, message: text });
  const log = (text) => answer("log", { text });
  const job = { ...message, payload, signal, progress, log, resultType: "application/json" };
  try {
    const result = await tasks[message.task.slice(prefix.length)](job);
    const body = Buffer.isBuffer(result) ? result : Buffer.from(JSON.stringify(result));
    answer("done", { content_type: job.resultType, body: body.length }, body);
  } catch (error) {
    const { code, message, retryable } = error instanceof TaskError ? error : { message: String(error) };
    if (!(error instanceof TaskError)) log(error.stack);
    answer("failed", { error: { code, message, retryable } });
  }
}

/** Yields the messages of a stream, each with its body. */
async function* read(stream) {
  let parts = []; // of the line or the body that is being read
  let message = null; // the one whose body is being read
  let missing = 0; // bytes of that body
  for await (let chunk of stream) {
    while (chunk.length > 0) {
      const part = chunk.subarray(0, message ? missing : chunk.indexOf("\n") + 1 || chunk.length);
      chunk = chunk.subarray(part.length);
      parts.push(part);
      if (message) {
        missing -= part.length;
      } else if (part.at(-1) === 10) {
        message = JSON.parse(Buffer.concat(parts));
        missing = message.body ?? 0;
        parts = [];
      }
      if (message && missing === 0) {
        yield [message, Buffer.concat(parts)];
        message = null;
        parts = [];
      }
    }
  }
}

const accepts = ["application/json", "application/octet-stream", "text/plain"];
const declarations = Object.keys(tasks).map((name) => ({ name: prefix + name, accepts, max_payload: 2 ** 20 }));
const body = Buffer.from(JSON.stringify(declarations));
send({ type: "hello", channel: 1, sdk: "child.mjs", concurrency, body: body.length }, body);

const running = new Map(); // an AbortController for each job. The epoch belongs to the key: a job may run here again
let draining = false;
const exitIfDrained = () => draining && running.size === 0 && output.end(() => process.exit(0));

for await (const [message, payload] of read(input)) {
  const key = `${message.id} ${message.epoch}`;
  switch (message.type) {
    case "job": {
      const controller = new AbortController();
      running.set(key, controller);
      run(message, payload, controller.signal).finally(() => running.delete(key) && exitIfDrained());
      break;
    }
    case "cancel":
      running.get(key)?.abort(message.reason);
      break;
    case "ping":
      send({ type: "pong" });
      break;
    case "drain":
      draining = true;
      exitIfDrained();
  }
}
process.exit(0); // the worker is gone, or does not need this child: nobody reads an answer
