"""The payload of a job, wherever its bytes are."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any, NoReturn

from crunch.worker.failures import Fail
from crunch.worker.shapes import Invalid
from crunch.worker.values import JSON


class Payload:
    """The bytes of a payload, or the file that has them, and their content type."""

    __slots__ = ("_data", "_path", "content_type")

    def __init__(self, data: bytes, content_type: str = JSON, *, path: Path | None = None) -> None:
        self._data, self._path, self.content_type = data, path, content_type

    def bytes(self) -> bytes:
        """Return all bytes."""
        return self._data if self._path is None else self._path.read_bytes()

    def view(self) -> memoryview:
        """Return all bytes without copying them: a file is mapped into memory."""
        if self._path is None or self._path.stat().st_size == 0:  # An empty file cannot be mapped.
            return memoryview(self.bytes())
        with self._path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def text(self) -> str:
        """Return the payload as text; raise `Fail` if it is not UTF-8."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise payload_invalid(f"is not UTF-8: {error.reason} at byte {error.start}") from None

    def json(self) -> Any:
        """Return the JSON value; an empty payload is null. Raise `Fail` if it is not JSON."""
        text = self.text()
        if not text:
            return None
        try:
            return _decoder.decode(text)
        except (ValueError, RecursionError) as error:
            raise payload_invalid(f"is not JSON: {error}") from None


def payload_invalid(reason: str | Invalid) -> Fail:
    """Return the failure of a job whose payload is wrong: every attempt would fail."""
    if isinstance(reason, Invalid) and reason.path:
        return Fail("payload_invalid", str(reason))
    return Fail("payload_invalid", f"the payload: {reason}")


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


# Python would read NaN and Infinity, which are not JSON.
_decoder = json.JSONDecoder(parse_constant=_reject_constant)
