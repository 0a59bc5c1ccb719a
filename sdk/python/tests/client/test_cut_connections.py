"""Nothing is lost and nothing happens twice when connections to a real API break."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .conftest import MakeClient
from .relay import Relay
from .stack import Stack
from .stage import Stage

WAIT_S = 60


@pytest.mark.parametrize("cut", [0, 1, 20, 300, 1000])
def test_a_submission_whose_reply_is_lost_is_one_job(
    stack: Stack, make_client: MakeClient, cut: int
) -> None:
    queue = f"lost-{uuid.uuid4()}"
    with Relay(stack.url, [cut, cut]) as relay:
        job = make_client(relay.url).submit("echo", 1, queue=queue, delay="1h")
    assert relay.cuts == []
    (listed,) = make_client(stack.url).jobs(queue=queue)
    assert listed.token == job.token
    assert job.replayed


@pytest.mark.parametrize("with_jobs", [False, True])
def test_a_batch_whose_replies_are_lost_is_the_same_jobs(
    stack: Stack, make_client: MakeClient, with_jobs: bool
) -> None:
    queue = f"lost-{uuid.uuid4()}"
    jobs: list[Any] = []
    named = {"on_job": jobs.append} if with_jobs else {}
    with Relay(stack.url, [0, 30, 100]) as relay, make_client(relay.url).batch(**named) as batch:
        for number in range(1200):
            batch.submit("echo", number, queue=queue, delay="1h")
    assert relay.cuts == []
    assert batch.accepted == 1200
    listed = [job.token for job in make_client(stack.url).jobs(queue=queue)]
    assert len(listed) == len(set(listed)) == 1200
    if with_jobs:
        assert sorted(job.token for job in jobs) == sorted(listed)


def test_every_event_arrives_once_over_cut_connections(
    stack: Stack, make_client: MakeClient, stage: Stage
) -> None:
    token = make_client(stack.url).submit("staged", stage.payload).token
    actor = stage.actor()
    # The first connection transfers the job too.
    with Relay(stack.url, [2000, 750, 310, 420, 900]) as relay:
        job = make_client(relay.url).get(token)
        lines: list[int] = []
        actor.act(log="line 0")
        for event in job.events(timeout=WAIT_S):
            if event.type == "log":
                number = int(event.line.removeprefix("line "))
                lines.append(number)
                if number < 40:
                    actor.act(log=f"line {number + 1}")
                else:
                    actor.act(**{"return": "end"})
    assert lines == list(range(41))
    assert relay.cuts == []
    assert job.result(0) == "end"


def test_a_wait_survives_cut_connections(
    stack: Stack, make_client: MakeClient, stage: Stage
) -> None:
    with Relay(stack.url, [2000, 10, 50, 200]) as relay:
        job = make_client(relay.url).submit("staged", stage.payload)
        stage.actor().act(**{"return": [1, 2]})
        assert job.result(WAIT_S) == [1, 2]
