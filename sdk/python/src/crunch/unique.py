"""What jobs are unique by: declared by a task, or given with a submission."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

# At runtime too: pydantic and others read the hints of dataclasses.
from crunch.worker.values import Duration, checked_choice, checked_duration, checked_pointer

Until: TypeAlias = Literal["start", "end"]
OnConflict: TypeAlias = Literal["existing", "reject", "replace", "keep_latest"]

MAX_FIELDS: Final = 16
"""The most places of a payload that can be named."""
MAX_KEY_BYTES: Final = 255
"""The longest key."""

_NOT_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs, which have no bytes in UTF-8."""
_ENDS: Final = {"replace": "start", "keep_latest": "end"}
"""Until when these hold the lock, always."""


@dataclass(frozen=True)
class Unique:
    """What a job is unique by: while it holds its lock, no other one with this lock is just added.

    Without `key` and `fields` it is the whole payload. A lock belongs to a task, a queue and a
    group. Values that the API would refuse raise ValueError here.
    """

    key: str | None = None
    """Text that the client chooses: jobs with the same key have the same lock."""
    fields: Sequence[str] | None = None
    """JSON Pointers into the payload: jobs with equal values there have the same lock."""
    until: Until | None = None
    """When the lock is free: once a worker claims the job, or once it has ended. By default `end`,
    with `replace` `start`."""
    for_: Duration | None = None
    """For how long the lock is held instead, from the submission."""
    on_conflict: OnConflict | None = None
    """What happens to a job whose lock another one holds. By default `existing`: the client gets
    that one."""
    max_wait: Duration | None = None
    """With `replace`: how long a delayed job may wait, however often it is replaced."""

    def __post_init__(self) -> None:
        if self.fields is not None:
            # A frozen value does not change when a list does.
            object.__setattr__(self, "fields", _checked_fields(self.fields))
        if self.key is not None:
            _check_key(self.key)
            if self.fields is not None:
                raise ValueError("fields: not together with key: one of them says what is unique")
        if self.until is not None:
            checked_choice("until", self.until, get_args(Until))
        if self.on_conflict is not None:
            checked_choice("on_conflict", self.on_conflict, get_args(OnConflict))
        self._check_times()

    def _check_times(self) -> None:
        end = _ENDS.get(self.on_conflict or "")
        if self.for_ is not None:
            checked_duration("for_", self.for_)
            if self.until is not None:
                raise ValueError("for_: not together with until: one of them frees the lock")
            if end is not None:
                raise ValueError(
                    f"for_: not with on_conflict {self.on_conflict!r}, which holds the lock until "
                    f"the {end}"
                )
        if end is not None and self.until not in (None, end):
            raise ValueError(f"until: must be {end!r} with on_conflict {self.on_conflict!r}")
        if self.max_wait is not None:
            checked_duration("max_wait", self.max_wait)
            if self.on_conflict != "replace":
                raise ValueError("max_wait: only with on_conflict 'replace'")

    def members(self) -> dict[str, Any]:
        """Return the members of JSON, as `docs/api.md` specifies them."""
        given = {
            "key": self.key,
            "fields": None if self.fields is None else list(self.fields),
            "until": self.until,
            "for_ms": None if self.for_ is None else checked_duration("for_", self.for_),
            "on_conflict": self.on_conflict,
            "max_wait_ms": (
                None if self.max_wait is None else checked_duration("max_wait", self.max_wait)
            ),
        }
        return {member: value for member, value in given.items() if value is not None}


def checked_unique(member: str, value: object) -> dict[str, Any]:
    """Return the members of a `Unique`."""
    if not isinstance(value, Unique):
        raise ValueError(f"{member}: {value!r} is not a crunch.Unique")
    return value.members()


def _checked_fields(fields: object) -> tuple[str, ...]:
    if not isinstance(fields, Sequence) or isinstance(fields, str | bytes):
        raise ValueError(f'fields: {fields!r} is not a list such as ["/customer/id"]')
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise ValueError(f"fields: expected 1 to {MAX_FIELDS} JSON Pointers, not {len(fields)}")
    return tuple(checked_pointer("fields", it) for it in fields)


def _check_key(key: object) -> None:
    is_text = isinstance(key, str) and not _NOT_TEXT.search(key)
    if not is_text or not 1 <= len(str(key).encode()) <= MAX_KEY_BYTES:
        raise ValueError(
            f"key: {key!r} is not 1 to {MAX_KEY_BYTES} bytes of text without control characters"
        )
