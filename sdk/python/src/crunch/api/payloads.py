"""From a payload to the bytes that are sent, and from the bytes of a result to its value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from crunch.api.http import JSON, is_json
from crunch.errors import PayloadInvalid, ResultUnreadable
from crunch.worker.results import json_value

if TYPE_CHECKING:
    from typing_extensions import Self

BYTES: Final = "application/octet-stream"


class Content(bytes):
    """Bytes with a content type: a result that is not JSON, or a payload."""

    content_type: str

    def __new__(cls, data: bytes, content_type: str = BYTES) -> Self:
        content = super().__new__(cls, data)
        content.content_type = content_type
        return content

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self), self.content_type)


def encode_payload(payload: object, content_type: str | None) -> tuple[bytes, str]:
    """Return the bytes of a payload and their content type.

    Bytes are sent as they are. Everything else becomes JSON: JSON values, dataclasses, pydantic
    models, dates, enumerations; with another content type, only text.
    """
    if isinstance(payload, Content):
        return bytes(payload), content_type or payload.content_type
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload), content_type or BYTES
    if content_type is None or is_json(content_type):
        return encode_json(payload), content_type or JSON
    if isinstance(payload, str):
        return payload.encode(), content_type
    kind = type(payload).__name__
    raise TypeError(f"a payload of type {content_type} is bytes or text, not {kind}")


def encode_json(value: object) -> bytes:
    """Return the value as JSON. What only looks like JSON in Python is a problem."""
    try:
        return _encoder.encode(value).encode()
    except RecursionError:
        detail = "the payload is nested too deeply, or contains itself"
    except ValueError as error:
        # NaN, half of a surrogate pair.
        detail = str(error)
    raise PayloadInvalid.local(400, "malformed-json", "The body is not JSON", detail)


def decode_result(content: bytes, content_type: str) -> Any:
    """Return the value of a result: of JSON what it says, else its bytes."""
    if not is_json(content_type):
        return Content(content, content_type)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ResultUnreadable(str(error), content, content_type) from error


# NaN and the infinities are not JSON.
_encoder = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=json_value
)
