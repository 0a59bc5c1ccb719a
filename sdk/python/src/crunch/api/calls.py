"""Every call of the clients: which request it sends, and what it makes of the response."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlencode

from crunch.api import documents, options
from crunch.api.documents import JobDocument, parsed
from crunch.api.http import Emit, Pause, Request
from crunch.api.payloads import BYTES, Content, decode_result
from crunch.api.retries import perform
from crunch.errors import Gone, InvalidKey, JobCanceled, JobFailed, NotFound, WaitTimeout
from crunch.worker.values import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from crunch.api.documents import (
        AttemptInfo,
        ErrorGroup,
        LogLine,
        QueueInfo,
        Status,
        TaskInfo,
        WorkerInfo,
    )
    from crunch.api.http import Flow, Response, Stream
    from crunch.api.options import SubmitOptions

T = TypeVar("T")

LONGEST_WAIT_S: Final = 30
"""How long one request waits for the end of a job. The API permits 60 s, but then many proxies give
up."""
MAX_PAGE: Final = 100
"""The largest page of a list of jobs."""
_TOKEN = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True)
class Submission:
    """A job to submit: what a client sends, and sends again if it must."""

    task: str
    body: bytes
    content_type: str
    key: str
    options: SubmitOptions

    def request(self, wait: int) -> Request:
        """Return the request, which is the same each time."""
        query = options.query(self.options)
        headers = {
            "Content-Type": self.content_type,
            "Idempotency-Key": self.key,
            **options.headers(self.options),
        }
        path = f"/tasks/{checked_name('task', self.task)}/jobs" + (f"?{query}" if query else "")
        return Request("POST", path, headers, self.body, wait)


@dataclass(frozen=True)
class Submitted:
    """An accepted submission."""

    document: JobDocument
    replayed: bool
    """Whether an earlier submission with the same key had created the job."""
    existing: bool
    """Whether no job was created, because this one holds the lock."""


Search = Literal["index", "scan"]
"""How jobs with labels are found."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list contains."""

    status: Status | None = None
    task: str | None = None
    queue: str | None = None
    error: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    metadata: Mapping[str, str] | None = None
    search: Search | None = None

    def parameters(self) -> dict[str, str]:
        """Return the query parameters."""
        given = {
            "status": self.status,
            "task": self.task,
            "queue": self.queue,
            "error": self.error,
            "created_after": self.created_after and self.created_after.isoformat(),
            "created_before": self.created_before and self.created_before.isoformat(),
            "finished_after": self.finished_after and self.finished_after.isoformat(),
            "finished_before": self.finished_before and self.finished_before.isoformat(),
            "search": self.search,
            **{f"metadata.{name}": value for name, value in (self.metadata or {}).items()},
        }
        return {name: str(value) for name, value in given.items() if value is not None}


def checked_key(key: str | None) -> str:
    """Return the idempotency key of a submission: a new one if there is none."""
    if key is None:
        return str(uuid.uuid4())
    if not _KEY.fullmatch(key):
        detail = "a key has 1 to 255 visible ASCII characters"
        raise InvalidKey.local(400, "invalid-idempotency-key", "Invalid Idempotency-Key", detail)
    return key


def job_path(token: str, rest: str = "") -> str:
    """Return the path of a job. What is not a token is no job: it never becomes another path."""
    if not _TOKEN.fullmatch(token):
        detail = "there is no such job: this is not a token"
        raise NotFound.local(404, "not-found", "Not found", detail)
    return f"/jobs/{token}{rest}"


