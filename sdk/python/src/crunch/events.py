"""The events of a job: a parser of server-sent events (WHATWG), and a stream that resumes.

A connection that breaks in the middle of an event loses that event only for the moment: the stream
is opened again with the last complete one in `Last-Event-ID`, and continues after it.
"""

from __future__ import annotations

import codecs
import json
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from crunch.api import documents
from crunch.api.calls import Calls, job_path
from crunch.api.documents import JobDocument, Status, parsed
from crunch.api.http import SILENCE_S, Emit, NoResponse, Pause, Read, Request
from crunch.api.retries import Attempts, opened
from crunch.errors import UnexpectedResponse, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from crunch.api.http import Response, Stream

EventType: TypeAlias = Literal["status", "progress", "log", "done"]

EVENT_STREAM: Final = "text/event-stream"
KEEP_ALIVE_S: Final = 15.0
"""How often the API sends a comment when nothing happens."""
MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""The longest event. Those of the API are far shorter: a job document has at most 64 KiB of result
and 96 KiB of metadata, which may be escaped."""


@dataclass(frozen=True)
class ServerSentEvent:
    """An event as it is transferred."""

    type: str
    data: str
    id: str


class EventParser:
    """Parses a stream of server-sent events, in parts of any size."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """The id of the last complete event: where to resume."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line: list[str] = []
        self._line_size = 0
        self._after_cr = False
        self._id, self._type, self._data = last_id, "", list[str]()
        self._size = 0

    def feed(self, part: bytes) -> list[ServerSentEvent]:
        """Return the events that are complete now."""
        events: list[ServerSentEvent] = []
        text = self._decoder.decode(part)
        if self._after_cr and text:
            # A line that ends with both may be cut between them.
            text = text.removeprefix("\n")
            self._after_cr = False
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            whole = "".join((*self._line, line))
            self._line, self._line_size = [], 0
            if (event := self._take(whole)) is not None:
                events.append(event)
        self._line.append(rest)
        self._line_size += len(rest)
        self._check_size()
        return events

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
            self._check_size()
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_id = self._id
        event = ServerSentEvent(self._type or "message", "\n".join(self._data), self._id)
        has_data = bool(self._data)
        self._type, self._data, self._size = "", [], 0
        return event if has_data else None

    def _check_size(self) -> None:
        if self._line_size + self._size > MAX_EVENT_BYTES:
            raise UnexpectedResponse(f"an event of more than {MAX_EVENT_BYTES} bytes")


@dataclass(frozen=True)
class Event:
    """Something that happened to a job. Which attributes are not None depends on `type`."""

    type: EventType
    id: str
    """Where a stream resumes: `events(after=event.id)`."""
    at: datetime | None = None
    """When; None for the state with which a stream begins."""
    status: Status | None = None
    """Of `status` and `done`."""
    attempt: int | None = None
    """Of `status` and `log`."""
    progress: float | None = None
    """Of `progress` and `done`: 0 to 1."""
    message: str | None = None
    """Of `progress` and `done`: the handler's message."""
    number: int | None = None
    """Of `log`: the number of the line."""
    line: str | None = None
    """Of `log`: a line of the job's log."""
    job: JobDocument | None = None
    """Of `done`: the job, which has ended."""

    def __repr__(self) -> str:
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        present = (f"{name}={value!r}" for name, value in members.items() if value is not None)
        return f"Event({', '.join(present)})"


def event_of(sent: ServerSentEvent) -> Event | None:
    """Return the event of a job; None if a later version sends something else."""
    kind = _KINDS.get(sent.type)
    if kind is None:
        return None
    return parsed(lambda text: kind(sent.id, json.loads(text)), sent.data)


def _status(id_: str, of: Any) -> Event:
    at = documents.optional(documents.time, of["at"])
    return Event("status", id_, at, status=of["status"], attempt=of["attempt"])


def _progress(id_: str, of: Any) -> Event:
    at = documents.optional(documents.time, of["at"])
    progress, message = of["progress"], of["progress_message"]
    return Event("progress", id_, at, progress=progress, message=message)


def _log(id_: str, of: Any) -> Event:
    at, number = documents.optional(documents.time, of["at"]), of["number"]
    return Event("log", id_, at, attempt=of["attempt"], number=number, line=of["line"])


def _done(id_: str, of: Any) -> Event:
    job = documents.job(of)
    return Event(
        "done",
        id_,
        job.finished_at,
        status=job.status,
        attempt=job.attempt,
        progress=job.progress,
        message=job.progress_message,
        job=job,
    )


_KINDS: Final = {"status": _status, "progress": _progress, "log": _log, "done": _done}


def job_events(
    calls: Calls, document: JobDocument, after: str | None, timeout: float | None
) -> Stream[Event]:
    """Emit the events of a job until `done`, over as many connections as it takes.

    `after` is the id of an event: only later ones follow. `timeout` is for all events together.
    """
    watch = _Watch(calls.clock, document, timeout)
    last_id = after or ""
    attempts, outage = Attempts(calls.clock, calls.timeout), False
    while True:
        response = yield from opened(_request(document.token, last_id), calls.clock, calls.timeout)
        if response.status == 204:
            # `after` was the last event there is.
            return
        _check_stream(response)
        parser = EventParser(last_id)
        failure = NoResponse("the stream ended before the job", sent=True)
        try:
            while part := (yield Read(watch.patience())).body:
                # Comments, too, prove that the API is there.
                outage = False
                for event in filter(None, map(event_of, parser.feed(part))):
                    attempts = Attempts(calls.clock, calls.timeout)
                    watch.status = event.status or watch.status
                    yield Emit(event)
                    if event.type == "done":
                        return
        except NoResponse as broken:
            failure = broken
        # An event that is incomplete is discarded: it is sent again after the last complete one.
        last_id = parser.last_id
        if not outage:
            # It begins now: what was before, also a silence, is not counted.
            attempts.extend()
            outage = True
        pause = attempts.pause_after_failure(_request(document.token, last_id), failure)
        yield Pause(min(pause, watch.patience()))


def _check_stream(response: Response) -> None:
    if response.status >= 300:
        raise response.problem()
    if response.content_type != EVENT_STREAM:
        raise UnexpectedResponse(f"a stream of events has the type {response.content_type!r}")


class _Watch:
    """The time that is left for a stream."""

    def __init__(
        self, clock: Callable[[], float], document: JobDocument, timeout: float | None
    ) -> None:
        self._clock = clock
        self._until = math.inf if timeout is None else clock() + timeout
        self._token = document.token
        self.status: str = document.status

    def patience(self) -> float:
        """Return how long the stream may be silent; raise `WaitTimeout` when the time is over."""
        remaining = self._until - self._clock()
        if remaining <= 0:
            raise WaitTimeout(self._token, self.status)
        return min(KEEP_ALIVE_S + SILENCE_S, remaining)


def _request(token: str, last_id: str) -> Request:
    headers = {"Accept": EVENT_STREAM}
    if last_id:
        headers["Last-Event-ID"] = last_id
    return Request("GET", job_path(token, "/events"), headers)
