"""The child's side of the channel, on pipes of this process."""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from crunch.testing.channel import DEADLINE
from crunch.worker.channel import Channel, WorkerGoneError
from crunch.worker.job import Job, Observer


class Pipes:
    """Both pipes, and what the worker reads."""

    def __init__(self) -> None:
        child_in, self.to_child = os.pipe()
        self.from_child, child_out = os.pipe()
        self.all = [child_in, self.to_child, self.from_child, child_out]
        self.out = child_out
        self.channel = Channel(child_in, child_out)
        self.read = b""

    def job(self, name: str = "a") -> Job:
        observer: Observer = _Observer()
        return Job(observer, {"id": name, "epoch": 1, "task": "t"})

    def fill(self) -> int:
        """Fills the pipe to the worker; returns how much is in it."""
        os.set_blocking(self.out, False)
        written = 0
        with suppress(BlockingIOError):
            while True:
                written += os.write(self.out, b"x" * 4096)
        os.set_blocking(self.out, True)
        return written

    def lines(self, count: int) -> list[dict[str, Any]]:
        """Waits for so many lines."""
        while self.read.count(b"\n") < count:
            assert select.select([self.from_child], [], [], DEADLINE)[0], self.read
            self.read += os.read(self.from_child, 65536)
        *lines, self.read = self.read.split(b"\n", count)
        return [json.loads(line) for line in lines]

    def is_silent(self) -> bool:
        return not self.read and not select.select([self.from_child], [], [], 0)[0]


class _Observer:
    def stop_reason(self, job: Job) -> str | None:
        return None

    def progress(self, job: Job, fraction: float, message: str) -> None: ...

    def log(self, job: Job, text: str) -> None: ...


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    for fd in pipes.all:
        with suppress(OSError):
            os.close(fd)


def test_progress_does_not_wait_for_a_full_pipe(pipes: Pipes) -> None:
    job = pipes.job()
    filled = pipes.fill()
    reporting = threading.Thread(
        target=lambda: [pipes.channel.progress(job, n / 10, f"step {n}") for n in range(11)],
        daemon=True,
    )
    reporting.start()
    reporting.join(DEADLINE)
    assert not reporting.is_alive()
    while filled:
        filled -= len(os.read(pipes.from_child, min(filled, 65536)))
    # The newest arrives as soon as there is room.
    (line,) = pipes.lines(1)
    assert (line["type"], line["progress"], line["message"]) == ("progress", 1.0, "step 10")


def test_nothing_is_reported_after_the_answer(pipes: Pipes) -> None:
    job = pipes.job()
    pipes.channel.answer(job, b'{"type":"done"}\n')
    assert pipes.lines(1) == [{"type": "done"}]
    pipes.channel.progress(job, 0.5, "late")
    pipes.channel.log(job, "late")
    assert pipes.is_silent()


def test_the_newest_progress_comes_before_the_answer(pipes: Pipes) -> None:
    job = pipes.job()
    for number in range(5):
        pipes.channel.progress(job, number / 4, "")
    pipes.channel.answer(job, b'{"type":"done"}\n')
    first, second, answer = pipes.lines(3)
    assert (first["progress"], second["progress"]) == (0.0, 1.0)
    assert "message" not in first
    assert answer == {"type": "done"}
    assert pipes.is_silent()


def test_a_long_message_of_progress_is_cut(pipes: Pipes) -> None:
    pipes.channel.progress(pipes.job(), 0.5, "\x00" * 100_000)
    (line,) = pipes.lines(1)
    assert line["message"] == "\x00" * 512
    assert len(json.dumps(line)) < select.PIPE_BUF


def test_a_long_log_is_sent_in_parts_that_fit_into_lines(pipes: Pipes) -> None:
    text = "\x00" * 20_000
    job = pipes.job()
    writing = threading.Thread(target=pipes.channel.log, args=(job, text))
    writing.start()
    lines = pipes.lines(3)
    writing.join(DEADLINE)
    assert "".join(line["text"] for line in lines) == text
    assert all(len(json.dumps(line)) < 64 * 1024 for line in lines)


def test_messages_of_several_threads_are_not_mixed(pipes: Pipes) -> None:
    jobs = [pipes.job(str(number)) for number in range(4)]

    def write(job: Job) -> None:
        for number in range(100):
            pipes.channel.log(job, f"{job.id}:{number}:" + job.id * 3000)
            pipes.channel.progress(job, number / 100, job.id)
        pipes.channel.answer(job, b'{"type":"done","id":"%s"}\n' % job.id.encode())

    threads = [threading.Thread(target=write, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    seen: dict[str, int] = {}
    done: set[str] = set()
    while len(done) < len(jobs):
        (line,) = pipes.lines(1)
        if line["type"] == "log":
            name, number, text = line["text"].split(":")
            assert int(number) == seen.get(name, -1) + 1
            assert text == name * 3000
            seen[name] = int(number)
        elif line["type"] == "done":
            done.add(line["id"])
        assert line["id"] not in done or line["type"] == "done"
    for thread in threads:
        thread.join(DEADLINE)


def test_a_worker_that_is_gone_is_seen(pipes: Pipes) -> None:
    os.close(pipes.from_child)
    with pytest.raises(WorkerGoneError):
        pipes.channel.send({"type": "pong"})
    with pytest.raises(WorkerGoneError):
        pipes.channel.progress(pipes.job(), 0.5, "")
    os.close(pipes.to_child)
    with pytest.raises(WorkerGoneError):
        pipes.channel.receive()


def test_descriptors_are_not_inherited(pipes: Pipes) -> None:
    assert not os.get_inheritable(pipes.channel.in_fd)
    assert not os.get_inheritable(pipes.out)
