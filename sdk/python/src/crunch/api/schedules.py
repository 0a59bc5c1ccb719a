"""Schedules: what the clients send for them, and their documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from crunch.api import documents, options
from crunch.api.documents import JobDocument, optional, parsed, time
from crunch.api.http import JSON, Request
from crunch.api.options import SubmitOptions
from crunch.worker.values import Duration, checked_name

if TYPE_CHECKING:
    from crunch.api.calls import Calls
    from crunch.api.http import Flow, Stream

Missed: TypeAlias = Literal["skip", "once", "all"]
Overlap: TypeAlias = Literal["skip", "buffer_one", "cancel_previous", "allow"]


class ScheduleOptions(SubmitOptions, total=False):
    """When a schedule submits its jobs, and the options of each.

    One of `cron` and `every` is given. Durations are seconds, a `timedelta`, or a number with a
    unit. None means that the option is not given.
    """

    cron: str | None
    """A line of cron, of five fields or, with seconds first, of six."""
    every: Duration | None
    """An interval, at least a second."""
    time_zone: str | None
    """The time zone of `cron`, such as `Europe/Berlin`; UTC by default."""
    jitter: Duration | None
    """Each tick is due up to this much later, at most a day."""
    start_at: datetime | None
    """No tick is earlier."""
    end_at: datetime | None
    """No tick is later."""
    missed: Missed | None
    """What becomes of ticks at which no API ran: by default `once`, one job for all of them."""
    missed_at_most: int | None
    """With `all`: how many are made up for, the newest."""
    missed_within: Duration | None
    """With `all`: how old they may be."""
    overlap: Overlap | None
    """What becomes of a tick while the job of an earlier one has not ended: by default `skip`."""


@dataclass(frozen=True)
class SchedulePause:
    """Why a schedule is paused."""

    at: datetime
    code: str
    """`requested`, or why its jobs cannot be submitted, such as `misfit` or `task`."""
    reason: str


@dataclass(frozen=True)
class ScheduleRun:
    """What became of a tick."""

    tick: datetime
    at: datetime
    """When that was decided."""
    outcome: str
    """`submitted`, `skipped` or `buffered`."""
    job: str | None


@dataclass(frozen=True)
class ScheduleInfo:
    """A schedule, and what became of its ticks."""

    name: str
    status: str
    """`active`, `paused` or `ended`."""
    paused: SchedulePause | None
    origin: str
    """`api`, or `file` for one of a `tasks.toml`."""
    key: str | None
    """The name of the API key that made it."""
    task: str
    queue: str
    group: str | None
    payload: Any
    """None in a list."""
    job: Mapping[str, Any]
    """The options of its jobs, as the API names them."""
    cron: str | None
    every_ms: int | None
    time_zone: str | None
    missed: Missed
    overlap: Overlap
    next_runs: Sequence[datetime]
    """When its next jobs are submitted: ten of them, in a list one."""
    runs: Sequence[ScheduleRun]
    """What became of its newest ten ticks, the newest first."""
    submitted: int
    skipped: int
    """How many ticks had no job because that of an earlier one had not ended."""
    missed_ticks: int
    """How many ticks were missed and not made up for."""
    created_at: datetime
    changed_at: datetime


def _info(of: Any) -> ScheduleInfo:
    spec = of["spec"]
    return ScheduleInfo(
        name=of["name"],
        status=of["status"],
        paused=optional(_pause, of["paused"]),
        origin=of["origin"],
        key=of["key"],
        task=spec["task"],
        queue=of["queue"],
        group=of["group"],
        payload=spec["payload"],
        job=spec["job"] or {},
        cron=spec["cron"],
        every_ms=spec["every_ms"],
        time_zone=spec["time_zone"],
        missed=spec["missed"],
        overlap=spec["overlap"],
        next_runs=tuple(time(at) for at in of["next_runs"]),
        runs=tuple(
            ScheduleRun(time(it["tick"]), time(it["at"]), it["outcome"], it["job"])
            for it in of["runs"]
        ),
        submitted=of["submitted"],
        skipped=of["skipped"],
        missed_ticks=of["missed"],
        created_at=time(of["created_at"]),
        changed_at=time(of["changed_at"]),
    )


def _pause(of: Any) -> SchedulePause:
    return SchedulePause(time(of["at"]), of["code"], of["reason"])


_MEMBERS: Final[options.Converters] = {
    "cron": ("cron", options.as_it_is),
    "every": ("every_ms", options.duration_ms),
    "time_zone": ("time_zone", options.as_it_is),
    "jitter": ("jitter_ms", options.duration_ms),
    "start_at": ("start_at", options.time_text),
    "end_at": ("end_at", options.time_text),
    "missed": ("missed", options.as_it_is),
    "missed_at_most": ("missed_at_most", options.as_it_is),
    "missed_within": ("missed_within_ms", options.duration_ms),
    "overlap": ("overlap", options.as_it_is),
}


def body(task: str, payload: bytes, given: ScheduleOptions) -> bytes:
    """Return the body of a PUT, with a payload that is JSON."""
    job: SubmitOptions = {  # type: ignore[assignment]
        name: value for name, value in given.items() if name not in _MEMBERS
    }
    if options.headers(job):
        raise TypeError("the jobs of a schedule have no traceparent or tracestate")
    document = {"task": checked_name("task", task), **options.converted(_MEMBERS, given)}
    if members := options.members(job):
        document["job"] = members
    head = json.dumps(document)[:-1].encode()
    return b'%b, "payload": %b}' % (head, payload)


def _path(name: str, rest: str = "") -> str:
    return f"/schedules/{checked_name('schedule', name)}{rest}"


class ScheduleCalls:
    """The calls that concern schedules."""

    def __init__(self, calls: Calls) -> None:
        self._calls: Final = calls

    def all(self) -> Stream[ScheduleInfo]:
        """Emit all schedules, by name."""
        return self._calls.pages("/schedules", {}, _info)

    def get(self, name: str) -> Flow[ScheduleInfo]:
        """Return a schedule."""
        return (yield from self._schedule(Request("GET", _path(name))))

    def put(self, name: str, data: bytes) -> Flow[ScheduleInfo]:
        """Create or replace a schedule."""
        request = Request("PUT", _path(name), {"Content-Type": JSON}, data)
        return (yield from self._schedule(request))

    def delete(self, name: str) -> Flow[None]:
        """Remove a schedule."""
        yield from self._calls.checked(Request("DELETE", _path(name)))

    def act(self, name: str, verb: str) -> Flow[ScheduleInfo]:
        """Pause or resume a schedule."""
        return (yield from self._schedule(Request("POST", _path(name, f"/{verb}"))))

    def run(self, name: str) -> Flow[JobDocument]:
        """Submit a job of a schedule now."""
        # A second request would submit a second job.
        request = Request("POST", _path(name, "/run"), repeatable=False)
        response = yield from self._calls.checked(request)
        return parsed(documents.job, response.json())

    def _schedule(self, request: Request) -> Flow[ScheduleInfo]:
        response = yield from self._calls.checked(request)
        return parsed(_info, response.json())
