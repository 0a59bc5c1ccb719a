"""Splits what the worker writes into messages: a line of JSON each, and the bytes of its body."""

from __future__ import annotations

import json
import os
from typing import Any, Final, NamedTuple

MAX_LINE_BYTES: Final = 256 * 1024
"""The longest line of a worker, that of a job with the most metadata."""
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""The largest payload. A worker never sends a larger body to be kept."""

_CHUNK: Final = 64 * 1024
"""As much as a pipe holds."""


class Frame(NamedTuple):
    """A message with its body."""

    message: dict[str, Any]
    body: bytes


class ProtocolError(Exception):
    """What the worker sent is not a message, or not one of this channel: `the worker sent …`."""


class FrameReader:
    """Reads messages from a descriptor, and never waits for more than the next bytes."""

    def __init__(self, fd: int, known: frozenset[str]) -> None:
        """Take the types of messages that are known: the bodies of others are dropped."""
        self._fd, self._known = fd, known
        self._data = b""
        self._at = 0
        self._searched = 0
        self._message: dict[str, Any] | None = None
        self._body = bytearray()
        self._filled = 0
        self._dropping = 0

    def fill(self) -> bool:
        """Read what is there, or wait until something is; return False at the end of the input."""
        if self._message is not None:
            # The rest of a body is read into its place: no copy of a copy.
            with memoryview(self._body) as view:
                count = os.readv(self._fd, [view[self._filled :]])
            self._filled += count
            return count > 0
        data = os.read(self._fd, _CHUNK)
        if not data:
            return False
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._searched -= min(self._at, self._searched)
        self._at = 0
        return True

    def next(self) -> Frame | None:
        """Return the next message if it is complete; raise `ProtocolError` if it is none."""
        if self._message is not None:
            return self._with_body(self._message)
        if self._dropping:
            return None
        data, at = self._data, self._at
        end = data.find(b"\n", max(at, self._searched))
        if (end if end >= 0 else len(data)) - at > MAX_LINE_BYTES:
            raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes")
        if end < 0:
            self._searched = len(data)
            return None
        self._at = end + 1
        message = _message(data[at:end])
        size = message.get("body")
        if size is None:
            return Frame(message, b"")
        return self._body_of(message, size)

    def _body_of(self, message: dict[str, Any], size: object) -> Frame | None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ProtocolError(f"a body of {size!r} bytes")
        here = self._data[self._at : self._at + size]
        self._at += len(here)
        if message["type"] not in self._known:
            self._dropping = size - len(here)
            return Frame(message, b"")
        if size > MAX_BODY_BYTES:
            raise ProtocolError(f"a body of {size} bytes, more than {MAX_BODY_BYTES}")
        if len(here) == size:
            return Frame(message, here)
        self._message, self._body, self._filled = message, bytearray(size), len(here)
        self._body[: len(here)] = here
        return None

    def _with_body(self, message: dict[str, Any]) -> Frame | None:
        if self._filled < len(self._body):
            return None
        self._message, body = None, bytes(self._body)
        self._body = bytearray()
        return Frame(message, body)


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a line that is not JSON ({error}): {_beginning(line)}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError(f"a line that is not a JSON object with a type: {_beginning(line)}")
    return message


def _beginning(line: bytes) -> str:
    return repr(line[:80])
