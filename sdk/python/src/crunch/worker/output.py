"""Where prints and logging go: to the log of the job that they belong to.

The worker reads standard output and standard error of its children by lines. If a child runs one
job at a time, the lines belong to that job. If it runs several, only the child knows: then lines
that Python writes go through the channel instead, with the id of their job.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from crunch.worker.job import Job, current_job

LOG_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
"""Without the time: the job's log has it."""

_MAX_LINE_CHARACTERS: Final = 16 * 1024
"""Of a line that has not ended: a worker keeps less of it, so memory is not spent on the rest."""


class RoutedStream(io.TextIOWrapper):
    """Standard output or standard error: lines of a job go to `route`, others to the descriptor."""

    def __init__(self, fd: int) -> None:
        """Open the descriptor again; closing this stream does not close it."""
        raw = open(fd, "wb", closefd=False)  # noqa: SIM115 - lives as long as the process
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.route: Callable[[Job, str], None] | None = None
        """Takes lines of a job, if this process runs several at once."""
        self._is_amid_line = False
        self._begun: WeakKeyDictionary[Job, str] = WeakKeyDictionary()
        self._begun_lock = threading.Lock()
        os.register_at_fork(after_in_child=self._leave)

    def write(self, text: str, /) -> int:
        """Write text: to the job of the current context, or to the descriptor if there is none."""
        if self.route is None or (job := current_job()) is None or not job.is_open:
            if text:
                self._is_amid_line = text[-1] != "\n"
            return super().write(text)
        with self._begun_lock:
            lines, end, rest = (self._begun.pop(job, "") + text).rpartition("\n")
            if len(rest) > _MAX_LINE_CHARACTERS:
                lines, end, rest = lines + end + rest, "\n", ""
            if rest:
                self._begun[job] = rest
        if end:
            self.route(job, lines)
        return len(text)

    def _leave(self) -> None:
        # A forked process has no channel.
        self.route = None

    def end_line(self) -> None:
        """End a line on the descriptor that has not ended: the next job would continue it."""
        if self._is_amid_line:
            self._is_amid_line = False
            super().write("\n")

    def finish(self, job: Job) -> None:
        """Write the line of the job that has not ended."""
        with self._begun_lock:
            rest = self._begun.pop(job, "")
        if rest and self.route is not None:
            self.route(job, rest)


def install() -> tuple[RoutedStream, RoutedStream]:
    """Replace standard output and standard error, before modules are imported: some keep them."""
    out, err = RoutedStream(1), RoutedStream(2)
    flush()
    sys.stdout, sys.stderr = out, err
    return out, err


def write_lines(text: str) -> None:
    """Write whole lines to standard error. A log must not fail because a handler has closed it."""
    with contextlib.suppress(Exception):
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")


def end_lines() -> None:
    """End what a job has printed, so that the worker has it before the answer."""
    for stream in (sys.stdout, sys.stderr):
        # A handler may have replaced or closed it.
        with contextlib.suppress(Exception):
            if isinstance(stream, RoutedStream):
                stream.end_line()
            stream.flush()


def flush() -> None:
    """Write what is buffered, so that the worker has it before the answer."""
    for stream in (sys.stdout, sys.stderr):
        # A handler may have closed or replaced it.
        with contextlib.suppress(Exception):
            stream.flush()


def set_up_logging() -> None:
    """Log to standard error from level INFO on, unless a module has set up logging."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = CurrentStderrHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root.addHandler(handler)
    if root.level == logging.WARNING:  # The default: no level was set.
        root.setLevel(logging.INFO)


class CurrentStderrHandler(logging.Handler):
    """Writes to what is `sys.stderr` at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one text, which no other thread can write into."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)
