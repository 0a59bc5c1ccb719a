"""Tasks that are coroutines: their child runs several jobs at once."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
import time
from typing import Any

import crunch

_arrived = 0
_all_here = asyncio.Event()
_left_behind: list[asyncio.Task[None]] = []
_label: contextvars.ContextVar[str] = contextvars.ContextVar("label", default="none")


@crunch.task
async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@crunch.task
async def meet(count: int) -> str:
    """Ends when this many jobs run at once."""
    global _arrived  # noqa: PLW0603
    _arrived += 1
    if _arrived == count:
        _all_here.set()
    await _all_here.wait()
    return "met"


@crunch.task
async def prints(text: str, job: crunch.Job) -> str:
    label = _label.get()
    _label.set(text)
    print(text, end=" ")
    await asyncio.sleep(0)
    print("on stdout")
    print(text, "on stderr", file=sys.stderr)
    logging.getLogger("mine").warning("%s by logging", text)
    job.log("%s by job.log", text)
    await asyncio.to_thread(print, text, "in a thread")
    print(text, "without an end", end="")
    return label


@crunch.task
async def until_canceled(job: crunch.Job) -> None:
    job.progress(0.0, "running")
    try:
        await asyncio.sleep(600)
    finally:
        print("cleaned up", job.cancel_reason)


@crunch.task
async def computes_until_canceled(job: crunch.Job) -> None:
    """Never lets the loop run."""
    job.progress(0.0, "running")
    while True:
        job.check()
        time.sleep(0.001)


@crunch.task
async def asks_then_waits(job: crunch.Job) -> None:
    job.progress(0.0, "running")
    while not job.canceled:
        time.sleep(0.001)
    await asyncio.sleep(600)


@crunch.task
async def swallow(job: crunch.Job) -> str:
    job.progress(0.0, "running")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "ready"
    return "slept"


@crunch.task
async def ignores_cancel(job: crunch.Job) -> str:
    job.progress(0.0, "running")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            print("not now")


@crunch.task
async def steps(count: int, job: crunch.Job) -> None:
    for step in range(count):
        job.progress((step + 1) / count, f"step {step + 1}")
        await asyncio.sleep(0)


@crunch.task
async def raises(name: str) -> None:
    if name == "exit":
        sys.exit(3)
    if name == "timeout":
        await asyncio.wait_for(asyncio.sleep(600), 0)
    raise ValueError("wrong")


@crunch.task
async def large(size: int) -> bytes:
    return b"x" * size


@crunch.task
async def forks(job: crunch.Job) -> str:
    child = os.fork()
    if child == 0:
        job.progress(0.9, "from the fork")
        job.log("the log of the fork")
        os._exit(7)
    _, status = os.waitpid(child, 0)
    return f"exit code {os.waitstatus_to_exitcode(status)}"


async def _later() -> None:
    await asyncio.sleep(0.01)
    print("the task that was left behind")


@crunch.task
async def leaves_a_task_behind() -> str:
    _left_behind.append(asyncio.create_task(_later()))
    return "done"


@crunch.task
async def about(payload: Any) -> Any:
    job = crunch.current_job()
    assert job is not None
    return {"id": job.id, "epoch": job.epoch, "payload": payload}
