"""The jobs of a fake API: what is stored about them, and how their functions run."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, TypeAlias

from crunch import testing
from crunch.api.http import JSON, is_json
from crunch.worker.declaration import Task
from crunch.worker.failures import Fail, failure_of
from crunch.worker.payloads import Payload, UnfitPayload
from crunch.worker.results import encode, encode_json

Function: TypeAlias = Callable[..., Any]
"""Gets a payload, and returns a result or a coroutine; or a task."""

DEFAULT_ATTEMPTS: Final = 3
LARGEST_INLINE: Final = 64 * 1024
"""The largest result that is shown in the job itself."""


@dataclass(frozen=True)
class Submission:
    """What a client submitted."""

    task: str
    payload: Any
    """The value of JSON, else bytes."""
    content_type: str
    key: str | None
    """The idempotency key."""
    options: Mapping[str, Any]
    """The other members, by the names of the API: `delay_ms`, `metadata`, …."""
    body: bytes = field(repr=False)


@dataclass
class Outcome:
    """How an attempt ended."""

    status: str
    result: bytes = b""
    content_type: str = JSON
    error: dict[str, Any] | None = None
    progress: list[tuple[float, str]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)


class Job:
    """A job of the fake API."""

    def __init__(self, submission: Submission, due_at: float, max_attempts: int) -> None:
        self.submission: Final = submission
        self.token: Final = str(uuid.uuid4())
        self.due_at = due_at
        self.created_at: Final = _now()
        self.started_at: str | None = None
        self.finished_at: str | None = None
        self.status = "queued"
        self.attempt = 0
        self.max_attempts: Final = max_attempts
        self.last = Outcome("queued")
        self.history: list[Outcome] = []

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ("succeeded", "failed", "canceled")

    def begin(self) -> None:
        """Start an attempt."""
        self.attempt += 1
        self.status, self.started_at = "running", _now()

    def settle(self, outcome: Outcome) -> None:
        """Record how an attempt ended."""
        self.last = outcome
        self.history.append(outcome)
        self.status = outcome.status
        if outcome.status == "retried":
            exhausted = self.attempt >= self.max_attempts
            self.status = "failed" if exhausted else "retrying"
        if self.ended:
            self.finished_at = _now()

    def cancel(self) -> None:
        """Cancel it before it runs."""
        error = {"code": "canceled", "message": "canceled on request", "retryable": False}
        self.last, self.status, self.finished_at = (
            Outcome("canceled", error=error),
            "canceled",
            _now(),
        )

    def queue_again(self) -> None:
        """Start from the first attempt."""
        self.attempt, self.status, self.finished_at, self.last = (
            0,
            "queued",
            None,
            Outcome("queued"),
        )

    def document(self, now: float, *, listed: bool = False) -> dict[str, Any]:
        """Return the job as the API shows it."""
        options, last = self.submission.options, self.last
        succeeded = self.status == "succeeded"
        omitted = self._omitted(listed=listed) if succeeded else None
        fraction, message = last.progress[-1] if last.progress else (None, None)
        waits = self.status == "queued" and self.due_at > now
        return {
            "id": self.token,
            "token": self.token,
            "task": self.submission.task,
            "queue": options.get("queue", self.submission.task),
            "priority": options.get("priority", "normal"),
            "status": "scheduled" if waits else self.status,
            "progress": fraction,
            "progress_message": message,
            "worker": "fake" if self.started_at else None,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "cancel_requested": self.status == "canceled",
            "created_at": self.created_at,
            "run_at": options.get("run_at"),
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "expires_at": None,
            "payload_size": len(self.submission.body),
            "result_size": len(last.result) if succeeded else None,
            "result": json.loads(last.result) if succeeded and omitted is None else None,
            "result_content_type": last.content_type if succeeded else None,
            "result_omitted": omitted,
            "error": last.error,
            "error_group": self._error_group() if self.status == "failed" else None,
            "waiting_for": None,
            "metadata": options.get("metadata", {}),
        }

    def _error_group(self) -> str:
        """Return the kind of the error. Here it is made of the whole message."""
        error = self.last.error or {}
        queue = self.submission.options.get("queue", self.submission.task)
        parts = [queue, self.submission.task, error.get("code"), error.get("message")]
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]

    def _omitted(self, *, listed: bool) -> str | None:
        if listed:
            return "list"
        if not is_json(self.last.content_type):
            return "not_json"
        return "too_large" if len(self.last.result) > LARGEST_INLINE else None


def check(function: Function, body: bytes, content_type: str) -> None:
    """Raise `UnfitPayload` if the API would not take the payload."""
    if isinstance(function, Task):
        try:
            function.parameters.reader.read(Payload(body, content_type))
        except UnfitPayload as unfit:
            if unfit.by_api:
                raise


def run(function: Function, job: Job) -> Outcome | Awaitable[Outcome]:
    """Run an attempt."""
    submission = job.submission
    if isinstance(function, Task):
        given = {
            "payload": submission.body,
            "content_type": submission.content_type,
            "metadata": submission.options.get("metadata", {}),
            "attempt": job.attempt,
        }
        if function.is_async:
            return _reported_later(testing.run_async(function, **given))
        return _reported(testing.run(function, **given))
    try:
        value = function(submission.payload)
    except Exception as error:
        return _failed(error)
    return _awaited(value) if isinstance(value, Awaitable) else _succeeded(value)


async def _awaited(value: Awaitable[Any]) -> Outcome:
    try:
        return _succeeded(await value)
    except Exception as error:
        return _failed(error)


async def _reported_later(report: Awaitable[testing.Report]) -> Outcome:
    return _reported(await report)


def _reported(report: testing.Report) -> Outcome:
    error = report.error
    members: dict[str, Any] | None = None
    if error is not None:
        members = {"code": error.code, "message": error.message, "retryable": error.retryable}
    status: str = report.status
    if error is not None and status != "canceled":
        # The job may have another number of attempts than its task.
        status = "retried" if error.retryable else "failed"
    progress = [(it.fraction, it.message) for it in report.progress]
    if report.status != "succeeded":
        return Outcome(status, error=members, progress=progress, logs=report.logs)
    kind = report.content_type or JSON
    result = encode_json(report.result) if is_json(kind) else report.result
    return Outcome("succeeded", result, kind, None, progress, report.logs)


def _succeeded(value: Any) -> Outcome:
    try:
        written = encode(value, None)
    except Fail as error:
        return _failed(error)
    data = written.data
    result = data if isinstance(data, bytes) else data.read_bytes()
    return Outcome("succeeded", result, written.content_type or JSON)


def _failed(error: Exception) -> Outcome:
    failure = failure_of(error)
    members = {
        "code": failure.code or "task_failed",
        "message": failure.message,
        "retryable": failure.retryable,
    }
    return Outcome("retried" if failure.retryable else "failed", error=members)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
