"""Limits and groups of queues, against a real API."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

import crunch


@pytest.fixture
def queue(client: Any) -> str:
    """A queue of this test that holds one job."""
    queue = f"limited-{uuid.uuid4()}"
    client.submit("echo", 1, queue=queue, delay="1h", group="acme")
    return queue


def test_a_queue_has_a_limit_of_its_own_and_shares_one(client: Any, queue: str) -> None:
    # A family has one home, however many partitions there are.
    family = f"family-{uuid.uuid4()}"
    queue = f"{family}.one"
    client.submit("echo", 1, queue=queue, delay="1h", group="acme")
    rate = crunch.Rate(100, "1m")
    shared = client.limits.put(family, rate=rate)
    assert (shared.name, shared.queues, shared.state) == (family, (), "open")
    assert shared.rate == crunch.Rate(100, 60.0, 1)
    limit = client.limits.put_of_queue(queue, concurrency=3, limits=[family])
    assert (limit.name, limit.concurrency, limit.rate) == (None, 3, None)
    assert (limit.limits, limit.running, limit.held_by) == ((family,), 0, None)
    assert client.limits.of_queue(queue) == limit
    assert client.limits.get(family).queues == (queue,)
    assert family in [each.name for each in client.limits.all()]
    assert client.limits.delete(family) == [queue]
    assert client.limits.delete(family) == []
    assert client.limits.of_queue(queue).limits == ()
    client.limits.delete_of_queue(queue)
    for call in (client.limits.of_queue, client.limits.get):
        with pytest.raises(crunch.NotFound):
            call(queue)


def test_groups_have_rules(client: Any, queue: str) -> None:
    rule = client.limits.put_rule(queue, "a/b ü", weight=2, max_queued=7)
    assert (rule.weight, rule.concurrency, rule.rate, rule.max_queued) == (2, None, None, 7)
    each = client.limits.put_rule(queue, concurrency=1, rate=crunch.Rate(1, timedelta(hours=1), 2))
    assert (each.concurrency, each.rate) == (1, crunch.Rate(1, 3600.0, 2))
    (group,) = client.limits.groups(queue)
    assert (group.name, group.own_rule, group.state) == ("a/b ü", True, "idle")
    assert group.rule == rule
    client.limits.delete_rule(queue, "a/b ü")
    client.limits.delete_rule(queue)
    assert list(client.limits.groups(queue)) == []


@pytest.mark.parametrize("group", [".", "..", "a.b", "%2E", "a/../b", "?", "#"])
def test_a_group_may_have_any_name(client: Any, queue: str, group: str) -> None:
    each = client.limits.put_rule(queue, concurrency=9)
    client.limits.put_rule(queue, group, concurrency=1)
    assert [it.name for it in client.limits.groups(queue) if it.own_rule] == [group]
    client.limits.delete_rule(queue, group)
    assert client.limits.rule_of_each(queue) == each
    client.limits.delete_rule(queue)
    assert client.limits.rule_of_each(queue) is None
    with pytest.raises(ValueError, match="group"):
        client.limits.delete_rule(queue, "")


def test_an_invalid_limit_says_where(client: Any, queue: str) -> None:
    client.submit("echo", 1, queue=f"{queue}.b", delay="1h", group="acme")
    with pytest.raises(crunch.PayloadInvalid) as caught:
        client.limits.put_of_queue(queue, concurrency=0, limits=["None"])
    pointers = [violation.pointer for violation in caught.value.errors]
    assert pointers == ["/concurrency", "/limits/0"]
    with pytest.raises(crunch.NotFound, match="no limit"):
        client.limits.put_of_queue(f"{queue}.b", limits=[f"{queue}.none"])
    with pytest.raises(TypeError, match="no such option: weight; known: concurrency, rate"):
        client.limits.put("any", weight=1)
    with pytest.raises(ValueError, match="limit"):
        client.limits.get("No/Name")
    with pytest.raises(crunch.NotFound):
        client.limits.put_of_queue("never-used", concurrency=1)
