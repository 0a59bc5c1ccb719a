"""Requests, responses, and flows: calls written as generators that ask for input and output.

A flow yields an effect and gets a `Response` back. If there was none, `NoResponse` is raised at the
`yield`. What the flow returns is the result of the call; what it emits are the items of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

from crunch.errors import Problem, UnexpectedResponse

T = TypeVar("T")

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

SILENCE_S: Final = 15.0
"""How long the other side may be silent before its connection counts as broken. An API responds in
milliseconds; a submission waits at most 10 s, for memory or for the disk of Redis."""


@dataclass(frozen=True)
class Request:
    """One request."""

    method: str
    path: str
    """With the query, and without the path of the API's address."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait: int = 0
    """How many seconds the API may delay its response, until the job has ended."""
    repeatable: bool = True
    """Whether sending it twice has the same effect as sending it once."""

    @property
    def silence(self) -> float:
        """How many seconds the API may be silent before the connection counts as broken."""
        return self.wait + SILENCE_S

    def header_fields(self) -> dict[str, str]:
        """Return all headers, with the preference to wait."""
        fields = dict(self.headers)
        if self.wait:
            fields["Prefer"] = f"wait={self.wait}"
        return fields


@dataclass(frozen=True)
class Response:
    """A whole response, or the head of a stream, or the next part of one."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names are in lower case."""
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """The content type without parameters."""
        return essence(self.headers.get("content-type", ""))

    @property
    def retry_after(self) -> float | None:
        """The seconds of `Retry-After`. The API sends no dates there."""
        seconds = self.headers.get("retry-after", "").strip()
        # A longer number is no time to wait for.
        return float(seconds) if seconds.isdecimal() and len(seconds) < 10 else None

    def json(self) -> Any:
        """Return the body of a successful response."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise UnexpectedResponse(f"{self.status} with a body that is not JSON") from error

    def problem(self) -> Problem:
        """Return the problem that a response from 300 on reports."""
        return Problem.of(
            self.status,
            self._problem_members(),
            retry_after=self.retry_after,
            request_id=self.headers.get("x-request-id"),
        )

    def _problem_members(self) -> dict[str, Any]:
        if self.content_type != PROBLEM:
            return {}
        try:
            members = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return members if isinstance(members, dict) else {}


class NoResponse(Exception):
    """No response arrived, or only a part of it. Flows handle it: callers never see it."""

    def __init__(self, reason: str, *, sent: bool, stale: bool = False) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.sent: Final = sent
        """Whether the API may have got the request."""
        self.stale: Final = stale
        """Whether a connection that had been kept open turned out to be closed."""


@dataclass(frozen=True)
class Send:
    """Send the request, and return the whole response."""

    request: Request
    timeout: float
    """How many seconds the whole exchange may take."""


@dataclass(frozen=True)
class Open:
    """Send the request, and return the head of the response, whose body is read later."""

    request: Request
    timeout: float


@dataclass(frozen=True)
class Read:
    """Return the next part of the body that was opened last; an empty one is the end."""

    timeout: float


@dataclass(frozen=True)
class Pause:
    """Do nothing for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Hand an item of a stream to the caller."""

    item: T


Effect: TypeAlias = Send | Open | Read | Pause
Flow: TypeAlias = Generator[Effect, Response, T]
"""A call that returns a `T`."""
Stream: TypeAlias = Generator[Effect | Emit[T], Response, None]
"""A call that emits items."""


def essence(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Whether content of this type is JSON."""
    kind = essence(content_type)
    return kind == JSON or kind.endswith("+json")
