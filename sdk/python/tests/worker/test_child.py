"""What all children have in common: how they start, and what they do if that is impossible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crunch.testing.channel import FakeWorker

from .conftest import CHILDREN, Start


def reason_of(worker: FakeWorker) -> str:
    """Returns the reason of the bye that came instead of a hello."""
    bye = worker.receive()
    assert bye.type == "bye", bye
    assert worker.at_end()
    assert worker.wait() == 1
    reason = str(bye.members["reason"])
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nonexistent", "ModuleNotFoundError: No module named 'nonexistent'"),
        ("def", "SyntaxError: "),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("x = 1", "ValueError: module 'module' has no task: decorate a function"),
        (
            "import crunch\n@crunch.task\ndef f(x: complex): ...",
            "TypeError: task 'f': parameter 'x': complex cannot be read from JSON",
        ),
        (
            "import crunch\n@crunch.task('a')\ndef f(): ...\n@crunch.task('a')\ndef g(): ...",
            "ValueError: task 'a' is declared twice: by module.f and by module.g",
        ),
        ("import crunch\n@crunch.task(timeout='1')\ndef f(): ...", "ValueError: timeout: '1'"),
    ],
)
def test_a_module_that_cannot_be_used_is_the_reason_of_the_bye(
    start: Start, tmp_path: Path, code: str, reason: str
) -> None:
    (tmp_path / "module.py").write_text(code)
    worker = start("module", hello=False, cwd=tmp_path)
    assert reason_of(worker).startswith(reason)
    assert "Traceback" in worker.output or "SystemExit" in worker.output


def test_a_module_that_is_missing_is_the_reason_of_the_bye(start: Start) -> None:
    reason = reason_of(start("nonexistent", hello=False))
    assert reason == "ModuleNotFoundError: No module named 'nonexistent'"


def test_the_file_of_a_module_is_not_its_name(start: Start) -> None:
    reason = reason_of(start("mytasks.py", hello=False))
    assert reason == "ValueError: name the module, not its file: mytasks"


def test_no_module_at_all_is_the_reason_of_the_bye(start: Start) -> None:
    reason = reason_of(start(hello=False))
    assert reason == "ValueError: no module is named: python -m crunch MODULE"


@pytest.mark.parametrize("concurrency", ["0", "1025", "many", "-1", "²"])
def test_a_wrong_concurrency_is_the_reason_of_the_bye(start: Start, concurrency: str) -> None:
    worker = start("coroutines", hello=False, env={"CRUNCH_CONCURRENCY": concurrency})
    assert f"CRUNCH_CONCURRENCY: {concurrency!r} is not from 1 to 1024" in reason_of(worker)


def test_tasks_of_submodules_are_tasks_of_the_package(start: Start, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    task = "import crunch\n@crunch.task\ndef {}(): ...\n"
    (package / "__init__.py").write_text("from . import inner\nfrom other import shared\n")
    (package / "inner.py").write_text(task.format("hidden"))
    (tmp_path / "other.py").write_text(task.format("shared") + task.format("elsewhere")[14:])
    worker = start("package", hello=False, cwd=tmp_path)
    assert [it["name"] for it in worker.receive().json()] == ["hidden", "shared"]


@pytest.mark.parametrize("module", ["functions", "coroutines"])
@pytest.mark.parametrize(
    "line",
    [b"hello\n", b"[]\n", b'{"type":"job","body":-1}\n', b'{"type":"job","task":"double"}\n'],
)
def test_what_is_no_message_ends_the_child_with_a_reason(
    start: Start, module: str, line: bytes
) -> None:
    worker = start(module)
    worker.send_bytes(line)
    assert reason_of(worker).startswith("the worker sent a ")


@pytest.mark.parametrize("module", ["functions", "coroutines"])
def test_messages_of_later_versions_are_ignored(start: Start, module: str) -> None:
    worker = start(module)
    worker.send("later", body=b"x" * 200_000, id="a")
    worker.send("later")
    worker.send("bye")
    worker.send("hello", channel=1, body=b"later")
    answer = worker.run("double", 2, priority="high", later={"a": [1]})
    assert answer.json() == 4


@pytest.mark.parametrize("module", ["functions", "coroutines"])
def test_half_a_message_at_the_end_of_the_input_is_dropped(start: Start, module: str) -> None:
    worker = start(module)
    worker.send_bytes(b'{"type":"job","id":"a","epoch":1,"task":"double","body":5}\n1')
    worker.close_input()
    assert worker.at_end()
    assert worker.wait() == 0


@pytest.mark.parametrize("module", ["functions", "coroutines"])
def test_messages_may_arrive_byte_by_byte(start: Start, module: str) -> None:
    worker = start(module)
    line = b'{"type":"job","id":"a","epoch":1,"task":"double","body":3}\n 21{"type":"ping"}\n'
    for at in range(len(line)):
        worker.send_bytes(line[at : at + 1])
    assert sorted([worker.receive().type, worker.receive().type]) == ["done", "pong"]


def test_a_worker_of_another_channel_is_refused(start: Start) -> None:
    worker = start("functions", hello=False)
    worker.receive("hello")
    worker.send("hello", channel=2)
    assert reason_of(worker) == "the worker sent a hello of channel 2, not 1"


def test_the_tasks_of_the_conformance_check_do_what_they_should(start: Start) -> None:
    worker = start("crunch.check_tasks")
    for payload in (b"null", b'{"a": [1.50]}', b'"\\u00e4"'):
        answer = worker.run("echo", payload)
        assert answer.body == payload
        assert "content_type" not in answer.members
    error = worker.run("fail").members["error"]
    assert (error["code"], error["retryable"]) == ("on_purpose", False)
    worker.run("log", "a line")
    worker.wait_for_output('"a line"\n')
    job = worker.job("wait")
    assert 0 <= worker.receive("progress").members["progress"] < 1
    worker.cancel(job)
    assert worker.answer().members["error"]["code"] == "canceled"


@pytest.mark.parametrize(("in_fd", "out_fd"), [("77", "78"), ("x", "1"), ("", ""), ("0", "-1")])
def test_wrong_descriptors_are_explained(in_fd: str, out_fd: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "crunch", "functions"],
        env={**os.environ, "CRUNCH_IN_FD": in_fd, "CRUNCH_OUT_FD": out_fd},
        cwd=CHILDREN,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert finished.returncode == 1
    assert "CRUNCH_IN_FD and CRUNCH_OUT_FD are not two open descriptors" in finished.stderr
