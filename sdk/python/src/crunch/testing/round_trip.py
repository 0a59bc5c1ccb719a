"""Measures how long a job that does nothing takes: `python -m crunch.testing.round_trip`.

One job at a time for both kinds of handlers; for coroutines also as many at once as the child runs.
The floor is a child without this package that answers every line at once.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Final

import crunch
from crunch.testing.channel import FakeWorker

JOBS: Final = 20_000
"""Enough for a median that is the same from run to run."""

_FLOOR: Final = """
import json, os
i, o = int(os.environ["CRUNCH_IN_FD"]), int(os.environ["CRUNCH_OUT_FD"])
os.write(o, b'{"type":"hello","channel":1,"body":2}\\n[]')
f = open(i, "rb")
while line := f.readline():
    m = json.loads(line)
    if m["type"] == "job":
        value = json.loads(f.read(m["body"]))
        body = json.dumps(value).encode()
        head = json.dumps({"type": "done", "id": m["id"], "epoch": m["epoch"], "body": len(body)})
        os.write(o, head.encode() + b"\\n" + body)
"""

_MODULE: Final = "crunch.testing.round_trip"


def in_function(payload: object) -> object:
    """Does nothing in a function."""
    return payload


async def in_coroutine(payload: object) -> object:
    """Does nothing in a coroutine."""
    return payload


# A child that has the function too would run one job at a time.
_is_coroutine = os.environ.get("CRUNCH_ROUND_TRIP") == "async"
nothing: crunch.Task[[object], object] = crunch.task("nothing")(
    in_coroutine if _is_coroutine else in_function
)


class _Measured(FakeWorker):
    """A worker that takes no more time than it must."""

    def times(self, jobs: int) -> list[float]:
        """Return the seconds of each round trip, one job at a time."""
        found: list[float] = []
        for number in range(jobs):
            line = _job_line(number)
            begun = time.perf_counter()
            os.write(self._to_child, line)
            os.read(self._from_child, 4096)
            found.append(time.perf_counter() - begun)
        return found

    def throughput(self, jobs: int, at_once: int) -> float:
        """Return the jobs per second with this many jobs at once."""
        sent = answered = 0
        begun = time.perf_counter()
        while answered < jobs:
            room = min(at_once - (sent - answered), jobs - sent)
            if room:
                os.write(self._to_child, b"".join(_job_line(sent + n) for n in range(room)))
                sent += room
            answered += os.read(self._from_child, 65536).count(b'"done"')
        return jobs / (time.perf_counter() - begun)


def _job_line(number: int) -> bytes:
    return (
        b'{"type":"job","id":"01a20c36-14f1-8000-8f8f-%012d","epoch":1790000000000,"task":"nothing",'
        b'"attempt":1,"max_attempts":3,"deadline_ms":1790000000000,"body":4,'
        b'"content_type":"application/json","metadata":{}}\nnull' % number
    )


def _report(name: str, worker: _Measured, jobs: int) -> None:
    worker.receive("hello")
    worker.times(jobs // 10)
    times = sorted(worker.times(jobs))
    median, late = statistics.median(times) * 1e6, times[len(times) * 99 // 100] * 1e6
    print(f"{name:28} median {median:6.1f} µs   p99 {late:6.1f} µs")


def main() -> None:
    """Print the times."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    with _Measured(command=[sys.executable, "-c", _FLOOR]) as worker:
        _report("floor: plain Python", worker, jobs)
    with _Measured(_MODULE) as worker:
        _report("function", worker, jobs)
    with _Measured(_MODULE, env={"CRUNCH_ROUND_TRIP": "async"}) as worker:
        _report("coroutine", worker, jobs)
        print(f"{'coroutine, 10 at once':28} {worker.throughput(jobs, 10):8.0f} jobs/s")


if __name__ == "__main__":
    main()
