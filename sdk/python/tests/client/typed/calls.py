"""What type checkers say of calls: a line with `type: ignore` must be an error, no other may.

Never run: `test_types.py` gives it to mypy, and pyright checks it too.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import assert_type

import crunch
from crunch.aio import AsyncClient, AsyncJobHandle
from crunch.api.payloads import Content
from crunch.client import Client, JobHandle


@dataclass
class Slab:
    rays: int


@crunch.task
def alone(slab: Slab) -> dict[str, int]:
    raise NotImplementedError


@crunch.task("with.job", timeout="10m")
def with_job(slab: Slab, job: crunch.Job) -> list[str]:
    raise NotImplementedError


@crunch.task
def job_first(job: crunch.Job, count: int) -> Slab:
    raise NotImplementedError


@crunch.task
async def later(slab: Slab, job: crunch.Job) -> int:
    raise NotImplementedError


@crunch.task
def nothing() -> str:
    raise NotImplementedError


@crunch.task
async def only_job(job: crunch.Job) -> float:
    raise NotImplementedError


@crunch.task
def picture(slab: Slab, job: crunch.Job) -> Path:
    raise NotImplementedError


@crunch.task(accepts="image/png")
async def shrunk(data: bytes) -> bytes:
    raise NotImplementedError


def blocking(client: Client) -> None:
    assert_type(client.submit(alone, Slab(1)).result(), dict[str, int])
    assert_type(client.submit(with_job, Slab(1), key="a", queue="b").result(), list[str])
    assert_type(client.submit(job_first, 3), JobHandle[Slab])
    assert_type(client.submit(later, Slab(1), delay="1h").result(), int)
    assert_type(client.submit(nothing).result(), str)
    assert_type(client.submit(only_job, wait=5).result(), float)
    assert_type(client.submit(picture, Slab(1)).result(), Content)
    assert_type(client.submit(shrunk, b"", content_type="image/png").result(), Content)
    client.submit("any.name", {"rays": 1}, priority="high", metadata={"a": 1}).result().anything()
    client.submit(alone, 5)  # type: ignore
    client.submit(alone, {"rays": 5})  # type: ignore
    client.submit(alone)  # type: ignore
    client.submit(with_job, "slab")  # type: ignore
    client.submit(job_first, Slab(1))  # type: ignore
    client.submit(later, None)  # type: ignore
    client.submit(nothing, Slab(1))  # type: ignore
    client.submit(alone, Slab(1), priorty="high")  # type: ignore
    client.submit(alone, Slab(1), priority="higher")  # type: ignore
    client.submit("any.name", metadata={"a": [1]})  # type: ignore
    client.submit(alone, Slab(1), unique=crunch.Unique(fields=["/rays"], max_wait=None))
    client.submit(alone, Slab(1), unique="rays")  # type: ignore
    with client.batch() as batch:
        batch.submit(alone, Slab(1), key="a")
        batch.submit(only_job)
        batch.submit("any.name", 1)
        batch.submit(with_job, 5)  # type: ignore


async def asyncio(client: AsyncClient) -> None:
    assert_type(await (await client.submit(alone, Slab(1))).result(), dict[str, int])
    assert_type(await client.submit(later, Slab(1)), AsyncJobHandle[int])
    assert_type(await (await client.submit(picture, Slab(1))).result(), Content)
    assert_type(await (await client.submit(only_job)).result(), float)
    await client.submit(alone, 5)  # type: ignore
    await client.submit(nothing, Slab(1))  # type: ignore
    async with client.batch() as batch:
        await batch.submit(alone, Slab(1), key="a")
        await batch.submit(with_job, 5)  # type: ignore
