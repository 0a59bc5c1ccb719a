"""The payload of a job, wherever its bytes are."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any, Final, NoReturn

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
        """Return the payload as text; raise `UnfitPayload` if it is not UTF-8."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8: {error.reason} at byte {error.start}"
            # The API reads payloads only if they are JSON.
            by_api = self.content_type == JSON
            raise UnfitPayload(Invalid(reason, by_schema=by_api)) from None

    def json(self) -> Any:
        """Return the JSON value; an empty payload is null; raise `UnfitPayload` for other text."""
        text = self.text()
        if not text:
            return None
        try:
            return _decoder.decode(text)
        except (ValueError, RecursionError) as error:
            raise UnfitPayload(Invalid(f"is not JSON: {error}")) from None


class UnfitPayload(Fail):
    """The failure of a job whose payload is wrong: every attempt would fail."""

    def __init__(self, invalid: Invalid) -> None:
        super().__init__("payload_invalid", f"{'' if invalid.path else 'the payload: '}{invalid}")
        self.by_api: Final = invalid.by_schema
        """Whether the API would not take it."""


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


# Python would read NaN and Infinity, which are not JSON.
_decoder = json.JSONDecoder(parse_constant=_reject_constant)
