"""Unique jobs: the same calls do the same with the fake API and with a real one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import crunch
from crunch import Unique, errors
from crunch.api.documents import UniqueInfo
from crunch.client import Client
from crunch.testing import FakeApi, fake

from .conftest import MakeClient
from .scripted import TIMEOUT_S
from .stack import Stack
from .stage import Stage

NOWHERE = "http://127.0.0.1:1"
BY_PAYLOAD = UniqueInfo(None, None, "end", None, "existing", None)


@crunch.task(unique=Unique(fields=["/customer"], on_conflict="reject"))
def once(payload: Any) -> Any:
    return payload


class FakeScene:
    """Jobs of a fake API, which run when a test says so."""

    def __init__(self, client: Any) -> None:
        self.client = client
        target = client if isinstance(client, Client) else client.target
        self._meanwhile: Callable[[], object] | None = None
        self._raised: BaseException | None = None
        functions = {"echo": lambda it: it, "staged": self._staged, "once": once}
        self.api: FakeApi = fake(target, {**functions, "shout": lambda it: it.upper()}, hold=True)
        self.payload: dict[str, Any] = {}

    def run(self, job: Any, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Let a job of `staged` run, call a function meanwhile, and let it end."""
        self._meanwhile = meanwhile
        self.api.run()
        if self._raised is not None:
            raise self._raised
        assert job.wait(0).status == "succeeded"

    def _staged(self, _: object) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        try:
            if meanwhile is not None:
                meanwhile()
        except BaseException as error:
            self._raised = error

    def finish(self, job: Any) -> None:
        """Wait for the end of a job that nothing holds up."""
        self.api.run()
        assert job.wait(0).ended


class RealScene:
    """Jobs of a real API and its worker."""

    def __init__(self, client: Any, stage: Stage) -> None:
        self.client, self._stage = client, stage
        self.payload = stage.payload

    def run(self, job: Any, meanwhile: Callable[[], object] = lambda: None) -> None:
        actor = self._stage.actor()
        meanwhile()
        actor.act(**{"return": None})
        assert job.wait(TIMEOUT_S).status == "succeeded"

    def finish(self, job: Any) -> None:
        job.wait(TIMEOUT_S)


@pytest.fixture(params=["fake", "real"])
def scene(
    request: pytest.FixtureRequest, make_client: MakeClient, stage: Stage
) -> Iterator[FakeScene | RealScene]:
    if request.param == "fake":
        scene = FakeScene(make_client(NOWHERE))
        with scene.api:
            yield scene
    else:
        stack: Stack = request.getfixturevalue("stack")
        yield RealScene(make_client(stack.url), stage)


@pytest.fixture
def client(scene: FakeScene | RealScene) -> Any:
    return scene.client


@pytest.fixture
def queue() -> str:
    """A queue that no worker reads: its jobs stay ready."""
    return f"q-{uuid.uuid4()}"


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


# What is the same


def test_the_same_payload_is_the_same_job(client: Any, queue: str) -> None:
    def submit(payload: Any, **options: Any) -> Any:
        return client.submit("echo", payload, queue=queue, unique=Unique(), **options)

    first = submit({"a": 1, "b": [0, "x", True]})
    again = submit({"b": [-0.0, "x", True], "a": 1.0}, priority="high")
    assert (first.existing, again.existing) == (False, True)
    assert (again.token, again.document.priority) == (first.token, "normal")
    assert again.document.unique == BY_PAYLOAD
    others: list[Any] = [
        submit({"a": 1, "b": [False, "x", True]}),
        submit({"a": 1, "b": ["x", 0, True]}),
        submit({"a": "1", "b": [0, "x", True]}),
        submit({"a": 1, "b": [0, "x", True]}, group="g"),
        client.submit("once", {"a": 1, "b": [0, "x", True]}, queue=queue, unique=Unique()),
        client.submit("echo", {"a": 1, "b": [0, "x", True]}, queue=f"{queue}.2", unique=Unique()),
        client.submit("echo", {"a": 1, "b": [0, "x", True]}, queue=queue),
    ]
    assert [it.existing for it in others] == [False] * 7
    assert len({it.token for it in [first, *others]}) == 8
    assert others[-1].document.unique is None


