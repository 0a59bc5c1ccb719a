// eventsource: a stream over a line that is cut again and again arrives whole, each event once, and its end is final.

import { EventSource } from 'eventsource';

import { Cutter } from './cutter.mjs';
import { check, Stage, URL } from './stage.mjs';

const LINES = 60;
// Headers alone are about 400 bytes; what follows is cut at places of no meaning.
const LIMITS = [700, 1111, 1500];

async function submit(payload) {
  const body = JSON.stringify({ task: 'act', payload });
  const answer = await fetch(`${URL}/jobs`, { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
  return (await answer.json()).id;
}

// A job with a log and progress and a result.
function play(actor) {
  for (let number = 1; number <= LINES; number += 1) actor.told({ log: `line ${number}` });
  actor.told({ progress: [0.9, 'nearly'] });
  actor.told({ return: { lines: LINES } });
}

// All events, until the source gives up by itself: it does when it is told 204.
function listen(source, onFirst) {
  const got = [];
  for (const name of ['status', 'progress', 'log', 'done']) {
    source.addEventListener(name, (event) => {
      if (got.length === 0) onFirst();
      // Thrown where nobody catches it: the script ends.
      check(got.some(({ id }) => id === event.lastEventId), false, `${name} ${event.lastEventId} is new`);
      got.push({ name, id: event.lastEventId, data: JSON.parse(event.data) });
    });
  }
  return new Promise((resolve) => {
    source.addEventListener('error', (error) => {
      console.log(`${error.code ?? ''} ${error.message ?? 'disconnected'}`);
      if (source.readyState === EventSource.CLOSED) resolve({ got, code: error.code });
    });
  });
}

const stage = await Stage.open();
const cutter = await Cutter.before(URL, LIMITS);
const entered = stage.enters();
const job = await submit(stage.payload);
const actor = await entered;
const { got, code } = await listen(new EventSource(`${cutter.url}/jobs/${job}/events`), () => play(actor));

check(code, 204, 'after the end it is told to stay away, and does');
check(cutter.cuts, LIMITS.length, 'the line was cut');
check(new Set(got.map((event) => event.id)).size, got.length, 'every event has an id of its own and came once');
const logged = got.filter((event) => event.name === 'log').map((event) => event.data.line);
check(logged, Array.from({ length: LINES }, (_, index) => `line ${index + 1}`), 'every line of the log came once, in order');
check(got[0].name, 'status', 'the state came first');
check([got.at(-1).name, got.at(-1).data.result], ['done', { lines: LINES }], 'the last event is done and brings the result');
stage.close();
cutter.close();
