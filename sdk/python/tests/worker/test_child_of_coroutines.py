"""A child whose tasks are coroutines: several jobs at once, in one event loop."""

from __future__ import annotations

import pytest

from crunch.testing.channel import FakeWorker

from .conftest import Start


def logs_of(worker: FakeWorker, jobs: int) -> dict[str, list[str]]:
    """Receive the answers of that many jobs; return the log lines by job."""
    logs: dict[str, list[str]] = {}
    while jobs:
        message = worker.receive()
        if message.type == "log":
            logs.setdefault(message.members["id"], []).append(message.members["text"])
        elif message.type in ("done", "failed"):
            jobs -= 1
    return logs


@pytest.mark.parametrize(("concurrency", "expected"), [(None, 10), (3, 3), (1, 1), (1024, 1024)])
def test_hello_says_how_many_jobs_run_at_once(
    start: Start, concurrency: int | None, expected: int
) -> None:
    worker = start("coroutines", hello=False, concurrency=concurrency)
    assert worker.receive().members["concurrency"] == expected
    assert worker.run("double", 4).json() == 8


def test_several_jobs_run_at_once(coroutines: FakeWorker) -> None:
    for _ in range(3):
        coroutines.job("meet", 3)
    answers = [coroutines.answer() for _ in range(3)]
    assert sorted(answer.members["id"] for answer in answers) == ["job-1", "job-2", "job-3"]
    assert all(answer.json() == "met" for answer in answers)


def test_many_messages_in_one_write_are_all_taken(coroutines: FakeWorker) -> None:
    for number in range(500):
        coroutines.job("double", number)
    results = {it.members["id"]: it.json() for it in (coroutines.answer() for _ in range(500))}
    assert results == {f"job-{number + 1}": 2 * number for number in range(500)}


def test_a_payload_that_does_not_fit_fails_for_good(coroutines: FakeWorker) -> None:
    error = coroutines.run("double", "x").members["error"]
    assert (error["code"], error["retryable"]) == ("payload_invalid", False)


def test_exceptions_are_retried(coroutines: FakeWorker) -> None:
    assert coroutines.run("raises", "value").members["error"]["code"] == "value_error"
    assert coroutines.run("raises", "timeout").members["error"]["code"] == "timeout_error"


def test_system_exit_ends_the_child(coroutines: FakeWorker) -> None:
    coroutines.job("raises", "exit")
    assert coroutines.at_end()
    assert coroutines.wait() == 3


def test_a_cancel_cancels_the_coroutine(coroutines: FakeWorker) -> None:
    job = coroutines.job("until_canceled")
    coroutines.receive("progress")
    coroutines.cancel(job, reason="timeout")
    log = coroutines.receive("log").members
    assert (log["id"], log["epoch"], log["text"]) == (job, 1, "cleaned up timeout")
    error = coroutines.answer().members["error"]
    assert (error["code"], error["message"]) == ("canceled", "stopped: timeout")


def test_a_cancel_directly_after_the_job_is_answered(coroutines: FakeWorker) -> None:
    line = (
        '{"type":"job","id":"%s","epoch":1,"task":"until_canceled","body":0}\n'
        '{"type":"cancel","id":"%s","epoch":1,"reason":"canceled","grace_ms":1}\n'
    )
    for job in ("a", "b"):
        coroutines.send_bytes((line % (job, job)).encode())
        answer = coroutines.answer()
        assert answer.members["id"] == job
        assert answer.members["error"]["code"] == "canceled"


def test_a_cancel_does_not_touch_other_jobs(coroutines: FakeWorker) -> None:
    first, second = coroutines.job("swallow"), coroutines.job("swallow")
    coroutines.receive("progress")
    coroutines.receive("progress")
    coroutines.cancel(first, epoch=2)
    coroutines.cancel(second)
    answer = coroutines.answer()
    assert (answer.members["id"], answer.json()) == (second, "ready")
    assert coroutines.run("double", 1).json() == 2


def test_a_coroutine_that_computes_is_canceled_when_it_asks(coroutines: FakeWorker) -> None:
    job = coroutines.job("computes_until_canceled")
    coroutines.receive("progress")
    # This one waits until the loop runs again.
    coroutines.job("double", 1)
    coroutines.cancel(job)
    assert coroutines.answer().members["error"]["code"] == "canceled"
    assert coroutines.answer().json() == 2


def test_a_cancel_that_a_coroutine_has_seen_and_ignored_still_cancels_it(
    coroutines: FakeWorker,
) -> None:
    job = coroutines.job("asks_then_waits")
    coroutines.receive("progress")
    coroutines.cancel(job)
    assert coroutines.answer().members["error"]["code"] == "canceled"


