"""Starts a Redis, the API and a worker with the tasks of this folder for one program, and stops them after it.

    python stack.py BINARIES [COMMAND…]

The program finds the API's address in CRUNCH_URL. Without a program they run until Ctrl-C. Everything is in a temporary
folder, on free ports of 127.0.0.1.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent

START_S = 60
"""How long a process may take until it is ready. The worker's children import pvtrace, perhaps on a busy machine."""

STOP_S = 30
"""How long a process may take to stop: longer than a worker gives its jobs."""

LOG_LINES = 20
"""How many lines of the log of a process that failed are printed."""

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Failed(Exception):
    """A process did not start, or ended too early."""


class Stack:
    """A Redis, an API and a worker. A context manager: all of them have ended when it is left."""

    url: str

    def __init__(self, binaries):
        self._binaries = Path(binaries)
        self._folder = tempfile.TemporaryDirectory(prefix="crunch-pvtrace-")
        self._processes = {}
        # Settings of another Crunch, which may be in the caller's environment, would be those of this one.
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("CRUNCH_")}

    def __enter__(self):
        try:
            self._start_redis()
            self._start_api()
            self._start_worker()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_):
        self._stop()

    def pid(self, name):
        """Returns the process id of `redis`, `api` or `worker`."""
        return self._processes[name].pid

    def serve(self):
        """Runs until a process ends, which none should, and raises `Failed`. Only a signal ends it otherwise."""
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        self._check()

    def run(self, command):
        """Runs a program until it ends and returns its exit code; raises `Failed` if another process ends first."""
        env = {**os.environ, "CRUNCH_URL": self.url}
        program = subprocess.Popen(command, env=env, preexec_fn=_stop_with_parent)
        try:
            # Waits for the first process to end, whichever it is, and leaves its exit code to its owner.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            if ended.si_pid != program.pid:
                self._check()
            return program.wait()
        finally:
            program.terminate()
            program.wait()

    def _start_redis(self):
        server = shutil.which("redis-server") or shutil.which("valkey-server")
        if server is None:
            raise Failed("redis-server is missing: install Redis 7 or newer, or Valkey")
        port = _free_port()
        self._env["CRUNCH_REDIS_URL"] = f"redis://127.0.0.1:{port}/"
        self._start("redis", server, HERE / "../../redis.conf", "--bind", "127.0.0.1", "--port", str(port))
        self._wait_until(lambda: _answers_ping(port), "Redis to be ready")

    def _start_api(self):
        # No load balancer has to stop sending requests before the API stops.
        self._start("api", self._binaries / "crunch-api", CRUNCH_API_ADDR="127.0.0.1:0", CRUNCH_API_DRAIN_MS="0")
        self._wait_until(self._api_listens, "the API to be ready")

    def _api_listens(self):
        # The first line of its log has the address, which is that of a free port.
        found = re.search("^listening on (.*)$", self._log("api").read_text(), re.MULTILINE)
        if found:
            self.url = found[1]
        return found and self._responds("/readyz")

    def _start_worker(self):
        worker = self._binaries / "crunch-worker"
        self._start("worker", worker, "--tasks", HERE / "tasks.toml", CRUNCH_WORKER_GRACE_MS="0")
        # The API knows the task once a child of the worker is ready.
        self._wait_until(lambda: self._responds("/tasks/crunch"), "the worker's processes to be ready")

    def _responds(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def _start(self, name, *command, **env):
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [str(word) for word in command],
                cwd=self._folder.name,
                env={**self._env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches only this process, which stops the others in their order.
                start_new_session=True,
                preexec_fn=_stop_with_parent,
            )

    def _wait_until(self, is_true, what):
        deadline = time.monotonic() + START_S
        while not is_true():
            self._check()
            if time.monotonic() > deadline:
                name = list(self._processes)[-1]
                raise Failed(f"waited {START_S} s for {what} without success\n\n{self._end_of_log(name)}")
            time.sleep(0.05)

    def _check(self):
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended unexpectedly with code {process.returncode}\n\n{self._end_of_log(name)}")

    def _log(self, name):
        return Path(self._folder.name, f"{name}.log")

    def _end_of_log(self, name):
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES:])

    def _stop(self):
        # Each stops before what it uses.
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()


def _stop_with_parent():
    # In the new process: the kernel stops it when this one ends, even by SIGKILL.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port():
    # Another process could take the port before Redis does. Redis then ends, and so does this program.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _answers_ping(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64) == b"+PONG\r\n"
    except OSError:
        return False


def main():
    binaries, *command = sys.argv[1:]
    # As exceptions, so that the processes are stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with Stack(binaries) as stack:
            if command:
                sys.exit(stack.run(command))
            print(f"The API is at {stack.url}. Ctrl-C stops everything.", flush=True)
            stack.serve()
    except Failed as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
