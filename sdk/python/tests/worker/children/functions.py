"""Tasks that are functions: their child runs one job at a time."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crunch


@dataclass
class Slab:
    """A piece of glass."""

    size: tuple[float, float]
    rays: int = 1000


@crunch.task
def double(number: int) -> int:
    return 2 * number


@crunch.task
def glass(slab: Slab) -> Slab:
    return slab


@crunch.task
def about(payload: Any, job: crunch.Job) -> Mapping[str, Any]:
    assert crunch.current_job() is job
    return {
        "id": job.id,
        "token": job.token,
        "task": job.task,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "epoch": job.epoch,
        "deadline": job.deadline,
        "metadata": job.metadata,
        "trace": job.trace,
        "content_type": job.content_type,
        "canceled": job.canceled,
        "reason": job.cancel_reason,
        "payload": payload,
    }


@crunch.task(accepts="application/octet-stream")
def size_of(data: bytes) -> int:
    return len(data)


@crunch.task(accepts="application/octet-stream")
def size_of_view(data: memoryview) -> int:
    return len(data)


@crunch.task
def large(size: int) -> bytes:
    return b"x" * size


@crunch.task
def path_of(where: str) -> Path:
    return Path(where)


@crunch.task
def path_in_directory(text: str) -> Path:
    path = Path(os.environ["CRUNCH_DIR"]) / "answer.txt"
    path.write_text(text)
    return path


@crunch.task
def picture() -> crunch.Result:
    return crunch.Result(b"\x89PNG", "image/png")


@crunch.task
def raises(name: str) -> None:
    if name == "retry":
        raise crunch.Retry("later", in_="30s", code="busy")
    if name == "fail":
        raise crunch.Fail("no_light", "no ray met the slab")
    if name == "machine":
        raise crunch.MachineFault("/srv/out is read-only")
    if name == "snooze":
        raise crunch.Snooze("1m")
    if name == "memory":
        raise MemoryError
    if name == "exit":
        sys.exit(3)
    if name == "_exit":
        os._exit(4)
    if name == "interrupt":
        raise KeyboardInterrupt
    raise ValueError("wrong: " + "ä" * 5000)


@crunch.task
def steps(count: int, job: crunch.Job) -> None:
    for step in range(count):
        job.progress((step + 1) / count, f"step {step + 1}")


@crunch.task
def silent_after_progress(job: crunch.Job) -> None:
    """Reports twice at once, then waits for the file `go`."""
    job.progress(0.25, "first")
    job.progress(0.5, "second")
    go = Path(os.environ["CRUNCH_DIR"]) / "go"
    while not go.exists():
        time.sleep(0.01)


@crunch.task
def until_canceled(job: crunch.Job) -> str:
    job.progress(0.0, "running")
    try:
        while True:
            job.check()
            time.sleep(0.01)
    finally:
        print("cleaned up")


@crunch.task
def until_canceled_in_thread(job: crunch.Job) -> str | None:
    seen: list[str | None] = []

    def watch() -> None:
        while not job.canceled:
            time.sleep(0.01)
        seen.append(job.cancel_reason)

    job.progress(0.0, "running")
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    return seen[0]


@crunch.task
def sleep(job: crunch.Job) -> None:
    """Never asks whether it is canceled."""
    try:
        job.progress(0.0, "running")
        time.sleep(600)
    finally:
        print("cleaned up")


@crunch.task
def swallow(job: crunch.Job) -> str:
    """Has a result in spite of a cancel."""
    job.progress(0.0, "running")
    while not job.canceled:
        time.sleep(0.01)
    return "ready"


@crunch.task
def prints(text: str, job: crunch.Job) -> None:
    print(text, "on stdout")
    print(text, "on stderr", file=sys.stderr)
    logging.getLogger("mine").info("%s by logging", text)
    logging.getLogger("mine").debug("%s is not shown", text)
    job.log("%s by %s", text, "job.log")
    print(text, "without an end", end="")


@crunch.task
def writes_bytes_from_c() -> None:
    os.write(1, b'\x00\xff{"type":"done"}\n')
    libc = ctypes.CDLL(None)
    libc.puts(b"by puts")
    libc.fflush(None)


@crunch.task
def crashes() -> None:
    ctypes.string_at(0)


@crunch.task
def redirects_stdout() -> str:
    """Takes the descriptors 1 and 2 for a file of its own, as badly behaved libraries do."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return "fine"


@crunch.task
def closes_stdout(job: crunch.Job) -> str:
    sys.stdout.close()
    sys.stderr.close()
    job.log("nobody can read this")
    return "fine"


def _variables_and_descriptors() -> tuple[list[str], list[str]]:
    code = "import os; print(*os.listdir('/proc/self/fd')); print(*os.environ)"
    printed = subprocess.check_output([sys.executable, "-c", code], close_fds=False, text=True)
    descriptors, variables = printed.splitlines()
    return variables.split(), [it for it in descriptors.split() if int(it) > 2]


@crunch.task
def subprocess_sees() -> dict[str, list[str]]:
    variables, descriptors = _variables_and_descriptors()
    return {"variables": variables, "descriptors": descriptors}


@crunch.task
def forks(how: str, job: crunch.Job) -> str:
    child = os.fork()
    if child == 0:
        job.progress(0.9, "from the fork")
        job.log("the log of the fork")
        if how == "returns":
            return "from the fork"
        if how == "raises":
            raise ValueError("from the fork")
        if how == "exits":
            sys.exit(7)
    _, status = os.waitpid(child, 0)
    return f"exit code {os.waitstatus_to_exitcode(status)}"


@crunch.task
def fork_lives_on() -> int:
    """Leaves a process behind, which must not keep the channel open."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    return child


def _square(number: int) -> int:
    return number * number


def _in_other_process(queue: Any, job: crunch.Job) -> None:
    job.progress(0.5)
    queue.put(os.getpid())


@crunch.task
def multiprocesses(method: str, job: crunch.Job) -> list[int]:
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        return pool.map(_square, [1, 2, 3])


@crunch.task
def terminates_a_process() -> int | None:
    """A forked process has the default reaction to SIGTERM."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


@crunch.task
def memory(payload: Any) -> int:
    """Returns the resident set of this process in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@crunch.task
def surrogate() -> str:
    return "\udc80"


@crunch.task
def logs_surrogate(job: crunch.Job) -> None:
    job.log("\udc80 is not UTF-8")
    job.progress(0.5, "\udc80 is not UTF-8")


@crunch.task
def not_a_number() -> float:
    return float("nan")
