"""A function and coroutines: the function would keep them waiting, so one job runs at a time."""

from __future__ import annotations

import asyncio

import crunch


@crunch.task
def double(number: int) -> int:
    return 2 * number


@crunch.task
async def triple(number: int) -> int:
    await asyncio.sleep(0)
    return 3 * number


@crunch.task
async def until_canceled(job: crunch.Job) -> None:
    job.progress(0.0, "running")
    try:
        await asyncio.sleep(600)
    finally:
        print("cleaned up")


@crunch.task
def runs_a_loop(number: int) -> int:
    return asyncio.run(triple(number))
