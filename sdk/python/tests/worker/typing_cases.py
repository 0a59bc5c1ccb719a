"""What type checkers must accept and reject: mypy --strict reports ignores that are not needed."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import crunch
from crunch.testing import Report


@dataclass
class Slab:
    rays: int = 1000


@crunch.task("trace", queue="optics", timeout="10m", max_attempts=2, backoff={"base": "2s"})
def trace(slab: Slab, job: crunch.Job) -> dict[str, int]:
    job.progress(0.5, "half")
    job.log("killed: %d", 4)
    job.check()
    return {slab.__class__.__name__: slab.rays}


@crunch.task(unique=crunch.Unique(key="count", until="start"))
async def count(text: str, top: int = 3) -> int:
    await count(text, top=top)
    raise crunch.Retry("later", in_=timedelta(seconds=1))


def accepted(job: crunch.Job) -> tuple[dict[str, int], Coroutine[Any, Any, int], Report]:
    bare: crunch.Task[[Slab, crunch.Job], dict[str, int]] = trace
    result = bare(Slab(), job)
    coroutine = count("text")
    report = crunch.testing.run(trace, Slab(rays=20), cancel_after=0.1)
    return result, coroutine, report


def rejected(job: crunch.Job) -> None:
    trace("text", job)  # type: ignore[arg-type]
    trace(Slab())  # type: ignore[call-arg]
    count(top="x", text="")  # type: ignore[arg-type, unused-coroutine]
    crunch.task(timeout=[])  # type: ignore[call-overload]
    crunch.task(priority="higher")  # type: ignore[call-overload]
    crunch.task(retries=3)  # type: ignore[call-overload]
    crunch.task(backoff={"bass": "1s"})  # type: ignore[call-overload]
    crunch.task(unique={"key": "a"})  # type: ignore[call-overload]
    crunch.Unique(until="never")  # type: ignore[arg-type]
    crunch.testing.run(trace.function)  # type: ignore[arg-type]
    job.progress("half")  # type: ignore[arg-type]
