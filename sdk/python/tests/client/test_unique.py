"""What jobs are unique by: which values are taken, how they are sent, and what a client gets."""

from __future__ import annotations

import json
import pickle
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import crunch
from crunch import Unique, errors
from crunch.api.documents import UniqueInfo

from .conftest import MakeClient
from .scripted import TOKEN, ScriptedServer, job, problem, reply

OTHER = "01a20c36-14f1-8000-8f8f-000000000000"
SHOWN = {
    "key": None,
    "fields": ["/a"],
    "until": "end",
    "for_ms": None,
    "on_conflict": "reject",
    "max_wait_ms": None,
}


@pytest.fixture
def client(server: ScriptedServer, make_client: MakeClient) -> Any:
    return make_client(server.url)


@pytest.mark.parametrize(
    ("unique", "members"),
    [
        (Unique(), {}),
        (Unique("Ü" * 127 + "a"), {"key": "Ü" * 127 + "a"}),
        (Unique(fields=[""]), {"fields": [""]}),
        (Unique(fields=["/a"] * 16), {"fields": ["/a"] * 16}),
        (Unique(until="start"), {"until": "start"}),
        (Unique(for_="1h", on_conflict="reject"), {"for_ms": 3_600_000, "on_conflict": "reject"}),
        (
            Unique(on_conflict="replace", until="start", max_wait=timedelta(minutes=1)),
            {"on_conflict": "replace", "until": "start", "max_wait_ms": 60_000},
        ),
        (
            Unique(on_conflict="keep_latest", until="end"),
            {"on_conflict": "keep_latest", "until": "end"},
        ),
    ],
)
def test_what_is_given_is_sent(unique: Unique, members: dict[str, Any]) -> None:
    assert unique.members() == members


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"key": "a", "fields": ["/a"]}, "fields: not together with key"),
        ({"key": ""}, "key: '' is not 1 to 255 bytes of text"),
        ({"key": "x" * 256}, "1 to 255 bytes"),
        ({"key": "Ü" * 128}, "1 to 255 bytes"),
        ({"key": "a\n"}, "without control characters"),
        ({"key": "a\x85"}, "without control characters"),
        ({"key": "\ud800"}, "is not 1 to 255 bytes of text"),
        ({"key": 5}, "key: 5 is not"),
        ({"fields": []}, "fields: expected 1 to 16 JSON Pointers, not 0"),
        ({"fields": ["/a"] * 17}, "fields: expected 1 to 16 JSON Pointers, not 17"),
        ({"fields": ["a"]}, "fields: 'a' is not a JSON Pointer"),
        ({"fields": [5]}, "fields: 5 is not text"),
        ({"fields": "/a"}, "fields: '/a' is not a list such as"),
        ({"until": "never"}, "until: 'never' is not one of start, end"),
        ({"on_conflict": "ignore"}, "is not one of existing, reject, replace, keep_latest"),
        ({"for_": "soon"}, "for_: 'soon' is not a duration"),
        ({"for_": 0}, "for_: 0 is not from 1 ms"),
        ({"for_": "1h", "until": "end"}, "for_: not together with until"),
        ({"for_": "1h", "on_conflict": "replace"}, "holds the lock until the start"),
        ({"for_": "1h", "on_conflict": "keep_latest"}, "holds the lock until the end"),
        ({"until": "end", "on_conflict": "replace"}, "until: must be 'start'"),
        ({"until": "start", "on_conflict": "keep_latest"}, "until: must be 'end'"),
        ({"max_wait": "1h"}, "max_wait: only with on_conflict 'replace'"),
        ({"max_wait": "0s", "on_conflict": "replace"}, "max_wait: '0s' is not from 1 ms"),
    ],
)
def test_what_the_api_would_refuse_is_refused_at_once(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Unique(**given)
    assert why in str(caught.value)


def test_a_value_stays_as_it_is() -> None:
    fields = ["/a"]
    unique = Unique(fields=fields)
    fields.append("b")
    assert unique == Unique(fields=("/a",))
    assert hash(unique) == hash(Unique(fields=["/a"]))
    assert pickle.loads(pickle.dumps(unique)) == unique


@pytest.mark.parametrize(
    ("unique", "parameters"),
    [
        (Unique(), {"on_conflict": "existing"}),
        (
            Unique(fields=["/a", "/b"], for_=1, on_conflict="reject"),
            {"fields": "/a,/b", "for_ms": "1000", "on_conflict": "reject"},
        ),
        (Unique("a & b"), {"key": "a & b", "on_conflict": "existing"}),
    ],
)
def test_a_submission_says_it_in_its_query(
    server: ScriptedServer, client: Any, unique: Unique, parameters: dict[str, str]
) -> None:
    server.script(reply(202, job()))
    client.submit("echo", 1, unique=unique)
    query = dict(parse_qsl(urlsplit(server.requests[0].path).query))
    assert query == {f"unique.{name}": value for name, value in parameters.items()}


def test_a_field_with_a_comma_does_not_fit_into_a_query(
    server: ScriptedServer, client: Any
) -> None:
    with pytest.raises(ValueError, match="a field with a comma can only be given in a batch"):
        client.submit("echo", 1, unique=Unique(fields=["/a,b"]))
    server.script(reply(202, {"accepted": 1, "existing": 0, "refused": 0, "errors": []}))
    with client.batch() as batch:
        batch.submit("echo", 1, unique=Unique(fields=["/a,b"]))
    assert json.loads(server.requests[0].body)["unique"] == {"fields": ["/a,b"]}


def test_what_is_not_unique_is_rejected(client: Any) -> None:
    with pytest.raises(ValueError, match=r"unique: 'a' is not a crunch\.Unique"):
        client.submit("echo", 1, unique="a")


def test_the_job_that_holds_the_lock_is_returned(server: ScriptedServer, client: Any) -> None:
    server.script(reply(202, job(unique=SHOWN), crunch_existing="true"), reply(202, job()))
    first, second = (client.submit("echo", 1, unique=Unique()) for _ in range(2))
    assert (first.existing, first.replayed, first.token) == (True, False, TOKEN)
    assert first.document.unique == UniqueInfo(None, ["/a"], "end", None, "reject", None)
    assert (second.existing, second.document.unique) == (False, None)


def test_a_task_shows_what_its_jobs_are_unique_by(server: ScriptedServer, client: Any) -> None:
    names = crunch.api.documents.TaskInfo.__dataclass_fields__
    server.script(reply(200, {**dict.fromkeys(names), "name": "echo", "unique": SHOWN}))
    assert client.task("echo").unique == UniqueInfo(None, ["/a"], "end", None, "reject", None)


@pytest.mark.parametrize("act", ["submit", "retry"])
def test_a_held_lock_names_its_holder(server: ScriptedServer, client: Any, act: str) -> None:
    server.script(reply(202, job("canceled")), problem(409, "locked", job=OTHER))
    canceled = client.submit("echo", 1)
    with pytest.raises(errors.Locked) as caught:
        canceled.retry() if act == "retry" else client.submit("echo", 1, unique=Unique())
    locked = caught.value
    assert isinstance(locked, errors.Conflict)
    assert (locked.job, locked.slug) == (OTHER, "locked")
    assert pickle.loads(pickle.dumps(locked)).job == OTHER


def test_lines_that_created_no_job_are_counted(server: ScriptedServer, client: Any) -> None:
    for_now = {"type": "/problems/full", "title": "", "status": 503, "detail": ""}
    first = {
        "accepted": 1,
        "existing": 2,
        "refused": 1,
        "errors": [{"line": 2, "problem": for_now}],
    }
    second = {"accepted": 0, "existing": 1, "refused": 0, "errors": []}
    server.script(reply(202, first, retry_after="0"), reply(202, second))
    with client.batch() as batch:
        for number in range(4):
            batch.submit("echo", number, unique=Unique())
    assert (batch.accepted, batch.existing, batch.refused) == (1, 3, 0)
    lines = [json.loads(line) for line in server.requests[0].body.splitlines()]
    assert [it["unique"] for it in lines] == [{}] * 4


def test_items_that_created_no_job_are_counted_and_marked(
    server: ScriptedServer, client: Any
) -> None:
    locked = {"type": "/problems/locked", "title": "", "status": 409, "detail": "", "job": OTHER}
    items = [
        {"status": 202, "existing": True, "job": job()},
        {"status": 409, "problem": locked},
        {"status": 202, "existing": False, "job": job(id=OTHER, token=OTHER)},
    ]
    server.script(reply(202, {"items": items}))
    jobs: list[Any] = []
    batch = client.batch(on_job=jobs.append)

    def submit_all() -> None:
        with batch:
            for number in range(3):
                batch.submit("echo", number, unique=Unique())

    with pytest.raises(errors.JobsRefused, match="1 of 3 jobs were rejected") as caught:
        submit_all()
    assert [(it.token, it.existing) for it in jobs] == [(TOKEN, True), (OTHER, False)]
    assert (batch.accepted, batch.existing, batch.refused) == (1, 1, 1)
    assert (caught.value.accepted, caught.value.existing) == (1, 1)
    assert pickle.loads(pickle.dumps(caught.value)).existing == 1
    refused = caught.value.refusals[0].problem
    assert isinstance(refused, errors.Locked)
    assert refused.job == OTHER