class Calls:
    """The calls of a client."""

    def __init__(self, timeout: float, clock: Callable[[], float]) -> None:
        self.timeout: Final = timeout
        """How many seconds one request may take with its repetitions, apart from waiting."""
        self.clock: Final = clock

    def submit(self, submission: Submission, wait: float) -> Flow[Submitted]:
        """Submit a job, and wait for its end up to `wait` seconds."""
        until = self.clock() + _checked_wait(wait)
        response = yield from self.checked(submission.request(_whole_seconds(wait)))
        document = parsed(documents.job, response.json())
        replayed, existing = (
            response.headers.get(name) == "true"
            for name in ("idempotency-replayed", "crunch-existing")
        )
        if not document.ended and wait > 0:
            document = yield from self._ended_or_late(document.token, until)
        return Submitted(document, replayed, existing)

    def job(self, token: str, wait: float) -> Flow[JobDocument]:
        """Return a job as it is when it has ended, or after `wait` seconds."""
        return (yield from self._ended_or_late(token, self.clock() + _checked_wait(wait)))

    def ended(self, document: JobDocument, timeout: float | None) -> Flow[JobDocument]:
        """Return the job once it has ended."""
        if document.ended:
            return document
        until = math.inf if timeout is None else self.clock() + _checked_wait(timeout)
        document = yield from self._ended_or_late(document.token, until)
        if not document.ended:
            raise WaitTimeout(document.token, document.status)
        return document

    def _ended_or_late(self, token: str, until: float) -> Flow[JobDocument]:
        while True:
            asked_at = self.clock()
            request = Request("GET", job_path(token), wait=_whole_seconds(until - asked_at))
            response = yield from self.checked(request)
            document = parsed(documents.job, response.json())
            now = self.clock()
            if document.ended or asked_at >= until:
                return document
            if request.wait == 0 or now - asked_at < request.wait:
                # It did not wait: it was not asked to, too many others do, or it is about to stop.
                pause = response.retry_after or 1.0
                yield Pause(max(0.0, min(pause, until - now)))

    def result(self, document: JobDocument) -> Flow[Any]:
        """Return the result of a job that has ended."""
        check_succeeded(document)
        if document.result_omitted is None:
            return document.result
        content = yield from self.content(document)
        return decode_result(content, content.content_type)

    def content(self, document: JobDocument) -> Flow[Content]:
        """Return the bytes of the result of a job that has ended."""
        check_succeeded(document)
        return (yield from self._content(job_path(document.token, "/result")))

    def _content(self, path: str) -> Flow[Content]:
        response = yield from self.checked(Request("GET", path))
        return Content(response.body, response.headers.get("content-type", BYTES))

    def payload(self, token: str) -> Flow[Any]:
        """Return the payload of a job."""
        content = yield from self._content(job_path(token, "/payload"))
        return decode_result(content, content.content_type)

    def cancel(self, token: str) -> Flow[JobDocument]:
        """Cancel a job, or ask its worker to."""
        response = yield from self.checked(Request("POST", job_path(token, "/cancel")))
        return parsed(documents.job, response.json())

    def retry(self, token: str) -> Flow[JobDocument]:
        """Queue a failed or canceled job again."""
        # A second request could retry the job that the first one retried.
        request = Request("POST", job_path(token, "/retry"), repeatable=False)
        response = yield from self.checked(request)
        return parsed(documents.job, response.json())

    def delete(self, token: str) -> Flow[None]:
        """Delete a job that has ended; one that was deleted is deleted."""
        try:
            yield from self.checked(Request("DELETE", job_path(token)))
        except Gone:
            return

    def attempts(self, token: str) -> Flow[list[AttemptInfo]]:
        """Return the attempts of a job."""
        response = yield from self.checked(Request("GET", job_path(token, "/attempts")))
        page = parsed(lambda of: of["items"], response.json())
        return [parsed(documents.attempt, item) for item in page]

    def logs(self, token: str) -> Stream[LogLine]:
        """Emit the lines of a job's log, up to the newest."""
        return self.pages(job_path(token, "/logs"), {"limit": "256"}, documents.log_line)

    def jobs(self, filter_: JobFilter) -> Stream[JobDocument]:
        """Emit the jobs of a list."""
        parameters = {**filter_.parameters(), "limit": str(MAX_PAGE)}
        return self.pages("/jobs", parameters, documents.job)

    def errors(
        self, task: str | None, queue: str | None, with_failed_jobs: bool
    ) -> Stream[ErrorGroup]:
        """Emit the failures, by their kind."""
        only = "true" if with_failed_jobs else None
        given = {"task": task, "queue": queue, "with_failed_jobs": only}
        parameters = {name: value for name, value in given.items() if value is not None}
        return self.pages("/errors", parameters, documents.error_group)

    def tasks(self) -> Stream[TaskInfo]:
        """Emit the tasks that workers declared."""
        return self.pages("/tasks", {}, documents.task)

    def queues(self) -> Stream[QueueInfo]:
        """Emit the queues."""
        return self.pages("/queues", {}, documents.queue)

    def workers(self) -> Stream[WorkerInfo]:
        """Emit the workers."""
        return self.pages("/workers", {}, documents.worker)

    def task(self, name: str) -> Flow[TaskInfo]:
        """Return one task."""
        response = yield from self.checked(Request("GET", f"/tasks/{checked_name('task', name)}"))
        return parsed(documents.task, response.json())

    def queue(self, name: str) -> Flow[QueueInfo]:
        """Return one queue."""
        path = f"/queues/{checked_name('queue', name)}"
        response = yield from self.checked(Request("GET", path))
        return parsed(documents.queue, response.json())

    def items(self, path: str, parse: Callable[[Any], T]) -> Stream[T]:
        """Emit the items of a list that has one page."""
        response = yield from self.checked(Request("GET", path))
        for item in parsed(lambda of: of["items"], response.json()):
            yield Emit(parsed(parse, item))

    def pages(self, path: str, parameters: dict[str, str], parse: Callable[[Any], T]) -> Stream[T]:
        """Emit the items of a list, page by page."""
        while True:
            query = urlencode(parameters)
            request = Request("GET", f"{path}?{query}" if query else path)
            response = yield from self.checked(request)
            page = parsed(documents.page, response.json())
            for item in page.items:
                yield Emit(parsed(parse, item))
            # The log of a running job always has a next page, which may be empty for now.
            log_so_far = path.endswith("/logs") and not page.items
            if page.next_cursor is None or log_so_far:
                return
            parameters = {**parameters, "cursor": page.next_cursor}

    def checked(self, request: Request) -> Flow[Response]:
        """Return the response, unless it is a problem."""
        response = yield from perform(request, self.clock, self.timeout)
        if response.status >= 300:
            raise response.problem()
        return response


def check_succeeded(document: JobDocument) -> None:
    """Raise what happened to a job that has ended without a result."""
    error = document.error
    message = error.message if error else ""
    if document.status == "canceled":
        raise JobCanceled(message, document.token)
    if document.status != "succeeded":
        code = error.code if error else document.status
        raise JobFailed(code, message, document.attempt, document.token)


def _checked_wait(wait: float) -> float:
    if not wait >= 0:
        raise ValueError(f"wait: {wait!r} is not a number of seconds")
    return wait


def _whole_seconds(wait: float) -> int:
    """Return how long one request waits: rounded down, so that no call takes longer than asked."""
    return int(min(max(wait, 0), LONGEST_WAIT_S))