def test_the_same_values_of_some_fields_are_the_same_job(client: Any, queue: str) -> None:
    def submit(payload: Any) -> Any:
        unique = Unique(fields=["/a/0", "/b"])
        return client.submit("echo", payload, queue=queue, unique=unique)

    first = submit({"a": [1], "c": 1})
    assert first.document.unique.fields == ["/a/0", "/b"]
    for same in ({"a": [1.0, 2], "b": None}, {"a": [1e0], "c": {"d": 2**60}}):
        assert submit(same).token == first.token
    for other in ({"a": [2]}, {"a": [1], "b": False}, {"b": 1}, 5):
        assert not submit(other).existing


def test_the_same_bytes_are_the_same_job(client: Any, queue: str) -> None:
    def submit(payload: bytes) -> Any:
        options = {"queue": queue, "unique": Unique()}
        return client.submit("shout", payload, content_type="text/plain", **options)

    assert submit(b"1").token == submit(b"1").token
    assert not submit(b"1.0").existing
    unique = Unique(fields=["/a"])
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("shout", b"1", content_type="text/plain", unique=unique)
    assert "not JSON" in caught.value.errors[0].detail


def test_numbers_that_programs_change_are_not_compared(client: Any, queue: str) -> None:
    payload = {"id": 2**53, "a/b": [-(2**53)], "largest": 2**53 - 1, "text": str(2**60), "x": 1e300}
    for unique, pointer in (
        (Unique(), ""),
        (Unique(fields=["/id"]), "/id"),
        (Unique(fields=["/text", "/a~1b"]), "/a~1b"),
    ):
        with pytest.raises(errors.PayloadInvalid, match="beyond 2\\^53") as caught:
            client.submit("echo", payload, queue=queue, unique=unique)
        assert [it.pointer for it in caught.value.errors] == [pointer]
    for unique in (Unique(fields=["/largest", "/text", "/x"]), Unique("a")):
        assert not client.submit("echo", payload, queue=queue, unique=unique).existing


def test_a_task_says_what_its_jobs_are_unique_by(client: Any, queue: str) -> None:
    shown = UniqueInfo(None, ["/customer"], "end", None, "reject", None)
    assert client.task("once").unique == shown
    assert client.task("echo").unique is None
    first = client.submit("once", {"customer": 1, "a": 1}, queue=queue)
    assert first.document.unique == shown
    with pytest.raises(errors.Locked) as caught:
        client.submit("once", {"customer": 1.0, "a": 2}, queue=queue)
    assert caught.value.job == first.token
    # The submission decides first.
    own = client.submit("once", {"customer": 1}, queue=queue, unique=Unique("a"))
    assert (own.existing, own.document.unique.key) == (False, "a")


# What happens to another job


def test_another_job_is_rejected(client: Any, queue: str, key: str) -> None:
    first = client.submit("echo", 1, queue=queue, unique=Unique(key))
    for unique in (Unique(key, on_conflict="reject"), Unique(key, on_conflict="reject", for_="1h")):
        with pytest.raises(errors.Locked) as caught:
            client.submit("echo", 2, queue=queue, unique=unique)
        assert (caught.value.job, caught.value.status) == (first.token, 409)
    assert [it.token for it in client.jobs(queue=queue)] == [first.token]


@pytest.mark.parametrize("with_jobs", [False, True])
def test_jobs_of_a_batch_are_unique(client: Any, queue: str, with_jobs: bool) -> None:
    jobs: list[Any] = []
    refusals: list[Any] = []
    named = {"on_job": jobs.append} if with_jobs else {}
    reject = Unique("a", on_conflict="reject")
    with client.batch(on_refused=refusals.append, **named) as batch:
        for number, unique in enumerate([Unique("a"), Unique("a"), reject, Unique("b"), None]):
            batch.submit("echo", number, queue=queue, unique=unique)
    assert (batch.accepted, batch.existing, batch.refused) == (3, 1, 1)
    tokens = [it.token for it in client.jobs(queue=queue)]
    assert len(tokens) == 3
    assert [it.line for it in refusals] == [3]
    assert isinstance(refusals[0].problem, errors.Locked)
    if with_jobs:
        assert [it.existing for it in jobs] == [False, True, False, False]
        assert jobs[0].token == jobs[1].token == refusals[0].problem.job


