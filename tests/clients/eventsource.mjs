// eventsource: over a connection that is cut repeatedly every event arrives once, and the client stops after the end.

import { EventSource } from 'eventsource';

import { Cutter } from './cutter.mjs';
import { check, Stage, URL } from './stage.mjs';

const LINES = 60;
// The headers are about 400 bytes; the cuts are at arbitrary positions after them.
const LIMITS = [700, 1111, 1500];

async function submit(payload) {
  const body = JSON.stringify({ task: 'act', payload });
  const response = await fetch(`${URL}/jobs`, { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
  return (await response.json()).id;
}

// Makes the handler log lines, report progress and return a result.
function runJob(actor) {
  for (let number = 1; number <= LINES; number += 1) actor.send({ log: `line ${number}` });
  actor.send({ progress: [0.9, 'nearly'] });
  actor.send({ return: { lines: LINES } });
}

// Returns all events, when the source has closed: it does so after a 204.
function listen(source, onFirst) {
  const events = [];
  for (const name of ['status', 'progress', 'log', 'done']) {
    source.addEventListener(name, (event) => {
      if (events.length === 0) onFirst();
      // A failed check ends the script: no caller catches the exception.
      check(events.some(({ id }) => id === event.lastEventId), false, `${name} ${event.lastEventId} is new`);
      events.push({ name, id: event.lastEventId, data: JSON.parse(event.data) });
    });
  }
  return new Promise((resolve) => {
    source.addEventListener('error', (error) => {
      console.log(`${error.code ?? ''} ${error.message ?? 'disconnected'}`);
      if (source.readyState === EventSource.CLOSED) resolve({ events, code: error.code });
    });
  });
}

const stage = await Stage.open();
const cutter = await Cutter.start(URL, LIMITS);
const connected = stage.waitForHandler();
const job = await submit(stage.payload);
const actor = await connected;
const { events, code } = await listen(new EventSource(`${cutter.url}/jobs/${job}/events`), () => runJob(actor));

check(code, 204, 'a reconnect after the end gets 204, and the client stops');
check(cutter.cuts, LIMITS.length, 'the connection was cut');
check(new Set(events.map((event) => event.id)).size, events.length, 'every event has a unique id and arrived once');
const logged = events.filter((event) => event.name === 'log').map((event) => event.data.line);
check(logged, Array.from({ length: LINES }, (_, index) => `line ${index + 1}`), 'every log line arrived once, in order');
check(events[0].name, 'status', 'the first event is the status');
check([events.at(-1).name, events.at(-1).data.result], ['done', { lines: LINES }], 'the last event is done and contains the result');
stage.close();
cutter.close();
