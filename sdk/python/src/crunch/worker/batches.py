"""Batches: one call of a coroutine for many jobs of a task.

Only the call is shared. Each job of a batch is claimed by itself, ends with an outcome of its own,
and can be canceled by itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from crunch.worker.failures import Fail
from crunch.worker.job import set_current_job
from crunch.worker.values import Duration, checked_duration, checked_number

MAX_JOBS: Final = 1000
"""The largest number of jobs in a batch."""
MAX_LINGER_MS: Final = 60_000
"""The longest time for which a job may wait for others."""


class Batched:
    """Collects the calls for single jobs, and calls the function with lists."""

    def __init__(
        self, function: Callable[..., Awaitable[Sequence[Any]]], most: int, linger_ms: int
    ) -> None:
        """Call it once there are `most` jobs, or the first has waited so long."""
        self.most: int = most
        """With how many jobs a batch is full: to be lowered to what the child runs at once."""
        self._function, self._linger = function, linger_ms / 1000
        self._open: _Batch | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def add(self, positional: tuple[Any, ...], named: dict[str, Any]) -> asyncio.Future[Any]:
        """Add the arguments of one job; return its outcome."""
        loop = asyncio.get_running_loop()
        batch = self._open
        if batch is None or batch.loop is not loop:
            batch = self._open = _Batch(loop)
            batch.timer = loop.call_later(self._linger, self._start, batch)
        outcome = batch.add(positional, named)
        if batch.has(self.most):
            batch.timer.cancel()
            self._start(batch)
        return outcome

    def _start(self, batch: _Batch) -> None:
        if self._open is batch:
            self._open = None
        batch.drop_canceled()
        if not batch.jobs:
            return
        context = contextvars.copy_context()
        # It runs for no job alone.
        context.run(set_current_job, None)
        call = context.run(batch.loop.create_task, batch.run(self._function))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        batch.cancel_if_all_are(call)


class _Batch:
    """Jobs of one call: the arguments and the outcome of each."""

    timer: asyncio.TimerHandle

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.jobs: list[tuple[tuple[Any, ...], dict[str, Any], asyncio.Future[Any]]] = []

    def add(self, positional: tuple[Any, ...], named: dict[str, Any]) -> asyncio.Future[Any]:
        outcome = self.loop.create_future()
        self.jobs.append((positional, named, outcome))
        return outcome

    def has(self, count: int) -> bool:
        """Whether that many jobs are there that were not canceled."""
        if len(self.jobs) >= count:
            self.drop_canceled()
        return len(self.jobs) >= count

    def drop_canceled(self) -> None:
        self.jobs = [job for job in self.jobs if not job[2].done()]

    def cancel_if_all_are(self, call: asyncio.Task[None]) -> None:
        outcomes = [outcome for _, _, outcome in self.jobs]

        def ended(_: asyncio.Future[Any]) -> None:
            if all(outcome.cancelled() for outcome in outcomes):
                call.cancel()

        for outcome in outcomes:
            outcome.add_done_callback(ended)

    async def run(self, function: Callable[..., Awaitable[Sequence[Any]]]) -> None:
        positional = [list(values) for values in zip(*(job[0] for job in self.jobs), strict=True)]
        named = {name: [job[1][name] for job in self.jobs] for name in self.jobs[0][1]}
        try:
            results = list(await function(*positional, **named))
            if len(results) != len(self.jobs):
                raise Fail(
                    "wrong_batch",
                    f"{len(results)} results were returned for a batch of {len(self.jobs)} jobs",
                )
        except BaseException as error:
            results = [error] * len(self.jobs)
        for (_, _, outcome), result in zip(self.jobs, results, strict=True):
            if outcome.done():
                continue
            if isinstance(result, BaseException):
                outcome.set_exception(_settable(result))
            else:
                outcome.set_result(result)


def _settable(error: BaseException) -> BaseException:
    """Return what a future may have as its exception."""
    if isinstance(error, StopIteration | asyncio.CancelledError):
        wrapped = RuntimeError(f"the batch raised {type(error).__name__}")
        wrapped.__cause__ = error
        return wrapped
    return error


def batched(
    most: int, /, *, linger: Duration = "50ms"
) -> Callable[[Callable[..., Awaitable[Sequence[Any]]]], Callable[..., Coroutine[Any, Any, Any]]]:
    """Let a coroutine be called with many jobs: each of its parameters is a list.

    It is called once there are `most` jobs (1 to 1000), or the first of them has waited for
    `linger` (0 to a minute). It returns the result of each job, in their order; one that is an
    exception is what the job fails by. Stand below `@crunch.task`:

        @crunch.task("rows.insert")
        @crunch.batched(100, linger="20ms")
        async def insert(rows: list[Row], jobs: list[crunch.Job]) -> list[int]: ...
    """
    checked = checked_number("most", most, 1, MAX_JOBS)
    linger_ms = checked_duration("linger", linger, min_ms=0)
    if linger_ms > MAX_LINGER_MS:
        raise ValueError(f"linger: {linger!r} is more than a minute")

    def decorate(
        function: Callable[..., Awaitable[Sequence[Any]]],
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        if not inspect.iscoroutinefunction(function):
            name = getattr(function, "__name__", repr(function))
            raise TypeError(f"{name} is called with batches, so it must be a coroutine: async def")
        batches = Batched(function, checked, linger_ms)

        @functools.wraps(function)
        async def run(*positional: Any, **named: Any) -> Any:
            return await batches.add(positional, named)

        setattr(run, _ATTRIBUTE, batches)
        return run

    return decorate


_ATTRIBUTE: Final = "_crunch_batched"


def batches_of(function: Callable[..., Any]) -> Batched | None:
    """Return what collects the jobs of a function, if it takes batches."""
    found: Batched | None = getattr(function, _ATTRIBUTE, None)
    return found


def hints_of_one(hints: dict[str, Any]) -> dict[str, Any]:
    """Return the hints of a function that takes batches as those of a function of one job."""
    return {name: _element(name, hint) for name, hint in hints.items()}


def _element(name: str, hint: Any) -> Any:
    if hint is Any:
        return Any
    is_result = name == "return"
    if typing.get_origin(hint) in ((list, Sequence) if is_result else (list,)):
        (element,) = typing.get_args(hint)
        return _without_exceptions(element) if is_result else element
    if hint is list:
        return Any
    what = "its results" if is_result else f"parameter {name!r}"
    raise TypeError(f"{what}: a batch has a value of each job, so the hint is a list")


def _without_exceptions(hint: Any) -> Any:
    """Return the hint of results without what a job may fail by."""
    arguments = typing.get_args(hint)
    if not any(_is_exception(it) for it in arguments):
        return hint
    left = tuple(it for it in arguments if not _is_exception(it))
    return typing.Union[left]  # noqa: UP007 - made of a tuple


def _is_exception(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseException)
