"""From what a handler returns to the bytes of its result."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import mimetypes
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crunch.worker.failures import Fail
from crunch.worker.values import JSON, checked_media_type

BYTES: Final = "application/octet-stream"


@dataclass(frozen=True)
class Result:
    """A result with its content type: `Result(png, "image/png")`.

    `data` is bytes, a path, text, or a JSON value if the content type is JSON.
    """

    data: Any
    content_type: str

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "content_type", checked_media_type("content_type", self.content_type)
        )


@dataclass(frozen=True)
class Encoded:
    """The bytes of a result, or their file; and the content type, unless it is the task's."""

    data: bytes | Path
    content_type: str | None = None


def encode(value: Any, declared: str | None) -> Encoded:
    """Return the bytes of a result.

    `declared` is the content type that the task declares, or None if it declares none: then values
    that are not JSON have a content type of their own.
    """
    if isinstance(value, Result):
        data = encode(value.data, value.content_type).data
        return Encoded(data, None if value.content_type == declared else value.content_type)
    if isinstance(value, bytes | bytearray | memoryview):
        return Encoded(bytes(value), BYTES if declared is None else None)
    if isinstance(value, Path):
        return Encoded(value, _type_of(value) if declared is None else None)
    if declared is None or declared == JSON:
        return Encoded(encode_json(value))
    if isinstance(value, str):
        return Encoded(value.encode())
    if value is None:
        return Encoded(b"")
    kind = type(value).__name__
    raise Fail("result_invalid", f"the handler returned {kind}, but the result is {declared}")


def _type_of(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or BYTES


def encode_json(value: Any) -> bytes:
    """Return the value as JSON; raise `Fail` if it cannot be written in JSON."""
    try:
        return _encoder.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Fail("result_invalid", f"the result cannot be written as JSON: {error}") from error


def json_value(value: Any) -> Any:
    """Return the JSON value of an object that the encoder does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, AbstractSet):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    # Pydantic's models, then NumPy's scalars and arrays: neither package is imported for them.
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json", by_alias=True)
    if callable(plain := getattr(value, "tolist", None)):
        return plain()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


# NaN and the infinities are not JSON.
_encoder = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=json_value
)
