"""Every call, of both clients, against a real API."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pydantic
import pytest

from crunch import errors
from crunch.api.options import Webhook
from crunch.api.payloads import Content

from .conftest import MakeClient
from .stack import Stack
from .stage import Stage

WAIT_S = 60


def test_a_result_is_the_value_of_its_json(client: Any) -> None:
    job = client.submit("echo", {"rays": 3, "name": "Ü", "parts": [1.5, None, True]})
    assert job.result(WAIT_S) == {"rays": 3, "name": "Ü", "parts": [1.5, None, True]}
    assert job.status == "succeeded"
    assert job.ended


def test_null_is_a_payload_and_a_result(client: Any) -> None:
    assert client.submit("echo").result(WAIT_S) is None


def test_a_dataclass_is_a_payload(client: Any) -> None:
    @dataclass
    class Slab:
        size: tuple[float, float]
        seed: int = 0

    assert client.submit("echo", Slab((1.0, 2.0))).result(WAIT_S) == {"size": [1.0, 2.0], "seed": 0}


def test_a_model_is_a_payload(client: Any) -> None:
    class Slab(pydantic.BaseModel):
        at: datetime
        seed: int = 0

    at = datetime(2026, 11, 28, tzinfo=timezone.utc)
    result = client.submit("echo", Slab(at=at)).result(WAIT_S)
    assert result == {"at": "2026-11-28T00:00:00Z", "seed": 0}


def test_bytes_have_a_content_type(client: Any) -> None:
    result = client.submit("shout", b"light", content_type="text/plain").result(WAIT_S)
    assert result == b"LIGHT"
    assert isinstance(result, Content)
    assert result.content_type == "text/plain"


def test_content_brings_its_type(client: Any) -> None:
    assert client.submit("shout", Content(b"light", "text/plain")).result(WAIT_S) == b"LIGHT"


def test_text_of_another_type_is_sent_as_it_is(client: Any) -> None:
    assert client.submit("shout", "licht", content_type="text/plain").result(WAIT_S) == b"LICHT"


def test_a_large_result_is_fetched(client: Any) -> None:
    job = client.submit("large", wait=WAIT_S)
    assert job.document.result_omitted == "too_large"
    assert job.result(WAIT_S) == list(range(20000))


def test_a_short_job_needs_one_call(client: Any) -> None:
    job = client.submit("echo", 1, wait=WAIT_S)
    assert job.status == "succeeded"
    assert job.document.result == 1


def test_a_token_finds_the_job(client: Any) -> None:
    token = client.submit("echo", [1]).token
    job = client.get(token, wait=WAIT_S)
    assert (job.id, job.task, job.result(0)) == (token, "echo", [1])


def test_a_failed_job_raises_why(client: Any) -> None:
    job = client.submit("refuse")
    with pytest.raises(errors.JobFailed, match="no_light: it is dark") as caught:
        job.result(WAIT_S)
    failed = caught.value
    assert (failed.code, failed.attempts, failed.token) == ("no_light", 1, job.token)
    assert failed.message.startswith("it is dark")
    assert job.error is not None
    assert not job.error.retryable


def test_a_waiting_job_is_canceled_at_once(client: Any) -> None:
    job = client.submit("echo", delay="1h")
    assert job.status == "scheduled"
    assert job.cancel().status == "canceled"
    with pytest.raises(errors.JobCanceled, match="canceled on request"):
        job.result(0)


def test_a_running_job_is_asked_to_stop(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    actor = stage.actor()
    assert job.cancel().document.cancel_requested
    actor.wait_for_stop()
    assert job.wait(WAIT_S).status == "canceled"


def test_an_ended_job_cannot_be_canceled(client: Any) -> None:
    job = client.submit("echo", wait=WAIT_S)
    with pytest.raises(errors.Conflict) as caught:
        job.cancel()
    assert caught.value.slug == "job-finished"


def test_a_failed_job_is_retried(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    stage.actor().act(fail=["broken", "for good", False])
    assert job.wait(WAIT_S).status == "failed"
    assert not job.retry().ended
    stage.actor().act(**{"return": "repaired"})
    assert job.result(WAIT_S) == "repaired"


def test_a_job_that_succeeded_is_not_retried(client: Any) -> None:
    job = client.submit("echo", wait=WAIT_S)
    with pytest.raises(errors.Conflict) as caught:
        job.retry()
    assert caught.value.slug == "job-not-retryable"


def test_a_wait_that_is_too_short_leaves_the_job_alone(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    actor = stage.actor()
    with pytest.raises(errors.WaitTimeout, match="running") as caught:
        job.result(timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.token == job.token
    actor.act(**{"return": 7})
    assert job.result(WAIT_S) == 7


def test_options_arrive(client: Any) -> None:
    job = client.submit(
        "echo",
        queue="elsewhere",
        priority="high",
        group="tenant/7 ä",
        delay=timedelta(hours=1),
        timeout="5m",
        deadline="2h",
        max_attempts=7,
        retention="1h",
        durability="memory",
        metadata={"order": 17, "rush": True, "weight": 2.5, "name": "Ü & =", "a.b": ""},
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    document = job.document
    assert (job.queue, document.priority, document.max_attempts) == ("elsewhere", "high", 7)
    assert document.group == "tenant/7 ä"
    assert document.run_at - document.created_at == timedelta(hours=1)
    assert job.metadata == {
        "order": "17",
        "rush": "true",
        "weight": "2.5",
        "name": "Ü & =",
        "a.b": "",
    }


def test_a_job_runs_at_a_time(client: Any) -> None:
    at = datetime(2027, 3, 1, 12, 0, 0, 5000, tzinfo=timezone(timedelta(hours=2)))
    if at < datetime.now(timezone.utc) or at > datetime.now(timezone.utc) + timedelta(days=365):
        at = datetime.now(timezone.utc).replace(microsecond=5000) + timedelta(days=30)
    assert client.submit("echo", run_at=at).document.run_at == at


@pytest.mark.parametrize("webhook", ["https://example.org/1", Webhook("https://example.org/2")])
def test_a_webhook_is_accepted(client: Any, webhook: Any) -> None:
    assert client.submit("echo", webhook=webhook, delay="1h").status == "scheduled"


def test_the_events_of_a_webhook_arrive(client: Any) -> None:
    events: Any = ["job.failed", "job.exploded"]
    with pytest.raises(errors.Problem, match="each once"):
        client.submit("echo", webhook=Webhook("https://example.org/done", events))


def test_an_unknown_option_is_an_error(client: Any) -> None:
    with pytest.raises(TypeError, match="no such option: priorty; known: queue, priority"):
        client.submit("echo", priorty="high")


def test_a_wrong_option_is_a_problem(client: Any) -> None:
    with pytest.raises(errors.Problem, match="max_attempts") as caught:
        client.submit("echo", max_attempts=1000)
    assert (caught.value.status, caught.value.slug) == (400, "invalid-parameter")


def test_a_wrong_payload_names_its_places(client: Any) -> None:
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("crunch", {"photons": 0, "colour": "red"})
    problem = caught.value
    assert (problem.status, problem.slug) == (422, "invalid-submission")
    assert problem.title == "The submission is invalid"
    assert {violation.pointer for violation in problem.errors} == {"/photons", ""}
    assert problem.request_id


def test_a_payload_of_another_type_is_invalid(client: Any) -> None:
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("crunch", b"x", content_type="image/png")
    assert caught.value.status == 415


def test_a_payload_that_is_too_large_is_invalid(client: Any) -> None:
    with pytest.raises(errors.PayloadInvalid) as caught:
        client.submit("echo", "x" * 300_000)
    assert caught.value.status == 413
    assert caught.value.members["max_bytes"] == 262_144


def test_a_task_that_nobody_declared_is_unknown(client: Any) -> None:
    with pytest.raises(errors.UnknownTask, match="no worker ever declared"):
        client.submit("nobody.has.this")


def test_a_job_that_is_not_there_is_not_found(client: Any) -> None:
    with pytest.raises(errors.NotFound):
        client.get("01a20c36-14f1-8000-8f8f-f34074aa25aa")


@pytest.mark.parametrize("token", ["", "..", "../queues", "a/b", "a?wait=60", "a%2e", "x" * 1000])
def test_what_is_no_token_becomes_no_other_path(client: Any, token: str) -> None:
    with pytest.raises(errors.NotFound, match="not a token"):
        client.get(token)


def test_a_deleted_job_is_gone(client: Any) -> None:
    job = client.submit("echo", wait=WAIT_S)
    job.delete()
    with pytest.raises(errors.Gone):
        client.get(job.token)
    job.delete()


def test_the_same_key_is_the_same_job(client: Any) -> None:
    key = str(uuid.uuid4())
    first = client.submit("echo", {"order": 1}, key=key, metadata={"a": 1, "b": 2}, delay="1s")
    again = client.submit("echo", {"order": 1}, key=key, delay=1, metadata={"a": 1, "b": 2})
    assert (again.token, first.replayed, again.replayed) == (first.token, False, True)
    with pytest.raises(errors.IdempotencyConflict):
        client.submit("echo", {"order": 2}, key=key, metadata={"a": 1, "b": 2}, delay="1s")


def test_another_wait_is_the_same_submission(client: Any) -> None:
    key = str(uuid.uuid4())
    first = client.submit("echo", 1, key=key, wait=WAIT_S)
    assert client.submit("echo", 1, key=key).token == first.token


def test_two_submissions_without_a_key_are_two_jobs(client: Any) -> None:
    assert client.submit("echo").token != client.submit("echo").token


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\nb"])
def test_a_key_is_checked_before_it_is_sent(client: Any, key: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        client.submit("echo", key=key)


def test_events_tell_the_life_of_a_job(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    events = job.events(timeout=WAIT_S)
    actor = stage.actor()
    actor.act(progress=[0.5, "half"])
    seen = []
    for event in events:
        seen.append(event)
        if event.type == "progress" and event.message == "half":
            actor.act(log="a line")
        elif event.type == "log":
            actor.act(**{"return": 4})
    assert [event.line for event in seen if event.type == "log"] == ["a line"]
    first = next(event for event in seen if event.type == "progress")
    assert (first.progress, first.message) == (0.5, "half")
    last = seen[-1]
    assert (last.type, last.status) == ("done", "succeeded")
    assert last.job is not None
    assert last.job.result == 4
    # The handle knows the end too: this needs no request.
    assert job.document is last.job
    assert job.result(0) == 4


def test_events_resume_after_an_event(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    actor = stage.actor()
    actor.act(progress=[0.25, "first"])
    events = job.events(timeout=WAIT_S)
    event = next(event for event in events if event.message == "first")
    events.close()
    actor.act(progress=[0.5, "second"])
    actor.act(**{"return": None})
    rest = list(job.events(after=event.id, timeout=WAIT_S))
    assert "first" not in [it.message for it in rest if it.type == "progress"]
    assert rest[-1].type == "done"
    assert list(job.events(after=rest[-1].id, timeout=WAIT_S)) == []


def test_a_second_attempt_is_an_event(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    stage.actor().act(fail=["busy", "later", True])
    second = stage.actor()
    assert second.attempt == 2
    second.act(fail=["busy", "still", True])
    events = list(job.events(timeout=WAIT_S))
    assert events[-1].status == "failed"
    with pytest.raises(errors.JobFailed) as caught:
        job.result(0)
    assert (caught.value.code, caught.value.attempts) == ("busy", 2)
    outcomes = [(attempt.number, attempt.outcome) for attempt in job.attempts()]
    assert outcomes == [(1, "failed"), (2, "failed")]


def test_events_of_a_silent_job_end_in_time(client: Any) -> None:
    job = client.submit("echo", delay="1h")
    with pytest.raises(errors.WaitTimeout, match="scheduled"):
        list(job.events(timeout=0.2))


def test_logs_and_payload_are_read_back(client: Any, stage: Stage) -> None:
    job = client.submit("staged", stage.payload)
    actor = stage.actor()
    for number in range(3):
        actor.act(log=f"line {number}")
    actor.act(**{"return": 0})
    job.wait(WAIT_S)
    assert [line.line for line in job.logs()] == ["line 0", "line 1", "line 2"]
    assert job.payload() == stage.payload


def test_binary_payloads_are_read_back(client: Any) -> None:
    payload = client.submit("shout", b"light", content_type="text/plain").payload()
    assert (payload, payload.content_type) == (b"light", "text/plain")


def test_a_list_goes_on_over_its_pages(client: Any) -> None:
    queue = f"pages-{uuid.uuid4()}"
    jobs: list[Any] = []
    with client.batch(on_job=jobs.append) as batch:
        for number in range(230):
            batch.submit("echo", number, queue=queue, delay="1h")
    listed = [job.token for job in client.jobs(queue=queue)]
    assert len(listed) == 230
    assert set(listed) == {job.token for job in jobs}
    assert [job.token for job in client.jobs(queue=queue, status="failed")] == []
    newest = jobs[-1].document.created_at + timedelta(seconds=1)
    assert len(list(client.jobs(queue=queue, task="echo", created_before=newest))) == 230
    assert list(client.jobs(queue=queue, created_after=newest)) == []


def test_jobs_are_found_by_their_metadata(client: Any) -> None:
    customer = f"acme-{uuid.uuid4()}"
    for number in range(3):
        client.submit("echo", number, delay="1h", metadata={"customer": customer, "n": str(number)})
    listed = [job.document.metadata["n"] for job in client.jobs(metadata={"customer": customer})]
    assert listed == ["2", "1", "0"]
    one = client.jobs(metadata={"customer": customer, "n": "1"}, status="scheduled")
    assert [job.document.metadata["n"] for job in one] == ["1"]


def test_a_listed_job_has_its_result(client: Any) -> None:
    queue = f"list-{uuid.uuid4()}"
    token = client.submit("echo", [1, 2], queue=queue, delay="1h").token
    (listed,) = client.jobs(queue=queue)
    assert listed.token == token
    done = client.submit("echo", [1, 2], wait=WAIT_S)
    (found,) = [job for job in client.jobs(task="echo", status="succeeded") if job.id == done.id]
    assert found.document.result_omitted == "list"
    assert found.result(0) == [1, 2]


def test_an_unknown_queue_is_not_found(client: Any) -> None:
    with pytest.raises(errors.NotFound):
        list(client.jobs(queue="never-used"))


def test_tasks_queues_and_workers_are_listed(client: Any) -> None:
    tasks = {task.name: task for task in client.tasks()}
    assert {"echo", "shout", "staged", "crunch"} <= tasks.keys()
    assert tasks["shout"].accepts == ["text/plain"]
    assert client.task("shout") == tasks["shout"]
    assert "echo" in [queue.name for queue in client.queues()]
    assert client.queue("staged").name == "staged"
    # An API that delivers webhooks is listed too.
    (worker,) = [worker for worker in client.workers() if worker.kind == "worker"]
    assert worker.slots == 8
    assert "echo" in worker.tasks


def test_an_api_with_keys_needs_one(stack: Stack, make_client: MakeClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    create = ["keys", "create", "--file", str(keys), "--name", "test", "--scopes", "submit"]
    made = stack.run("crunch-api", *create)
    key = next(word for word in made.split() if word.startswith("crk_"))
    url = stack.start_api(CRUNCH_API_KEYS=str(keys))
    with pytest.raises(errors.Unauthorized):
        make_client(url).submit("echo", delay="1h")
    with pytest.raises(errors.Unauthorized):
        make_client(url, key="crk_wrong").submit("echo", delay="1h")
    job = make_client(url, key=key).submit("echo", delay="1h")
    with pytest.raises(errors.Forbidden):
        job.cancel()


def test_certificates_are_checked(stack: Stack, make_client: MakeClient, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    url = stack.start_api(CRUNCH_API_TLS_CERT=str(cert), CRUNCH_API_TLS_KEY=str(key))
    assert url.startswith("https://")
    with pytest.raises(errors.Unreachable, match=r"(?i)certificate"):
        # At once: another attempt would get the same certificate.
        make_client(url, timeout=3600).submit("echo")
    client = make_client(url, tls=ssl.create_default_context(cafile=str(cert)))
    assert [client.submit("echo", number).result(WAIT_S) for number in range(3)] == [0, 1, 2]
    assert list(client.submit("echo", 1).events(timeout=WAIT_S))[-1].type == "done"


def test_the_environment_names_the_api(
    stack: Stack, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRUNCH_URL", stack.url + "/")
    assert make_client(None).submit("echo", 5).result(WAIT_S) == 5
