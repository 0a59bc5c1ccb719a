"""httpx-sse: a stream of events over a line that is cut again and again arrives whole, each event once."""

import json

import httpx
import httpx_sse

from cutter import Cutter
from stage import PATIENCE, URL, Stage, check

LINES = 60
# Headers alone are about 400 bytes; what follows is cut at places of no meaning.
LIMITS = [700, 1111, 1500, 900, 2048]


def stream(client, job, last):
    """The events of one connection, until it ends or is cut; none if there are none to come."""
    headers = {"Last-Event-ID": last} if last else {}
    with httpx_sse.connect_sse(client, "GET", f"/jobs/{job}/events", headers=headers) as source:
        if source.response.status_code == 204:
            return
        try:
            yield from source.iter_sse()
        except httpx.TransportError:
            print("cut")


def events(client, job, play):
    """All events, over as many connections as it takes. `play` is called once the first has come."""
    last, more, known = None, True, set()
    while more:
        more = False
        for event in stream(client, job, last):
            if last is None:
                play()
            check(event.id in known, False, f"{event.event} {event.id} is new")
            known.add(event.id)
            more, last = True, event.id
            yield event


def play(actor):
    """A job with a log and progress and a result."""
    for number in range(1, LINES + 1):
        actor.told(log=f"line {number}")
    actor.told(progress=[0.9, "nearly"])
    actor.told(**{"return": {"lines": LINES}})


def main():
    stage = Stage()
    cutter = Cutter(URL, LIMITS)
    job = httpx.post(f"{URL}/jobs", json={"task": "act", "payload": stage.payload}).json()["id"]
    actor = stage.enters()
    with httpx.Client(base_url=cutter.url, timeout=PATIENCE, headers={"Connection": "close"}) as client:
        got = list(events(client, job, lambda: play(actor)))
    check(cutter.cuts, len(LIMITS), "the line was cut")
    check(len({event.id for event in got}), len(got), "every event has an id of its own and came once")
    logged = [json.loads(event.data)["line"] for event in got if event.event == "log"]
    check(logged, [f"line {number}" for number in range(1, LINES + 1)], "every line of the log came once, in order")
    check([event.event for event in got][-1], "done", "the last event is done")
    check(got[-1].json()["result"], {"lines": LINES}, "it brings the result")
    check(got[0].event, "status", "the state came first")


main()
