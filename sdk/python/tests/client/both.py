"""The asyncio client in the form of the blocking one, so that each test is written once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from crunch.aio import AsyncBatch, AsyncClient, AsyncJobHandle
from crunch.limits import AsyncLimits
from crunch.schedules import AsyncSchedules

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """An object of the asyncio client whose methods block."""

    def __init__(self, target: Any, loop: Loop) -> None:
        self.target, self._loop = target, loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        if isinstance(value, AsyncLimits | AsyncSchedules):
            return Blocking(value, self._loop)
        if not callable(value):
            return value
        return lambda *arguments, **named: self._blocking(value(*arguments, **named))

    def __enter__(self) -> Any:
        return self._blocking(self.target.__aenter__())

    def __exit__(self, *raised: Any) -> Any:
        return self._blocking(self.target.__aexit__(*raised))

    def __repr__(self) -> str:
        return repr(self.target)

    def _blocking(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._loop.run(value)
        if isinstance(value, AsyncIterator):
            return self._iterate(value)
        if isinstance(value, AsyncClient | AsyncJobHandle | AsyncBatch):
            return Blocking(value, self._loop)
        return value

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        end = object()

        async def following() -> Any:
            return await anext(items, end)

        try:
            while (item := self._loop.run(following())) is not end:
                yield self._blocking(item)
        finally:
            if inspect.isasyncgen(items):
                self._loop.run(items.aclose())
