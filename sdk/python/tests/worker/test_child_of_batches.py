"""A child whose coroutines are called with many jobs at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import crunch
from crunch.testing import run
from crunch.testing.channel import FakeWorker

from .children import batches
from .conftest import Start


@pytest.fixture
def child(start: Start) -> FakeWorker:
    return start("batches")


def results(worker: FakeWorker, count: int) -> dict[str, Any]:
    """Receive that many answers; return results and codes of errors by job."""
    answers = [worker.answer() for _ in range(count)]
    return {
        it.members["id"]: it.json() if it.type == "done" else it.members["error"]["code"]
        for it in answers
    }


def test_the_largest_batch_decides_how_many_jobs_run_at_once(start: Start) -> None:
    assert start("batches", hello=False).receive().members["concurrency"] == 100


def test_a_full_batch_is_one_call_and_each_job_has_its_outcome(child: FakeWorker) -> None:
    ids = [child.job("double", number) for number in (1, 200, 3)]
    assert results(child, 3) == dict(zip(ids, (2, "too_large", 6), strict=True))


def test_a_batch_starts_when_its_first_job_has_waited(child: FakeWorker) -> None:
    ids = [child.job("join", {"words": word, "end": "!"}) for word in "ab"]
    assert results(child, 2) == {ids[0]: f"{ids[0]}:a! of 2", ids[1]: f"{ids[1]}:b! of 2"}


def test_no_batch_is_larger_than_what_the_child_runs_at_once(start: Start) -> None:
    child = start("batches", concurrency=1)
    assert child.run("double", 4).json() == 8


def test_a_payload_that_does_not_fit_is_in_no_batch(child: FakeWorker) -> None:
    ids = [child.job("double", payload) for payload in ("x", 1, 2, 3)]
    assert results(child, 4) == dict(zip(ids, ("payload_invalid", 2, 4, 6), strict=True))


@pytest.mark.parametrize(("kind", "code"), [("a", "value_error"), ("long", "wrong_batch")])
def test_what_a_batch_raises_all_of_its_jobs_fail_by(
    child: FakeWorker, kind: str, code: str
) -> None:
    ids = [child.job("raises", kind) for _ in range(2)]
    assert results(child, 2) == dict.fromkeys(ids, code)


def test_system_exit_ends_the_child(child: FakeWorker) -> None:
    for _ in range(2):
        child.job("raises", "exit")
    assert child.at_end()
    assert child.wait() == 3


def test_a_job_that_is_canceled_leaves_its_batch(child: FakeWorker) -> None:
    canceled = child.job("wait", "a")
    child.cancel(canceled)
    assert results(child, 1) == {canceled: "canceled"}
    ids = [child.job("wait", it) for it in "bc"]
    assert results(child, 2) == {ids[0]: "b of 2", ids[1]: "c of 2"}


def test_a_cancel_of_one_job_leaves_the_others(child: FakeWorker) -> None:
    ids = [child.job("wait", it) for it in "ab"]
    child.receive("progress")
    child.cancel(ids[0])
    assert results(child, 2) == {ids[0]: "canceled", ids[1]: "b of 2"}


def test_a_batch_whose_jobs_are_all_canceled_is_canceled(child: FakeWorker) -> None:
    ids = [child.job("wait", "for ever") for _ in range(2)]
    child.receive("progress")
    for job in ids:
        child.cancel(job)
    assert results(child, 2) == dict.fromkeys(ids, "canceled")
    assert child.run("join", {"words": "a", "end": "."}).type == "done"


def test_one_attempt_is_a_batch_of_one() -> None:
    report = run(batches.join, {"words": "a", "end": "!"})
    assert report.result.endswith(":a! of 1")


def test_the_schema_is_that_of_one_job() -> None:
    declared = batches.double.declaration
    assert declared["payload_schema"] == {"type": "integer"}
    assert declared["result_schema"] == {"type": "integer"}
    assert declared["description"] == "Doubles what is below 100."
    assert batches.join.declaration["payload_schema"]["required"] == ["words", "end"]


def test_two_loops_have_batches_of_their_own() -> None:
    async def both() -> list[Any]:
        return list(await asyncio.gather(*(batches.double(it) for it in (1, 2, 3))))

    assert [asyncio.run(both()) for _ in range(2)] == [[2, 4, 6]] * 2


def test_the_example_of_the_page_about_flow_runs() -> None:
    page = Path(__file__).parents[4] / "docs" / "flow.md"
    names: dict[str, Any] = {}
    exec(page.read_text().split("```python\n")[1].split("```")[0], names)
    assert run(names["embed"], "io").result == [0, 0, 0.5, 0.5, 0]


def test_what_cannot_be_a_batch_is_refused() -> None:
    def function(numbers: list[int]) -> list[int]:
        return numbers

    with pytest.raises(TypeError, match="must be a coroutine"):
        crunch.batched(3)(function)  # type: ignore[arg-type]
    for most in (0, 1001, 2.5):
        with pytest.raises(ValueError, match="most"):
            crunch.batched(most)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linger"):
        crunch.batched(3, linger="61s")

    @crunch.task
    @crunch.batched(3)
    async def no_list(numbers: int) -> list[int]:
        return [numbers]

    with pytest.raises(TypeError, match="'numbers': a batch has a value of each job"):
        _ = no_list.declaration
