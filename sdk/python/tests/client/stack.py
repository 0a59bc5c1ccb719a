"""A Redis, an API and a worker of their own, for tests against the real thing."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

START_TIMEOUT_S: Final = 60
"""Far longer than a start takes, even of debug builds on a busy machine."""
_PR_SET_PDEATHSIG = 1

TASKS: Final = """\
builtin = true

[[task]]
name = "echo"
command = ["cat"]
accepts = ["application/json", "text/plain"]

[[task]]
name = "shout"
command = ["tr", "a-z", "A-Z"]
accepts = ["text/plain"]
content_type = "text/plain"

[[task]]
name = "large"
command = ["{python}", "-c", "print(list(range(20000)))"]

[[task]]
name = "refuse"
command = ["sh", "-c", '''
echo '{{"error": {{"code": "no_light", "message": "it is dark", "retryable": false}}}}' \\
  >&"$CRUNCH_EVENTS_FD"
exit 1
''']

[[task]]
name = "once"
command = ["cat"]
unique = {{ fields = ["/customer"], on_conflict = "reject" }}

[[task]]
name = "staged"
command = ["{python}", "{actor}"]
max_attempts = 2
backoff = {{ base = "1ms", max = "1ms" }}
"""


class Stack:
    """Starts the processes, and stops them at the end of a `with` block."""

    def __init__(self, binaries: Path, scratch: Path) -> None:
        self._binaries, self._scratch = binaries, scratch
        self._cleanup = ExitStack()
        self.url = ""
        self.redis_port = 0

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            self._cleanup = cleanup
            self._start_redis()
            self.url = self.start_api()
            self._start_worker()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def start_api(self, **environment: str) -> str:
        """Start an API, and return its URL."""
        process = self.start(
            "crunch-api",
            CRUNCH_API_ADDR="127.0.0.1:0",
            CRUNCH_API_DRAIN_MS="0",
            # Payloads of tests are small, so that tests may run side by side.
            CRUNCH_API_MAX_BODY_MEMORY=str(32 * 1024 * 1024),
            CRUNCH_WEBHOOK_SECRETS="whsec_" + "A" * 32,
            **environment,
        )
        line = _line(process, "listening on ")
        return line.removeprefix("listening on ").strip()

    def run(self, program: str, *arguments: str) -> str:
        """Run a program to its end, and return its output."""
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(
            command, env=self._environment({}), capture_output=True, check=True, text=True
        )
        return done.stdout

    def _start_redis(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.redis_port = probe.getsockname()[1]
        options = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        command = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        process = self._spawn([*command, *options], {})
        _wait_until(process, lambda: _is_listening(self.redis_port))

    def _start_worker(self) -> None:
        tasks = self._scratch / "tasks.toml"
        actor = Path(__file__).with_name("actor.py")
        tasks.write_text(TASKS.format(python=sys.executable, actor=actor))
        worker = self.start(
            "crunch-worker",
            CRUNCH_TASKS=str(tasks),
            CRUNCH_WORKER_CONCURRENCY="8",
            CRUNCH_WORKER_GRACE_MS="0",
        )
        _wait_until(worker, lambda: _is_found(f"{self.url}/tasks/staged"))

    def start_worker_of(self, python: Path, *modules: str, task: str) -> None:
        """Start a worker with `python -m crunch worker`, and wait until its task is known."""
        command = [str(python), "-m", "crunch", "worker", *modules]
        worker = self._spawn(command, self._environment({"CRUNCH_WORKER_GRACE_MS": "0"}))
        _wait_until(worker, lambda: _is_found(f"{self.url}/tasks/{task}"))

    def start(self, program: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program of this stack."""
        return self._spawn([str(self._binaries / program)], self._environment(environment))

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        redis = f"redis://127.0.0.1:{self.redis_port}/"
        kept = {"PATH": os.environ["PATH"], "CRUNCH_REDIS_URL": redis, "CRUNCH_LOG": "error"}
        return {**kept, **extra}

    def _spawn(self, command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        log = self._cleanup.enter_context(
            (self._scratch / f"{Path(command[0]).name}.log").open("a")
        )
        process = subprocess.Popen(
            command,
            env=environment or None,
            cwd=self._scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
        self._cleanup.callback(_stop, process)
        return process


def _die_with_parent() -> None:
    """Nothing is left behind, even if the tests are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _line(process: subprocess.Popen[str], beginning: str) -> str:
    """Return the first line of the output that begins like this."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise RuntimeError(f"{process.args!r} ended with {process.wait()}: see its log")


def _wait_until(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Return once `ready` returns true; raise if the process ends before."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not start: see its log")
        time.sleep(0.02)


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _is_found(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=START_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return False
