"""One attempt of a job, from its message to its answer. Shared by everything that runs handlers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from crunch.worker.declaration import Task
from crunch.worker.failures import Canceled, Failure, failure_of
from crunch.worker.frames import Frame, ProtocolError
from crunch.worker.job import Job, Observer
from crunch.worker.parameters import Arguments
from crunch.worker.payloads import Payload
from crunch.worker.results import Encoded, encode

NEVER_CAUGHT: Final = (SystemExit, KeyboardInterrupt)
"""What ends the process, wherever it is raised."""


class Attempt:
    """A job, its payload, and the function that runs it."""

    def __init__(
        self, tasks: Mapping[str, Task[..., Any]], observer: Observer, frame: Frame
    ) -> None:
        """Take the message `job`; raise `ProtocolError` if a member is missing."""
        try:
            self.job: Final = Job(observer, frame.message)
        except KeyError as missing:
            raise ProtocolError(f"a job without {missing}") from None
        file = frame.message.get("file")
        path = None if file is None else Path(file)
        self._payload: Final = Payload(frame.body, self.job.content_type, path=path)
        self.task: Final = tasks.get(self.job.task)

    def arguments(self) -> tuple[Task[..., Any], Arguments]:
        """Return the task and the arguments of its call; raise `Fail` if the payload is wrong."""
        if self.task is None:
            raise LookupError(f"this child has no task {self.job.task!r}")
        return self.task, self.task.parameters.arguments(self._payload, self.job)

    def result(self, value: Any) -> Encoded:
        """Return the result with what the handler returned; raise `Fail` if it is none."""
        return encode(value, None if self.task is None else self.task.content_type)

    def failure(self, error: BaseException) -> Failure:
        """Return what the exception means: asyncio has its own for what is canceled."""
        reason = self.job.reason
        if reason is not None and type(error).__name__ == "CancelledError":
            return failure_of(Canceled(reason))
        return failure_of(error)
