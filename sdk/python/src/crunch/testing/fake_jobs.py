"""The jobs of a fake API: what is stored about them, and how their functions run."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from crunch import testing
from crunch.api.http import JSON, is_json
from crunch.worker.declaration import Task
from crunch.worker.failures import Fail, failure_of
from crunch.worker.payloads import Payload, UnfitPayload
from crunch.worker.results import encode, encode_json

if TYPE_CHECKING:
    from crunch.testing.fake_locks import Claim

Function: TypeAlias = Callable[..., Any]
"""Gets a payload, and returns a result or a coroutine; or a task."""

DEFAULT_ATTEMPTS: Final = 3
LARGEST_INLINE: Final = 64 * 1024
"""The largest result that is shown in the job itself."""
MAX_SNOOZES: Final = 1000
"""How often a job may be put off."""
LONGEST_GROUP: Final = 128
"""The longest name of a group, in bytes."""


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
    snooze_ms: int | None = None
    """For how long the job is put off."""


class Job:
    """A job of the fake API."""

    def __init__(
        self,
        submission: Submission,
        declared: Mapping[str, Any],
        group: str | None,
        claim: Claim | None,
        now: float,
    ) -> None:
        self.submission = submission
        options = submission.options
        self.queue: Final = queue_of(submission, declared)
        self.priority = options.get("priority", declared.get("priority", "normal"))
        self.group: Final = group
        self.claim: Final = claim
        """Its lock, and for how long it holds that."""
        self.unique = None if claim is None else claim.unique
        """What the newest submission says of that: what is shown."""
        self.follows: Job | None = None
        """The holder of its lock, for whose end it waits."""
        self.token: Final = str(uuid.uuid4())
        self.submitted_at: Final = now
        self.due_at = now + _delay(options)
        self.created_at: Final = _now()
        self.started_at: str | None = None
        self.finished_at: str | None = None
        self.status = "queued"
        self.attempt = 0
        self.snoozes = 0
        attempts = declared.get("max_attempts", DEFAULT_ATTEMPTS)
        self.max_attempts = options.get("max_attempts", attempts)
        self.was_claimed = False
        """Whether it ever ran."""
        self.last = Outcome("queued")
        self.history: list[Outcome] = []

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ("succeeded", "failed", "canceled")

    @property
    def is_replaceable(self) -> bool:
        """Whether it has neither run nor ended."""
        return not self.was_claimed and not self.ended

    def begin(self) -> None:
        """Start an attempt."""
        self.attempt += 1
        self.was_claimed = True
        self.status, self.started_at = "running", _now()

    def settle(self, outcome: Outcome, now: float) -> None:
        """Record how an attempt ended."""
        if outcome.snooze_ms is not None:
            self._snooze(outcome, now + outcome.snooze_ms / 1000)
            return
        self.last = outcome
        self.history.append(outcome)
        self.status = outcome.status
        if outcome.status == "retried":
            exhausted = self.attempt >= self.max_attempts
            self.status = "failed" if exhausted else "retrying"
        if self.ended:
            self.finished_at = _now()

    def _snooze(self, outcome: Outcome, due_at: float) -> None:
        """Put it off, uncharged, if it may be."""
        self.snoozes += 1
        if self.snoozes > MAX_SNOOZES:
            message = f"the handler put the job off {MAX_SNOOZES} times"
            error = {"code": "snoozed_too_often", "message": message, "retryable": False}
            self.settle(Outcome("failed", error=error), due_at)
            return
        self.history.append(outcome)
        self.last, self.status, self.due_at = Outcome("queued"), "queued", due_at
        self.attempt -= 1

    def replace(self, new: Job, now: float) -> None:
        """Get the payload and the options of a job that is not added.

        It keeps its token and, if it is ready, its place and priority.
        """
        self.submission, self.unique = new.submission, new.unique
        self.max_attempts = new.max_attempts
        if self.due_at <= now:
            return
        self.priority = new.priority
        if self.follows is None:
            max_wait_ms = (new.unique or {}).get("max_wait_ms")
            latest = math.inf if max_wait_ms is None else self.submitted_at + max_wait_ms / 1000
            self.due_at = max(min(new.due_at, latest), now)

    def follow(self, holder: Job) -> None:
        """Wait for the end of the holder of its lock."""
        self.follows, self.due_at = holder, math.inf

    def be_due(self, now: float) -> None:
        """Wait no longer."""
        self.follows, self.due_at = None, now

    def cancel(self) -> None:
        """Cancel it before it runs."""
        self.follows = None
        error = {"code": "canceled", "message": "canceled on request", "retryable": False}
        self.last, self.status, self.finished_at = (
            Outcome("canceled", error=error),
            "canceled",
            _now(),
        )

    def queue_again(self, now: float) -> None:
        """Start from the first attempt."""
        self.snoozes = 0
        self.be_due(now)
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
        return {
            "id": self.token,
            "token": self.token,
            "task": self.submission.task,
            "queue": self.queue,
            "priority": self.priority,
            "group": self.group,
            "unique": self.unique,
            "status": "scheduled" if self._waits(now) else self.status,
            "progress": fraction,
            "progress_message": message,
            "worker": "fake" if self.started_at else None,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "snoozes": self.snoozes,
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
            "waiting_for": self._waiting_for(now),
            "schedule": None,
            "metadata": options.get("metadata", {}),
        }

    def _waits(self, now: float) -> bool:
        return self.status == "queued" and self.due_at > now

    def _waiting_for(self, now: float) -> dict[str, str | None] | None:
        if self.follows is not None:
            return {"reason": "lock", "detail": self.follows.token}
        if self._waits(now) and self.snoozes:
            return {"reason": "snooze", "detail": None}
        return None

    def _error_group(self) -> str:
        """Return the kind of the error. Here it is made of the whole message."""
        error = self.last.error or {}
        parts = [self.queue, self.submission.task, error.get("code"), error.get("message")]
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


def declared_by(function: Function) -> Mapping[str, Any]:
    """Return what a task declares; a function that is none declares nothing."""
    return function.declaration if isinstance(function, Task) else {}


def queue_of(submission: Submission, declared: Mapping[str, Any]) -> str:
    """Return the queue of a job: the one that is requested, declared, or named like the task."""
    queue: str = submission.options.get("queue", declared.get("queue", submission.task))
    return queue


def group_of(function: Function, submission: Submission) -> str | None:
    """Return the group that a submission names or has where its task declares it.

    Raise ValueError if what is there cannot be the name of a group.
    """
    named: str | None = submission.options.get("group")
    pointer = declared_by(function).get("group")
    if named is None and pointer is not None and is_json(submission.content_type):
        value = value_at(pointer, submission.payload)
        if value is not None:
            if not isinstance(value, str | int | float):
                raise ValueError("expected a string, a number or a boolean")
            named = value if isinstance(value, str) else json.dumps(value)
    if named is not None and not 1 <= len(named.encode()) <= LONGEST_GROUP:
        raise ValueError(f"expected 1 to {LONGEST_GROUP} bytes of text")
    return named


def value_at(pointer: str, value: Any) -> Any:
    """Return what a JSON Pointer (RFC 6901) refers to; None if there is nothing."""
    for segment in pointer.split("/")[1:]:
        name = segment.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and str(int(name)) == name:
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value


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
    if report.snooze_ms is not None:
        snooze_ms = report.snooze_ms
        return Outcome("snoozed", progress=progress, logs=report.logs, snooze_ms=snooze_ms)
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
    if failure.snooze_ms is not None:
        return Outcome("snoozed", snooze_ms=failure.snooze_ms)
    members = {
        "code": failure.code or "task_failed",
        "message": failure.message,
        "retryable": failure.retryable,
    }
    return Outcome("retried" if failure.retryable else "failed", error=members)


def _delay(options: Mapping[str, Any]) -> float:
    if (at := options.get("run_at")) is not None:
        run_at = datetime.fromisoformat(at)
        return max(0.0, (run_at - datetime.now(timezone.utc)).total_seconds())
    milliseconds: float = options.get("delay_ms", 0)
    return milliseconds / 1000


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