def test_a_job_that_is_ready_is_replaced_in_its_place(client: Any, queue: str, key: str) -> None:
    replace = Unique(key, on_conflict="replace")
    submitted = {"queue": queue, "unique": replace}
    first = client.submit("echo", 1, **submitted, metadata={"a": 1}, max_attempts=2, key=f"{key}-1")
    again = client.submit("echo", [22], **submitted, metadata={"b": 2}, priority="high")
    assert (again.token, again.existing, again.status) == (first.token, True, "queued")
    assert (again.payload(), again.metadata, again.document.payload_size) == ([22], {"b": "2"}, 4)
    assert (again.document.max_attempts, again.document.priority) == (3, "normal")
    assert again.document.created_at == first.document.created_at
    # A repeated request is answered before the lock is asked.
    repeated = {"metadata": {"a": 1}, "max_attempts": 2, "key": f"{key}-1"}
    replayed = client.submit("echo", 1, **submitted, **repeated)
    assert (replayed.replayed, replayed.existing, replayed.payload()) == (True, False, [22])


def test_a_job_that_runs_is_not_replaced(scene: Any, key: str) -> None:
    client = scene.client
    first = client.submit("staged", scene.payload, unique=Unique(key))

    def meanwhile() -> None:
        with pytest.raises(errors.Locked) as caught:
            client.submit("staged", scene.payload, unique=Unique(key, on_conflict="replace"))
        assert caught.value.job == first.token
        existing = client.submit("staged", scene.payload, unique=Unique(key))
        assert (existing.token, existing.status) == (first.token, "running")

    scene.run(first, meanwhile)
    assert not client.submit("staged", scene.payload, unique=Unique(key), delay="1h").existing


@pytest.mark.parametrize("unique", [{"until": "start"}, {"on_conflict": "replace"}])
def test_a_lock_until_the_start_is_free_while_the_job_runs(
    scene: Any, key: str, unique: dict[str, Any]
) -> None:
    client = scene.client
    jobs = [client.submit("staged", scene.payload, unique=Unique(key, **unique))]
    assert jobs[0].document.unique.until == "start"

    def meanwhile() -> None:
        later = {"delay": "1h", "unique": Unique(key)}
        jobs.extend(client.submit("staged", scene.payload, **later) for _ in range(2))

    scene.run(jobs[0], meanwhile)
    assert [it.existing for it in jobs] == [False, False, True]
    assert jobs[2].token == jobs[1].token != jobs[0].token


def test_a_delayed_job_is_replaced_with_its_delay(client: Any, queue: str, key: str) -> None:
    replace = Unique(key, on_conflict="replace", max_wait="2h")
    submitted = {"queue": queue, "unique": replace}
    first = client.submit("echo", 1, **submitted, delay="1h", priority="low")
    again = client.submit("echo", 2, **submitted, delay="90m", priority="high")
    assert (again.token, again.status) == (first.token, "scheduled")
    assert (again.payload(), again.document.priority) == (2, "high")
    # One without a delay is due at once.
    now = client.submit("echo", 3, **submitted, priority="urgent")
    assert (now.token, now.status, now.document.priority) == (first.token, "queued", "urgent")


def test_a_delay_that_is_renewed_needs_an_end(client: Any, queue: str) -> None:
    for unique, member in (
        (Unique(on_conflict="replace"), "max_wait_ms"),
        (Unique(on_conflict="keep_latest"), "on_conflict"),
    ):
        with pytest.raises(errors.Problem, match=f"unique.{member}: ") as caught:
            client.submit("echo", 1, queue=queue, unique=unique, delay="1s")
        assert caught.value.slug == "invalid-parameter"
        refusals: list[Any] = []
        with client.batch(on_refused=refusals.append, on_job=print) as batch:
            batch.submit("echo", 1, queue=queue, unique=unique, delay="1s")
        pointers = [it.pointer for it in refusals[0].problem.errors]
        assert pointers == [f"/jobs/0/unique/{member}"]


