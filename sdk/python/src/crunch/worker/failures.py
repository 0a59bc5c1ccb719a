"""Exceptions by which a handler ends its job, and what other exceptions mean.

The only place that turns an exception into the `error` of an answer.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crunch.worker.values import Duration, checked_duration, checked_name, is_code

if TYPE_CHECKING:
    from types import TracebackType

MAX_MESSAGE_BYTES: Final = 4096
"""The longest message of an error that is stored with a job: the last lines of a stack trace."""

_PACKAGE = str(Path(__file__).parent)
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Retry(Exception):
    """The attempt failed, and another one may succeed.

    `in_` is when to try again, instead of the task's backoff. Without a `code` the job shows
    `task_failed`. The job fails for good after its last attempt.
    """

    def __init__(
        self, message: str = "", *, in_: Duration | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message: Final = str(message)
        self.code: Final = None if code is None else checked_name("code", code)
        self.after_ms: Final = None if in_ is None else checked_duration("in_", in_, min_ms=0)


class Fail(Exception):
    """The job failed for good: another attempt would fail too."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code, message)
        self.code: Final = checked_name("code", code)
        self.message: Final = str(message)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Snooze(Exception):
    """The job is put off: it is tried again after `in_`, and this attempt is not charged.

    For a job whose time has not come, such as a call that is answered later. A job is put off at
    most 1000 times, and not beyond its deadline: then it fails.
    """

    def __init__(self, in_: Duration) -> None:
        super().__init__(in_)
        self.snooze_ms: Final = checked_duration("in_", in_, min_ms=0)


class MachineFault(Exception):
    """Not the job but this machine is at fault: a device or a license is missing, a disk is full.

    The attempt is not charged, and the job is tried again, here or on another machine, without end:
    never raise it for what the job itself may cause. Operators see the reason, so keep the payload
    out of it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = str(reason)


class Canceled(BaseException):
    """The job must stop. Like asyncio.CancelledError, it passes `except Exception`.

    `reason` is why: `canceled`, `timeout`, `lease_lost`, `shutdown`, ….
    """

    def __init__(self, reason: str = "canceled") -> None:
        super().__init__(reason)
        self.reason: Final = reason


@dataclass(frozen=True)
class Failure:
    """The `error` of an answer, and when to try again."""

    code: str | None
    message: str
    retryable: bool = True
    machine: bool = False
    after_ms: int | None = None
    snooze_ms: int | None = None
    """For how long the job is put off; then nothing failed."""

    def members(self) -> dict[str, Any]:
        """Return the members of `error`, as `docs/commands.md` specifies them."""
        if self.snooze_ms is not None:
            return {"snooze_ms": self.snooze_ms}
        if self.machine:
            return {"message": self.message, "machine": True}
        members: dict[str, Any] = {"message": self.message, "retryable": self.retryable}
        if self.code is not None:
            members["code"] = self.code
        if self.after_ms is not None:
            members["after_ms"] = self.after_ms
        return members


def failure_of(error: BaseException) -> Failure:
    """Return what the exception of a handler means for its job."""
    if isinstance(error, Fail):
        return Failure(error.code, _last_bytes(error.message), retryable=False)
    if isinstance(error, Retry):
        return Failure(error.code, _last_bytes(error.message), after_ms=error.after_ms)
    if isinstance(error, Snooze):
        return Failure(None, "put off by its handler", snooze_ms=error.snooze_ms)
    if isinstance(error, MachineFault):
        return Failure(None, _last_bytes(error.reason), machine=True)
    if isinstance(error, Canceled):
        return Failure("canceled", f"stopped: {error.reason}", retryable=error.reason != "canceled")
    if isinstance(error, MemoryError):
        return Failure("out_of_memory", _last_bytes(_trace(error)))
    return Failure(_code_of(type(error)), _last_bytes(_trace(error)))


def _code_of(kind: type[BaseException]) -> str:
    """Return the name of the class in snake case: `ValueError` becomes `value_error`."""
    words = _WORD_START.sub("_", kind.__name__).lower()
    code = re.sub(r"[^a-z0-9_.-]+", "_", words).strip("_.-")[:64]
    return code if is_code(code) else "exception"


def _trace(error: BaseException) -> str:
    """Return the stack trace from the handler on: the frames of this package are noise."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    try:
        lines = traceback.format_exception(type(error), error, trace)
    except Exception:  # An exception may fail to describe itself.
        return type(error).__name__
    return "".join(lines).rstrip("\n")


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_PACKAGE)


def _last_bytes(message: str) -> str:
    """Return the end of the message, where most stack traces name the cause."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[-MAX_MESSAGE_BYTES:].decode("utf-8", "ignore")
