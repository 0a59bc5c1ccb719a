"""What both clients make of a server and a network that misbehave."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from crunch import errors
from crunch.api.http import SILENCE_S
from crunch.client import Client

from .conftest import MakeClient
from .scripted import (
    TOKEN,
    ScriptedServer,
    cut,
    encoded,
    event,
    free_event,
    job,
    problem,
    reply,
    silence,
)

DONE = event("done", "9.0", **job("succeeded", result=[1]))


@pytest.fixture
def client(server: ScriptedServer, make_client: MakeClient) -> Any:
    return make_client(server.url)


def keys(server: ScriptedServer) -> set[str]:
    return {request.headers["idempotency-key"] for request in server.requests}


def test_a_submission_is_repeated_with_its_key(server: ScriptedServer, client: Any) -> None:
    server.script(
        problem(503, "unavailable", retry_after="0", outcome="unknown"),
        problem(429, "rate-limited", retry_after="0"),
        reply(202, job()),
    )
    assert client.submit("echo", {"a": 1}, delay="1h", metadata={"b": 2}).token == TOKEN
    assert server.done
    first, *others = server.requests
    assert len(keys(server)) == 1
    assert [(it.path, it.body) for it in others] == [(first.path, first.body)] * 2


def test_a_lost_reply_to_a_submission_is_asked_for_again(
    server: ScriptedServer, client: Any
) -> None:
    server.script(cut(), cut(b"HTTP/1.1 202 X\r\ncontent-le"), reply(202, job()))
    assert client.submit("echo").token == TOKEN
    assert len(keys(server)) == 1
    assert len(server.requests) == 3


HEAD = encoded(200, job()).partition(b"\r\n\r\n")[0] + b"\r\n"


@pytest.mark.parametrize("at", [1, 12, 16, 17, 25, HEAD.index(b"content-length") + 3, len(HEAD)])
def test_a_part_of_a_head_is_no_response(server: ScriptedServer, client: Any, at: int) -> None:
    server.script(cut(HEAD[:at]), reply(200, job("succeeded", result="long")))
    assert client.get(TOKEN).result() == "long"
    assert server.done


def test_a_part_of_a_body_is_no_response(server: ScriptedServer, client: Any) -> None:
    whole = encoded(200, job("succeeded", result="long"))
    server.script(cut(whole[:-5]), cut(whole[:-100]), reply(200, job("succeeded", result="long")))
    assert client.get(TOKEN).result() == "long"


def test_a_torn_chunk_is_no_response(server: ScriptedServer, client: Any) -> None:
    head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    server.script(cut(head + b"ff\r\n{"), reply(200, job()))
    assert client.get(TOKEN).status == "queued"


def test_what_is_not_http_is_no_response(server: ScriptedServer, client: Any) -> None:
    server.script(cut(b"SSH-2.0-OpenSSH_9.2\r\n"), reply(200, job()))
    assert client.get(TOKEN).status == "queued"


def test_an_idle_connection_that_was_closed_is_replaced(
    server: ScriptedServer, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def answer_and_close(connection: Any) -> bool:
        connection.sendall(encoded(200, job()))
        return False

    server.script(answer_and_close, reply(200, job()))
    client.get(TOKEN)
    client.get(TOKEN)
    assert [request.connection for request in server.requests] == [1, 2]
    # It is no outage, so nothing is logged.
    assert not caplog.records


def test_connections_are_reused(server: ScriptedServer, client: Any) -> None:
    server.script(*[reply(200, job())] * 5)
    for _ in range(5):
        client.get(TOKEN)
    assert {request.connection for request in server.requests} == {1}


def test_a_retry_is_not_repeated_when_its_reply_is_lost(
    server: ScriptedServer, client: Any
) -> None:
    server.script(reply(200, job("failed")), cut())
    failed = client.get(TOKEN)
    with pytest.raises(errors.Unreachable, match=f"POST /jobs/{TOKEN}/retry"):
        failed.retry()
    assert len(server.requests) == 2


def test_a_retry_whose_outcome_is_unknown_is_not_repeated(
    server: ScriptedServer, client: Any
) -> None:
    unknown = problem(503, "unavailable", retry_after="0", outcome="unknown")
    server.script(reply(200, job("failed")), unknown)
    failed = client.get(TOKEN)
    with pytest.raises(errors.Unavailable) as caught:
        failed.retry()
    assert caught.value.outcome_unknown
    assert len(server.requests) == 2


def test_a_retry_that_changed_nothing_is_repeated(server: ScriptedServer, client: Any) -> None:
    busy = problem(503, "unavailable", retry_after="0")
    server.script(reply(200, job("failed")), busy, reply(202, job("queued")))
    assert client.get(TOKEN).retry().status == "queued"


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [
        (400, "malformed-json", errors.PayloadInvalid),
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "not-found", errors.NotFound),
        (404, "unknown-task", errors.UnknownTask),
        (409, "job-finished", errors.Conflict),
        (410, "gone", errors.Gone),
        (413, "payload-too-large", errors.PayloadInvalid),
        (415, "unsupported-media-type", errors.PayloadInvalid),
        (422, "invalid-submission", errors.PayloadInvalid),
        (422, "idempotency-conflict", errors.IdempotencyConflict),
        (500, "internal", errors.Problem),
        (418, "later-version", errors.Problem),
    ],
)
def test_other_problems_are_raised_at_once(
    server: ScriptedServer, client: Any, status: int, slug: str, kind: type[errors.Problem]
) -> None:
    server.script(problem(status, slug, detail="why", max_bytes=5))
    with pytest.raises(kind) as caught:
        client.submit("echo")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.slug) == (status, slug)
    assert (caught.value.detail, caught.value.members["max_bytes"]) == ("why", 5)
    assert len(server.requests) == 1


def test_a_rejection_that_does_not_end_is_raised(server: ScriptedServer, client: Any) -> None:
    rejections = [problem(503, "full", retry_after=seconds) for seconds in ("0", "3600")]
    server.script(*rejections)
    with pytest.raises(errors.Unavailable) as caught:
        client.submit("echo")
    assert caught.value.slug == "full"
    assert len(server.requests) == 2


def test_a_pause_that_is_longer_than_the_time_left_is_not_made(
    server: ScriptedServer, client: Any
) -> None:
    server.script(problem(429, "rate-limited", retry_after="3600"))
    with pytest.raises(errors.TooManyRequests) as caught:
        client.submit("echo")
    assert caught.value.retry_after == 3600


def test_nobody_there_is_unreachable(make_client: MakeClient) -> None:
    # Port 1 of this machine belongs to nobody. A first connection may take long on a busy machine.
    client = make_client("http://127.0.0.1:1", timeout=2)
    with pytest.raises(errors.Unreachable, match="cannot connect") as caught:
        client.submit("echo")
    assert isinstance(caught.value, ConnectionError)


def test_an_outage_is_logged_once(
    server: ScriptedServer, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(cut(), cut(), cut(), reply(200, job()))
    with caplog.at_level(logging.WARNING, "crunch"):
        client.get(TOKEN)
    assert len([it for it in caplog.records if "retrying for up to" in it.getMessage()]) == 1


def test_silence_ends(server: ScriptedServer, make_client: MakeClient) -> None:
    with free_event() as until:
        server.script(*[silence(until)] * 3)
        with pytest.raises(errors.Unreachable, match="no response in time"):
            make_client(server.url, timeout=0.3).get(TOKEN)


def test_silence_within_a_body_ends(server: ScriptedServer, make_client: MakeClient) -> None:
    part = encoded(200, job())[:-10]
    with free_event() as until:
        server.script(*[silence(until, part)] * 3)
        with pytest.raises(errors.Unreachable, match="no response in time"):
            make_client(server.url, timeout=0.3).get(TOKEN)


def test_a_response_that_trickles_ends(server: ScriptedServer, make_client: MakeClient) -> None:
    """Each byte comes in time, but the whole does not."""
    with free_event() as until:

        def trickle(connection: Any) -> bool:
            connection.sendall(b"HTTP/1.1 200 X\r\nx-long: ")
            while not until.wait(0.01):
                connection.sendall(b"x")
            return False

        server.script(*[trickle] * 3)
        with pytest.raises(errors.Unreachable, match="no response in time"):
            make_client(server.url, timeout=0.3).get(TOKEN)


TOO_LARGE = {"type": "/problems/payload-too-large"}


def test_a_response_before_the_body_was_sent_counts(server: ScriptedServer, client: Any) -> None:
    def reject_early(connection: Any) -> bool:
        connection.sendall(encoded(413, TOO_LARGE, connection="close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1_000_000):
            pass
        return False

    server.reads_bodies = False
    server.script(reject_early)
    with pytest.raises(errors.PayloadInvalid):
        client.submit("echo", b"x" * 8_000_000)


def test_a_response_counts_though_the_body_cannot_be_sent(server: ScriptedServer) -> None:
    """Only the blocking client: an event loop discards what a reset connection had received."""

    def reject_and_reset(connection: Any) -> bool:
        connection.sendall(encoded(413, TOO_LARGE, connection="close"))
        # A connection that is closed before everything was read is reset.
        return False

    server.reads_bodies = False
    server.script(reject_and_reset)
    with Client(server.url) as client, pytest.raises(errors.PayloadInvalid):
        client.submit("echo", b"x" * 8_000_000)


def test_a_page_of_a_proxy_is_a_problem(server: ScriptedServer, client: Any) -> None:
    server.script(reply(404, b"<html>no</html>", content_type="text/html"))
    with pytest.raises(errors.NotFound) as caught:
        client.get(TOKEN)
    assert (caught.value.type, caught.value.title) == ("about:blank", "Not Found")


def test_a_proxy_that_lost_the_response_is_asked_again(server: ScriptedServer, client: Any) -> None:
    server.script(reply(502, b"", content_type="text/html"), reply(504), reply(200, job()))
    assert client.get(TOKEN).status == "queued"


def test_a_redirect_is_not_followed(server: ScriptedServer, client: Any) -> None:
    server.script(reply(302, location="http://example.org/"))
    with pytest.raises(errors.Problem, match="302"):
        client.get(TOKEN)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"id": 1}', b"null", b"", b"[" * 100_000])
def test_another_server_is_not_the_api(server: ScriptedServer, client: Any, body: bytes) -> None:
    server.script(reply(200, body))
    with pytest.raises(errors.UnexpectedResponse):
        client.get(TOKEN)


def test_members_of_later_versions_are_ignored(server: ScriptedServer, client: Any) -> None:
    server.script(reply(200, job("queued", mood="sunny", result_of="later")))
    assert client.get(TOKEN).status == "queued"


def test_a_result_that_is_not_json_is_not_hidden(server: ScriptedServer, client: Any) -> None:
    server.script(reply(200, job("succeeded", result_omitted="not_utf8")), reply(200, b'"\xff"'))
    with pytest.raises(errors.ResultUnreadable) as caught:
        client.get(TOKEN).result()
    assert caught.value.content == b'"\xff"'


def test_the_key_is_sent_and_never_shown(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script(problem(401, "unauthorized"))
    client = make_client(server.url, key="crk_id_secret")
    with pytest.raises(errors.Unauthorized) as caught:
        client.get(TOKEN)
    assert server.requests[0].headers["authorization"] == "Bearer crk_id_secret"
    assert server.requests[0].headers["user-agent"].startswith("crunch-sdk/")
    assert "secret" not in repr(client) + repr(caught.value)


def test_the_path_of_the_address_is_kept(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script(reply(200, job()))
    make_client(server.url + "/crunch/api/").get(TOKEN)
    assert server.requests[0].path == f"/crunch/api/jobs/{TOKEN}"


# Waiting


def test_waiting_goes_on_when_a_request_was_long_enough(
    server: ScriptedServer, client: Any
) -> None:
    server.script(
        reply(202, job("queued")),
        # Too many wait: the response comes at once, with a pause.
        reply(200, job("running"), retry_after="0"),
        problem(503, "unavailable", retry_after="0"),
        cut(),
        reply(200, job("succeeded", result=3)),
    )
    assert client.submit("echo").result(timeout=50) == 3
    waits = [request.headers.get("prefer", "") for request in server.requests]
    assert waits[0] == ""
    assert waits[1] == "wait=30"
    assert server.done


def test_a_wait_for_ever_is_possible(server: ScriptedServer, client: Any) -> None:
    server.script(reply(202, job()), reply(200, job("succeeded", result=3)))
    assert client.submit("echo").result(timeout=None) == 3


def test_a_wait_of_no_time_asks_once(server: ScriptedServer, client: Any) -> None:
    server.script(reply(202, job()), reply(200, job("running")))
    with pytest.raises(errors.WaitTimeout):
        client.submit("echo").wait(0)
    assert "prefer" not in server.requests[1].headers


def test_a_job_that_is_removed_ends_the_wait(server: ScriptedServer, client: Any) -> None:
    server.script(reply(202, job()), problem(410, "trimmed"))
    with pytest.raises(errors.Gone):
        client.submit("echo").result()


def test_the_longest_wait_is_longer_than_silence() -> None:
    """A request that waits is not taken for a broken connection."""
    from crunch.api.calls import LONGEST_WAIT_S
    from crunch.api.http import Request

    assert Request("GET", "/", wait=LONGEST_WAIT_S).silence == LONGEST_WAIT_S + SILENCE_S
