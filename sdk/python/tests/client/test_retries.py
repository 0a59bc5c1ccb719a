"""When requests are repeated, and how long the pauses are. No network, no real pauses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from crunch import errors
from crunch.api.calls import Calls
from crunch.api.documents import job, parsed
from crunch.api.http import NoResponse, Open, Pause, Read, Request, Response, Send
from crunch.api.retries import LONGEST_PAUSE_S, perform
from crunch.events import job_events

GET = Request("GET", "/jobs")
UNSAFE = Request("POST", "/jobs/x/retry", repeatable=False)
LOST = NoResponse("lost", sent=True)
REFUSED = NoResponse("refused", sent=False)
OK = Response(200)


def busy(retry_after: int | None = None, status: int = 503, body: bytes = b"{}") -> Response:
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return Response(status, headers, body)


class Run:
    """Runs a flow with these outcomes of its requests, and a clock that only pauses move."""

    def __init__(
        self, request: Request, outcomes: Sequence[Response | NoResponse], timeout: float = 30
    ) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.sent: list[Send] = []
        self._outcomes = list(outcomes)
        self._flow = perform(request, lambda: self.now, timeout)
        self.response: Response | None = None

    def __call__(self) -> Response:
        reply: Response | NoResponse = Response()
        try:
            effect = next(self._flow)
            while True:
                if isinstance(effect, Pause):
                    self.pauses.append(effect.seconds)
                    self.now += effect.seconds
                    reply = Response()
                else:
                    assert isinstance(effect, Send)
                    self.sent.append(effect)
                    reply = self._outcomes.pop(0)
                if isinstance(reply, NoResponse):
                    effect = self._flow.throw(reply)
                else:
                    effect = self._flow.send(reply)
        except StopIteration as stop:
            response: Response = stop.value
            return response


def test_pauses_grow_up_to_a_limit() -> None:
    run = Run(GET, [LOST] * 12 + [OK], timeout=600)
    assert run() is OK
    for number, pause in enumerate(run.pauses):
        longest = min(0.1 * 2**number, LONGEST_PAUSE_S)
        assert longest / 2 <= pause <= longest
    assert len(set(run.pauses)) == 12


def test_a_pause_is_never_shorter_than_the_api_asks() -> None:
    run = Run(GET, [busy(3), busy(7, 429), OK])
    assert run() is OK
    assert 3 < run.pauses[0] < 3.2
    assert 7 < run.pauses[1] < 7.4


def test_all_attempts_together_are_limited() -> None:
    run = Run(GET, [LOST] * 1000, timeout=30)
    with pytest.raises(errors.Unreachable, match="GET /jobs: lost"):
        run()
    assert 25 < run.now <= 30
    assert len(run.sent) == len(run.pauses) + 1


def test_an_attempt_gets_the_time_that_is_left() -> None:
    run = Run(GET, [busy(10), busy(10), OK], timeout=30)
    assert run() is OK
    timeouts = [send.timeout for send in run.sent]
    assert timeouts[0] == 30
    assert timeouts[1] == pytest.approx(30 - run.pauses[0])
    assert timeouts[2] == pytest.approx(30 - sum(run.pauses))


def test_a_pause_beyond_the_end_is_not_made() -> None:
    run = Run(GET, [busy(31)], timeout=30)
    assert run().status == 503
    assert run.pauses == []


def test_a_request_that_was_never_sent_is_always_repeated() -> None:
    assert Run(UNSAFE, [REFUSED, REFUSED, OK])() is OK


def test_a_request_that_may_have_arrived_is_repeated_only_if_that_is_safe() -> None:
    with pytest.raises(errors.Unreachable):
        Run(UNSAFE, [LOST, OK])()
    unknown = busy(0, body=b'{"outcome": "unknown"}')
    assert Run(UNSAFE, [unknown, OK])() is unknown
    assert Run(UNSAFE, [busy(0, 504), OK])().status == 504
    assert Run(UNSAFE, [busy(0), OK])() is OK
    assert Run(GET, [LOST, unknown, busy(0, 504), busy(0, 502), OK])() is OK


def test_a_stale_connection_is_replaced_without_a_pause() -> None:
    run = Run(GET, [NoResponse("closed", sent=True, stale=True), OK])
    assert run() is OK
    assert run.pauses == [0.0]
    with pytest.raises(errors.Unreachable):
        Run(UNSAFE, [NoResponse("closed", sent=True, stale=True), OK])()


def test_the_wait_of_a_repeated_request_ends_when_it_would_have_ended() -> None:
    run = Run(Request("GET", "/jobs/x", wait=20), [busy(8), busy(8), busy(8), OK], timeout=30)
    assert run() is OK
    assert [send.request.wait for send in run.sent] == [20, 11, 3, 0]
    assert run.sent[0].timeout == 50


def test_other_responses_are_returned() -> None:
    for status in (200, 202, 204, 302, 400, 404, 409, 500):
        assert Run(GET, [Response(status)])().status == status


def test_a_wait_that_was_not_made_is_a_pause() -> None:
    """An API with too many waiting clients responds at once, and says when to come back."""
    now, pauses = 0.0, list[float]()

    def answer(effect: Any) -> Response:
        nonlocal now
        if isinstance(effect, Pause):
            pauses.append(effect.seconds)
            now += effect.seconds
            return Response()
        return Response(200, {"retry-after": "5"}, RUNNING)

    with pytest.raises(errors.WaitTimeout):
        drive(Calls(30, lambda: now).ended(parsed(job, json.loads(RUNNING)), 22), answer)
    assert pauses == [5, 5, 5, 5, 2]


def test_a_silent_stream_is_opened_again() -> None:
    """Silence takes as long as all attempts may: only what follows it is counted."""
    now, opened = 0.0, 0

    def answer(effect: Any) -> Response | NoResponse:
        nonlocal now, opened
        if isinstance(effect, Open):
            opened, parts[:] = opened + 1, [b": here\n\n"]
            return Response(200, {"content-type": "text/event-stream"})
        if isinstance(effect, Read) and parts:
            return Response(body=parts.pop())
        now += effect.timeout if isinstance(effect, Read) else effect.seconds
        return NoResponse("silence", sent=True) if isinstance(effect, Read) else Response()

    parts: list[bytes] = []
    flow = job_events(Calls(30, lambda: now), parsed(job, json.loads(RUNNING)), None, 300)
    with pytest.raises(errors.WaitTimeout):
        drive(flow, answer)
    assert opened == 10


def drive(flow: Any, answer: Callable[[Any], Response | NoResponse]) -> None:
    """Answer everything that a flow asks for."""
    effect = next(flow)
    while True:
        reply = answer(effect)
        effect = flow.throw(reply) if isinstance(reply, NoResponse) else flow.send(reply)


RUNNING = b"""{"id": "t", "token": "t", "task": "t", "queue": "q", "priority": "normal",
    "group": null, "unique": null, "status": "running", "progress": null,
    "progress_message": null, "worker": null, "attempt": 1, "max_attempts": 3, "snoozes": 0,
    "cancel_requested": false,
    "created_at": "2026-11-28T00:00:00Z", "run_at": null, "started_at": null,
    "finished_at": null, "expires_at": null, "payload_size": 1, "result_size": null,
    "result": null, "result_content_type": null, "result_omitted": null, "error": null,
    "error_group": null, "waiting_for": null, "schedule": null, "metadata": {}}"""


@pytest.mark.parametrize(("timeout", "waits"), [(100.0, [30, 30, 30, 10]), (45.5, [30, 15])])
def test_a_long_wait_is_made_of_requests_that_wait(timeout: float, waits: list[int]) -> None:
    """A request waits for no longer than proxies do; the rest of a second is a pause."""
    now = 0.0
    calls = Calls(30, lambda: now)
    flow = calls.job("token", timeout)
    asked: list[int] = []
    ended = None
    effect = next(flow)
    while ended is None:
        if isinstance(effect, Send):
            asked.append(effect.request.wait)
            now += effect.request.wait
            reply = Response(200, {"retry-after": "1"}, RUNNING)
        else:
            assert isinstance(effect, Pause)
            now += effect.seconds
            reply = Response()
        try:
            effect = flow.send(reply)
        except StopIteration as stop:
            ended = stop.value
    assert ended.status == "running"
    assert [wait for wait in asked if wait] == waits
    assert now == timeout
