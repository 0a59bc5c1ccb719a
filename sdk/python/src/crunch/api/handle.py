"""What the handles of both clients have in common: a job as it was when the API last responded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from crunch.api.tasks import as_it_is

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crunch.api.documents import JobDocument, JobError, Status
    from crunch.api.tasks import Decoder

R = TypeVar("R")


class Handle(Generic[R]):
    """A job, as it was when the API last responded. `R` is the type of its result."""

    def __init__(
        self,
        document: JobDocument,
        *,
        decode: Decoder = as_it_is,
        replayed: bool = False,
        existing: bool = False,
    ) -> None:
        self.document = document
        """Everything that the API says about the job."""
        self.replayed = replayed
        """Whether an earlier submission with the same key had created the job."""
        self.existing = existing
        """Whether no job was created, because this one holds the lock of the submission."""
        self._decode = decode

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.task}: {self.status}>"

    @property
    def id(self) -> str:
        """The identifier of the job, which cannot be guessed."""
        return self.document.id

    @property
    def token(self) -> str:
        """The same as `id`: what a client keeps to ask for the result later."""
        return self.document.token

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.document.task

    @property
    def queue(self) -> str:
        """Where it waits."""
        return self.document.queue

    @property
    def status(self) -> Status:
        """Which state it is in."""
        return self.document.status

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been canceled."""
        return self.document.ended

    @property
    def progress(self) -> float | None:
        """0 to 1, if the handler reported it."""
        return self.document.progress

    @property
    def message(self) -> str | None:
        """The handler's message on its progress."""
        return self.document.progress_message

    @property
    def attempt(self) -> int:
        """Which attempt this is."""
        return self.document.attempt

    @property
    def error(self) -> JobError | None:
        """Why it failed or was canceled, or why it waits for another attempt."""
        return self.document.error

    @property
    def metadata(self) -> Mapping[str, str]:
        """The labels it was submitted with."""
        return self.document.metadata
