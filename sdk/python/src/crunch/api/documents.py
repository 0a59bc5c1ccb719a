"""The documents of the API, as Python values.

Members that a later version adds are ignored; a document that lacks one of these is not the API's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar

# At runtime too: pydantic and others read the hints of dataclasses.
from crunch.api.options import Priority
from crunch.errors import UnexpectedResponse
from crunch.unique import OnConflict, Until

T = TypeVar("T")

Status: TypeAlias = Literal[
    "scheduled", "queued", "running", "retrying", "succeeded", "failed", "canceled"
]
ENDED: Final = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True)
class JobError:
    """Why a job failed or was canceled, or why it waits for another attempt."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True)
class WaitingFor:
    """Why a job that could run does not run yet."""

    reason: str
    """Such as `snooze`, or `lock`: the job in `detail` holds its lock."""
    detail: str | None


@dataclass(frozen=True)
class ScheduledBy:
    """The schedule and the tick that a job was submitted for."""

    name: str
    tick: datetime


@dataclass(frozen=True)
class UniqueInfo:
    """What a job is unique by: by its whole payload without `key` and `fields`."""

    key: str | None
    fields: Sequence[str] | None
    """JSON Pointers into the payload."""
    until: Until | None
    """Until when it holds its lock; None if that is a time."""
    for_ms: int | None
    """For how long it holds its lock, from its submission."""
    on_conflict: OnConflict
    """What happens to another job meanwhile that has the same lock."""
    max_wait_ms: int | None
    """How long it may wait after its submission, however often it is replaced."""


@dataclass(frozen=True)
class JobDocument:
    """A job as it was when the API responded."""

    id: str
    token: str
    """The same as `id`."""
    task: str
    queue: str
    priority: Priority
    group: str | None
    """The group in whose turns it is claimed."""
    unique: UniqueInfo | None
    """What it is unique by."""
    status: Status
    progress: float | None
    """0 to 1."""
    progress_message: str | None
    worker: str | None
    """The worker that runs it, or ran it last."""
    attempt: int
    """Which attempt this is; attempts that were interrupted by a worker's death are not counted."""
    max_attempts: int
    snoozes: int
    """How often its handler put it off."""
    cancel_requested: bool
    created_at: datetime
    run_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    """When the job is removed."""
    payload_size: int
    """Bytes."""
    result_size: int | None
    """Bytes."""
    result: Any
    """The result, if it is JSON of at most 64 KiB."""
    result_content_type: str | None
    result_omitted: str | None
    """Why there is a result that is not in `result`."""
    error: JobError | None
    error_group: str | None
    """The kind of the error, if it failed: the `id` of an item of `client.errors()`."""
    waiting_for: WaitingFor | None
    schedule: ScheduledBy | None
    metadata: Mapping[str, str]

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been canceled."""
        return self.status in ENDED


@dataclass(frozen=True)
class LogLine:
    """A line of the log of a job."""

    number: int
    attempt: int
    at: datetime
    line: str


@dataclass(frozen=True)
class AttemptInfo:
    """One attempt of a job."""

    number: int
    worker: str | None
    host: str | None
    """The end of the name of the worker's host."""
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str
    error: JobError | None


@dataclass(frozen=True)
class TaskInfo:
    """A task, as workers declared it."""

    name: str
    queue: str
    description: str
    accepts: Sequence[str]
    """Content types of payloads."""
    content_type: str
    """Content type of results."""
    timeout_ms: int
    max_attempts: int
    priority: Priority
    retention_ms: int | None
    start_within_ms: int | None
    """Within which time a job must start, unless it says otherwise."""
    max_payload: int
    """Bytes."""
    max_result: int | None
    """Bytes."""
    payload_schema: Any
    result_schema: Any
    indexes: Sequence[str]
    """Labels by which `client.jobs(metadata=…)` finds its jobs without looking at others."""
    group: str | None
    """JSON Pointer to the group of a job in its payload, for jobs that name none."""
    unique: UniqueInfo | None
    """What its jobs are unique by, unless they say otherwise."""
    workers: int
    """How many workers have it."""


@dataclass(frozen=True)
class QueueInfo:
    """A queue and how many jobs are in it."""

    name: str
    paused: bool
    queued: int
    scheduled: int
    retrying: int
    running: int
    failed: int
    oldest_age_ms: int | None
    """How long the oldest job that could run has waited."""
    finished_last_minute: int
    workers: int
    parked: tuple[ParkedJobs, ...]
    """Queued jobs that only a worker with their task can claim, by task."""


@dataclass(frozen=True)
class ParkedJobs:
    """Jobs of a queue that wait for a worker with their task."""

    task: str
    jobs: int
    oldest_age_ms: int | None
    workers: int
    """How many workers of the queue can run the task now."""


@dataclass(frozen=True)
class WorkerInfo:
    """A worker that sends heartbeats."""

    id: str
    kind: str
    host: str
    pid: int
    version: str
    tasks: Sequence[str]
    queues: Sequence[str]
    slots: int
    busy: int
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class ErrorGroup:
    """Failures of one kind: `client.jobs(error=group.id)` lists the jobs."""

    id: str
    queue: str | None
    task: str | None
    error: JobError
    """The newest."""
    job: str
    """The token of the job that failed with it."""
    first_at: datetime
    last_at: datetime
    failures: int
    """Attempts that failed so, those included after which the job was tried again."""
    failed_jobs: int
    """Jobs that failed so for good, and neither ran again nor were deleted."""


