"""Both kinds of clients without a network: an API in memory that runs functions as tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from crunch.api.http import Request, Response
from crunch.client import Client
from crunch.testing import fake_jobs
from crunch.testing.fake_api import Store
from crunch.testing.fake_problems import Rejected
from crunch.worker.declaration import Task

if TYPE_CHECKING:
    from typing_extensions import Self

    from crunch.aio import AsyncClient
    from crunch.testing.fake_jobs import Function, Outcome, Submission


def fake(
    client: Client | AsyncClient,
    tasks: Mapping[str, Function] | Sequence[Task[..., Any]],
    *,
    hold: bool = False,
) -> FakeApi:
    """Let a client call functions instead of an API, until the result is closed.

    A function gets the payload and returns the result. Functions that are tasks run as in
    `crunch.testing.run`; what they raise becomes the error of the job, as with a worker. A job runs
    as soon as its submission was answered; with `hold` it waits for `run`. No time passes: pauses
    and waits return at once, and move a clock by which delays and timeouts are measured.
    """
    if not isinstance(tasks, Mapping):
        tasks = {task.name: task for task in tasks}
    return FakeApi(client, tasks, hold=hold)


class FakeApi:
    """The API that a client talks to, until `close` or the end of a `with` block."""

    def __init__(
        self, client: Client | AsyncClient, functions: Mapping[str, Function], *, hold: bool
    ) -> None:
        self._store: Final = Store(functions)
        self._client = client
        self._before = client._transport
        self.hold = hold
        """Whether jobs wait for `run`."""
        if isinstance(client, Client):
            client._use(_Transport(self))
        else:
            client._use(_AsyncTransport(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the client talk to its API again."""
        self._client._use(cast("Any", self._before))

    @property
    def submissions(self) -> list[Submission]:
        """What was submitted and accepted, in order; for a job that was replaced, its latest."""
        return [job.submission for job in self._store.jobs.values()]

    def respond(
        self,
        status: int,
        slug: str,
        detail: str = "",
        *,
        times: int = 1,
        retry_after: int = 1,
        **members: Any,
    ) -> None:
        """Respond to the next requests with a problem, such as `respond(503, "unavailable")`.

        The client repeats requests as it does with an API, so for an outage `times` must be large.
        """
        headers = {"retry-after": str(retry_after)} if status in (429, 503) else {}
        response = Rejected(status, slug, detail, **members).response(**headers)
        self._store.next_problems.extend([response] * times)

    def run(self) -> None:
        """Run all jobs that could run now, with their retries."""
        for job in self._store.start():
            outcome = fake_jobs.run(self._store.functions[job.submission.task], job)
            if isinstance(outcome, Awaitable):
                outcome = asyncio.run(_awaited(outcome))
            self._store.settle(job, outcome)

    async def run_async(self) -> None:
        """Do what `run` does, in the event loop of the caller."""
        for job in self._store.start():
            outcome = fake_jobs.run(self._store.functions[job.submission.task], job)
            ended = await outcome if isinstance(outcome, Awaitable) else outcome
            self._store.settle(job, ended)


async def _awaited(outcome: Awaitable[Outcome]) -> Outcome:
    return await outcome


class _Transport:
    """How a blocking client talks to a fake API."""

    def __init__(self, api: FakeApi) -> None:
        self._api, self._store = api, api._store

    def send(self, request: Request, timeout: float) -> Response:
        reply = self._store.take(request)
        if request.wait:
            # The API responds when the job has ended.
            self._run()
            return reply()
        response = reply()
        self._run()
        return response

    def open(self, request: Request, timeout: float) -> tuple[Response, _Body | None]:
        self._run()
        return _opened(self._store, request)

    def pause(self, seconds: float) -> None:
        self._store.let_pass(seconds)
        self._run()

    def clock(self) -> float:
        return self._store.now

    def close(self) -> None:
        """Keep everything: a client that was closed may be used again."""

    def _run(self) -> None:
        if not self._api.hold:
            self._api.run()


class _AsyncTransport:
    """How an asyncio client talks to a fake API."""

    def __init__(self, api: FakeApi) -> None:
        self._api, self._store = api, api._store

    async def send(self, request: Request, timeout: float) -> Response:
        reply = self._store.take(request)
        if request.wait:
            # The API responds when the job has ended.
            await self._run()
            return reply()
        response = reply()
        await self._run()
        return response

    async def open(self, request: Request, timeout: float) -> tuple[Response, _AsyncBody | None]:
        await self._run()
        head, body = _opened(self._store, request)
        return head, None if body is None else _AsyncBody(body)

    async def pause(self, seconds: float) -> None:
        self._store.let_pass(seconds)
        await self._run()

    def clock(self) -> float:
        return self._store.now

    async def close(self) -> None:
        """Keep everything: a client that was closed may be used again."""

    async def _run(self) -> None:
        if not self._api.hold:
            await self._api.run_async()


class _Body:
    """A stream of events, which is silent after what has happened so far."""

    def __init__(self, store: Store, content: bytes) -> None:
        self._store, self._content = store, content

    def read(self, timeout: float) -> bytes:
        content, self._content = self._content, b""
        if content:
            return content
        self._store.let_pass(timeout)
        return b": nothing happens\n\n"

    def close(self) -> None:
        """Do nothing."""


class _AsyncBody:
    def __init__(self, body: _Body) -> None:
        self._body = body

    async def read(self, timeout: float) -> bytes:
        return self._body.read(timeout)

    async def close(self) -> None:
        """Do nothing."""


def _opened(store: Store, request: Request) -> tuple[Response, _Body | None]:
    """Return the stream of a job's events."""
    if store.next_problems:
        return store.next_problems.pop(0), None
    try:
        events = store.events(request.path.split("/")[2])
    except Rejected as rejected:
        return rejected.response(), None
    # The id of an event is its number, from 1: a stream resumes after it.
    seen = int(request.headers.get("Last-Event-ID", "0"))
    if events[-1][0] == "done" and seen >= len(events):
        return Response(204), None
    texts = [
        f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n"
        for number, (kind, data) in enumerate(events, 1)
        if number > seen
    ]
    return Response(200, {"content-type": "text/event-stream"}), _Body(
        store, "".join(texts).encode()
    )
