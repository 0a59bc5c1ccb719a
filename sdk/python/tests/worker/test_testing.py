"""`crunch.testing.run`: one attempt in this process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest

import crunch
from crunch.testing import Progress, run, run_async


@crunch.task
def steps(count: int, job: crunch.Job) -> int:
    for step in range(count):
        job.progress((step + 1) / count, f"step {step + 1}")
    return count


def test_a_function_without_the_decorator_is_named() -> None:
    def plain() -> None: ...

    with pytest.raises(TypeError, match=r"plain is not a task: decorate it with @crunch\.task"):
        run(plain)  # type: ignore[arg-type]


def test_result_progress_and_logs_are_reported() -> None:
    @crunch.task
    def task(job: crunch.Job) -> str:
        job.progress(0.5, "half")
        job.progress(1)
        job.log("%d of %d", 1, 2)
        job.log("100 %")
        print("printed")
        print("two\nlines", file=sys.stderr)
        logging.getLogger("mine").info("logged")
        logging.getLogger("mine").debug("not shown")
        print("no end", end="")
        return "done"

    report = run(task)
    assert (report.status, report.result, report.error) == ("succeeded", "done", None)
    assert report.progress == [Progress(0.5, "half"), Progress(1.0, "")]
    expected = ["1 of 2", "100 %", "printed", "two", "lines", "INFO mine: logged", "no end"]
    assert report.logs == expected


def test_prints_are_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    @crunch.task
    def task() -> None:
        print("printed")

    before = sys.stdout
    run(task)
    assert sys.stdout is before
    assert capsys.readouterr().out == "printed\n"


@pytest.mark.parametrize(
    ("error", "attempt", "status", "code"),
    [
        (ValueError("x"), 1, "retried", "value_error"),
        (ValueError("x"), 3, "failed", "value_error"),
        (crunch.Retry("later"), 1, "retried", "task_failed"),
        (crunch.Fail("no_light", "dark"), 1, "failed", "no_light"),
        (crunch.MachineFault("no device"), 3, "released", "machine"),
        (crunch.Canceled(), 1, "failed", "canceled"),
    ],
)
def test_exceptions_end_an_attempt_as_in_a_worker(
    error: BaseException, attempt: int, status: str, code: str
) -> None:
    @crunch.task
    def task() -> None:
        raise error

    @crunch.task("task")
    async def coroutine() -> None:
        raise error

    for it in (task, coroutine):
        report = run(it, attempt=attempt)
        assert report.error is not None
        assert (report.status, report.error.code) == (status, code)
        assert report.result is None


def test_a_job_that_is_put_off_has_not_failed() -> None:
    @crunch.task
    def task() -> None:
        raise crunch.Snooze("30s")

    report = run(task, attempt=3)
    assert (report.status, report.snooze_ms, report.error) == ("snoozed", 30_000, None)


def test_when_to_try_again_is_reported() -> None:
    @crunch.task
    def task() -> None:
        raise crunch.Retry("later", in_="30s", code="busy")

    error = run(task).error
    assert error is not None
    assert (error.code, error.message, error.after_ms) == ("busy", "later", 30_000)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_a_process_ends_the_test(error: BaseException) -> None:
    @crunch.task
    def task() -> None:
        raise error

    @crunch.task("task")
    async def coroutine() -> None:
        raise error

    with pytest.raises(type(error)):
        run(task)
    with pytest.raises(type(error)):
        run(coroutine)


def test_the_job_is_that_of_an_attempt() -> None:
    @crunch.task(timeout="1h", max_attempts=7)
    def task(job: crunch.Job) -> Any:
        assert crunch.current_job() is job
        assert job.deadline is not None
        left = job.deadline.timestamp() - time.time()
        return [job.task, job.attempt, job.max_attempts, job.metadata, 3500 < left < 3700]

    report = run(task, attempt=2, metadata={"who": "me"})
    assert report.result == ["task", 2, 7, {"who": "me"}, True]
    assert crunch.current_job() is None


def test_epochs_grow() -> None:
    @crunch.task
    def task(job: crunch.Job) -> int:
        return job.epoch

    assert run(task).result < run(task).result


def test_a_function_is_canceled_when_it_asks() -> None:
    @crunch.task
    def forever(job: crunch.Job) -> None:
        while True:
            job.progress(0.5)

    report = run(forever, cancel_after=0.01)
    assert report.status == "canceled"
    assert report.progress
    assert run(steps, 3, cancel_after=0).status == "canceled"


def test_a_coroutine_is_canceled() -> None:
    @crunch.task
    async def forever(job: crunch.Job) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            print(job.cancel_reason)

    report = run(forever, cancel_after=0.01)
    assert (report.status, report.logs) == ("canceled", ["canceled"])


def test_a_result_that_is_ready_wins_over_a_cancel() -> None:
    @crunch.task
    async def ready() -> str:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            return "ready"
        return "slept"

    assert run(ready, cancel_after=0.01).result == "ready"


def test_a_handler_that_cancels_itself_is_retried() -> None:
    @crunch.task
    async def task() -> None:
        raise asyncio.CancelledError

    report = run(task)
    assert report.error is not None
    assert (report.status, report.error.code) == ("retried", "cancelled_error")


def test_attempts_run_in_the_loop_of_the_test() -> None:
    @crunch.task
    async def task(name: str) -> str:
        print(name)
        await asyncio.sleep(0)
        print(name)
        return name

    async def test() -> None:
        before = sys.stdout
        reports = await asyncio.gather(*(run_async(task, name) for name in "abc"))
        assert [report.result for report in reports] == ["a", "b", "c"]
        assert [report.logs for report in reports] == [["a", "a"], ["b", "b"], ["c", "c"]]
        assert sys.stdout is before
        assert (await run_async(steps, 2)).result == 2
        assert crunch.current_job() is None

    asyncio.run(test())


def test_a_canceled_test_cancels_its_attempt() -> None:
    ended: list[str] = []

    @crunch.task
    async def forever() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("ended")

    async def test() -> None:
        attempt = asyncio.create_task(run_async(forever))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await asyncio.sleep(0)

    asyncio.run(test())
    assert ended == ["ended"]


def test_context_variables_of_an_attempt_stay_in_it() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    @crunch.task
    def task() -> int:
        variable.set(variable.get() + 1)
        return variable.get()

    variable.set(5)
    assert run(task).result == 6
    assert run(task).result == 6
    assert variable.get() == 5


def test_a_payload_that_the_api_would_reject_is_rejected() -> None:
    @crunch.task(max_payload=10)
    def task(text: str) -> str:
        return text

    assert run(task, "x" * 8).status == "succeeded"
    report = run(task, "x" * 9)
    assert report.status == "rejected"
    assert report.error is not None
    assert report.error.message == "the payload has 11 bytes, more than 10"
    assert run(task, payload=b"x", content_type="text/plain").status == "rejected"


def test_a_payload_that_only_the_types_reject_fails() -> None:
    @dataclass
    class Even:
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError("odd")

    @crunch.task
    def function(even: Even) -> int:
        return even.number

    @crunch.task
    async def coroutine(even: Even) -> int:
        return even.number

    for task in (function, coroutine):
        assert run(task, {"number": 2}).result == 2
        expected = {"number": ("failed", "odd"), "numbers": ("rejected", "no such member")}
        for member, (status, why) in expected.items():
            report = run(task, {member: 1})
            assert report.status == status
            assert report.error is not None
            assert (report.error.code, report.error.retryable) == ("payload_invalid", False)
            assert why in report.error.message


def test_progress_is_from_0_to_1() -> None:
    @crunch.task
    def task(job: crunch.Job) -> None:
        job.progress(1.0000001)
        job.progress(-1)
        job.progress(float("nan"))

    report = run(task)
    assert [it.fraction for it in report.progress] == [1.0, 0.0]
    assert report.error is not None
    assert report.error.code == "value_error"


def test_many_attempts_leave_nothing_behind() -> None:
    before = (sys.stdout, sys.stderr, list(logging.getLogger().handlers))
    for _ in range(1000):
        assert run(steps, 3).result == 3
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers)) == before
