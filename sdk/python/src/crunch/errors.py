"""What a client raises: problems that the API reports, jobs without a result, and timeouts.

All are `Error`. A problem document (RFC 9457) becomes a `Problem` of the class for its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

_NO_MEMBERS: Final[Mapping[str, Any]] = {}


class Error(Exception):
    """The base of everything that a client raises by itself."""


class Unreachable(Error, ConnectionError):
    """There was no response of the API, or only a part of one, for as long as the client tried.

    A request that was sent may have taken effect.
    """


class UnexpectedResponse(Error):
    """What responded is not the API: the response is not what the API sends."""


class WaitTimeout(Error, TimeoutError):
    """The job had not ended when the time of the call was over. It continues."""

    def __init__(self, token: str, status: str) -> None:
        super().__init__(f"the job {token} has not ended in time: it is {status}")
        self.token: Final = token
        self.status: Final = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.token, self.status)


class JobFailed(Error):
    """The job failed, so it has no result."""

    def __init__(self, code: str, message: str, attempts: int, token: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code: Final = code
        """For programs: the handler's own code, or one of the codes of the API."""
        self.message: Final = message
        """For humans."""
        self.attempts: Final = attempts
        """How many attempts were charged."""
        self.token: Final = token

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.attempts, self.token)


class JobCanceled(Error):
    """The job was canceled, so it has no result."""

    def __init__(self, message: str = "", token: str = "") -> None:
        super().__init__(message or "the job was canceled")
        self.message: Final = message
        self.token: Final = token

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.token)


class ResultUnreadable(Error):
    """The job succeeded, but its result is invalid JSON, or not what the task declares."""

    def __init__(self, reason: str, content: bytes, content_type: str) -> None:
        super().__init__(f"the result cannot be decoded: {reason}")
        self.reason: Final = reason
        self.content: Final = content
        """The result, byte by byte."""
        self.content_type: Final = content_type

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.content, self.content_type)


@dataclass(frozen=True)
class Violation:
    """One wrong place of a submission."""

    detail: str
    pointer: str
    """A JSON Pointer (RFC 6901) into the payload; in a batch, into the line."""


class Problem(Error):
    """A request that the API rejected, with the members of the problem document.

    `docs/api.md` lists all types. Without a problem document (a proxy responded) `type` is
    `about:blank`, and `title` is the phrase of the status code.
    """

    def __init__(
        self,
        status: int,
        members: Mapping[str, Any] = _NO_MEMBERS,
        *,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        self.status: Final = status
        self.members: Final[Mapping[str, Any]] = dict(members)
        """The whole document: also members that have no attribute here, such as `max_bytes`."""
        self.type: Final = str(members.get("type", "about:blank"))
        self.title: Final = str(members.get("title", _phrase(status)))
        self.detail: Final = str(members.get("detail", ""))
        self.instance: Final = str(members.get("instance", ""))
        self.errors: Final = _violations(members.get("errors"))
        """The wrong places of a submission."""
        self.retry_after: Final = retry_after
        """After how many seconds the request may be repeated, if the API said so."""
        self.request_id: Final = request_id
        """The `X-Request-Id` of the response: the API's log has details under it."""
        super().__init__(f"{status} {self.title}" + (f": {self.detail}" if self.detail else ""))

    @property
    def slug(self) -> str:
        """The end of `type`, such as `invalid-submission`: what programs compare."""
        return self.type.rpartition("/")[2]

    @property
    def outcome_unknown(self) -> bool:
        """Whether the request may have taken effect in spite of the problem."""
        return self.members.get("outcome") == "unknown"

    @classmethod
    def local(cls, status: int, slug: str, title: str, detail: str) -> Self:
        """Create the problem with which the API would respond, without asking it."""
        members = {"type": f"/problems/{slug}", "title": title, "status": status, "detail": detail}
        return cls(status, members)

    @classmethod
    def of(
        cls,
        status: int,
        members: Mapping[str, Any] = _NO_MEMBERS,
        *,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> Problem:
        """Create a problem of the class for its kind."""
        slug = str(members.get("type", "")).rpartition("/")[2]
        kind = _BY_SLUG.get(slug) or _BY_STATUS.get(status, Problem)
        return kind(status, members, retry_after=retry_after, request_id=request_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.status, self.members, self.retry_after, self.request_id)


class Unauthorized(Problem):
    """401: the API requires a key, and the client has no valid one."""


class Forbidden(Problem):
    """403: the client's key does not permit this."""


class NotFound(Problem):
    """404: there is no such job, task or queue."""


class UnknownTask(NotFound):
    """404: no worker ever declared this task."""


class Gone(Problem):
    """410: the job was deleted, or removed early because Redis was nearly full."""


class Conflict(Problem):
    """409: the state of the job does not allow this."""


class Locked(Conflict):
    """409: the job is unique, and another one holds its lock. Nothing was accepted or changed."""

    @property
    def job(self) -> str:
        """The token of the job that holds the lock."""
        return str(self.members.get("job", ""))


class IdempotencyConflict(Conflict):
    """422: the key was used for another submission."""


class PayloadInvalid(Problem):
    """400, 413, 415, 422: this cannot be the payload. `errors` names each place that is wrong."""


class InvalidKey(Problem, ValueError):
    """400: an idempotency key has 1 to 255 visible ASCII characters."""


class TooManyRequests(Problem):
    """429: more requests than this client may send."""


class Unavailable(Problem):
    """503: not now, and not for as long as the client tried."""


@dataclass(frozen=True)
class Refusal:
    """A line of a batch that the API rejected."""

    line: int
    """From 1, in the order of submission."""
    key: str
    """The idempotency key of the line."""
    problem: Problem


class JobsRefused(Error):
    """Some jobs of a batch were rejected; all others were accepted."""

    def __init__(
        self, accepted: int, refused: int, refusals: Sequence[Refusal], existing: int = 0
    ) -> None:
        first = f"; line {refusals[0].line}: {refusals[0].problem}" if refusals else ""
        super().__init__(f"{refused} of {accepted + existing + refused} jobs were rejected{first}")
        self.accepted: Final = accepted
        self.existing: Final = existing
        """How many created no job, because another one holds their lock."""
        self.refused: Final = refused
        self.refusals: Final = tuple(refusals)
        """The first hundred."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.accepted, self.refused, self.refusals, self.existing)


_BY_SLUG: Final[Mapping[str, type[Problem]]] = {
    "unknown-task": UnknownTask,
    "locked": Locked,
    "idempotency-conflict": IdempotencyConflict,
    "invalid-submission": PayloadInvalid,
    "malformed-json": PayloadInvalid,
    "invalid-idempotency-key": InvalidKey,
}
_BY_STATUS: Final[Mapping[int, type[Problem]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: PayloadInvalid,
    415: PayloadInvalid,
    429: TooManyRequests,
    503: Unavailable,
}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"


def _violations(errors: object) -> Sequence[Violation]:
    if not isinstance(errors, list):
        return ()
    return tuple(
        Violation(str(error.get("detail", "")), str(error.get("pointer", "")))
        for error in errors
        if isinstance(error, dict)
    )


def _restored(
    status: int, members: Mapping[str, Any], retry_after: float | None, request_id: str | None
) -> Problem:
    return Problem.of(status, members, retry_after=retry_after, request_id=request_id)