def test_the_latest_one_runs_after_the_one_that_runs(scene: Any, key: str) -> None:
    client, jobs = scene.client, []
    latest = Unique(key, on_conflict="keep_latest")

    def submit(number: int, **options: Any) -> Any:
        payload = {**scene.payload, "number": number}
        jobs.append(client.submit("staged", payload, unique=latest, **options))
        return jobs[-1]

    first = submit(1)

    def meanwhile() -> None:
        second, third = submit(2, priority="low"), submit(3, priority="high")
        assert [it.existing for it in (first, second, third)] == [False, False, True]
        assert third.token == second.token != first.token
        assert (third.status, third.document.priority) == ("scheduled", "high")
        waiting = third.document.waiting_for
        assert (waiting.reason, waiting.detail) == ("lock", first.token)
        # Others are answered with the holder.
        with pytest.raises(errors.Locked) as caught:
            client.submit("staged", scene.payload, unique=Unique(key, on_conflict="replace"))
        assert caught.value.job == first.token
        assert client.submit("staged", scene.payload, unique=Unique(key)).token == first.token

    scene.run(first, meanwhile)
    scene.run(jobs[2])
    assert jobs[2].payload()["number"] == 3
    assert jobs[2].document.waiting_for is None
    assert not client.submit("staged", scene.payload, unique=Unique(key), delay="1h").existing


def test_a_job_that_is_ready_is_replaced_by_the_latest_too(
    client: Any, queue: str, key: str
) -> None:
    submitted = {"queue": queue, "unique": Unique(key, on_conflict="keep_latest")}
    first = client.submit("echo", 1, **submitted)
    again = client.submit("echo", 2, **submitted)
    assert (again.token, again.existing, again.payload()) == (first.token, True, 2)


def test_one_that_waits_can_be_canceled(scene: Any, key: str) -> None:
    client = scene.client
    submitted = {"unique": Unique(key, on_conflict="keep_latest")}
    first = client.submit("staged", scene.payload, **submitted)

    def meanwhile() -> None:
        for _ in range(2):
            second = client.submit("staged", scene.payload, **submitted)
            assert (second.existing, second.status) == (False, "scheduled")
            assert second.cancel().document.waiting_for is None
            with pytest.raises(errors.Locked) as caught:
                second.retry()
            assert caught.value.job == first.token

    scene.run(first, meanwhile)
    # The lock is free: it does not go to a job that was canceled.
    assert not client.submit("staged", scene.payload, unique=Unique(key), delay="1h").existing


# Until when a lock is held


def test_a_lock_may_be_held_for_a_time(scene: Any, key: str) -> None:
    client, for_an_hour = scene.client, Unique(key, for_="1h")
    first = client.submit("echo", 1, unique=for_an_hour)
    shown = first.document.unique
    assert (shown.until, shown.for_ms) == (None, 3_600_000)
    scene.finish(first)
    again = client.submit("echo", 2, unique=for_an_hour)
    assert (again.token, again.existing, again.status) == (first.token, True, "succeeded")
    for on_conflict in ("reject", "replace", "keep_latest"):
        with pytest.raises(errors.Locked) as caught:
            client.submit("echo", 2, unique=Unique(key, on_conflict=on_conflict))
        assert caught.value.job == first.token
    first.delete()
    assert not client.submit("echo", 2, unique=for_an_hour).existing


def test_a_job_that_runs_again_needs_its_lock(client: Any, queue: str, key: str) -> None:
    submitted = {"queue": queue, "unique": Unique(key)}
    first = client.submit("echo", 1, **submitted).cancel()
    second = client.submit("echo", 1, **submitted)
    with pytest.raises(errors.Locked) as caught:
        first.retry()
    assert (caught.value.job, first.refresh().status) == (second.token, "canceled")
    second.cancel()
    assert first.retry().status == "queued"
    assert client.submit("echo", 1, **submitted).token == first.token
    # One that was never claimed can be replaced.
    replace = Unique(key, on_conflict="replace")
    assert client.submit("echo", 2, queue=queue, unique=replace).payload() == 2
    # The end of the other one does not free it.
    second.delete()
    assert client.submit("echo", 1, **submitted).token == first.token


