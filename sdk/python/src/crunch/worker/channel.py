"""The child's side of the channel: reads the worker's messages, writes answers and reports.

A message is written whole, under a lock, by one call: no other thread can write into it. After a
fork, the process that was forked has no channel: it can neither write to the worker nor keep the
pipes open.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Mapping
from json.encoder import encode_basestring
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, NoReturn

from crunch.worker.failures import Failure
from crunch.worker.frames import Frame, FrameReader, ProtocolError
from crunch.worker.job import REPORT_INTERVAL, Job

VERSION: Final = 1
"""The version of the channel."""
MAX_BODY_BYTES: Final = 1024 * 1024
"""Larger results go by file."""

_KNOWN: Final = frozenset({"hello", "job", "cancel", "drain", "ping"})
_MAX_MESSAGE_CHARACTERS: Final = 512
"""Of a progress message: escaped (six bytes a character), it leaves its line below PIPE_BUF.

A pipe that is writable at all takes so much (4096 bytes) without blocking.
"""
_MAX_TEXT_CHARACTERS: Final = 8 * 1024
"""Of one `log` message: escaped, it leaves its line below the limit of 64 KiB."""


class WorkerGoneError(Exception):
    """The worker closed the channel."""


class Channel:
    """The two pipes between the worker and this child."""

    def __init__(self, in_fd: int, out_fd: int) -> None:
        """Take the descriptors."""
        self.in_fd: Final = in_fd
        self._out_fd: Final = out_fd
        self._reader: Final = FrameReader(in_fd, _KNOWN)
        self._readable: Final = select.poll()
        self._readable.register(in_fd, select.POLLIN)
        self._writable: Final = select.poll()
        self._writable.register(out_fd, select.POLLOUT)
        self._lock: Final = threading.Lock()
        self._held: Final[list[Job]] = []
        self._holding: Final = threading.Event()
        self._reporter: threading.Thread | None = None
        self.is_forked: bool = False
        """Whether this is a process that was forked by the child."""
        for fd in (in_fd, out_fd):
            os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        if self.is_forked:
            return
        self.is_forked = True
        os.close(self.in_fd)
        os.close(self._out_fd)

    def receive(self) -> Frame:
        """Wait for the next message; raise `WorkerGoneError` at the end of the input."""
        while (frame := self._reader.next()) is None:
            if not self._reader.fill():
                raise WorkerGoneError
        return frame

    def never_wait(self) -> None:
        """Let `read` return if there is nothing to read, for an event loop."""
        os.set_blocking(self.in_fd, False)

    def read(self) -> None:
        """Read what is there; raise `WorkerGoneError` at the end of the input."""
        try:
            if not self._reader.fill():
                raise WorkerGoneError
        except BlockingIOError:
            # Something else has read it since the loop found it readable.
            return

    def next_read(self) -> Frame | None:
        """Return the next message that was read; call `read` for more."""
        return self._reader.next()

    def poll(self) -> Frame | None:
        """Return the next message if there is one; raise `WorkerGoneError` at the end."""
        while (frame := self._reader.next()) is None:
            if not self._readable.poll(0):
                return None
            if not self._reader.fill():
                raise WorkerGoneError
        return frame

    def send(self, message: Mapping[str, Any], body: bytes = b"") -> None:
        """Write a message; wait while the pipe is full."""
        with self._lock:
            self._write(_line(message) + body)

    def answer(self, job: Job, data: bytes) -> None:
        """Write the answer of a job after its newest progress. Nothing is reported afterwards."""
        with self._lock:
            job.is_open = False
            if job.newest is not job.reported:
                data = _progress_line(job) + data
            self._write(data)

    def log(self, job: Job, text: str) -> None:
        """Write lines to the log of a job."""
        for at in range(0, len(text), _MAX_TEXT_CHARACTERS):
            part = text[at : at + _MAX_TEXT_CHARACTERS]
            line = _line({"type": "log", "id": job.id, "epoch": job.epoch, "text": part})
            with self._lock:
                if job.is_open:
                    self._write(line)

    def progress(self, job: Job, fraction: float, message: str) -> None:
        """Report the progress of a job: now, or when it is time again and the pipe is not full."""
        job.newest = (fraction, message)
        now = monotonic()
        if now >= job.report_due:
            self._report(job, now)
        if job.newest is not job.reported and not self.is_forked:
            self._hold(job)

    def _report(self, job: Job, now: float) -> None:
        """Write the newest progress of the job, unless that would block."""
        job.report_due = now + REPORT_INTERVAL
        # The thread with the lock writes something long, or waits for the worker.
        if self.is_forked or not self._lock.acquire(blocking=False):
            return
        try:
            if job.is_open and self._writable.poll(0):
                self._write(_progress_line(job))
        finally:
            self._lock.release()

    def _hold(self, job: Job) -> None:
        """Let the reporter write the progress later, if the handler reports nothing until then."""
        if job in self._held:
            return
        self._held.append(job)
        self._holding.set()
        if self._reporter is None:
            self._reporter = threading.Thread(
                target=self._report_held, name="crunch-progress", daemon=True
            )
            self._reporter.start()

    def _report_held(self) -> NoReturn:
        while True:
            self._holding.wait()
            self._holding.clear()
            while self._held:
                job = self._held.pop(0)
                sleep(max(job.report_due - monotonic(), 0.0))
                self._report_late(job)

    def _report_late(self, job: Job) -> None:
        try:
            if job.newest is not job.reported:
                self._report(job, monotonic())
        except WorkerGoneError:
            return  # The main thread sees it too, and exits.
        if job.newest is not job.reported and job.is_open:
            self._hold(job)

    def _write(self, data: bytes) -> None:
        """Write all bytes. The caller has the lock."""
        if self.is_forked:
            return
        try:
            written = os.write(self._out_fd, data)
            while written < len(data):
                written += os.write(self._out_fd, memoryview(data)[written:])
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerGoneError from None


def check_version(hello: Mapping[str, Any]) -> None:
    """Raise `ProtocolError` if the worker speaks another version of the channel."""
    version = hello.get("channel", VERSION)
    if version != VERSION:
        raise ProtocolError(f"a hello of channel {version}, not {VERSION}")


def done(job: Job, body: bytes, content_type: str | None) -> bytes:
    """Return the answer of a job that succeeded."""
    kind = "" if content_type is None else f',"content_type":{json.dumps(content_type)}'
    of = f'"id":{encode_basestring(job.id)},"epoch":{job.epoch}'
    return f'{{"type":"done",{of},"body":{len(body)}{kind}}}\n'.encode() + body


def done_by_file(job: Job, path: Path, content_type: str | None) -> bytes:
    """Return the answer of a job whose result is in a file."""
    members = {"type": "done", "id": job.id, "epoch": job.epoch, "file": str(path)}
    return _line(members if content_type is None else {**members, "content_type": content_type})


def failed(job: Job, failure: Failure) -> bytes:
    """Return the answer of a job that failed."""
    of = {"type": "failed", "id": job.id, "epoch": job.epoch}
    return _line({**of, "error": failure.members()})


def _progress_line(job: Job) -> bytes:
    """Return the newest progress of the job, and note that it is reported."""
    newest = job.reported = job.newest
    if newest is None:
        return b""
    fraction, message = newest
    members: dict[str, Any] = {"type": "progress", "id": job.id, "epoch": job.epoch}
    members["progress"] = fraction
    if message:
        members["message"] = str(message)[:_MAX_MESSAGE_CHARACTERS]
    return _line(members)


def _line(message: Mapping[str, Any]) -> bytes:
    # A lone surrogate, as in the name of a file, becomes a question mark: it is not UTF-8.
    return _encoder.encode(message).encode("utf-8", "replace") + b"\n"


_encoder: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
