"""The options of a submission, and how they are written for the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict
from urllib.parse import urlencode

from crunch.unique import Unique, checked_unique
from crunch.worker.values import Duration, checked_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Priority: TypeAlias = Literal["low", "normal", "high", "urgent"]
Durability: TypeAlias = Literal["memory", "fsync", "replica", "fsync,replica"]
WebhookEvent: TypeAlias = Literal["job.succeeded", "job.failed", "job.canceled"]
Label: TypeAlias = "str | int | float"


@dataclass(frozen=True)
class Webhook:
    """A URL that is notified when the job ends."""

    url: str
    events: Sequence[WebhookEvent] | None = None
    """Which ends of the job; all of them if it is None."""


class SubmitOptions(TypedDict, total=False):
    """What a submission may ask for; everything else is as the task declares it.

    Durations are seconds, a `timedelta`, or a number with a unit such as `"500ms"` or `"10m"`.
    None means that the option is not given.
    """

    queue: str | None
    """Where the job waits."""
    priority: Priority | None
    """The order within the queue."""
    group: str | None
    """The group in whose turns it is claimed, such as a customer: groups of a queue take turns."""
    unique: Unique | None
    """What it is unique by: while it holds its lock, a job with the same lock is not just added."""
    delay: Duration | None
    """Run it no earlier than after this time."""
    run_at: datetime | None
    """Run it no earlier than at this time, which has a time zone; not together with `delay`."""
    timeout: Duration | None
    """How long one attempt may take."""
    deadline: Duration | None
    """How long after its submission the job is useful; then it fails with `deadline_exceeded`."""
    start_within: Duration | None
    """Within which time it must start, from its submission or the end of its delay; else it is
    canceled with `expired`."""
    max_attempts: int | None
    """How many attempts there are, including the first."""
    retention: Duration | None
    """How long the job is kept once it has ended."""
    durability: Durability | None
    """What the job must be safe from before it counts as accepted."""
    metadata: Mapping[str, Label] | None
    """Labels that are returned with the job and passed to its handler."""
    webhook: Webhook | str | None
    """The URL that is notified when the job ends."""
    traceparent: str | None
    """The trace that the job belongs to (W3C Trace Context); not in a batch."""
    tracestate: str | None
    """What goes with `traceparent`."""


def duration_ms(name: str, value: Any) -> int:
    """Return a duration as the API has it."""
    return checked_duration(name, value, min_ms=0)


def time_text(name: str, value: Any) -> str:
    """Return a time as the API has it."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(f"{name}: {value!r} is not a datetime with a time zone")
    return value.isoformat()


def _labels(name: str, value: Any) -> dict[str, Any]:
    labels = dict(value)
    for key, label in labels.items():
        if not isinstance(key, str) or not isinstance(label, str | int | float):
            raise TypeError(f"{name}: {key!r}: {label!r} is not text, a number or a boolean")
    return labels


def _webhook(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Webhook):
        raise TypeError(f"{name}: {value!r} is not a URL or a Webhook")
    if value.events is None:
        return {"url": value.url}
    return {"url": value.url, "events": list(value.events)}


def as_it_is(_name: str, value: Any) -> Any:
    """Return what the API has as it is."""
    return value


Converters: TypeAlias = "Mapping[str, tuple[str, Callable[[str, Any], Any]]]"
"""By the name of an option: its member in a body, and what makes the value of that."""

# In a fixed order: a repeated submission must have the same query to be the same request.
_MEMBERS: Final[Converters] = {
    "queue": ("queue", as_it_is),
    "priority": ("priority", as_it_is),
    "group": ("group", as_it_is),
    "unique": ("unique", checked_unique),
    "delay": ("delay_ms", duration_ms),
    "run_at": ("run_at", time_text),
    "timeout": ("timeout_ms", duration_ms),
    "deadline": ("deadline_ms", duration_ms),
    "start_within": ("start_within_ms", duration_ms),
    "max_attempts": ("max_attempts", as_it_is),
    "retention": ("retention_ms", duration_ms),
    "durability": ("durability", as_it_is),
    "metadata": ("metadata", _labels),
    "webhook": ("webhook", _webhook),
}

_HEADERS: Final = ("traceparent", "tracestate")


def members(options: SubmitOptions) -> dict[str, Any]:
    """Return the options as members of a submission, without those that are headers."""
    given: dict[str, Any] = dict(options)
    if unknown := given.keys() - _MEMBERS.keys() - set(_HEADERS):
        names, known = ", ".join(sorted(unknown)), ", ".join((*_MEMBERS, *_HEADERS))
        raise TypeError(f"no such option: {names}; known: {known}")
    return converted(_MEMBERS, given)


def converted(converters: Converters, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that are given as members of a body."""
    return {
        member: convert(name, given[name])
        for name, (member, convert) in converters.items()
        if given.get(name) is not None
    }


def headers(options: SubmitOptions) -> dict[str, str]:
    """Return the options that are headers."""
    given: dict[str, Any] = dict(options)
    return {name: given[name] for name in _HEADERS if given.get(name) is not None}


def query(options: SubmitOptions) -> str:
    """Return the options as query parameters."""
    pairs: list[tuple[str, str]] = []
    for member, value in members(options).items():
        if member == "metadata":
            pairs += [(f"metadata.{key}", _text(label)) for key, label in value.items()]
        elif member == "webhook":
            pairs.append(("webhook.url", value["url"]))
            if "events" in value:
                pairs.append(("webhook.events", ",".join(value["events"])))
        elif member == "unique":
            pairs += _unique(value)
        else:
            pairs.append((member, str(value)))
    return urlencode(pairs)


def _unique(members: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a job is unique by. Without any member it would be no parameter."""
    given = {"on_conflict": "existing", **members}
    if any("," in field for field in given.get("fields", ())):
        # In a query, commas separate the fields.
        raise ValueError("unique: a field with a comma can only be given in a batch, or by a task")
    return [
        (f"unique.{name}", ",".join(value) if name == "fields" else str(value))
        for name, value in given.items()
    ]


def _text(label: Label) -> str:
    """Return a label as the API writes numbers and booleans."""
    return str(label).lower() if isinstance(label, bool) else str(label)
