"""Batches over a network that misbehaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crunch import errors

from .conftest import MakeClient
from .scripted import (
    ScriptedServer,
    cut,
    event,
    job,
    problem,
    reply,
)

DONE = event("done", "9.0", **job("succeeded", result=[1]))


@pytest.fixture
def client(server: ScriptedServer, make_client: MakeClient) -> Any:
    return make_client(server.url)


def lines(accepted: int, *errors_: dict[str, Any], existing: int = 0) -> dict[str, Any]:
    counts = {"accepted": accepted, "existing": existing, "refused": len(errors_)}
    return {**counts, "errors": list(errors_)}


def rejected(line: int, status: int, slug: str) -> dict[str, Any]:
    members = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": ""}
    return {"line": line, "problem": members}


def sent_lines(body: bytes) -> list[Any]:
    return [json.loads(line)["payload"] for line in body.splitlines()]


def test_only_lines_that_were_rejected_for_now_are_sent_again(
    server: ScriptedServer, client: Any
) -> None:
    refusals: list[Any] = []
    server.script(
        reply(
            202,
            lines(2, rejected(2, 503, "unavailable"), rejected(4, 422, "invalid-submission")),
            retry_after="0",
        ),
        reply(202, lines(1)),
    )
    with client.batch(on_refused=refusals.append) as batch:
        for number in range(1, 5):
            batch.submit("echo", number)
    assert [sent_lines(request.body) for request in server.requests] == [[1, 2, 3, 4], [2]]
    assert (batch.accepted, batch.refused) == (3, 1)
    assert [(it.line, it.problem.status) for it in refusals] == [(4, 422)]


def test_a_batch_whose_reply_is_lost_is_sent_again_as_it_was(
    server: ScriptedServer, client: Any
) -> None:
    server.script(cut(), reply(503, lines(0, rejected(1, 503, "full"))), reply(202, lines(1)))
    with client.batch() as batch:
        batch.submit("echo", 1)
    assert batch.accepted == 1
    assert len({request.body for request in server.requests}) == 1


def test_a_batch_can_go_on_after_an_outage(server: ScriptedServer, make_client: MakeClient) -> None:
    client = make_client(server.url, timeout=5.0)
    batch = client.batch()
    batch.submit("echo", 1)
    server.script(problem(503, "unavailable", retry_after="60"))
    with pytest.raises(errors.Unavailable):
        batch.flush()
    server.script(reply(202, lines(2)))
    batch.submit("echo", 2)
    batch.flush()
    assert batch.accepted == 2
    assert sent_lines(server.requests[-1].body) == [1, 2]


def test_a_batch_that_is_too_large_is_split(server: ScriptedServer, client: Any) -> None:
    refusals: list[Any] = []
    too_large = problem(413, "payload-too-large")
    server.script(too_large, too_large, too_large, reply(202, lines(1)), reply(202, lines(2)))
    with client.batch(on_refused=refusals.append) as batch:
        for number in range(4):
            batch.submit("echo", number)
    sent = [sent_lines(request.body) for request in server.requests]
    assert sent == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]
    assert [(it.line, it.problem.status) for it in refusals] == [(1, 413)]
    assert batch.accepted == 3


def test_a_batch_without_permission_is_a_problem(server: ScriptedServer, client: Any) -> None:
    server.script(problem(403, "forbidden"))
    with pytest.raises(errors.Forbidden), client.batch() as batch:
        batch.submit("echo", 1)


@pytest.mark.parametrize("body", [lines(5), {"items": []}, {"accepted": "x"}, b"<html>"])
def test_a_batch_with_other_outcomes_is_not_the_api(
    server: ScriptedServer, client: Any, body: Any
) -> None:
    server.script(reply(202, body))
    with pytest.raises(errors.UnexpectedResponse), client.batch() as batch:
        batch.submit("echo", 1)


def test_large_lines_are_sent_soon(server: ScriptedServer, client: Any) -> None:
    server.script(reply(202, lines(3)), reply(202, lines(1)))
    with client.batch() as batch:
        for _ in range(4):
            batch.submit("echo", "x" * 400_000)
    assert [request.body.count(b"\n") + 1 for request in server.requests] == [3, 1]
