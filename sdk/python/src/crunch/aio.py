"""The asyncio client, over httpx. Its calls are those of the blocking one, with `await`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from crunch.aio_connections import AsyncConnections
from crunch.api.calls import Calls, JobFilter, Search, Submission, checked_key
from crunch.api.handle import Handle
from crunch.api.http import Emit, NoResponse, Open, Pause, Read, Response, Send
from crunch.api.settings import DEFAULT_TIMEOUT_S, DEFAULT_WAIT_S, Settings
from crunch.api.tasks import decoder_of, encoded, name_of
from crunch.batch import Lines, json_payload
from crunch.events import job_events
from crunch.limits import AsyncLimits
from crunch.schedules import AsyncSchedules

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from datetime import datetime
    from types import TracebackType

    import httpx
    from typing_extensions import Self, Unpack

    from crunch.aio_connections import AsyncOpenBody, AsyncTransport
    from crunch.api.documents import (
        AttemptInfo,
        ErrorGroup,
        JobDocument,
        LogLine,
        QueueInfo,
        Status,
        TaskInfo,
        WorkerInfo,
    )
    from crunch.api.http import Effect, Flow, Stream
    from crunch.api.options import SubmitOptions
    from crunch.api.payloads import Content
    from crunch.api.tasks import BinaryTaskOf, BinaryTaskOfNothing, TaskOf, TaskOfNothing
    from crunch.errors import Refusal
    from crunch.events import Event
    from crunch.worker.declaration import Task

T = TypeVar("T")
R = TypeVar("R")


class AsyncClient:
    """A client of the API at `url`, with the API key `key`.

    Without them it uses the environment: `CRUNCH_URL`, by default http://127.0.0.1:8080, and
    `CRUNCH_KEY`. A call takes at most `timeout` seconds, and the time that it is asked to wait. In
    this time, requests are repeated after failures of the connection and after 429 and 503.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings = Settings(url, key, timeout)
        self.url: Final = settings.address.url
        self._timeout: Final = settings.timeout
        self._use(AsyncConnections(settings.address, settings.headers, tls, transport))

    def _use(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._calls = Calls(self._timeout, transport.clock)
        self.limits = AsyncLimits(self)
        self.schedules = AsyncSchedules(self, lambda document: AsyncJobHandle(self, document))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.url}>"

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    @overload
    async def submit(
        self,
        task: str,
        payload: object = None,
        *,
        key: str | None = None,
        content_type: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[Any]: ...
    @overload
    async def submit(
        self,
        task: BinaryTaskOf[T],
        payload: T,
        *,
        key: str | None = None,
        content_type: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[Content]: ...
    @overload
    async def submit(
        self,
        task: TaskOf[T, Coroutine[Any, Any, R]],
        payload: T,
        *,
        key: str | None = None,
        content_type: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[R]: ...
    @overload
    async def submit(
        self,
        task: TaskOf[T, R],
        payload: T,
        *,
        key: str | None = None,
        content_type: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[R]: ...
    @overload
    async def submit(
        self,
        task: BinaryTaskOfNothing,
        *,
        key: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[Content]: ...
    @overload
    async def submit(
        self,
        task: TaskOfNothing[Coroutine[Any, Any, R]],
        *,
        key: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[R]: ...
    @overload
    async def submit(
        self,
        task: TaskOfNothing[R],
        *,
        key: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[R]: ...
    async def submit(
        self,
        task: str | Task[..., Any],
        payload: object = None,
        *,
        key: str | None = None,
        content_type: str | None = None,
        wait: float = 0,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJobHandle[Any]:
        """Submit a job.

        The payload is a JSON value, a dataclass, a pydantic model, or bytes with a `content_type`.
        `key` is the idempotency key: for 24 hours, the same submission with the same key is the
        same job. By default it is a new one, so that a submission can be repeated after a failure.
        With `wait` the call returns when the job has ended, or after this many seconds.
        """
        body, kind = encoded(task, payload, content_type)
        submission = Submission(name_of(task), body, kind, checked_key(key), options)
        submitted = await self._run(self._calls.submit(submission, wait))
        return AsyncJobHandle(
            self,
            submitted.document,
            decode=decoder_of(task),
            replayed=submitted.replayed,
            existing=submitted.existing,
        )

    async def get(self, token: str, *, wait: float = 0) -> AsyncJobHandle[Any]:
        """Return a job: as it is when it has ended, or after `wait` seconds."""
        return AsyncJobHandle(self, await self._run(self._calls.job(token, wait)))

    async def jobs(  # noqa: PLR0913 - one for each filter of the route
        self,
        *,
        status: Status | None = None,
        task: str | None = None,
        queue: str | None = None,
        error: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        search: Search | None = None,
    ) -> AsyncIterator[AsyncJobHandle[Any]]:
        """List jobs: the newest first; those of a status or queue, sorted by these.

        `metadata` are labels with the values that the jobs must have. If the task declares an index
        of a label, or without `task` any task does, it finds those that had it when they were
        submitted; otherwise, and with `search="scan"`, every job is looked at.
        """
        filter_ = JobFilter(
            status,
            task,
            queue,
            error,
            created_after,
            created_before,
            finished_after,
            finished_before,
            metadata,
            search,
        )
        async for document in self._stream(self._calls.jobs(filter_)):
            yield AsyncJobHandle(self, document)

    def batch(
        self,
        *,
        on_job: Callable[[AsyncJobHandle[Any]], object] | None = None,
        on_refused: Callable[[Refusal], object] | None = None,
    ) -> AsyncBatch:
        """Submit any number of jobs, in constant memory.

        `on_job` is called with the job of each accepted line, new or `existing`, which costs a
        larger response. `on_refused` is called with each rejected one; without it, the end of the
        block raises `JobsRefused`.
        """
        return AsyncBatch(self, on_job, on_refused)

    def errors(
        self, *, task: str | None = None, queue: str | None = None, with_failed_jobs: bool = False
    ) -> AsyncIterator[ErrorGroup]:
        """List failures by their kind, the one with the newest first.

        `with_failed_jobs` leaves out those whose jobs all ran again or were deleted.
        """
        return self._stream(self._calls.errors(task, queue, with_failed_jobs))

    def tasks(self) -> AsyncIterator[TaskInfo]:
        """List the tasks that workers declared."""
        return self._stream(self._calls.tasks())

    async def task(self, name: str) -> TaskInfo:
        """Return a task."""
        return await self._run(self._calls.task(name))

    def queues(self) -> AsyncIterator[QueueInfo]:
        """List the queues."""
        return self._stream(self._calls.queues())

    async def queue(self, name: str) -> QueueInfo:
        """Return a queue."""
        return await self._run(self._calls.queue(name))

    def workers(self) -> AsyncIterator[WorkerInfo]:
        """List the workers."""
        return self._stream(self._calls.workers())

    async def _run(self, flow: Flow[T]) -> T:
        """Do what a flow asks for, and return its result."""
        with closing(flow):
            try:
                effect = next(flow)
                while True:
                    try:
                        response = await self._perform(effect)
                    except NoResponse as failure:
                        effect = flow.throw(failure)
                    else:
                        effect = flow.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result

    async def _perform(self, effect: Effect) -> Response:
        if isinstance(effect, Send):
            return await self._transport.send(effect.request, effect.timeout)
        if isinstance(effect, Pause):
            await self._transport.pause(effect.seconds)
        return Response()

    async def _stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        """Do what a stream asks for, and yield what it emits."""
        body: AsyncOpenBody | None = None
        try:
            effect = next(stream)
            while True:
                response = Response()
                try:
                    if isinstance(effect, Emit):
                        yield effect.item
                    elif isinstance(effect, Open):
                        if body is not None:
                            await body.close()
                        response, body = await self._transport.open(effect.request, effect.timeout)
                    elif isinstance(effect, Read):
                        response = Response(body=await body.read(effect.timeout) if body else b"")
                    else:
                        response = await self._perform(effect)
                except NoResponse as failure:
                    effect = stream.throw(failure)
                else:
                    effect = stream.send(response)
        except StopIteration:
            return
        finally:
            stream.close()
            if body is not None:
                await body.close()


class AsyncJobHandle(Handle[R], Generic[R]):
    """A job of a blocking client, as it was when the API last responded."""

    def __init__(self, client: AsyncClient, document: JobDocument, **known: Any) -> None:
        super().__init__(document, **known)
        self._client = client

    async def refresh(self, *, wait: float = 0) -> Self:
        """Update this handle: when the job has ended, or after `wait` seconds."""
        self.document = await self._client._run(self._client._calls.job(self.token, wait))
        return self

    async def wait(self, timeout: float | None = DEFAULT_WAIT_S) -> Self:
        """Wait until the job has ended; raise `WaitTimeout` after `timeout` seconds, or never."""
        self.document = await self._client._run(self._client._calls.ended(self.document, timeout))
        return self

    async def result(self, timeout: float | None = DEFAULT_WAIT_S) -> R:
        """Wait until the job has ended, and return its result.

        A result that is JSON is returned as its value, any other as `Content`: bytes with a
        `content_type`. Raises `JobFailed`, `JobCanceled`, or after `timeout` seconds `WaitTimeout`.
        """
        await self.wait(timeout)
        calls = self._client._calls
        result: R = self._decode(await self._client._run(calls.result(self.document)))
        return result

    async def content(self, timeout: float | None = DEFAULT_WAIT_S) -> Content:
        """Wait until the job has ended, and return the bytes of its result, of any type."""
        await self.wait(timeout)
        return await self._client._run(self._client._calls.content(self.document))

    async def events(
        self, *, after: str | None = None, timeout: float | None = DEFAULT_WAIT_S
    ) -> AsyncIterator[Event]:
        """Yield what happens to the job, until it has ended: the last event is `done`.

        Lost connections are opened again, and no event is missed or repeated. `after` is the id of
        an event: only later ones follow. Raises `WaitTimeout` after `timeout` seconds, or never.
        """
        calls = self._client._calls
        async for event in self._client._stream(job_events(calls, self.document, after, timeout)):
            if event.job is not None:
                self.document = event.job
            yield event

    async def cancel(self) -> Self:
        """Cancel the job; if it runs, its worker is asked to stop it."""
        self.document = await self._client._run(self._client._calls.cancel(self.token))
        return self

    async def retry(self) -> Self:
        """Queue the job again, with all its attempts, if it failed or was canceled."""
        self.document = await self._client._run(self._client._calls.retry(self.token))
        return self

    async def delete(self) -> None:
        """Delete the job, if it has ended."""
        await self._client._run(self._client._calls.delete(self.token))

    async def payload(self) -> Any:
        """Return the payload: the value of JSON, else `Content`."""
        return await self._client._run(self._client._calls.payload(self.token))

    async def attempts(self) -> list[AttemptInfo]:
        """Return the attempts, the oldest first."""
        return await self._client._run(self._client._calls.attempts(self.token))

    def logs(self) -> AsyncIterator[LogLine]:
        """Yield the lines of the job's log, up to the newest."""
        return self._client._stream(self._client._calls.logs(self.token))


class AsyncBatch:
    """Submits jobs in groups. Use it in an `async with` block, whose end sends the rest."""

    def __init__(
        self,
        client: AsyncClient,
        on_job: Callable[[AsyncJobHandle[Any]], object] | None,
        on_refused: Callable[[Refusal], object] | None,
    ) -> None:
        self._client = client
        made = (
            None
            if on_job is None
            else lambda it, existing: on_job(AsyncJobHandle(client, it, existing=existing))
        )
        self._lines = Lines(client._calls, made, on_refused)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            await self.flush()
            self._lines.check()

    @property
    def accepted(self) -> int:
        """How many jobs were accepted, of those that were sent."""
        return self._lines.accepted

    @property
    def existing(self) -> int:
        """How many created no job, because another one holds their lock."""
        return self._lines.existing

    @property
    def refused(self) -> int:
        """How many jobs were rejected."""
        return self._lines.refused

    @property
    def refusals(self) -> list[Refusal]:
        """The first hundred rejected jobs."""
        return self._lines.refusals

    @overload
    async def submit(
        self,
        task: str,
        payload: object = None,
        *,
        key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> int: ...
    @overload
    async def submit(
        self,
        task: TaskOf[T, Any],
        payload: T,
        *,
        key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> int: ...
    @overload
    async def submit(
        self,
        task: TaskOfNothing[Any],
        *,
        key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> int: ...
    async def submit(
        self,
        task: str | Task[..., Any],
        payload: object = None,
        *,
        key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> int:
        """Add a job, and return the number of its line. It is sent when there are enough."""
        number = self._lines.add(name_of(task), json_payload(task, payload), key, options)
        if self._lines.full:
            await self.flush()
        return number

    async def flush(self) -> None:
        """Send what was added."""
        await self._client._run(self._lines.flush())
