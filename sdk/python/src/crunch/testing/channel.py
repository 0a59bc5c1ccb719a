"""A worker for tests: starts a child, and speaks the channel of `docs/commands.md` with it.

For tests of children, in Python or any other language. To test a task, use `crunch.testing.run`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

DEADLINE: Final = 20.0
"""Seconds that a wait lasts at most: much longer than a loaded machine needs to start Python."""

_CHUNK: Final = 64 * 1024


class Message(NamedTuple):
    """A message of the child, with its body."""

    members: dict[str, Any]
    body: bytes

    @property
    def type(self) -> str:
        """Its type."""
        return str(self.members["type"])

    def json(self) -> Any:
        """Return its body as a JSON value."""
        return json.loads(self.body)


class FakeWorker:
    """A worker with one child. The end of its `with` block kills the child.

    What the child prints is in `output`, as soon as it has ended or `wait_for_output` has found it.
    """

    def __init__(
        self,
        *modules: str,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Start a child with these modules, or with another command."""
        self._temporary = tempfile.TemporaryDirectory(prefix="crunch-dir-")
        self.directory: Final = Path(self._temporary.name)
        """What the child has as `CRUNCH_DIR`."""
        child_in, self._to_child = os.pipe()
        self._from_child, child_out = os.pipe()
        variables = {**os.environ, **(env or {}), "CRUNCH_DIR": str(self.directory)}
        variables |= {"CRUNCH_IN_FD": str(child_in), "CRUNCH_OUT_FD": str(child_out)}
        if concurrency is not None:
            variables["CRUNCH_CONCURRENCY"] = str(concurrency)
        self.process: Final = subprocess.Popen(
            command or [sys.executable, "-m", "crunch", *modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(child_in, child_out),
            env=variables,
            cwd=cwd,
        )
        os.close(child_in)
        os.close(child_out)
        self._buffer = bytearray()
        self._jobs = 0
        self._printed = bytearray()
        self._more_printed = threading.Condition()
        self._printer = threading.Thread(target=self._read_output, daemon=True)
        self._printer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.close_input()
        with contextlib.suppress(OSError):
            os.close(self._from_child)
        self._temporary.cleanup()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), _CHUNK):
            with self._more_printed:
                self._printed += data
                self._more_printed.notify_all()
        with self._more_printed:
            self._more_printed.notify_all()
        self.process.stdout.close()

    @property
    def output(self) -> str:
        """What the child has printed so far."""
        with self._more_printed:
            return self._printed.decode("utf-8", "replace")

    def wait_for_output(self, text: str) -> str:
        """Wait until the child has printed this text; return all that it has printed."""
        encoded = text.encode()
        with self._more_printed:
            if not self._more_printed.wait_for(lambda: encoded in self._printed, DEADLINE):
                raise TimeoutError(f"the child did not print {text!r}, but {self._printed!r}")
            return self._printed.decode("utf-8", "replace")

    # To the child:

    def send(self, kind: str, *, body: bytes | None = None, **members: Any) -> None:
        """Send a message."""
        message = {"type": kind, **members}
        if body is not None:
            message["body"] = len(body)
        self.send_bytes(json.dumps(message).encode() + b"\n" + (body or b""))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are, while the child writes too."""
        view = memoryview(data)
        until = time.monotonic() + DEADLINE
        os.set_blocking(self._to_child, False)
        while view:
            readable, writable, _ = select.select(
                [self._from_child], [self._to_child], [], max(until - time.monotonic(), 0)
            )
            if not readable and not writable:
                raise TimeoutError("the child does not read")
            if readable and not writable:
                self._read()
            if writable:
                view = view[os.write(self._to_child, view[:_CHUNK]) :]

    def hello(self) -> Message:
        """Receive the child's hello, and answer it."""
        hello = self.receive("hello")
        self.send("hello", channel=1, worker="crunch.testing/1", max_result=1024 * 1024)
        return hello

    def job(self, task: str, payload: Any = None, **members: Any) -> str:
        """Send a job; return its id. The payload is bytes, or becomes JSON."""
        self._jobs += 1
        job = str(members.pop("id", f"job-{self._jobs}"))
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        standard = {
            "id": job,
            "epoch": 1,
            "task": task,
            "attempt": 1,
            "max_attempts": 3,
            "deadline_ms": 1_790_000_000_000,
            "content_type": "application/json",
            "metadata": {},
        }
        if "file" in members:
            self.send("job", **{**standard, **members})
        else:
            self.send("job", body=body, **{**standard, **members})
        return job

    def cancel(self, job: str, *, reason: str = "canceled", epoch: int = 1) -> None:
        """Request the child to stop a job."""
        self.send("cancel", id=job, epoch=epoch, reason=reason, grace_ms=5000)

    def close_input(self) -> None:
        """Close the pipe to the child, as a worker does that needs it no more."""
        with contextlib.suppress(OSError):
            os.close(self._to_child)
        self._to_child = -1

    # From the child:

    def receive(self, *kinds: str) -> Message:
        """Return the next message, or the next one of these types; others are dropped."""
        while True:
            message = self._next()
            if not kinds or message.type in kinds:
                return message

    def answer(self) -> Message:
        """Return the next answer of a job."""
        return self.receive("done", "failed")

    def run(self, task: str, payload: Any = None, **members: Any) -> Message:
        """Send a job, and return its answer."""
        self.job(task, payload, **members)
        return self.answer()

    def wait(self) -> int:
        """Wait until the child has ended and its output is read; return its exit code."""
        code = self.process.wait(DEADLINE)
        self._printer.join(DEADLINE)
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the child."""
        self.process.send_signal(signal.SIGTERM)

    def at_end(self) -> bool:
        """Wait until no process has the pipe of the child open; return whether nothing is left."""
        while self._read():
            pass
        return not self._buffer

    def _next(self) -> Message:
        while (end := self._buffer.find(b"\n")) < 0:
            self._need_more()
        members: dict[str, Any] = json.loads(self._buffer[:end])
        size = members.get("body", 0)
        while len(self._buffer) < end + 1 + size:
            self._need_more()
        body = bytes(self._buffer[end + 1 : end + 1 + size])
        del self._buffer[: end + 1 + size]
        return Message(members, body)

    def _need_more(self) -> None:
        if not self._read():
            raise EOFError(
                f"the child closed its pipe amid {bytes(self._buffer[:200])!r}: {self.output}"
            )

    def _read(self) -> int:
        """Read what the child wrote; return the number of bytes, 0 at the end."""
        poll = select.poll()
        poll.register(self._from_child, select.POLLIN)
        if not poll.poll(DEADLINE * 1000):
            raise TimeoutError(f"the child is silent: {self.output}")
        data = os.read(self._from_child, _CHUNK)
        self._buffer += data
        return len(data)