def test_progress_of_a_coroutine_is_coalesced(coroutines: FakeWorker) -> None:
    coroutines.job("steps", 20_000)
    reports = []
    while (message := coroutines.receive()).type == "progress":
        reports.append(message.members["progress"])
    assert message.type == "done"
    assert reports[-1] == 1.0
    assert len(reports) < 1000


def test_lines_go_to_the_log_of_their_job(coroutines: FakeWorker) -> None:
    jobs = {coroutines.job("prints", name): name for name in ("a", "b", "c")}
    logs = logs_of(coroutines, 3)
    for job, name in jobs.items():
        assert sorted(logs[job]) == sorted(
            [
                f"{name} on stdout",
                f"{name} on stderr",
                f"WARNING mine: {name} by logging",
                f"{name} by job.log",
                f"{name} in a thread",
                f"{name} without an end",
            ]
        )
    assert coroutines.output == ""


def test_one_job_at_a_time_prints_to_the_descriptors(start: Start) -> None:
    worker = start("coroutines", concurrency=1)
    worker.job("prints", "a")
    assert worker.receive().type == "done"
    output = worker.wait_for_output("a without an end\n")
    assert "a on stdout" in output
    assert "a by job.log" in output
    assert "a in a thread" in output


def test_the_loop_runs_between_jobs(start: Start) -> None:
    worker = start("coroutines", concurrency=1)
    assert worker.run("leaves_a_task_behind").json() == "done"
    worker.wait_for_output("the task that was left behind")


def test_context_variables_of_a_job_do_not_reach_the_next(coroutines: FakeWorker) -> None:
    assert coroutines.run("prints", "a").json() == "none"
    assert coroutines.run("prints", "b").json() == "none"


def test_drain_lets_the_jobs_end(coroutines: FakeWorker) -> None:
    jobs = [coroutines.job("until_canceled"), coroutines.job("until_canceled")]
    coroutines.receive("progress")
    coroutines.receive("progress")
    coroutines.send("drain")
    for job in jobs:
        coroutines.cancel(job)
        assert coroutines.answer().members["id"] == job
    assert coroutines.at_end()
    assert coroutines.wait() == 0


def test_drain_ends_an_idle_child(coroutines: FakeWorker) -> None:
    coroutines.send("drain")
    assert coroutines.wait() == 0
    assert coroutines.output == ""


def test_ping_is_answered(coroutines: FakeWorker) -> None:
    coroutines.send("ping")
    assert coroutines.receive().members == {"type": "pong"}


def test_the_end_of_the_input_cancels_the_jobs(coroutines: FakeWorker) -> None:
    coroutines.job("until_canceled")
    coroutines.receive("progress")
    coroutines.close_input()
    assert coroutines.wait() == 0
    assert "Traceback" not in coroutines.output


def test_sigterm_ends_the_child(coroutines: FakeWorker) -> None:
    coroutines.job("until_canceled")
    coroutines.receive("progress")
    coroutines.terminate()
    assert coroutines.receive("log").members["text"] == "cleaned up shutdown"
    assert coroutines.answer().members["error"]["code"] == "canceled"
    assert coroutines.wait() == 143
    assert "Traceback" not in coroutines.output


def test_a_large_result_goes_by_file(coroutines: FakeWorker) -> None:
    answer = coroutines.run("large", 2_000_000)
    assert answer.members["file"].startswith(str(coroutines.directory))


def test_a_fork_does_not_write_to_the_channel(coroutines: FakeWorker) -> None:
    coroutines.job("forks")
    message = coroutines.receive()
    assert (message.type, message.json()) == ("done", "exit code 7")
    coroutines.wait_for_output("the log of the fork")
    assert coroutines.run("double", 1).json() == 2


def test_a_module_with_a_function_runs_one_job_at_a_time(start: Start) -> None:
    worker = start("mixed", hello=False)
    assert worker.receive().members["concurrency"] == 1
    assert worker.run("double", 2).json() == 4
    assert worker.run("triple", 2).json() == 6
    assert worker.run("runs_a_loop", 2).json() == 6
    for _ in range(2):
        job = worker.job("until_canceled")
        worker.receive("progress")
        worker.send("ping")
        assert worker.receive("pong")
        worker.cancel(job)
        assert worker.answer().members["error"]["code"] == "canceled"
    assert worker.run("double", 2).json() == 4
    worker.job("until_canceled")
    worker.receive("progress")
    worker.close_input()
    assert worker.wait() == 0
    assert worker.output.count("cleaned up") == 3


def test_the_tasks_of_several_modules_run_in_one_child(start: Start) -> None:
    worker = start("mixed", "crunch.check_tasks")
    assert worker.run("triple", 1).json() == 3
    assert worker.run("echo", [1]).json() == [1]
