"""httpx-sse: over a connection that is cut repeatedly every event of a stream arrives once."""

import json

import httpx
import httpx_sse

from cutter import Cutter
from stage import TIMEOUT_S, URL, Stage, check

LINES = 60
# The headers are about 400 bytes; the cuts are at arbitrary positions after them.
LIMITS = [700, 1111, 1500, 900, 2048]


def read_connection(client, job, last):
    """Yields the events of one connection, until it ends or is cut; none after a 204."""
    headers = {"Last-Event-ID": last} if last else {}
    with httpx_sse.connect_sse(client, "GET", f"/jobs/{job}/events", headers=headers) as source:
        if source.response.status_code == 204:
            return
        try:
            yield from source.iter_sse()
        except httpx.TransportError:
            print("cut")


def read_all(client, job, on_first):
    """Yields all events, over as many connections as needed. Calls `on_first` after the first event."""
    last, more, known = None, True, set()
    while more:
        more = False
        for event in read_connection(client, job, last):
            if last is None:
                on_first()
            check(event.id in known, False, f"{event.event} {event.id} is new")
            known.add(event.id)
            more, last = True, event.id
            yield event


def run_job(actor):
    """Makes the handler log lines, report progress and return a result."""
    for number in range(1, LINES + 1):
        actor.send(log=f"line {number}")
    actor.send(progress=[0.9, "nearly"])
    actor.send(**{"return": {"lines": LINES}})


def main():
    stage = Stage()
    cutter = Cutter(URL, LIMITS)
    job = httpx.post(f"{URL}/jobs", json={"task": "act", "payload": stage.payload}).json()["id"]
    actor = stage.wait_for_handler()
    with httpx.Client(base_url=cutter.url, timeout=TIMEOUT_S, headers={"Connection": "close"}) as client:
        events = list(read_all(client, job, lambda: run_job(actor)))
    check(cutter.cuts, len(LIMITS), "the connection was cut")
    check(len({event.id for event in events}), len(events), "every event has a unique id and arrived once")
    logged = [json.loads(event.data)["line"] for event in events if event.event == "log"]
    check(logged, [f"line {number}" for number in range(1, LINES + 1)], "every log line arrived once, in order")
    check(events[-1].event, "done", "the last event is done")
    check(events[-1].json()["result"], {"lines": LINES}, "the last event contains the result")
    check(events[0].event, "status", "the first event is the status")


main()
