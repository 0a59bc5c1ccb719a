"""Large results by file, in the directory that the worker gives to this child."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from crunch.worker.channel import MAX_BODY_BYTES, done, done_by_file
from crunch.worker.failures import Fail
from crunch.worker.job import Job
from crunch.worker.results import Encoded
from crunch.worker.values import MAX_BYTES


class ResultFiles:
    """Writes answers: small results in the message, large ones in a file."""

    def __init__(self, directory: str | None) -> None:
        """Take `CRUNCH_DIR`. Without it, all results are in messages."""
        self._directory: Final = None if directory is None else Path(directory)

    def answer(self, job: Job, result: Encoded) -> bytes:
        """Return the answer of a job that succeeded; raise `Fail` if the result is too large."""
        data = result.data
        if isinstance(data, Path):
            return self._answer_by_path(job, data, result.content_type)
        if len(data) <= MAX_BODY_BYTES:
            return done(job, data, result.content_type)
        _check_size(len(data))
        path = self._written(data)
        if path is None:
            return done(job, data, result.content_type)
        return done_by_file(job, path, result.content_type)

    def _answer_by_path(self, job: Job, source: Path, content_type: str | None) -> bytes:
        try:
            size = source.stat().st_size
            _check_size(size)
            if self._is_inside(source):
                return done_by_file(job, source.absolute(), content_type)
            path = self._copied(source) if size > MAX_BODY_BYTES else None
            if path is None:
                return done(job, source.read_bytes(), content_type)
            return done_by_file(job, path, content_type)
        except OSError as error:
            raise Fail(
                "result_invalid", f"the file of the result cannot be read: {error}"
            ) from None

    def _is_inside(self, source: Path) -> bool:
        # The worker takes files of this directory, and deletes them. A link may lead out of it.
        if self._directory is None or source.is_symlink():
            return False
        return source.resolve().is_relative_to(self._directory.resolve())

    def _copied(self, source: Path) -> Path | None:
        target = self._new_file()
        if target is None:
            return None
        try:
            shutil.copyfile(source, target)
        except OSError:
            target.unlink(missing_ok=True)
            return None
        return target

    def _written(self, data: bytes) -> Path | None:
        """Return a new file with the data. None: it cannot be written, a message takes it too."""
        target = self._new_file()
        if target is None:
            return None
        try:
            target.write_bytes(data)
        except OSError:
            target.unlink(missing_ok=True)
            return None
        return target

    def _new_file(self) -> Path | None:
        if self._directory is None:
            return None
        try:
            fd, name = tempfile.mkstemp(prefix="result-", dir=self._directory)
        except OSError:
            return None
        os.close(fd)
        return Path(name)


def _check_size(size: int) -> None:
    # Smaller limits are the worker's: its file of tasks may have others than this child knows.
    if size > MAX_BYTES:
        raise Fail("result_too_large", f"the result has {size} bytes, more than {MAX_BYTES}")
