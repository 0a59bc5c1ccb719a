"""Limits and groups of queues: what the clients send for them, and their documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict
from urllib.parse import quote

from crunch.api.documents import optional, parsed, time
from crunch.api.http import JSON, Request
from crunch.api.payloads import encode_json
from crunch.worker.values import Duration, checked_duration, checked_name

if TYPE_CHECKING:
    from crunch.api.calls import Calls
    from crunch.api.http import Flow, Stream

LimitState: TypeAlias = Literal["open", "delayed", "blocked"]
GroupState: TypeAlias = Literal["runnable", "delayed", "blocked", "idle"]


@dataclass(frozen=True)
class Rate:
    """How many jobs may start in a time."""

    starts: int
    """1 to 1 000 000."""
    per: Duration
    """1 ms to a day."""
    burst: int | None = None
    """How many may start at once after a pause: by default as many as in a tenth of a second."""


class LimitOptions(TypedDict, total=False):
    """How many jobs run and start. None means that nothing is limited."""

    concurrency: int | None
    """How many may run at the same time: 1 to 1 000 000."""
    rate: Rate | None
    """How many may start in a time."""


class QueueLimitOptions(LimitOptions, total=False):
    """What limits a queue."""

    limits: Sequence[str] | None
    """At most two limits that it shares with other queues, by their names."""


class RuleOptions(LimitOptions, total=False):
    """What applies to a group of a queue."""

    weight: float | None
    """Its share of the turns: 0.001 to 1000, by default 1."""
    max_queued: int | None
    """How many of its jobs may wait: others are refused."""


@dataclass(frozen=True)
class LimitInfo:
    """The limit of a queue, or one that queues share, and what it does now."""

    name: str | None
    """None for that of a queue."""
    concurrency: int | None
    rate: Rate | None
    limits: Sequence[str]
    """Of a queue: the limits that it shares."""
    queues: Sequence[str]
    """Of a shared limit: its queues."""
    running: int
    state: LimitState
    next_start_at: datetime | None
    """When its rate allows the next start, if it is `delayed`."""
    held_by: str | None
    """Of a queue: the shared limit because of which it is not `open`."""


@dataclass(frozen=True)
class RuleInfo:
    """What applies to a group."""

    weight: float
    concurrency: int | None
    rate: Rate | None
    max_queued: int | None


@dataclass(frozen=True)
class GroupInfo:
    """A group of a queue."""

    id: str
    name: str | None
    rule: RuleInfo
    own_rule: bool
    """Whether the rule is its own."""
    state: GroupState
    next_start_at: datetime | None
    queued: int
    running: int
    next_age_ms: int | None


def _rate(of: Any) -> Rate:
    return Rate(of["starts"], of["per_ms"] / 1000, of["burst"])


def _limit(of: Any) -> LimitInfo:
    return LimitInfo(
        name=of.get("name"),
        concurrency=of["concurrency"],
        rate=optional(_rate, of["rate"]),
        limits=tuple(of.get("limits", ())),
        queues=tuple(of.get("queues", ())),
        running=of["running"],
        state=of["state"],
        next_start_at=optional(time, of["next_start_at"]),
        held_by=of.get("held_by"),
    )


def _rule(of: Any) -> RuleInfo:
    rate = optional(_rate, of["rate"])
    return RuleInfo(of["weight"], of["concurrency"], rate, of["max_queued"])


def _group(of: Any) -> GroupInfo:
    return GroupInfo(
        id=of["id"],
        name=of["name"],
        rule=_rule(of),
        own_rule=of["own_rule"],
        state=of["state"],
        next_start_at=optional(time, of["next_start_at"]),
        queued=of["queued"],
        running=of["running"],
        next_age_ms=of["next_age_ms"],
    )


def _body(given: Mapping[str, Any], known: type) -> bytes:
    names = known.__annotations__.keys() | LimitOptions.__annotations__.keys()
    if unknown := given.keys() - names:
        raise TypeError(
            f"no such option: {', '.join(sorted(unknown))}; known: {', '.join(sorted(names))}"
        )
    members = {name: value for name, value in given.items() if value is not None}
    if isinstance(rate := members.get("rate"), Rate):
        per_ms = checked_duration("per", rate.per)
        members["rate"] = {"starts": rate.starts, "per_ms": per_ms, "burst": rate.burst}
    return encode_json(members)


class LimitCalls:
    """The calls that concern limits and groups."""

    def __init__(self, calls: Calls) -> None:
        self._calls: Final = calls

    def all(self) -> Stream[LimitInfo]:
        """Emit all shared limits, by name."""
        return self._calls.items("/limits", _limit)

    def get(self, name: str) -> Flow[LimitInfo]:
        """Return a shared limit."""
        return (yield from self._limit(Request("GET", _shared(name))))

    def put(self, name: str, given: LimitOptions) -> Flow[LimitInfo]:
        """Set a shared limit."""
        return (yield from self._limit(_put(_shared(name), _body(given, LimitOptions))))

    def delete(self, name: str) -> Flow[list[str]]:
        """Remove a shared limit, and return the queues that shared it."""
        response = yield from self._calls.checked(Request("DELETE", _shared(name)))
        return [str(queue) for queue in parsed(lambda of: of["queues"], response.json())]

    def of_queue(self, queue: str) -> Flow[LimitInfo]:
        """Return the limit of a queue."""
        return (yield from self._limit(Request("GET", _queue(queue, "/limit"))))

    def put_of_queue(self, queue: str, given: QueueLimitOptions) -> Flow[LimitInfo]:
        """Set the limit of a queue."""
        data = _body(given, QueueLimitOptions)
        return (yield from self._limit(_put(_queue(queue, "/limit"), data)))

    def delete_of_queue(self, queue: str) -> Flow[None]:
        """Remove the limit of a queue."""
        yield from self._calls.checked(Request("DELETE", _queue(queue, "/limit")))

    def groups(self, queue: str) -> Stream[GroupInfo]:
        """Emit the groups of a queue."""
        return self._calls.pages(_queue(queue, "/groups"), {}, _group)

    def rule_of_each(self, queue: str) -> Flow[RuleInfo | None]:
        """Return the rule of each group."""
        request = Request("GET", _queue(queue, "/groups?limit=1"))
        response = yield from self._calls.checked(request)
        return parsed(lambda of: optional(_rule, of["each"]), response.json())

    def put_rule(self, queue: str, group: str | None, given: RuleOptions) -> Flow[RuleInfo]:
        """Set the rule of a group, or of each."""
        request = _put(_group_path(queue, group), _body(given, RuleOptions))
        response = yield from self._calls.checked(request)
        return parsed(_rule, response.json())

    def delete_rule(self, queue: str, group: str | None) -> Flow[None]:
        """Remove the rule of a group, or of each."""
        yield from self._calls.checked(Request("DELETE", _group_path(queue, group)))

    def _limit(self, request: Request) -> Flow[LimitInfo]:
        response = yield from self._calls.checked(request)
        return parsed(_limit, response.json())


def _put(path: str, data: bytes) -> Request:
    return Request("PUT", path, {"Content-Type": JSON}, data)


def _shared(name: str) -> str:
    return f"/limits/{checked_name('limit', name)}"


def _queue(queue: str, rest: str) -> str:
    return f"/queues/{checked_name('queue', queue)}{rest}"


def _group_path(queue: str, group: str | None) -> str:
    if group is None:
        return _queue(queue, "/groups")
    if not group:
        raise ValueError("group: a name has 1 to 128 bytes")
    # HTTP libraries take "." and ".." for steps in the path, to the rule of each or the queue.
    return _queue(queue, f"/groups/{quote(group, safe='').replace('.', '%2E')}")
