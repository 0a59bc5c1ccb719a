"""Tasks that run in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import crunch

calls: list[int] = []


@crunch.task
@crunch.batched(3, linger="10s")
async def double(numbers: list[int]) -> list[int | Exception]:
    """Doubles what is below 100."""
    print(f"{len(numbers)} numbers")
    return [2 * it if it < 100 else crunch.Fail("too_large", str(it)) for it in numbers]


@crunch.task
@crunch.batched(100, linger="20ms")
async def join(words: list[str], jobs: list[crunch.Job], *, end: list[str]) -> Sequence[str]:
    return [f"{job.id}:{a}{b} of {len(jobs)}" for a, job, b in zip(words, jobs, end, strict=True)]


@crunch.task
@crunch.batched(2, linger="10s")
async def raises(kinds: list[str]) -> list[str]:
    assert crunch.current_job() is None
    if "long" in kinds:
        return ["one", "two", "three"]
    if "exit" in kinds:
        raise SystemExit(3)
    raise ValueError(kinds[0])


@crunch.task
@crunch.batched(2, linger="10s")
async def wait(events: list[str], jobs: list[crunch.Job]) -> list[str]:
    for job in jobs:
        job.progress(0.5, "waits")
    try:
        await asyncio.sleep(60 if "for ever" in events else 0.5)
    except asyncio.CancelledError:
        print("all are canceled")
        raise
    return [f"{it} of {len(events)}" for it in events]
