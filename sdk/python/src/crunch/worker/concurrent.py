"""Runs several jobs at once: coroutines in one event loop, in the main thread.

The loop reads the channel too. Answers are written where they arise: the worker always reads, so a
write waits only as long as the worker needs to take what is in the pipe.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from crunch.worker import output
from crunch.worker.attempts import NEVER_CAUGHT, Attempt
from crunch.worker.channel import Channel, WorkerGoneError, check_version, failed
from crunch.worker.declaration import Task
from crunch.worker.failures import Canceled
from crunch.worker.files import ResultFiles
from crunch.worker.forks import TERMINATED, end_forked, reset_sigterm_in_forks, sigterm_is_free
from crunch.worker.frames import Frame
from crunch.worker.job import Job, set_current_job
from crunch.worker.output import RoutedStream
from crunch.worker.serial import POLL_INTERVAL

DEFAULT_CONCURRENCY: Final = 10
"""How many jobs run at once without `CRUNCH_CONCURRENCY`: some that wait, and little memory."""


class _Running:
    """A job that runs."""

    __slots__ = ("attempt", "is_started", "task")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt: Final = attempt
        self.is_started = False
        self.task: asyncio.Task[None] | None = None


class ConcurrentRuntime:
    """Runs the jobs of a child whose tasks are all coroutines."""

    def __init__(
        self,
        channel: Channel,
        tasks: Mapping[str, Task[..., Any]],
        files: ResultFiles,
        streams: Sequence[RoutedStream],
    ) -> None:
        self._channel, self._tasks, self._files, self._streams = channel, tasks, files, streams
        self._running: Final[dict[tuple[str, int], _Running]] = {}
        self._loop_thread: Final = threading.get_ident()
        self._next_poll = 0.0
        self._is_draining = False
        self._is_dying = False

    def run(self) -> int:
        """Run jobs until the worker needs no more; return the exit code."""
        return asyncio.run(self._serve())

    async def _serve(self) -> int:
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._channel.never_wait()
        self._loop.add_reader(self._channel.in_fd, self._on_readable)
        if sigterm_is_free():
            self._loop.add_signal_handler(signal.SIGTERM, self._end, TERMINATED)
            reset_sigterm_in_forks()
        try:
            return await self._ended
        finally:
            self._loop.remove_reader(self._channel.in_fd)
            for running in self._running.values():
                running.attempt.job.reason = running.attempt.job.reason or "shutdown"

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _end_with(self, error: BaseException) -> None:
        self._is_dying = True
        if not self._ended.done():
            self._ended.set_exception(error)

    def _on_readable(self) -> None:
        try:
            self._channel.read()
            while (frame := self._channel.next_read()) is not None:
                self._take(frame)
        except WorkerGoneError:
            self._end(0)
        except Exception as error:  # The loop would log it and go on.
            self._end_with(error)

    def _take(self, frame: Frame) -> None:
        message = frame.message
        kind = message["type"]
        if kind == "job":
            self._start(frame)
        elif kind == "cancel":
            self._cancel(message)
        elif kind == "drain":
            self._is_draining = True
            self._end_if_drained()
        elif kind == "ping":
            self._channel.send({"type": "pong"})
        elif kind == "hello":
            check_version(message)

    def _start(self, frame: Frame) -> None:
        running = _Running(Attempt(self._tasks, self, frame))
        job = running.attempt.job
        self._running[job.id, job.epoch] = running
        context = contextvars.copy_context()
        context.run(set_current_job, job)
        running.task = context.run(_new_task, self._run(running), self._loop)
        if job.reason is not None:
            # The first step of the coroutine has read the cancel, and may have ignored it.
            running.task.cancel()

    async def _run(self, running: _Running) -> None:
        running.is_started = True
        attempt = running.attempt
        try:
            # Canceled in the same moment as it was sent.
            attempt.job.check()
            task, (positional, named) = attempt.arguments()
            value = await task.function(*positional, **named)
            if self._channel.is_forked:
                end_forked(0)
            answer = self._files.answer(attempt.job, attempt.result(value))
        except BaseException as error:
            if self._channel.is_forked:
                end_forked(error)
            if isinstance(error, NEVER_CAUGHT):
                self._end_with(error)
                return
            answer = failed(attempt.job, attempt.failure(error))
        self._finish(attempt.job, answer)

    def _finish(self, job: Job, answer: bytes) -> None:
        if self._is_dying:
            # The worker learns from the exit code what happened to the jobs.
            return
        for stream in self._streams:
            stream.finish(job)
        if not self._streams:
            output.end_lines()
        del self._running[job.id, job.epoch]
        try:
            self._channel.answer(job, answer)
        except WorkerGoneError:
            self._end(0)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._is_draining and not self._running:
            self._end(0)

    def _cancel(self, message: Mapping[str, Any]) -> None:
        key: Any = (message.get("id"), message.get("epoch"))
        running = self._running.get(key)
        if running is None:
            return
        running.attempt.job.reason = str(message.get("reason", "canceled"))
        # A task that is canceled before its first step never runs, and could not answer.
        if running.task is not None and running.is_started:
            running.task.cancel()

    # What jobs call:

    def stop_reason(self, job: Job) -> str | None:
        """Return why the job must stop.

        A coroutine that computes keeps the loop from reading, so this reads.
        """
        if job.reason is None and threading.get_ident() == self._loop_thread:
            now = monotonic()
            if now >= self._next_poll and not self._channel.is_forked:
                self._next_poll = now + POLL_INTERVAL
                self._poll()
        return job.reason

    def _poll(self) -> None:
        try:
            while (frame := self._channel.poll()) is not None:
                if frame.message["type"] == "cancel":
                    self._cancel(frame.message)
                else:
                    # Not inside of the handler that checks.
                    self._loop.call_soon(self._take_later, frame)
        except WorkerGoneError:
            self._end(0)
            raise Canceled("lease_lost") from None

    def _take_later(self, frame: Frame) -> None:
        try:
            self._take(frame)
        except WorkerGoneError:
            self._end(0)

    def progress(self, job: Job, fraction: float, message: str) -> None:
        """Report progress, from any thread."""
        try:
            self._channel.progress(job, fraction, message)
        except WorkerGoneError:
            raise Canceled("lease_lost") from None

    def log(self, job: Job, text: str) -> None:
        """Write lines to the log, from any thread and in any context."""
        if not self._streams or self._channel.is_forked or not job.is_open:
            output.write_lines(text)
            return
        try:
            self._channel.log(job, text.removesuffix("\n"))
        except WorkerGoneError:
            raise Canceled("lease_lost") from None


def _new_task(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop
) -> asyncio.Task[None]:
    if sys.version_info >= (3, 12):
        # Without a turn of the loop before the first step.
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)