def test_a_time_begins_with_the_submission_not_with_a_retry(
    client: Any, queue: str, key: str
) -> None:
    submitted = {"queue": queue, "unique": Unique(key, for_="1h")}
    first = client.submit("echo", 1, **submitted).cancel()
    assert client.submit("echo", 1, **submitted).token == first.token
    assert first.retry().status == "queued"
    assert client.submit("echo", 1, **submitted).token == first.token


def test_an_answer_with_another_job_does_not_use_up_the_key(
    client: Any, queue: str, key: str
) -> None:
    first = client.submit("echo", 1, queue=queue, unique=Unique(key))
    submitted = {"queue": queue, "key": f"{key}-2", "unique": Unique(key)}
    assert client.submit("echo", 2, **submitted).token == first.token
    first.cancel()
    second = client.submit("echo", 2, **submitted)
    assert (second.existing, second.replayed, second.payload()) == (False, False, 2)
    again = client.submit("echo", 2, **submitted)
    assert (again.existing, again.replayed, again.token) == (False, True, second.token)


# Only the fake: its time passes when it is asked for


@pytest.fixture
def alone(make_client: MakeClient) -> Iterator[Any]:
    client = make_client(NOWHERE)
    target = client if isinstance(client, Client) else client.target
    with fake(target, {"echo": lambda it: it}):
        yield client


def let_pass(client: Any, seconds: int) -> None:
    """Wait for a job that does not end."""
    with pytest.raises(errors.WaitTimeout):
        client.submit("echo", None, delay="1d").wait(seconds)


def test_a_lock_is_free_when_its_time_has_passed(alone: Any) -> None:
    submitted = {"unique": Unique("a", for_="10s")}
    first = alone.submit("echo", 1, **submitted)
    let_pass(alone, 9)
    assert alone.submit("echo", 1, **submitted).token == first.token
    let_pass(alone, 1)
    assert not alone.submit("echo", 1, **submitted).existing


def test_a_job_that_is_replaced_again_and_again_runs_in_time(alone: Any) -> None:
    submitted = {"delay": "4s", "unique": Unique("a", on_conflict="replace", max_wait="10s")}
    job = alone.submit("echo", 0, **submitted)
    for number in (1, 2, 3):
        let_pass(alone, 3)
        assert alone.submit("echo", number, **submitted).token == job.token
    assert not job.refresh().ended
    let_pass(alone, 1)
    assert job.result(0) == 3


def test_one_that_waits_runs_once_the_holder_is_canceled(make_client: MakeClient) -> None:
    def put_off(payload: int) -> int:
        if payload == 1:
            raise crunch.Snooze("1h")
        return payload

    client = make_client(NOWHERE)
    target = client if isinstance(client, Client) else client.target
    latest = Unique("a", on_conflict="keep_latest")
    with fake(target, {"put_off": put_off}):
        holder = client.submit("put_off", 1, unique=latest)
        second = client.submit("put_off", 2, unique=latest)
        waiting = second.refresh().document.waiting_for
        assert waiting is not None
        assert waiting.detail == holder.token
        with pytest.raises(errors.WaitTimeout):
            second.wait(60)
        holder.cancel()
        assert second.result(0) == 2
        assert holder.retry().status == "queued"


def test_a_task_has_its_lock_in_its_queue(make_client: MakeClient) -> None:
    @crunch.task("there", queue="elsewhere", unique=Unique())
    def there(payload: int) -> int:
        return payload

    client = make_client(NOWHERE)
    target = client if isinstance(client, Client) else client.target
    with fake(target, [there], hold=True):
        first = client.submit(there, 1)
        assert first.queue == "elsewhere"
        assert client.submit(there, 1, queue="elsewhere").token == first.token
        assert client.submit(there, 1, queue="there").token != first.token
