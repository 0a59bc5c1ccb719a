"""Schedules, of a blocking and of an asyncio client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from crunch.api.schedules import ScheduleCalls, body
from crunch.api.tasks import name_of
from crunch.batch import json_payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from typing_extensions import Unpack

    from crunch.aio import AsyncClient, AsyncJobHandle
    from crunch.api.documents import JobDocument
    from crunch.api.schedules import ScheduleInfo, ScheduleOptions
    from crunch.client import Client, JobHandle
    from crunch.worker.declaration import Task


class Schedules:
    """The schedules of an API, as a blocking client sees them.

    Each submits a job again and again, at its ticks. Those of a `tasks.toml` can be seen, paused,
    resumed, run and removed, but not replaced.
    """

    def __init__(self, client: Client, handle: Callable[[JobDocument], JobHandle[Any]]) -> None:
        self._client: Final = client
        self._handle: Final = handle
        self._schedules: Final = ScheduleCalls(client._calls)

    def all(self) -> Iterator[ScheduleInfo]:
        """List the schedules, by name, without their payloads."""
        return self._client._stream(self._schedules.all())

    def get(self, name: str) -> ScheduleInfo:
        """Return a schedule."""
        return self._client._run(self._schedules.get(name))

    def put(
        self,
        name: str,
        task: str | Task[..., Any],
        payload: object = None,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleInfo:
        """Create a schedule, or replace it; a repetition changes nothing.

        `cron` or `every` says when its jobs are submitted. The payload is JSON, at most 64 KiB. An
        impossible time, and a payload that does not fit the task, raise `PayloadInvalid`.
        """
        data = body(name_of(task), json_payload(task, payload), options)
        return self._client._run(self._schedules.put(name, data))

    def delete(self, name: str) -> None:
        """Remove a schedule. Its jobs stay as they are."""
        self._client._run(self._schedules.delete(name))

    def pause(self, name: str) -> ScheduleInfo:
        """Stop the ticks of a schedule. Those that pass meanwhile are never made up for."""
        return self._client._run(self._schedules.act(name, "pause"))

    def resume(self, name: str) -> ScheduleInfo:
        """Go on with the next tick."""
        return self._client._run(self._schedules.act(name, "resume"))

    def run(self, name: str) -> JobHandle[Any]:
        """Submit a job now; `Conflict` if the last one has not ended and they may not overlap."""
        return self._handle(self._client._run(self._schedules.run(name)))


class AsyncSchedules:
    """The schedules of an API, as an asyncio client sees them.

    Each submits a job again and again, at its ticks. Those of a `tasks.toml` can be seen, paused,
    resumed, run and removed, but not replaced.
    """

    def __init__(
        self, client: AsyncClient, handle: Callable[[JobDocument], AsyncJobHandle[Any]]
    ) -> None:
        self._client: Final = client
        self._handle: Final = handle
        self._schedules: Final = ScheduleCalls(client._calls)

    def all(self) -> AsyncIterator[ScheduleInfo]:
        """List the schedules, by name, without their payloads."""
        return self._client._stream(self._schedules.all())

    async def get(self, name: str) -> ScheduleInfo:
        """Return a schedule."""
        return await self._client._run(self._schedules.get(name))

    async def put(
        self,
        name: str,
        task: str | Task[..., Any],
        payload: object = None,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleInfo:
        """Create a schedule, or replace it; a repetition changes nothing.

        `cron` or `every` says when its jobs are submitted. The payload is JSON, at most 64 KiB. An
        impossible time, and a payload that does not fit the task, raise `PayloadInvalid`.
        """
        data = body(name_of(task), json_payload(task, payload), options)
        return await self._client._run(self._schedules.put(name, data))

    async def delete(self, name: str) -> None:
        """Remove a schedule. Its jobs stay as they are."""
        await self._client._run(self._schedules.delete(name))

    async def pause(self, name: str) -> ScheduleInfo:
        """Stop the ticks of a schedule. Those that pass meanwhile are never made up for."""
        return await self._client._run(self._schedules.act(name, "pause"))

    async def resume(self, name: str) -> ScheduleInfo:
        """Go on with the next tick."""
        return await self._client._run(self._schedules.act(name, "resume"))

    async def run(self, name: str) -> AsyncJobHandle[Any]:
        """Submit a job now; `Conflict` if the last one has not ended and they may not overlap."""
        return self._handle(await self._client._run(self._schedules.run(name)))
