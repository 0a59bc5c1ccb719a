"""The tasks of `crunch.check_tasks` as coroutines, which run at the same time in one child."""

from __future__ import annotations

import asyncio

import crunch


# The worker must also understand what its jobs are unique by.
@crunch.task(
    accepts=["application/json"],
    content_type="application/json",
    unique=crunch.Unique(fields=["/a"], for_="1h", on_conflict="reject"),
)
async def echo(payload: bytes) -> bytes:
    """Returns its payload unchanged."""
    await asyncio.sleep(0)
    return payload


@crunch.task(accepts=["application/json"])
async def fail(payload: bytes) -> None:
    """Fails with the code `on_purpose`, for good."""
    await asyncio.sleep(0)
    raise crunch.Fail("on_purpose", f"asked to fail by {len(payload)} bytes")


@crunch.task(accepts=["application/json"])
async def wait(payload: bytes, job: crunch.Job) -> None:
    """Reports progress, and runs until it is canceled."""
    number = 0
    while True:
        number += 1
        job.progress(number / (1 + number), f"{number} times, {len(payload)} bytes")
        await asyncio.sleep(0.01)


@crunch.task(accepts=["application/json"])
async def log(payload: bytes) -> None:
    """Prints its payload."""
    await asyncio.sleep(0)
    print(payload.decode())
