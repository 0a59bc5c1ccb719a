"""The fake API: the same calls do the same with it and with a real one, and what only it can do."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

import crunch
from crunch import errors
from crunch.aio import AsyncClient
from crunch.api.payloads import Content
from crunch.client import Client
from crunch.testing import FakeApi, fake

from .conftest import MakeClient
from .scripted import ScriptedServer, job, reply

WAIT_S = 60
NOWHERE = "http://127.0.0.1:1"


@dataclass
class Slab:
    photons: int
    seed: int = 0


@crunch.task("crunch", max_attempts=2)
def simulate(slab: Slab, job: crunch.Job) -> dict[str, int]:
    job.progress(0.5, "half")
    job.log("seed %d", slab.seed)
    if slab.photons == 0:
        raise crunch.Retry("no light yet", code="no_light")
    return {"photons": slab.photons, "attempt": job.attempt}


@crunch.task("grouped", group="/customer/0")
def grouped(payload: Any) -> None: ...


@crunch.task("shout", accepts="text/plain", content_type="text/plain")
def shout(text: bytes) -> bytes:
    return text.upper()


def refuse(_: object) -> None:
    raise crunch.Fail("no_light", "it is dark")


TASKS: dict[str, Callable[..., Any]] = {
    "echo": lambda payload: payload,
    "refuse": refuse,
    "shout": shout,
    "large": lambda _: list(range(20000)),
    "crunch": simulate,
}

MakeFake = Callable[..., tuple[Any, FakeApi]]


def fake_of(client: Any, *arguments: Any, **named: Any) -> FakeApi:
    return fake(client if isinstance(client, Client) else client.target, *arguments, **named)


@pytest.fixture
def make_fake(make_client: MakeClient) -> MakeFake:
    """Makes a client and the fake API that it talks to."""

    def make(tasks: Any = TASKS, **named: Any) -> tuple[Any, FakeApi]:
        client = make_client(NOWHERE)
        return client, fake_of(client, tasks, **named)

    return make


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest, make_client: MakeClient, make_fake: MakeFake) -> Any:
    """A client of the fake, and a client of a real API."""
    if request.param == "fake":
        return make_fake()[0]
    return make_client(request.getfixturevalue("stack").url)


# With both


def test_a_result(client: Any) -> None:
    job = client.submit("echo", {"a": [1, None]}, metadata={"order": 1, "rush": True})
    assert job.status in ("queued", "running", "succeeded")
    assert job.result(WAIT_S) == {"a": [1, None]}
    assert (job.status, job.attempt, job.error) == ("succeeded", 1, None)
    assert job.metadata == {"order": "1", "rush": "true"}
    assert job.document.payload_size == len('{"a":[1,null]}')
    assert job.document.result_content_type == "application/json"
    assert [(it.number, it.outcome) for it in job.attempts()] == [(1, "succeeded")]
    assert job.payload() == {"a": [1, None]}


def test_content(client: Any) -> None:
    submitted = client.submit("shout", b"light", content_type="text/plain")
    result = submitted.result(WAIT_S)
    assert (result, result.content_type) == (b"LIGHT", "text/plain")
    assert submitted.document.result_omitted == "not_json"
    assert submitted.payload() == b"light"


def test_a_large_result(client: Any) -> None:
    job = client.submit("large", wait=WAIT_S)
    assert job.document.result_omitted == "too_large"
    assert len(job.result()) == 20000


def test_a_wait_at_the_submission(client: Any) -> None:
    assert client.submit("echo", 5, wait=WAIT_S).document.result == 5


def test_a_failure(client: Any) -> None:
    job = client.submit("refuse")
    with pytest.raises(errors.JobFailed) as caught:
        job.result(WAIT_S)
    assert (caught.value.code, caught.value.attempts) == ("no_light", 1)
    assert caught.value.message.startswith("it is dark")
    assert job.error is not None
    assert not job.error.retryable


def test_a_delay_and_a_cancel(client: Any) -> None:
    job = client.submit("echo", delay="2h")
    assert job.status == "scheduled"
    assert job.cancel().status == "canceled"
    assert job.cancel().status == "canceled"
    with pytest.raises(errors.JobCanceled, match="canceled on request"):
        job.result(WAIT_S)
    assert job.retry().token == job.token


@pytest.mark.parametrize(
    ("first", "options", "group"),
    [
        ("a/b", {}, "a/b"),
        (17, {}, "17"),
        (True, {}, "true"),
        (None, {}, None),
        ([], {"group": "named"}, "named"),
    ],
)
def test_a_task_finds_the_group_in_its_payload(
    make_fake: MakeFake, first: Any, options: dict[str, str], group: str | None
) -> None:
    client, _ = make_fake([grouped])
    job = client.submit("grouped", {"customer": [first]}, **options)
    assert job.document.group == group


@pytest.mark.parametrize("wrong", [{}, "", "x" * 129])
def test_what_cannot_be_a_group_is_rejected_where_it_is(make_fake: MakeFake, wrong: Any) -> None:
    client, _ = make_fake([grouped])
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("grouped", {"customer": [wrong]})
    assert [it.pointer for it in caught.value.errors] == ["/customer/0"]


def test_a_group(client: Any) -> None:
    assert client.submit("echo", group="tenant/7").document.group == "tenant/7"
    assert client.submit("echo").document.group is None
    with pytest.raises(errors.Problem) as caught:
        client.submit("echo", group="x" * 129)
    assert (caught.value.status, caught.value.slug) == (400, "invalid-parameter")


def test_a_time(client: Any) -> None:
    at = datetime.now(timezone.utc) + timedelta(days=1)
    assert client.submit("echo", run_at=at).status == "scheduled"


def test_conflicts(client: Any) -> None:
    job = client.submit("echo", wait=WAIT_S)
    for act, slug in ((job.cancel, "job-finished"), (job.retry, "job-not-retryable")):
        with pytest.raises(errors.Conflict) as caught:
            act()
        assert caught.value.slug == slug
    waiting = client.submit("echo", delay="1h")
    with pytest.raises(errors.Conflict) as caught:
        waiting.delete()
    assert caught.value.slug == "job-not-finished"


def test_a_deletion(client: Any) -> None:
    job = client.submit("echo", wait=WAIT_S)
    job.delete()
    with pytest.raises(errors.Gone):
        client.get(job.token)


def test_keys(client: Any) -> None:
    key = str(uuid.uuid4())
    first = client.submit("echo", 1, key=key)
    again = client.submit("echo", 1, key=key)
    assert (again.token, again.replayed) == (first.token, True)
    with pytest.raises(errors.IdempotencyConflict):
        client.submit("echo", 2, key=key)


def test_rejections(client: Any) -> None:
    with pytest.raises(errors.UnknownTask):
        client.submit("nobody.has.this")
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("crunch", {"photons": "many"})
    assert [it.pointer for it in caught.value.errors] == ["/photons"]
    assert caught.value.slug == "invalid-submission"
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("shout", {"a": 1})
    assert caught.value.status == 415
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("echo", Content(b"{", "application/json"))
    assert caught.value.slug == "malformed-json"
    with pytest.raises(errors.NotFound):
        client.get(str(uuid.uuid4()))


def test_events(client: Any) -> None:
    job = client.submit("crunch", {"photons": 100})
    events = list(job.events(timeout=WAIT_S))
    assert events[0].type == "status"
    assert events[-1].type == "done"
    assert events[-1].status == "succeeded"
    rest = list(job.events(after=events[0].id, timeout=WAIT_S))
    assert [it.type for it in rest][-1] == "done"
    assert list(job.events(after=events[-1].id)) == []
    with pytest.raises(errors.NotFound):
        list(client.get(str(uuid.uuid4())).events())


@pytest.mark.parametrize("with_jobs", [False, True])
def test_a_batch(client: Any, with_jobs: bool) -> None:
    jobs: list[Any] = []
    refusals: list[Any] = []
    queue, keys = f"q-{uuid.uuid4()}", [f"{uuid.uuid4()}" for _ in range(4)]
    named = {"on_job": jobs.append} if with_jobs else {}
    for _ in range(2):
        with client.batch(on_refused=refusals.append, **named) as batch:
            for key, photons in zip(keys, ["many", 1, 2, 3], strict=True):
                batch.submit("crunch", {"photons": photons}, key=key, queue=queue, delay="1h")
            batch.submit("nobody.has.this")
        assert (batch.accepted, batch.refused) == (3, 2)
        assert [it.line for it in refusals] == [1, 5]
        assert refusals[0].problem.errors[0].pointer.endswith("/payload/photons")
        assert refusals[1].problem.errors[0].pointer.endswith("/task")
        refusals.clear()
    tokens = {job.token for job in client.jobs(queue=queue)}
    assert len(tokens) == 3
    assert not with_jobs or {job.token for job in jobs} == tokens


def test_failures_of_one_kind(client: Any) -> None:
    jobs = [client.submit("refuse", number) for number in range(2)]
    for failed in jobs:
        with pytest.raises(errors.JobFailed):
            failed.result(WAIT_S)
    (group,) = [it for it in client.errors(task="refuse") if it.error.code == "no_light"]
    assert (group.queue, group.error.message) == ("refuse", "it is dark")
    assert group.first_at <= group.last_at
    assert group.failed_jobs >= 2
    assert {it.document.error_group for it in jobs} == {group.id}
    tokens = {it.token for it in client.jobs(error=group.id)}
    assert {it.token for it in jobs} <= tokens
    assert list(client.errors(task="echo")) == []


def test_lists(client: Any) -> None:
    queue = f"q-{uuid.uuid4()}"
    first = client.submit("echo", 1, queue=queue, delay="1h")
    second = client.submit("echo", 2, queue=queue, delay="1h")
    assert {job.token for job in client.jobs(queue=queue, task="echo")} == {
        first.token,
        second.token,
    }
    assert list(client.jobs(queue=queue, status="failed")) == []
    long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)
    assert list(client.jobs(queue=queue, created_after=long_ago))
    assert list(client.jobs(queue=queue, created_before=long_ago)) == []
    assert list(client.jobs(queue=queue, finished_before=long_ago)) == []
    assert client.queue(queue).scheduled == 2
    assert queue in [it.name for it in client.queues()]
    assert {"echo", "shout"} <= {task.name for task in client.tasks()}
    assert client.task("shout").accepts == ["text/plain"]
    with pytest.raises(errors.NotFound):
        client.task("nobody.has.this")


# Only the fake


def test_functions_of_tasks_run_as_in_a_worker(make_fake: MakeFake) -> None:
    client, api = make_fake([simulate])
    job = client.submit(simulate, Slab(photons=3, seed=4))
    assert job.result() == {"photons": 3, "attempt": 1}
    assert job.message == "half"
    assert [line.line for line in job.logs()] == ["seed 4"]
    kinds = [(it.type, it.message or it.line) for it in job.events()]
    assert kinds[:3] == [("status", None), ("progress", "half"), ("log", "seed 4")]
    assert [it.payload for it in api.submissions] == [{"photons": 3, "seed": 4}]


def test_attempts_are_made_up_to_the_limit(make_fake: MakeFake) -> None:
    client, _ = make_fake()
    job = client.submit("crunch", {"photons": 0})
    with pytest.raises(errors.JobFailed, match="no_light: no light yet") as caught:
        job.result()
    assert caught.value.attempts == 2
    assert [it.outcome for it in job.attempts()] == ["failed", "failed"]
    with pytest.raises(errors.JobFailed) as caught:
        client.submit("crunch", {"photons": 0}, max_attempts=5).result()
    assert caught.value.attempts == 5


def test_other_exceptions_have_codes(make_fake: MakeFake) -> None:
    def divide(payload: int) -> float:
        return 1 / payload

    client, _ = make_fake({"divide": divide})
    assert client.submit("divide", 2).result() == 0.5
    with pytest.raises(errors.JobFailed) as caught:
        client.submit("divide", 0).result()
    assert (caught.value.code, caught.value.attempts) == ("zero_division_error", 3)


def test_held_jobs_wait(make_fake: MakeFake) -> None:
    client, api = make_fake(hold=True)
    job = client.submit("echo", 5)
    assert job.status == "queued"
    # No time passes, although these ask for a lot.
    with pytest.raises(errors.WaitTimeout):
        job.result(timeout=3600)
    with pytest.raises(errors.WaitTimeout):
        list(job.events(timeout=3600))
    api.run()
    assert job.result(timeout=0) == 5


@pytest.mark.parametrize("wait", ["result", "events"])
def test_waiting_for_ever_is_an_error(make_fake: MakeFake, wait: str) -> None:
    client, _ = make_fake(hold=True)
    job = client.submit("echo", 5)
    with pytest.raises(RuntimeError, match="waits for ever"):
        list(getattr(job, wait)(timeout=None))


def test_delays_pass_by_waiting(make_fake: MakeFake) -> None:
    client, _ = make_fake()
    job = client.submit("echo", 5, delay="1h")
    with pytest.raises(errors.WaitTimeout):
        job.wait(timeout=3000)
    assert job.result(timeout=3000) == 5


def test_a_job_that_is_put_off_runs_later(make_fake: MakeFake) -> None:
    calls: list[int] = []

    def later(times: int) -> int:
        calls.append(times)
        if len(calls) <= times:
            raise crunch.Snooze("1m")
        return len(calls)

    client, _ = make_fake({"later": later})
    job = client.submit("later", 2)
    document = job.refresh().document
    assert (document.status, document.attempt, document.snoozes) == ("scheduled", 0, 1)
    assert document.waiting_for.reason == "snooze"
    assert job.result(timeout=3 * 3600) == 3
    document = job.refresh().document
    assert (document.attempt, document.snoozes) == (1, 2)

    calls.clear()
    with pytest.raises(errors.JobFailed, match="snoozed_too_often"):
        client.submit("later", 2000).result(timeout=None)


def test_a_job_fails_by_what_only_the_types_of_its_task_reject(make_fake: MakeFake) -> None:
    @crunch.task
    def birthday(day: date) -> int:
        return day.year

    client, _ = make_fake([birthday])
    assert client.submit("birthday", "1815-12-10").result(WAIT_S) == 1815
    job = client.submit("birthday", "tomorrow")
    with pytest.raises(errors.JobFailed) as caught:
        job.result(WAIT_S)
    assert caught.value.code == "payload_invalid"
    with pytest.raises(errors.PayloadInvalid):
        client.submit("birthday", 5)


def test_problems_are_made_on_request(make_fake: MakeFake) -> None:
    client, api = make_fake()
    api.respond(503, "unavailable", times=3, retry_after=5)
    assert client.submit("echo", 1).result() == 1
    api.respond(503, "full", times=100)
    with pytest.raises(errors.Unavailable):
        client.submit("echo", 1)
    assert len(api.submissions) == 1
    api._store.next_problems.clear()
    api.respond(403, "forbidden", "not this queue")
    with pytest.raises(errors.Forbidden, match="not this queue"):
        client.submit("echo", 1)


def test_the_client_is_given_back(server: ScriptedServer, make_client: MakeClient) -> None:
    client = make_client(server.url)
    with fake_of(client, TASKS):
        assert client.submit("echo", 1).result() == 1
    server.script(reply(202, job()))
    assert client.submit("echo", 1).status == "queued"
    assert len(server.requests) == 1


def test_coroutines_run_in_the_loop_of_the_test() -> None:
    async def test() -> None:
        here = asyncio.get_running_loop()

        async def double(payload: int) -> int:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is here
            return 2 * payload

        @crunch.task("later")
        async def later(number: int) -> int:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is here
            return number + 1

        client = AsyncClient(NOWHERE)
        with fake(client, {"double": double, "later": later}):
            assert await (await client.submit("double", 4)).result() == 8
            assert await (await client.submit(later, 4)).result() == 5

    asyncio.run(test())


def test_coroutines_run_with_a_blocking_client() -> None:
    async def double(payload: int) -> int:
        await asyncio.sleep(0)
        return 2 * payload

    with Client(NOWHERE) as client, fake(client, {"double": double}):
        assert client.submit("double", 4).result() == 8