@dataclass(frozen=True)
class Page:
    """A page of a list."""

    items: Sequence[Any]
    next_cursor: str | None


def parsed(parse: Callable[[Any], T], document: Any) -> T:
    """Return what `parse` makes of a document; one with other members is not the API's."""
    try:
        return parse(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedResponse(f"the response is not one of the API: {error!r}") from error


def job(of: Any) -> JobDocument:
    """Parse a job document."""
    return JobDocument(
        id=of["id"],
        token=of["token"],
        task=of["task"],
        queue=of["queue"],
        priority=of["priority"],
        group=of["group"],
        unique=optional(_unique, of["unique"]),
        status=of["status"],
        progress=of["progress"],
        progress_message=of["progress_message"],
        worker=of["worker"],
        attempt=of["attempt"],
        max_attempts=of["max_attempts"],
        snoozes=of["snoozes"],
        cancel_requested=of["cancel_requested"],
        created_at=time(of["created_at"]),
        run_at=optional(time, of["run_at"]),
        started_at=optional(time, of["started_at"]),
        finished_at=optional(time, of["finished_at"]),
        expires_at=optional(time, of["expires_at"]),
        payload_size=of["payload_size"],
        result_size=of["result_size"],
        result=of["result"],
        result_content_type=of["result_content_type"],
        result_omitted=of["result_omitted"],
        error=optional(job_error, of["error"]),
        error_group=of["error_group"],
        waiting_for=optional(_waiting_for, of["waiting_for"]),
        schedule=optional(_scheduled_by, of["schedule"]),
        metadata=of["metadata"],
    )


def job_error(of: Any) -> JobError:
    """Parse the error of a job."""
    return JobError(of["code"], of["message"], of["retryable"])


def _waiting_for(of: Any) -> WaitingFor:
    return WaitingFor(of["reason"], of["detail"])


def _unique(of: Any) -> UniqueInfo:
    return UniqueInfo(**{name: of[name] for name in UniqueInfo.__dataclass_fields__})


def _scheduled_by(of: Any) -> ScheduledBy:
    return ScheduledBy(of["name"], time(of["tick"]))


def log_line(of: Any) -> LogLine:
    """Parse a line of a log."""
    return LogLine(of["number"], of["attempt"], time(of["at"]), of["line"])


def attempt(of: Any) -> AttemptInfo:
    """Parse an attempt."""
    return AttemptInfo(
        number=of["number"],
        worker=of["worker"],
        host=of["host"],
        started_at=optional(time, of["started_at"]),
        finished_at=optional(time, of["finished_at"]),
        outcome=of["outcome"],
        error=optional(job_error, of["error"]),
    )


def task(of: Any) -> TaskInfo:
    """Parse a task."""
    names = TaskInfo.__dataclass_fields__
    values = {name: of[name] for name in names}
    return TaskInfo(**{**values, "unique": optional(_unique, of["unique"])})


def queue(of: Any) -> QueueInfo:
    """Parse a queue."""
    counts = of["counts"]
    return QueueInfo(
        name=of["name"],
        paused=of["paused"],
        queued=counts["queued"],
        scheduled=counts["scheduled"],
        retrying=counts["retrying"],
        running=counts["running"],
        failed=counts["failed"],
        oldest_age_ms=of["oldest_age_ms"],
        finished_last_minute=of["finished_last_minute"],
        workers=of["workers"],
        parked=tuple(
            ParkedJobs(it["task"], it["jobs"], it["oldest_age_ms"], it["workers"])
            for it in of["parked"]
        ),
    )


def worker(of: Any) -> WorkerInfo:
    """Parse a worker."""
    return WorkerInfo(
        id=of["id"],
        kind=of["kind"],
        host=of["host"],
        pid=of["pid"],
        version=of["version"],
        tasks=of["tasks"],
        queues=of["queues"],
        slots=of["slots"],
        busy=of["busy"],
        started_at=time(of["started_at"]),
        seen_at=time(of["seen_at"]),
    )


def error_group(of: Any) -> ErrorGroup:
    """Parse the failures of one kind."""
    return ErrorGroup(
        id=of["id"],
        queue=of["queue"],
        task=of["task"],
        error=job_error(of["error"]),
        job=of["job"],
        first_at=time(of["first_at"]),
        last_at=time(of["last_at"]),
        failures=of["failures"],
        failed_jobs=of["failed_jobs"],
    )


def page(of: Any) -> Page:
    """Parse a page."""
    return Page(of["items"], of["next_cursor"])


def time(of: str) -> datetime:
    """Parse a time of the API, which is in UTC."""
    # Python 3.10 does not know the Z of RFC 3339.
    return datetime.fromisoformat(of.replace("Z", "+00:00"))


def optional(parse: Callable[[Any], T], of: Any) -> T | None:
    """Parse what may be null."""
    return None if of is None else parse(of)
