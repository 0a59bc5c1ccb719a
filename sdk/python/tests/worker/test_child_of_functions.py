"""A child whose tasks are functions: jobs one at a time, in its main thread."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from crunch.testing.channel import FakeWorker

from .conftest import Start


def test_hello_declares_the_tasks_in_the_order_of_their_definition(start: Start) -> None:
    worker = start("functions", hello=False)
    hello = worker.receive()
    assert hello.type == "hello"
    assert hello.members["channel"] == 1
    assert hello.members["concurrency"] == 1
    assert hello.members["sdk"].startswith("python/")
    assert hello.members["features"] == ["file"]
    tasks = hello.json()
    assert [task["name"] for task in tasks][:3] == ["double", "glass", "about"]
    assert tasks[0] == {
        "name": "double",
        "description": "",
        "accepts": ["application/json"],
        "payload_schema": {"type": "integer"},
        "result_schema": {"type": "integer"},
    }


def test_two_children_declare_the_same(start: Start) -> None:
    first, second = start("functions", hello=False), start("functions", hello=False)
    assert first.receive().body == second.receive().body


def test_jobs_are_answered(functions: FakeWorker) -> None:
    answer = functions.run("double", 21)
    assert answer.members == {"type": "done", "id": "job-1", "epoch": 1, "body": 2}
    assert answer.body == b"42"
    assert functions.run("glass", {"size": [1, 2]}).json() == {"size": [1.0, 2.0], "rays": 1000}


def test_the_job_has_what_the_worker_sent(functions: FakeWorker) -> None:
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    answer = functions.run(
        "about", [1], id="0Aq", epoch=7, attempt=2, metadata={"who": "me"}, trace=trace
    )
    assert answer.json() == {
        "id": "0Aq",
        "token": "0Aq",
        "task": "about",
        "attempt": 2,
        "max_attempts": 3,
        "epoch": 7,
        "deadline": "2026-09-21T14:13:20+00:00",
        "metadata": {"who": "me"},
        "trace": trace,
        "content_type": "application/json",
        "canceled": False,
        "reason": None,
        "payload": [1],
    }


@pytest.mark.parametrize(
    ("task", "payload", "reason"),
    [
        ("double", "x", "the payload: expected a whole number, got a string"),
        ("double", 1.5, "the payload: expected a whole number, got a number"),
        ("glass", {"size": [1, "x"]}, "/size/1: expected a number, got a string"),
        ("glass", {"size": [1]}, "/size: expected 2 items, got 1"),
        ("glass", {}, "the payload: the member 'size' is missing"),
        ("glass", {"size": [1, 2], "ray": 1}, "/ray: there is no such member"),
        ("double", b"{", "the payload: is not JSON"),
        ("double", b"NaN", "the payload: is not JSON: NaN"),
        ("double", b"\xff", "the payload: is not UTF-8"),
        ("double", b"[" * 100_000, "the payload: is not JSON"),
        ("double", b"9" * 5000, "the payload: is not JSON"),
        ("double", b"", "the payload: expected a whole number, got null"),
    ],
)
def test_a_payload_that_does_not_fit_fails_for_good(
    functions: FakeWorker, task: str, payload: Any, reason: str
) -> None:
    answer = functions.run(task, payload)
    assert answer.type == "failed"
    error = answer.members["error"]
    assert (error["code"], error["retryable"]) == ("payload_invalid", False)
    assert error["message"].startswith(reason)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("retry", {"code": "busy", "message": "later", "retryable": True, "after_ms": 30_000}),
        ("fail", {"code": "no_light", "message": "no ray met the slab", "retryable": False}),
        ("machine", {"message": "/srv/out is read-only", "machine": True}),
        ("snooze", {"snooze_ms": 60_000}),
    ],
)
def test_a_handler_says_how_its_job_ends(
    functions: FakeWorker, name: str, error: dict[str, Any]
) -> None:
    answer = functions.run("raises", name)
    assert answer.members["error"] == error


def test_other_exceptions_are_retried_with_the_end_of_their_trace(functions: FakeWorker) -> None:
    error = functions.run("raises", "value").members["error"]
    assert (error["code"], error["retryable"]) == ("value_error", True)
    assert len(error["message"].encode()) <= 4096
    assert error["message"].endswith("ää")
    assert functions.run("raises", "memory").members["error"]["code"] == "out_of_memory"


def test_a_trace_begins_in_the_handler(functions: FakeWorker) -> None:
    message = functions.run("not_a_number").members["error"]["message"]
    assert "Out of range float values are not JSON compliant" in message
    message = functions.run("raises", "memory").members["error"]["message"]
    assert message.startswith("Traceback")
    assert "functions.py" in message.splitlines()[1]


@pytest.mark.parametrize(("name", "code"), [("exit", 3), ("_exit", 4), ("interrupt", 130)])
def test_what_ends_the_process_ends_the_child(functions: FakeWorker, name: str, code: int) -> None:
    functions.job("raises", name)
    assert functions.at_end()
    assert functions.wait() == code


def test_a_crash_in_c_ends_the_child(functions: FakeWorker) -> None:
    functions.job("crashes")
    assert functions.at_end()
    assert functions.wait() == -signal.SIGSEGV
    assert "Segmentation fault" in functions.output
    assert "in crashes" in functions.output


def test_a_task_that_the_child_does_not_have_fails(functions: FakeWorker) -> None:
    error = functions.run("nonexistent").members["error"]
    assert error["code"] == "lookup_error"
    assert "this child has no task 'nonexistent'" in error["message"]


# Results


def test_bytes_go_as_they_are(functions: FakeWorker) -> None:
    answer = functions.run("large", 1024 * 1024)
    assert answer.body == b"x" * 1024 * 1024
    assert functions.run("large", 0).members["body"] == 0


def test_a_large_result_goes_by_file(functions: FakeWorker) -> None:
    answer = functions.run("large", 1024 * 1024 + 1)
    file = Path(answer.members["file"])
    assert "body" not in answer.members
    assert file.parent == functions.directory
    assert file.stat().st_size == 1024 * 1024 + 1


def test_a_large_result_goes_as_a_message_if_no_file_can_be_written(start: Start) -> None:
    worker = start("functions")
    worker.directory.rmdir()
    assert len(worker.run("large", 5_000_000).body) == 5_000_000
    worker.directory.mkdir()


def test_a_result_that_no_worker_would_take_is_not_sent(functions: FakeWorker) -> None:
    error = functions.run("large", 64 * 1024 * 1024 + 1).members["error"]
    assert (error["code"], error["retryable"]) == ("result_too_large", False)
    assert list(functions.directory.iterdir()) == []


def test_a_path_in_the_directory_is_sent_as_it_is(functions: FakeWorker) -> None:
    answer = functions.run("path_in_directory", "text")
    assert answer.members["file"] == str(functions.directory / "answer.txt")
    assert answer.members["content_type"] == "text/plain"


def test_other_paths_are_copied(functions: FakeWorker, tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large"
    small.write_bytes(b"small")
    large.write_bytes(b"x" * 2_000_000)
    answer = functions.run("path_of", str(small))
    assert (answer.body, answer.members["content_type"]) == (b"small", "image/png")
    answer = functions.run("path_of", str(large))
    copy = Path(answer.members["file"])
    assert (copy.parent, copy.stat().st_size) == (functions.directory, 2_000_000)
    assert answer.members["content_type"] == "application/octet-stream"
    assert small.exists()
    assert large.exists()


def test_a_link_in_the_directory_does_not_lead_out_of_it(
    functions: FakeWorker, tmp_path: Path
) -> None:
    target = tmp_path / "target.txt"
    target.write_text("outside")
    link = functions.directory / "link.txt"
    link.symlink_to(target)
    assert functions.run("path_of", str(link)).body == b"outside"


def test_a_path_that_is_missing_fails(functions: FakeWorker) -> None:
    error = functions.run("path_of", "/nonexistent").members["error"]
    assert (error["code"], error["retryable"]) == ("result_invalid", False)


def test_a_result_has_its_content_type(functions: FakeWorker) -> None:
    answer = functions.run("picture")
    assert (answer.members["content_type"], answer.body) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize("task", ["surrogate", "not_a_number"])
def test_a_result_that_is_not_json_fails_for_good(functions: FakeWorker, task: str) -> None:
    error = functions.run(task).members["error"]
    assert (error["code"], error["retryable"]) == ("result_invalid", False)


# Payloads


def test_a_large_payload_is_read_from_a_file(functions: FakeWorker, tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b"x" * 3_000_000)
    kind = "application/octet-stream"
    for task in ("size_of", "size_of_view"):
        assert functions.run(task, file=str(file), content_type=kind).json() == 3_000_000
    file.write_bytes(b"")
    assert functions.run("size_of_view", file=str(file), content_type=kind).json() == 0
    file.write_text(json.dumps(21))
    assert functions.run("double", file=str(file)).json() == 42
    assert file.exists()


def test_a_large_payload_in_a_message_is_read(functions: FakeWorker) -> None:
    kind = "application/octet-stream"
    for size in (0, 1, 65_535, 65_536, 3_000_000):
        assert functions.run("size_of", b"x" * size, content_type=kind).json() == size


def test_a_payload_of_a_type_that_the_function_does_not_take_is_rejected(
    functions: FakeWorker,
) -> None:
    """The file of tasks may let a task accept more than the child declares."""
    for task in ("glass", "double"):
        error = functions.run(task, b"1", content_type="text/csv").members["error"]
        assert error["code"] == "payload_invalid"
        assert "is text/csv, but the function takes application/json" in error["message"]


# Progress


def newest_of(worker: FakeWorker) -> tuple[int, list[tuple[float, str]]]:
    """Returns how many reports came before the answer, and the reports."""
    reports: list[tuple[float, str]] = []
    while (message := worker.receive("progress", "done", "failed")).type == "progress":
        reports.append((message.members["progress"], message.members.get("message", "")))
    assert message.type == "done", message
    return len(reports), reports


def test_progress_is_coalesced_and_the_newest_comes_before_the_answer(
    functions: FakeWorker,
) -> None:
    functions.job("steps", 100_000)
    count, reports = newest_of(functions)
    assert reports[-1] == (1.0, "step 100000")
    assert reports == sorted(reports)
    assert count < 1000


def test_progress_is_reported_even_if_the_handler_is_silent_afterwards(
    functions: FakeWorker,
) -> None:
    functions.job("silent_after_progress")
    assert functions.receive("progress").members["message"] == "first"
    assert functions.receive("progress").members["message"] == "second"
    (functions.directory / "go").touch()
    assert functions.answer().type == "done"


def test_text_that_is_not_utf8_is_still_a_message(functions: FakeWorker) -> None:
    functions.job("logs_surrogate")
    assert functions.receive("progress").members["message"] == "? is not UTF-8"
    assert functions.answer().type == "done"
    functions.wait_for_output("\\udc80 is not UTF-8")


# Being stopped


@pytest.mark.parametrize("reason", ["canceled", "timeout", "shutdown"])
def test_a_cancel_is_raised_when_the_handler_asks(functions: FakeWorker, reason: str) -> None:
    job = functions.job("until_canceled")
    functions.receive("progress")
    functions.cancel(job, reason=reason)
    answer = functions.answer()
    assert answer.members["error"]["code"] == "canceled"
    assert reason in answer.members["error"]["message"]
    functions.wait_for_output("cleaned up")
    assert functions.run("double", 1).json() == 2


def test_a_cancel_is_seen_by_threads_of_the_handler(functions: FakeWorker) -> None:
    job = functions.job("until_canceled_in_thread")
    functions.receive("progress")
    functions.cancel(job, reason="timeout")
    assert functions.answer().json() == "timeout"


def test_a_result_that_is_ready_is_sent_in_spite_of_a_cancel(functions: FakeWorker) -> None:
    job = functions.job("swallow")
    functions.receive("progress")
    functions.cancel(job)
    assert functions.answer().json() == "ready"


def test_sigterm_stops_a_handler_that_does_not_ask(functions: FakeWorker) -> None:
    job = functions.job("sleep")
    functions.receive("progress")
    functions.cancel(job)
    functions.terminate()
    error = functions.answer().members["error"]
    assert error["code"] == "canceled"
    assert functions.wait() == 143
    assert "cleaned up" in functions.output


def test_sigterm_ends_an_idle_child(functions: FakeWorker) -> None:
    assert functions.run("double", 1).json() == 2
    functions.terminate()
    assert functions.wait() == 143
    assert "Traceback" not in functions.output


def test_a_cancel_of_another_job_or_epoch_is_ignored(functions: FakeWorker) -> None:
    functions.cancel("nonexistent")
    job = functions.job("until_canceled")
    functions.receive("progress")
    functions.cancel("nonexistent")
    functions.cancel(job, epoch=2)
    functions.cancel(job, reason="shutdown")
    assert "shutdown" in functions.answer().members["error"]["message"]


def test_drain_ends_an_idle_child(functions: FakeWorker) -> None:
    functions.send("drain")
    assert functions.at_end()
    assert functions.wait() == 0


def test_drain_lets_the_job_end(functions: FakeWorker) -> None:
    job = functions.job("until_canceled")
    functions.receive("progress")
    functions.send("drain")
    functions.cancel(job)
    assert functions.answer().type == "failed"
    assert functions.at_end()
    assert functions.wait() == 0


def test_the_end_of_the_input_ends_an_idle_child(functions: FakeWorker) -> None:
    functions.close_input()
    assert functions.at_end()
    assert functions.wait() == 0
    assert functions.output == ""


def test_the_end_of_the_input_stops_the_job(functions: FakeWorker) -> None:
    functions.job("until_canceled")
    functions.receive("progress")
    functions.close_input()
    functions.wait_for_output("cleaned up")
    assert functions.wait() == 0


def test_ping_is_answered(functions: FakeWorker) -> None:
    for _ in range(3):
        functions.send("ping")
        assert functions.receive().members == {"type": "pong"}
    job = functions.job("until_canceled")
    functions.receive("progress")
    functions.send("ping")
    assert functions.receive("pong")
    functions.cancel(job)
    assert functions.answer().type == "failed"


# Processes that handlers start


def test_programs_inherit_nothing_of_the_channel(functions: FakeWorker) -> None:
    seen = functions.run("subprocess_sees").json()
    assert "CRUNCH_DIR" in seen["variables"]
    assert not {"CRUNCH_IN_FD", "CRUNCH_OUT_FD"} & set(seen["variables"])
    # The one with which it lists its descriptors.
    assert len(seen["descriptors"]) <= 1


@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("exits", 7)])
def test_a_fork_does_not_answer(functions: FakeWorker, how: str, code: int) -> None:
    functions.job("forks", how)
    message = functions.receive()
    assert message.type == "done", message
    assert message.json() == f"exit code {code}"
    functions.wait_for_output("the log of the fork")
    assert functions.run("double", 1).json() == 2


def test_a_fork_does_not_keep_the_channel_open(functions: FakeWorker) -> None:
    fork = functions.run("fork_lives_on").json()
    try:
        functions.send("drain")
        assert functions.at_end()
        os.kill(fork, 0)
    finally:
        os.kill(fork, signal.SIGKILL)
    assert functions.wait() == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works(functions: FakeWorker, method: str) -> None:
    answer = functions.run("multiprocesses", method)
    assert answer.type == "done", answer
    assert answer.json() == [1, 4, 9]
    assert functions.run("double", 1).json() == 2


def test_a_forked_process_reacts_to_sigterm_as_usual(functions: FakeWorker) -> None:
    assert functions.run("terminates_a_process").json() == -signal.SIGTERM


# Prints


def test_prints_and_logging_reach_the_worker_before_the_answer(functions: FakeWorker) -> None:
    assert functions.run("prints", "Text").type == "done"
    output = functions.wait_for_output("Text without an end\n")
    for line in (
        "Text on stdout",
        "Text on stderr",
        "INFO mine: Text by logging",
        "Text by job.log",
    ):
        assert line in output
    assert "is not shown" not in output


def test_bytes_from_c_do_not_disturb_the_channel(functions: FakeWorker) -> None:
    assert functions.run("writes_bytes_from_c").type == "done"
    functions.wait_for_output("by puts")
    assert functions.run("double", 1).json() == 2


@pytest.mark.parametrize("task", ["redirects_stdout", "closes_stdout"])
def test_a_handler_may_ruin_its_standard_output(functions: FakeWorker, task: str) -> None:
    assert functions.run(task).json() == "fine"
    assert functions.run("double", 1).json() == 2


def test_a_thousand_jobs_keep_memory_flat(functions: FakeWorker) -> None:
    payload = {"text": "x" * 10_000}
    for _ in range(200):
        functions.run("memory", payload)
    before = functions.run("memory", payload).json()
    for _ in range(1000):
        functions.run("memory", payload)
    after = functions.run("memory", payload).json()
    # A leak of one payload per job would be 2500 pages.
    assert after - before < 500
