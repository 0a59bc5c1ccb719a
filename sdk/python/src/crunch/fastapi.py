"""Responses of a web service that submits jobs for its own clients: FastAPI, or Starlette alone.

    job = await jobs.submit("crunch", payload)
    return crunch.fastapi.accepted(job, f"/result/{job.token}")
    …
    return crunch.fastapi.answer(await jobs.get(token, wait=wait))

What the clients of the service get has the status codes and the problem documents of the API.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response
except ImportError as error:
    install = "pip install './sdk/python[fastapi]'"
    raise ImportError(f"crunch.fastapi needs FastAPI: {install}") from error

from crunch.api.http import JSON, PROBLEM
from crunch.client import JobHandle
from crunch.errors import Error, Problem, TooManyRequests, UnknownTask, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from crunch.aio import AsyncJobHandle

RETRY_AFTER_S: Final = 1
"""When to ask again for a job that has not ended, or after a failure: as the API says it."""
_PASSED_ON: Final = (400, 404, 409, 410, 413, 415, 422, 503)
"""The statuses whose cause is the request or the moment. Any other is a fault of the service."""


def accepted(job: JobHandle[Any] | AsyncJobHandle[Any], location: str) -> Response:
    """Respond to a submission: 202, with the token, and where to ask for the result."""
    headers = {"Location": location, "Retry-After": str(RETRY_AFTER_S)}
    return _response(202, {"token": job.token, "status": job.status}, headers)


def answer(job: JobHandle[Any] | AsyncJobHandle[Any], *, with_message: bool = True) -> Response:
    """Respond to a request for the result.

    202 with the progress if the job has not ended; 200 with its result, of any content type; 422 if
    it failed, 409 if it was canceled, as problem documents. `with_message=False` leaves out the
    message of the error, which may be a stack trace.
    """
    if not job.ended:
        state = {
            "token": job.token,
            "status": job.status,
            "progress": job.progress,
            "message": job.message,
        }
        return _response(202, state, {"Retry-After": str(RETRY_AFTER_S)})
    if job.status != "succeeded":
        return _failure(job, with_message=with_message)
    if job.document.result_omitted is None:
        return _response(200, job.document.result)
    return _Content(job)


def handle_errors(app: Starlette) -> None:
    """Let the errors of clients become responses: `problem` for all of them, wherever raised."""
    app.add_exception_handler(Error, _handle)


def problem(error: Error) -> Response:
    """Respond with the problem that the API reported, if it concerns the client of the service.

    What the service itself did wrong, such as a missing key, is 502 without any details. What may
    go away by itself is 503 with `Retry-After`.
    """
    if isinstance(error, Unreachable | UnknownTask | TooManyRequests):
        # The service sends too much, or is there before its workers: its client did nothing wrong.
        pause = error.retry_after if isinstance(error, TooManyRequests) else None
        return _problem(503, "unavailable", "The job cannot be accepted now", retry_after=pause)
    if not isinstance(error, Problem) or error.status not in _PASSED_ON:
        return _problem(502, "internal", "The service is set up wrongly")
    members = {name: value for name, value in error.members.items() if name != "instance"}
    members = {"title": error.title, "status": error.status, **members}
    return _response(error.status, members, _pause(error.status, error.retry_after), PROBLEM)


async def _handle(_: Request, error: Exception) -> Response:
    assert isinstance(error, Error)
    return problem(error)


class _Content(Response):
    """A result that the job does not show: fetched when the response is sent."""

    def __init__(self, job: JobHandle[Any] | AsyncJobHandle[Any]) -> None:
        super().__init__()
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._fetched())(scope, receive, send)

    async def _fetched(self) -> Response:
        job = self._job
        try:
            if isinstance(job, JobHandle):
                content = await run_in_threadpool(job.content)
            else:
                content = await job.content()
        except Error as error:
            return problem(error)
        headers = {"Content-Type": content.content_type, **_NOT_STORED}
        return Response(bytes(content), 200, headers)


def _failure(job: JobHandle[Any] | AsyncJobHandle[Any], *, with_message: bool) -> Response:
    error = job.error
    code = error.code if error else job.status
    members: dict[str, Any] = {"error": {"code": code}}
    if with_message and error is not None:
        members = {"detail": error.message, "error": {"code": code, "message": error.message}}
    if job.status == "canceled":
        return _problem(409, "job-canceled", "The job was canceled", **members)
    return _problem(422, "job-failed", "The job failed", **members)


def _problem(
    status: int, slug: str, title: str, *, retry_after: float | None = None, **members: Any
) -> Response:
    document = {"type": f"/problems/{slug}", "title": title, "status": status, **members}
    return _response(status, document, _pause(status, retry_after), PROBLEM)


def _pause(status: int, retry_after: float | None) -> dict[str, str]:
    if status != 503:
        return {}
    return {"Retry-After": f"{RETRY_AFTER_S if retry_after is None else retry_after:.0f}"}


_NOT_STORED: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _response(
    status: int, value: Any, headers: Mapping[str, str] | None = None, content_type: str = JSON
) -> Response:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, {**_NOT_STORED, **(headers or {})}, content_type)
