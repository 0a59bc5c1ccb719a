"""Runs one attempt of a job in this process, and reports what a worker would make of it."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from crunch.testing.capture import captured
from crunch.worker.attempts import NEVER_CAUGHT, Attempt
from crunch.worker.channel import MAX_BODY_BYTES
from crunch.worker.declaration import Task
from crunch.worker.failures import Fail, Failure
from crunch.worker.frames import Frame
from crunch.worker.job import Job, set_current_job
from crunch.worker.payloads import UnfitPayload
from crunch.worker.results import Encoded
from crunch.worker.values import JSON

MAX_LINES: Final = 256
"""How many lines of the log are kept, the newest: as many as the log of a job has."""
MAX_PROGRESS: Final = 6000
"""How many reports are kept, the newest: a worker publishes as many in a job of ten minutes."""
DEFAULT_MAX_PAYLOAD: Final = 256 * 1024
"""The largest payload of a task that declares none, in bytes."""

Status = Literal["succeeded", "retried", "failed", "canceled", "released", "snoozed", "rejected"]


class Progress(NamedTuple):
    """One report of a handler."""

    fraction: float
    message: str


@dataclass(frozen=True)
class Error:
    """Why an attempt failed."""

    code: str
    message: str
    retryable: bool
    after_ms: int | None = None
    """When to try again, in milliseconds; None: by the backoff of the task."""


@dataclass(frozen=True)
class Report:
    """What happened in an attempt."""

    status: Status
    """How it ended.

    `retried`: it failed, and a worker would try again. `failed`: for good. `released`: this machine
    cannot run it (`crunch.MachineFault`). `snoozed`: it is put off (`crunch.Snooze`). `rejected`:
    the API would not take the payload, because of its size, its content type or its schema. What
    only the function's types reject, such as a validator, is `failed`. A pydantic model that is not
    strict converts values, such as "1" to 1, which the API would reject: here such a payload is
    taken.
    """
    result: Any
    """The result as a client gets it: a JSON value, or bytes; None unless it succeeded."""
    content_type: str | None
    """The content type of the result; None unless it succeeded."""
    error: Error | None
    """Why it failed; None if it succeeded."""
    progress: list[Progress]
    """Everything that was reported, oldest first. Clients see the newest of every 100 ms."""
    logs: list[str]
    """The lines of the log, oldest first: `job.log`, prints, logging."""
    snooze_ms: int | None = None
    """For how long the job is put off, in milliseconds; None unless it is."""


def run(
    task: Task[..., Any],
    *arguments: Any,
    payload: bytes | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    attempt: int = 1,
    cancel_after: float | None = None,
) -> Report:
    """Run one attempt of a job of the task.

    The arguments are those of the function, without the job; they become the payload, as a client
    would send it. `payload` is that of a client instead, byte by byte. `cancel_after` cancels the
    job after this many seconds: a function sees it in `job.check()`, `job.progress()` and
    `job.canceled`, a coroutine gets `asyncio.CancelledError`. In a coroutine, use `run_async`.
    """
    it = _Run(
        task,
        arguments,
        payload=payload,
        content_type=content_type,
        metadata=metadata,
        attempt=attempt,
        cancel_after=cancel_after,
    )
    if not it.is_accepted:
        return it.rejected()
    if task.is_async:
        return asyncio.run(it.report_async())
    return contextvars.copy_context().run(it.report)


async def run_async(
    task: Task[..., Any],
    *arguments: Any,
    payload: bytes | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    attempt: int = 1,
    cancel_after: float | None = None,
) -> Report:
    """Do what `run` does, in the event loop of the caller."""
    it = _Run(
        task,
        arguments,
        payload=payload,
        content_type=content_type,
        metadata=metadata,
        attempt=attempt,
        cancel_after=cancel_after,
    )
    if not it.is_accepted:
        return it.rejected()
    if not task.is_async:
        return contextvars.copy_context().run(it.report)
    # A task of its own: it has its own context, and can be canceled alone.
    return await asyncio.create_task(it.report_async())


_numbers: Final = itertools.count(1)


class _Run:
    """One attempt, and what its handler reported."""

    def __init__(
        self,
        task: Task[..., Any],
        arguments: Sequence[Any],
        *,
        payload: bytes | None,
        content_type: str | None,
        metadata: Mapping[str, str] | None,
        attempt: int,
        cancel_after: float | None,
    ) -> None:
        if not isinstance(task, Task):
            name = getattr(task, "__qualname__", repr(task))
            raise TypeError(f"{name} is not a task: decorate it with @crunch.task")
        declared = task.declaration
        written = task.encode(*arguments) if payload is None else Encoded(payload)
        data = written.data if isinstance(written.data, bytes) else written.data.read_bytes()
        accepts = declared["accepts"]
        kind = content_type or written.content_type
        kind = kind or (JSON if JSON in accepts else accepts[0])
        if written.content_type is not None and content_type is None and kind not in accepts:
            kind = accepts[0]
        number = next(_numbers)
        self._max_attempts = task.max_attempts
        message = {
            "type": "job",
            "id": f"test-{number}",
            "epoch": number,
            "task": task.name,
            "attempt": attempt,
            "max_attempts": self._max_attempts,
            "deadline_ms": round((time.time() + declared.get("timeout_ms", 600_000) / 1000) * 1000),
            "content_type": kind,
            "metadata": dict(metadata or {}),
        }
        self._attempt = Attempt({task.name: task}, self, Frame(message, data))
        self._task = task
        self._progress: deque[Progress] = deque(maxlen=MAX_PROGRESS)
        self._logs: deque[str] = deque(maxlen=MAX_LINES)
        self._cancel_after = cancel_after
        self._cancel_at = None if cancel_after is None else time.monotonic() + cancel_after
        max_payload: int = declared.get("max_payload", DEFAULT_MAX_PAYLOAD)
        self._reason_to_reject = ""
        if kind not in accepts:
            self._reason_to_reject = f"{task.name} accepts {', '.join(accepts)}, not {kind}"
        elif len(data) > max_payload:
            self._reason_to_reject = f"the payload has {len(data)} bytes, more than {max_payload}"

    @property
    def is_accepted(self) -> bool:
        return not self._reason_to_reject

    def rejected(self) -> Report:
        error = Error("payload_invalid", self._reason_to_reject, retryable=False)
        return Report("rejected", None, None, error, [], [])

    def report(self) -> Report:
        """Run a function. The caller gives it a context of its own."""
        set_current_job(self._attempt.job)
        with captured(self._attempt.job, self._add_lines):
            try:
                task, (positional, named) = self._attempt.arguments()
                outcome: Encoded | Failure = self._checked(task.function(*positional, **named))
            except BaseException as error:
                outcome = self._failure(error)
        return self._report(outcome)

    async def report_async(self) -> Report:
        """Run a coroutine, in a task of its own."""
        set_current_job(self._attempt.job)
        with captured(self._attempt.job, self._add_lines):
            handler = asyncio.create_task(self._call())
            if self._cancel_after is not None:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(self._cancel_after, self._cancel, handler)
                handler.add_done_callback(lambda _: timer.cancel())
            try:
                await asyncio.wait([handler])
            except asyncio.CancelledError:  # The test is canceled, not the job.
                handler.cancel()
                raise
            try:
                outcome: Encoded | Failure = self._checked(handler.result())
            except BaseException as error:
                outcome = self._failure(error)
        return self._report(outcome)

    async def _call(self) -> Any:
        task, (positional, named) = self._attempt.arguments()
        return await task.function(*positional, **named)

    def _cancel(self, handler: asyncio.Task[Any]) -> None:
        self._attempt.job.reason = "canceled"
        handler.cancel()

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, NEVER_CAUGHT):
            raise error
        if isinstance(error, UnfitPayload) and error.by_api:
            self._reason_to_reject = error.message
        return self._attempt.failure(error)

    def _checked(self, value: Any) -> Encoded:
        """Return the result, checked like a worker does it."""
        result = self._attempt.result(value)
        data = result.data.read_bytes() if isinstance(result.data, Path) else result.data
        limit = self._task.max_result or MAX_BODY_BYTES
        if len(data) > limit:
            raise Fail("result_too_large", f"the result has {len(data)} bytes, more than {limit}")
        kind = result.content_type or self._task.content_type or JSON
        if kind == JSON:
            try:
                json.loads(data or b"null")
            except ValueError as error:
                raise Fail("result_invalid", f"the result is not JSON: {error}") from None
        return Encoded(data, kind)

    def _report(self, outcome: Encoded | Failure) -> Report:
        if not self.is_accepted:
            return self.rejected()
        progress, logs = list(self._progress), list(self._logs)
        if isinstance(outcome, Failure) and outcome.snooze_ms is not None:
            return Report("snoozed", None, None, None, progress, logs, outcome.snooze_ms)
        if isinstance(outcome, Failure):
            code = outcome.code or ("machine" if outcome.machine else "task_failed")
            error = Error(code, outcome.message, outcome.retryable, outcome.after_ms)
            return Report(self._status_of(outcome), None, None, error, progress, logs)
        assert isinstance(outcome.data, bytes)
        data: Any = outcome.data
        result = json.loads(data or b"null") if outcome.content_type == JSON else data
        return Report("succeeded", result, outcome.content_type, None, progress, logs)

    def _status_of(self, failure: Failure) -> Status:
        job = self._attempt.job
        if failure.machine:
            return "released"
        if job.reason is not None and failure.code == "canceled":
            return "canceled"
        return "retried" if failure.retryable and job.attempt < job.max_attempts else "failed"

    def _add_lines(self, text: str) -> None:
        self._logs.extend(text.splitlines())

    # What the job calls:

    def stop_reason(self, job: Job) -> str | None:
        """Return why the job must stop."""
        if self._cancel_at is not None and time.monotonic() >= self._cancel_at:
            job.reason = "canceled"
        return job.reason

    def progress(self, job: Job, fraction: float, message: str) -> None:
        """Record progress."""
        self._progress.append(Progress(fraction, str(message)))

    def log(self, job: Job, text: str) -> None:
        """Record lines of the log."""
        self._add_lines(text)
