"""Runs jobs one at a time, in the main thread.

No other thread reads the channel. While a handler runs, a worker sends only `cancel` and `drain`,
and a handler can notice them only when it calls `check`, `canceled` or `progress`: so the channel
is read in these calls, at most every few milliseconds. Handing each job from a reading thread to
the main thread would cost about as much as everything else in a round trip.

A handler that calls none of them gets SIGTERM three seconds after `cancel`. It is raised in the
handler as `Canceled`, so `finally` and `with` clean up, and calls such as `time.sleep` end.
"""

from __future__ import annotations

import contextvars
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from crunch.worker import output
from crunch.worker.attempts import NEVER_CAUGHT, Attempt
from crunch.worker.channel import Channel, WorkerGoneError, check_version, failed
from crunch.worker.declaration import Task
from crunch.worker.failures import Canceled
from crunch.worker.files import ResultFiles
from crunch.worker.forks import TERMINATED, end_forked, reset_sigterm_in_forks, sigterm_is_free
from crunch.worker.frames import Frame
from crunch.worker.job import Job, set_current_job

if TYPE_CHECKING:
    import asyncio

POLL_INTERVAL: Final = 0.005
"""Seconds between two reads while a handler runs: a cancel is seen at once by human measure."""


class SerialRuntime:
    """Runs the jobs of a child that has a task which is not a coroutine."""

    def __init__(
        self, channel: Channel, tasks: Mapping[str, Task[..., Any]], files: ResultFiles
    ) -> None:
        self._channel, self._tasks, self._files = channel, tasks, files
        self._main: Final = threading.get_ident()
        self._waiting: Final[deque[Frame]] = deque()
        self._poll_lock: Final = threading.Lock()
        self._next_poll = 0.0
        self._attempt: Attempt | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._async_task: asyncio.Task[Any] | None = None
        self._is_draining = False
        self._is_gone = False
        self._is_terminated = False
        self._may_raise = True
        """Whether a signal may raise an exception: not while a message is read or written."""

    def run(self) -> int:
        """Run jobs until the worker needs no more; return the exit code."""
        self._catch_sigterm()
        try:
            while not (self._is_gone or self._is_terminated):
                if self._is_draining and not self._waiting:
                    return 0
                self._take(self._waiting.popleft() if self._waiting else self._channel.receive())
        except WorkerGoneError:
            return 0
        return TERMINATED if self._is_terminated else 0

    def _take(self, frame: Frame) -> None:
        if frame.message["type"] != "job":
            self._note(frame)
            return
        self._may_raise = False
        self._attempt = attempt = Attempt(self._tasks, self, frame)
        answer = contextvars.copy_context().run(self._run, attempt)
        output.end_lines()
        self._attempt = None
        self._channel.answer(attempt.job, answer)
        self._may_raise = not self._is_terminated

    def _run(self, attempt: Attempt) -> bytes:
        """Return the answer of one attempt."""
        set_current_job(attempt.job)
        try:
            task, (positional, named) = attempt.arguments()
            try:
                self._may_raise = True
                value = task.function(*positional, **named)
                if task.is_async:
                    value = self._run_async(value)
            finally:
                self._may_raise = False
            if self._channel.is_forked:
                end_forked(0)
            return self._files.answer(attempt.job, attempt.result(value))
        except BaseException as error:
            if self._channel.is_forked:
                end_forked(error)
            if isinstance(error, NEVER_CAUGHT):
                raise
            return failed(attempt.job, attempt.failure(error))

    def _run_async(self, coroutine: Any) -> Any:
        """Run a coroutine in a loop of its own, which reads the channel meanwhile."""
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        self._async_task = self._loop.create_task(coroutine)
        self._loop.add_reader(self._channel.in_fd, self._poll)
        try:
            return self._loop.run_until_complete(self._async_task)
        finally:
            self._loop.remove_reader(self._channel.in_fd)
            self._async_task = None

    def _note(self, frame: Frame) -> None:
        """Take a message that is not a job, or one that came too early."""
        message = frame.message
        kind = message["type"]
        if kind == "job":
            self._waiting.append(frame)
        elif kind == "cancel":
            self._cancel(message)
        elif kind == "drain":
            self._is_draining = True
        elif kind == "ping":
            self._channel.send({"type": "pong"})
        elif kind == "hello":
            check_version(message)

    def _cancel(self, message: Mapping[str, Any]) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        job = attempt.job
        if (message.get("id"), message.get("epoch")) == (job.id, job.epoch):
            self._stop(job, str(message.get("reason", "canceled")))

    def _stop(self, job: Job, reason: str) -> None:
        job.reason = reason
        if self._async_task is not None:
            self._async_task.cancel()

    def _poll(self) -> None:
        """Take the messages that have arrived while a handler runs."""
        try:
            while (frame := self._channel.poll()) is not None:
                self._note(frame)
        except WorkerGoneError:
            self._is_gone = True
            if self._loop is not None:
                self._loop.remove_reader(self._channel.in_fd)
            if self._attempt is not None:
                self._stop(self._attempt.job, "lease_lost")

    # What jobs call:

    def stop_reason(self, job: Job) -> str | None:
        """Return why the job must stop. Looks at the channel, unless that was a moment ago."""
        if job.reason is not None or self._channel.is_forked or self._is_read_by_loop():
            return job.reason
        now = monotonic()
        if now >= self._next_poll and self._poll_lock.acquire(blocking=False):
            self._next_poll = now + POLL_INTERVAL
            try:
                self._undisturbed(self._poll)
            finally:
                self._poll_lock.release()
        return job.reason

    def _is_read_by_loop(self) -> bool:
        # A thread that a coroutine started must not touch the loop. A coroutine that never awaits
        # keeps the loop from reading, and must look itself.
        return self._async_task is not None and threading.get_ident() != self._main

    def progress(self, job: Job, fraction: float, message: str) -> None:
        """Report progress."""
        self._undisturbed(lambda: self._channel.progress(job, fraction, message))

    def log(self, job: Job, text: str) -> None:
        """Write lines to the log: the worker knows which job runs."""
        output.write_lines(text)

    def _undisturbed(self, action: Callable[[], None]) -> None:
        """Do something that a signal must not interrupt."""
        is_main = threading.get_ident() == self._main
        if is_main:
            self._may_raise = False
        try:
            action()
        except WorkerGoneError:
            self._is_gone = True
            raise Canceled("lease_lost") from None
        finally:
            if is_main:
                self._may_raise = True
        if is_main and self._is_terminated:
            self._terminate()

    def _catch_sigterm(self) -> None:
        if sigterm_is_free():
            signal.signal(signal.SIGTERM, self._on_sigterm)
            reset_sigterm_in_forks()

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_terminated = True
        if self._may_raise:
            self._terminate()

    def _terminate(self) -> NoReturn:
        self._may_raise = False
        if self._attempt is None:
            raise SystemExit(TERMINATED)
        raise Canceled(self._attempt.job.reason or "shutdown")
