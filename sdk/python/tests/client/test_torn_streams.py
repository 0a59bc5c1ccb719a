"""Events over a network that misbehaves."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from crunch import errors

from .conftest import MakeClient
from .scripted import (
    TOKEN,
    ScriptedServer,
    cut,
    event,
    free_event,
    job,
    problem,
    reply,
    stream,
)

DONE = event("done", "9.0", **job("succeeded", result=[1]))


@pytest.fixture
def client(server: ScriptedServer, make_client: MakeClient) -> Any:
    return make_client(server.url)


def progress(number: int) -> bytes:
    return event(
        "progress", f"{number}.0", at=None, progress=number / 10, progress_message=f"{number}"
    )


def test_a_torn_stream_resumes_after_its_last_whole_event(
    server: ScriptedServer, client: Any
) -> None:
    second = progress(2)
    server.script(
        reply(200, job("running")),
        stream(progress(1), second[:20], ends=False),
        cut(),
        problem(503, "overloaded", retry_after="0"),
        stream(second, progress(3), ends=True),
        stream(DONE),
    )
    events = list(client.get(TOKEN).events())
    assert [it.message for it in events] == ["1", "2", "3", None]
    assert [it.type for it in events][-1] == "done"
    resumed = [request.headers.get("last-event-id") for request in server.requests[1:]]
    assert resumed == [None, "1.0", "1.0", "1.0", "3.0"]


def test_a_stream_in_single_bytes_is_the_same(server: ScriptedServer, client: Any) -> None:
    whole = b": hello\r\n\r\n" + progress(1) + DONE
    parts = [whole[at : at + 1] for at in range(len(whole))]
    server.script(reply(200, job("running")), stream(*parts))
    assert [it.type for it in client.get(TOKEN).events()] == ["progress", "done"]


def test_an_unknown_event_is_skipped(server: ScriptedServer, client: Any) -> None:
    server.script(
        reply(200, job("running")),
        stream(event("mood", "1.0", sunny=True), cut_event(), progress(2), DONE),
    )
    assert [it.type for it in client.get(TOKEN).events()] == ["progress", "done"]


def cut_event() -> bytes:
    return b"data\n\n"


def test_a_stream_of_something_else_is_not_the_api(server: ScriptedServer, client: Any) -> None:
    server.script(reply(200, job("running")), reply(200, job("running")))
    with pytest.raises(errors.UnexpectedResponse, match="application/json"):
        list(client.get(TOKEN).events())


def test_an_event_without_end_is_not_the_api(server: ScriptedServer, client: Any) -> None:
    server.script(reply(200, job("running")), stream(b"data: ", *[b"x" * 500_000] * 10))
    with pytest.raises(errors.UnexpectedResponse, match="an event of more than"):
        list(client.get(TOKEN).events())


def test_a_stream_of_a_job_that_is_gone_is_a_problem(server: ScriptedServer, client: Any) -> None:
    server.script(reply(200, job("running")), problem(410, "gone"))
    with pytest.raises(errors.Gone):
        list(client.get(TOKEN).events())


def test_events_end_with_their_timeout(server: ScriptedServer, client: Any) -> None:
    with free_event() as until:
        server.script(reply(200, job("running")), stream(progress(1), until=until, ends=False))
        events = client.get(TOKEN).events(timeout=0.3)
        assert next(events).message == "1"
        with pytest.raises(errors.WaitTimeout, match="running"):
            next(events)


def test_a_stream_that_always_breaks_ends(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script(reply(200, job("running")), *[stream(ends=False)] * 200)
    client = make_client(server.url, timeout=0.3)
    with pytest.raises(errors.Unreachable):
        list(client.get(TOKEN).events())


def test_abandoned_events_close_their_connection(server: ScriptedServer, client: Any) -> None:
    closed = threading.Event()

    def watch(connection: Any) -> bool:
        stream(progress(1), ends=False)(connection)
        # Nothing more is sent: what can be read is the end.
        assert connection.recv(1) == b""
        closed.set()
        return False

    server.script(reply(200, job("running")), watch)
    events = client.get(TOKEN).events()
    next(events)
    events.close()
    assert closed.wait(60)
