"""Checks the values that a task declares: names, durations, content types, numbers.

The grammars and limits are those of `docs/commands.md`, so that a mistake is reported where it was
made, at the decorator, and not by a worker later.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, TypeAlias

Duration: TypeAlias = "str | float | timedelta"
"""A whole number with a unit (`"500ms"`, `"30s"`, `"10m"`, `"24h"`, `"7d"`), or seconds."""

MAX_DURATION_MS: Final = 366 * 24 * 3_600_000
"""A year: the longest duration that a worker accepts."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""The largest payload and the largest result that can be declared: a job fits into a message."""
MAX_POINTER_BYTES: Final = 256
"""The longest JSON Pointer that can be declared."""
JSON: Final = "application/json"

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_RESERVED = "crunch.webhooks"
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+", re.ASCII)
_POINTER = re.compile(r"(/([^~]|~[01])*)?")
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h|d)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def checked_name(member: str, name: object) -> str:
    """Return `name` if it is the name of a task or a queue, or an error code."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{member}: {name!r} is not a name: expected 1 to 64 characters of a-z, 0-9, '_', '.' "
            "and '-', starting with a letter or a digit"
        )
    if name == _RESERVED:
        raise ValueError(f"{member}: {name!r} is reserved for Crunch")
    return name


def is_code(code: str) -> bool:
    """Whether `code` can be the code of an error."""
    return _NAME.fullmatch(code) is not None


def checked_duration(member: str, duration: object, *, min_ms: int = 1) -> int:
    """Return `duration` in milliseconds."""
    milliseconds = _milliseconds(duration)
    if milliseconds is None:
        raise ValueError(
            f"{member}: {duration!r} is not a duration: expected a whole number and a unit, such "
            'as "500ms", "30s", "10m", "24h" or "7d", or seconds, or a timedelta'
        )
    if not min_ms <= milliseconds <= MAX_DURATION_MS:
        raise ValueError(f"{member}: {duration!r} is not from {min_ms} ms to a year (366d)")
    return milliseconds


def _milliseconds(duration: object) -> int | None:
    if isinstance(duration, str):
        found = _DURATION.fullmatch(duration)
        # Longer numbers exceed every limit, and int() rejects numbers of thousands of digits.
        if found is None or len(found[1]) > 15:
            return None
        return int(found[1]) * _UNIT_MS[found[2]]
    if isinstance(duration, timedelta):
        return round(duration / timedelta(milliseconds=1))
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        # NaN and the infinities have no number of milliseconds.
        return round(duration * 1000) if abs(duration) < MAX_DURATION_MS else None
    return None


def checked_number(member: str, number: object, low: int, high: int) -> int:
    """Return `number` if it is a whole number in the range."""
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise ValueError(f"{member}: {number!r} is not a whole number from {low} to {high}")
    return number


def checked_text(member: str, text: object) -> str:
    """Return `text` if it is text."""
    if not isinstance(text, str):
        raise ValueError(f"{member}: {text!r} is not text")
    return text


def checked_pointer(member: str, pointer: object) -> str:
    """Return `pointer` if it is a JSON Pointer (RFC 6901) that a worker accepts."""
    text = checked_text(member, pointer)
    is_pointer = _POINTER.fullmatch(text) and (not text or text.isprintable())
    if not is_pointer or len(text.encode()) > MAX_POINTER_BYTES:
        raise ValueError(f'{member}: {text!r} is not a JSON Pointer, such as "/customer/id"')
    return text


def checked_choice(member: str, choice: object, choices: tuple[str, ...]) -> str:
    """Return `choice` if it is one of the words."""
    if not isinstance(choice, str) or choice not in choices:
        raise ValueError(f"{member}: {choice!r} is not one of {', '.join(choices)}")
    return choice


def checked_media_type(member: str, text: object) -> str:
    """Return the media type as a worker compares it: in lower case, and without parameters."""
    essence = text.split(";")[0].strip().lower() if isinstance(text, str) else ""
    if len(essence) > 127 or not _MEDIA_TYPE.fullmatch(essence):
        raise ValueError(f"{member}: {text!r} is not a media type such as image/png")
    if essence.startswith("application/") and essence.endswith("+json"):
        return JSON
    return essence
