"""Batches of both clients against a real API."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from crunch import errors
from crunch.api.payloads import Content

WAIT_S = 60


def test_a_batch_counts_its_lines(client: Any) -> None:
    with client.batch() as batch:
        numbers = [batch.submit("echo", number, delay="1h") for number in range(1500)]
    assert numbers == list(range(1, 1501))
    assert (batch.accepted, batch.refused, batch.refusals) == (1500, 0, [])


def test_a_batch_hands_out_its_jobs_in_order(client: Any) -> None:
    jobs: list[Any] = []
    with client.batch(on_job=jobs.append) as batch:
        for number in range(5):
            batch.submit("echo", {"number": number}, metadata={"number": number})
    assert [job.metadata["number"] for job in jobs] == ["0", "1", "2", "3", "4"]
    first = client.get(jobs[0].token, wait=WAIT_S)
    assert first.result(WAIT_S) == {"number": 0}


@pytest.mark.parametrize("with_jobs", [False, True])
def test_every_rejected_line_is_reported(client: Any, with_jobs: bool) -> None:
    jobs: list[Any] = []
    refusals: list[Any] = []
    named = {"on_job": jobs.append} if with_jobs else {}
    with client.batch(on_refused=refusals.append, **named) as batch:
        for number in range(10):
            # Every second payload violates the schema.
            batch.submit("crunch", {"photons": number % 2}, key=f"{uuid.uuid4()}", delay="1h")
    assert (batch.accepted, batch.refused) == (5, 5)
    assert [refusal.line for refusal in refusals] == [1, 3, 5, 7, 9]
    assert all(isinstance(it.problem, errors.PayloadInvalid) for it in refusals)
    assert refusals[0].problem.errors[0].pointer.endswith("/payload/photons")
    assert len(jobs) == (5 if with_jobs else 0)


def test_more_rejected_lines_than_the_api_lists_are_all_reported(client: Any) -> None:
    refusals: list[Any] = []
    key = f"{uuid.uuid4()}"
    with client.batch(on_refused=refusals.append) as batch:
        for number in range(300):
            photons = 0 if number % 3 else 1
            batch.submit("crunch", {"photons": photons}, key=f"{key}-{number}", delay="1h")
    assert (batch.accepted, batch.refused) == (100, 200)
    assert [it.line for it in refusals] == [it + 1 for it in range(300) if it % 3]
    assert refusals[-1].key == f"{key}-299"


def test_a_rejected_line_is_never_lost(client: Any) -> None:
    def submit_both() -> None:
        with client.batch() as batch:
            batch.submit("echo", 1, delay="1h")
            batch.submit("nobody.has.this", 1)

    with pytest.raises(errors.JobsRefused, match="1 of 2 jobs were rejected; line 2") as caught:
        submit_both()
    assert (caught.value.accepted, caught.value.refused) == (1, 1)
    assert caught.value.refusals[0].line == 2


def test_a_batch_that_fails_sends_no_more(client: Any) -> None:
    queue = f"abandoned-{uuid.uuid4()}"

    def fail_within() -> None:
        with client.batch() as batch:
            batch.submit("echo", 1, queue=queue, delay="1h")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail_within()
    with pytest.raises(errors.NotFound):
        list(client.jobs(queue=queue))


def test_the_same_batch_again_is_the_same_jobs(client: Any) -> None:
    queue, keys = f"again-{uuid.uuid4()}", [f"{uuid.uuid4()}" for _ in range(20)]
    # With and without jobs, lines are sent in different forms: they are the same submissions.
    for named in ({}, {"on_job": lambda _: None}, {}):
        with client.batch(**named) as batch:
            for key in keys:
                batch.submit("echo", {"a": 1}, key=key, queue=queue, delay="1h", metadata={"k": 1})
        assert batch.accepted == 20
    assert len(list(client.jobs(queue=queue))) == 20


def test_a_batch_has_only_json(client: Any) -> None:
    with client.batch() as batch, pytest.raises(TypeError, match="only JSON payloads"):
        batch.submit("shout", b"light")


def test_json_of_many_lines_is_one_line_of_a_batch(client: Any) -> None:
    queue = f"lines-{uuid.uuid4()}"
    with client.batch() as batch:
        text = Content(b'{\n"a":\n1}', "application/json")
        batch.submit("echo", text, queue=queue, delay="1h")
    (job,) = client.jobs(queue=queue)
    assert job.payload() == {"a": 1}
