"""The locks of a fake API: which job holds which, and which one waits for that.

The rules are those of `docs/api.md`, section "Unique jobs".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from crunch.api.http import is_json
from crunch.testing.fake_jobs import queue_of, value_at
from crunch.testing.fake_problems import Rejected, invalid

if TYPE_CHECKING:
    from crunch.testing.fake_jobs import Job, Submission

Lock: TypeAlias = tuple[str | bytes | None, ...]
"""Task, queue and group, and what jobs of these must have in common."""

LARGEST_WHOLE: Final = 2**53 - 1
"""The largest whole number that is compared: beyond it, a double is not exact."""


@dataclass(frozen=True)
class Claim:
    """What a job is unique by."""

    unique: Mapping[str, Any]
    """All members, as a job shows them."""
    lock: Lock

    @property
    def is_for_a_time(self) -> bool:
        """Whether the lock is held for a time, whatever becomes of the job."""
        return self.unique["until"] is None


@dataclass
class _Held:
    """A lock that is not free."""

    holder: Job
    until: float
    follower: Job | None = None
    """It waits for the end of the holder."""


class Locks:
    """All locks, and the jobs that hold them."""

    def __init__(self) -> None:
        self._held: Final[dict[Lock, _Held]] = {}

    def enter(self, new: Job, now: float) -> Job | None:
        """Give a new job its lock, or let it wait for the holder.

        Return the job that stands for it if it is not to be added. Raise `Rejected` if it is
        neither.
        """
        claim = new.claim
        if claim is None:
            return None
        held = self._held_now(claim.lock, now)
        if held is None:
            self._take(new, claim, now)
            return None
        on_conflict = claim.unique["on_conflict"]
        if on_conflict == "existing":
            return held.holder
        keeps_latest = on_conflict == "keep_latest"
        target = held.follower if keeps_latest and held.follower else held.holder
        if on_conflict != "reject" and target.is_replaceable:
            target.replace(new, now)
            return target
        if not keeps_latest or held.until < math.inf:
            raise _locked(held.holder)
        held.follower = new
        new.follow(held.holder)
        return None

    def take_again(self, job: Job, now: float) -> None:
        """Give a job that has ended its lock, so that it can run again."""
        claim = job.claim
        if claim is None or claim.is_for_a_time:
            return
        held = self._held_now(claim.lock, now)
        if held is not None and held.holder is not job:
            raise _locked(held.holder)
        self._take(job, claim, now)

    def started(self, job: Job, now: float) -> None:
        """Free the lock of a job that holds it until it starts."""
        if job.claim is not None and job.claim.unique["until"] == "start":
            self._free(job, job.claim.lock, now)

    def ended(self, job: Job, now: float) -> None:
        """Free the lock of a job, unless it holds it for a time."""
        if job.claim is not None and not job.claim.is_for_a_time:
            self._free(job, job.claim.lock, now)

    def deleted(self, job: Job, now: float) -> None:
        """Free the lock of a job, however long it would hold it."""
        if job.claim is not None:
            self._free(job, job.claim.lock, now)

    def _take(self, job: Job, claim: Claim, now: float) -> None:
        time = claim.unique["for_ms"] if claim.is_for_a_time else math.inf
        self._held[claim.lock] = _Held(job, now + time / 1000)

    def _held_now(self, lock: Lock, now: float) -> _Held | None:
        held = self._held.get(lock)
        return held if held is not None and now < held.until else None

    def _free(self, job: Job, lock: Lock, now: float) -> None:
        held = self._held.get(lock)
        if held is None:
            return
        if held.follower is job:
            held.follower = None
        elif held.holder is job:
            del self._held[lock]
            follower = held.follower
            if follower is not None and follower.claim is not None:
                self._take(follower, follower.claim, now)
                follower.be_due(now)


def _locked(holder: Job) -> Rejected:
    return Rejected(409, "locked", f"job {holder.token} holds its lock", job=holder.token)


def read_query(members: Mapping[str, str]) -> dict[str, Any]:
    """Return the members as JSON has them."""
    as_in_json: dict[str, Callable[[str], Any]] = {
        "fields": lambda text: text.split(","),
        "for_ms": int,
        "max_wait_ms": int,
    }
    return {name: as_in_json.get(name, str)(text) for name, text in members.items()}


def complete(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return all members, with the defaults of those that are not given."""
    on_conflict = members.get("on_conflict", "existing")
    until = members.get("until", "start" if on_conflict == "replace" else "end")
    return {
        "key": members.get("key"),
        "fields": members.get("fields"),
        "until": None if "for_ms" in members else until,
        "for_ms": members.get("for_ms"),
        "on_conflict": on_conflict,
        "max_wait_ms": members.get("max_wait_ms"),
    }


def claim_of(
    submission: Submission, declared: Mapping[str, Any], group: str | None, base: str
) -> Claim | None:
    """Return what a job is unique by: as its submission says, or as its task declares.

    `base` is the JSON Pointer of the payload.
    """
    requested = submission.options.get("unique")
    members = declared.get("unique") if requested is None else requested
    if members is None:
        return None
    unique = complete(members)

    def wrong(member: str, detail: str) -> Rejected:
        option = "delay_ms" if requested is None else f"unique.{member}"
        if not base.endswith("/payload"):
            # The payload is the body, and options are in the query.
            return Rejected(400, "invalid-parameter", f"{option}: {detail}")
        pointer = option.replace(".", "/")
        return invalid(f"{base.removesuffix('/payload')}/{pointer}", detail)

    is_delayed = not submission.options.keys().isdisjoint(("delay_ms", "run_at"))
    if is_delayed and unique["on_conflict"] == "keep_latest":
        raise wrong("on_conflict", "keep_latest cannot have a delay")
    if is_delayed and unique["on_conflict"] == "replace" and unique["max_wait_ms"] is None:
        raise wrong("max_wait_ms", "is needed with a delay")
    if unique["fields"] is not None and not is_json(submission.content_type):
        raise invalid(base, "the job is unique by fields, and the payload is not JSON")
    of = (submission.task, queue_of(submission, declared), group)
    return Claim(unique, (*of, *_in_common(unique, submission, base)))


def _in_common(unique: Mapping[str, Any], submission: Submission, base: str) -> Lock:
    if unique["key"] is not None:
        return "key", unique["key"]
    if not is_json(submission.content_type):
        return "bytes", submission.content_type, submission.body
    places: list[str] = unique["fields"] or [""]
    values = [(it, value_at(it, submission.payload)) for it in places]
    return tuple(part for at, it in values for part in (at, _canonical(it, base + at)))


def _canonical(value: Any, pointer: str) -> str:
    """Return the same text for equal values, however they are written."""
    try:
        text = json.dumps(_with_doubles(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
        # Text with half a surrogate pair has no bytes.
        text.encode()
    except ValueError as error:
        detail = f"the job is unique by this, and it cannot be compared: {error}"
        raise invalid(pointer, detail) from None
    return text


def _with_doubles(value: Any) -> Any:
    """Return a value of JSON in which every number is a double."""
    if isinstance(value, dict):
        return {name: _with_doubles(it) for name, it in value.items()}
    if isinstance(value, list):
        return [_with_doubles(it) for it in value]
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ValueError(f"{value} is beyond 2^53, where many programs change the last digits")
    # Not -0.0.
    return value + 0.0
