"""Records what handlers print and log, and passes it on: pytest shows it for a test that fails."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

from crunch.worker.job import Job, current_job
from crunch.worker.output import LOG_FORMAT

Recorder = Callable[[str], None]

_recorders: Final[dict[Job, Recorder]] = {}
_lock: Final = threading.Lock()


@contextlib.contextmanager
def captured(job: Job, record: Recorder) -> Iterator[None]:
    """Give lines that code of the job prints or logs to `record`."""
    with _lock:
        # Attempts may overlap: the first replaces the streams, the last restores them.
        if not _recorders:
            _streams.install()
        _recorders[job] = record
    try:
        yield
    finally:
        _streams.finish(job)
        with _lock:
            del _recorders[job]
            if not _recorders:
                _streams.restore()


class _Tee(io.TextIOBase):
    """A stream that records whole lines of jobs, and passes everything on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream: Final = stream
        self._begun: dict[Job, str] = {}

    def write(self, text: str, /) -> int:
        job = current_job()
        record = None if job is None else _recorders.get(job)
        if job is not None and record is not None:
            lines, end, rest = (self._begun.pop(job, "") + text).rpartition("\n")
            if rest:
                self._begun[job] = rest
            if end:
                record(lines)
        return self.stream.write(text)

    def finish(self, job: Job) -> None:
        if rest := self._begun.pop(job, ""):
            _recorders[job](rest)

    def flush(self) -> None:
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _LogHandler(logging.Handler):
    """Records what code of jobs logs."""

    def emit(self, record: logging.LogRecord) -> None:
        job = current_job()
        recorder = None if job is None else _recorders.get(job)
        if recorder is not None:
            recorder(self.format(record))


class _Streams:
    """Standard output, standard error and logging while attempts run."""

    def __init__(self) -> None:
        self._tees: tuple[_Tee, _Tee] | None = None
        self._level: int | None = None
        self._handler = _LogHandler()
        self._handler.setFormatter(logging.Formatter(LOG_FORMAT))

    def install(self) -> None:
        out, err = _Tee(sys.stdout), _Tee(sys.stderr)
        self._tees = out, err
        sys.stdout, sys.stderr = out, err
        root = logging.getLogger()
        root.addHandler(self._handler)
        if root.level == logging.WARNING:  # As in a child, unless a level was set.
            self._level = root.level
            root.setLevel(logging.INFO)

    def finish(self, job: Job) -> None:
        for tee in self._tees or ():
            tee.finish(job)

    def restore(self) -> None:
        out, err = self._tees or (None, None)
        # Unless the handler has replaced them.
        if out is not None and sys.stdout is out:
            sys.stdout = out.stream
        if err is not None and sys.stderr is err:
            sys.stderr = err.stream
        self._tees = None
        root = logging.getLogger()
        root.removeHandler(self._handler)
        if self._level is not None:
            root.setLevel(self._level)
            self._level = None


_streams: Final = _Streams()
