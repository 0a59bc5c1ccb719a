"""The job that a handler runs, as the handler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Final, Protocol

from crunch.worker.failures import Canceled
from crunch.worker.values import JSON

REPORT_INTERVAL: Final = 0.1
"""Seconds between two progress messages: a worker publishes the newest ten times a second."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Observer(Protocol):
    """Receives what handlers report, and knows which of them must stop."""

    def stop_reason(self, job: Job) -> str | None:
        """Return why the job must stop, if it must."""

    def progress(self, job: Job, fraction: float, message: str) -> None:
        """Take the newest progress of the job."""

    def log(self, job: Job, text: str) -> None:
        """Take lines for the log of the job."""


class Job:
    """The job that a handler runs. A parameter with this annotation receives it."""

    __slots__ = (
        "__weakref__",
        "_deadline_ms",
        "_observer",
        "attempt",
        "content_type",
        "epoch",
        "id",
        "is_open",
        "max_attempts",
        "metadata",
        "newest",
        "reason",
        "report_due",
        "reported",
        "task",
        "trace",
    )

    def __init__(self, observer: Observer, members: Mapping[str, Any]) -> None:
        """Take the members of the message `job`."""
        self._observer = observer
        self.id: Final[str] = members["id"]
        """The id of the job, which is also its token."""
        self.epoch: Final[int] = members["epoch"]
        """Grows with every run of the job: a system that stores it can reject late writers."""
        self.task: Final[str] = members["task"]
        """The name of the task."""
        self.attempt: Final[int] = members.get("attempt", 1)
        """Which attempt this is, from 1."""
        self.max_attempts: Final[int] = members.get("max_attempts", 1)
        """How many attempts the job has."""
        self.content_type: Final[str] = members.get("content_type", JSON)
        """The content type of the payload."""
        self.metadata: Final[Mapping[str, str]] = members.get("metadata") or _NOTHING
        """The labels of the job."""
        self.trace: Final[Mapping[str, str]] = members.get("trace") or _NOTHING
        """`traceparent`, perhaps `tracestate`, if the job belongs to a trace; else empty."""
        self._deadline_ms: Final[int | None] = members.get("deadline_ms")
        # The rest belongs to the observer.
        self.reason: str | None = None
        self.is_open: bool = True
        self.newest: tuple[float, str] | None = None
        self.reported: tuple[float, str] | None = None
        self.report_due: float = 0.0

    @property
    def token(self) -> str:
        """The token that clients know: the same as `id`."""
        return self.id

    @property
    def deadline(self) -> datetime | None:
        """When this attempt will be stopped, in UTC."""
        if self._deadline_ms is None:
            return None
        try:
            return _EPOCH + timedelta(milliseconds=self._deadline_ms)
        except OverflowError:  # Later than any datetime.
            return None

    @property
    def canceled(self) -> bool:
        """Whether the job must stop, for any reason."""
        return self._observer.stop_reason(self) is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why the job must stop, or None if it need not.

        `canceled`, `timeout`, `deadline_exceeded`, `lease_lost` or `shutdown`.
        """
        return self._observer.stop_reason(self)

    def check(self) -> None:
        """Raise `Canceled` if the job must stop."""
        if (reason := self._observer.stop_reason(self)) is not None:
            raise Canceled(reason)

    def progress(self, fraction: float, message: str = "") -> None:
        """Report how much is done, from 0 to 1; raise `Canceled` if the job must stop.

        Cheap enough to call in every turn of a loop: the newest is sent ten times a second.
        """
        self.check()
        value = float(fraction)
        if value != value:  # noqa: PLR0124 - NaN
            raise ValueError("progress is not a number (NaN); expected 0 to 1")
        # The sum of parts may exceed 1 by a rounding error.
        self._observer.progress(self, min(max(value, 0.0), 1.0), message)

    def log(self, text: object, *arguments: object) -> None:
        """Write to the log of the job. Arguments are filled in as in logging: `log("%d", 5)`."""
        line = str(text)
        self._observer.log(self, line % arguments if arguments else line)

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.task}, attempt {self.attempt}, epoch {self.epoch}>"


_current: Final[ContextVar[Job | None]] = ContextVar("crunch_job", default=None)


def current_job() -> Job | None:
    """Return the job that this code runs for, or None outside of a job.

    Coroutines, and functions that are called with `asyncio.to_thread`, see it; a thread that a
    handler starts otherwise does not.
    """
    return _current.get()


def set_current_job(job: Job | None) -> None:
    """Set the job of the current context."""
    _current.set(job)
