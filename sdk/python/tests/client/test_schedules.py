"""Schedules, against a real API."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import crunch

from .scripted import ScriptedServer, cut
from .stage import Stage


@pytest.fixture
def name() -> str:
    return f"schedule-{uuid.uuid4()}"


def test_a_schedule_is_put_read_changed_and_deleted(client: Any, name: str) -> None:
    put = client.schedules.put(
        name, "echo", {"n": 1}, cron="30 2 * * *", time_zone="Europe/Berlin", priority="low"
    )
    assert (put.name, put.status, put.origin) == (name, "active", "api")
    assert (put.task, put.queue, put.payload) == ("echo", "echo", {"n": 1})
    assert (put.cron, put.every_ms, put.time_zone) == ("30 2 * * *", None, "Europe/Berlin")
    assert (put.missed, put.overlap, put.job) == ("once", "skip", {"priority": "low"})
    assert len(put.next_runs) == 10
    assert put.next_runs[0] > datetime.now(timezone.utc)
    again = client.schedules.put(
        name, "echo", {"n": 1}, cron="30 2 * * *", time_zone="Europe/Berlin", priority="low"
    )
    assert again.changed_at == put.changed_at, "a repetition changes nothing"
    assert client.schedules.get(name) == again
    listed = {schedule.name: schedule for schedule in client.schedules.all()}
    assert (listed[name].payload, len(listed[name].next_runs)) == (None, 1)

    end = datetime.now(timezone.utc) + timedelta(days=2)
    changed = client.schedules.put(
        name,
        "echo",
        every="1h",
        jitter=timedelta(minutes=1),
        end_at=end,
        missed="all",
        missed_at_most=3,
        missed_within="2h",
        overlap="allow",
    )
    assert (changed.cron, changed.every_ms, changed.payload) == (None, 3_600_000, None)
    assert (changed.missed, changed.overlap, changed.job) == ("all", "allow", {})
    client.schedules.delete(name)
    for call in (client.schedules.get, client.schedules.delete, client.schedules.run):
        with pytest.raises(crunch.NotFound):
            call(name)


def test_a_schedule_is_paused_resumed_and_run(client: Any, name: str, stage: Stage) -> None:
    client.schedules.put(name, "staged", stage.payload, every="1h")
    paused = client.schedules.pause(name)
    assert (paused.status, paused.next_runs) == ("paused", ())
    assert paused.paused is not None
    assert paused.paused.code == "requested"
    assert client.schedules.resume(name).paused is None
    job = client.schedules.run(name)
    actor = stage.actor()
    with pytest.raises(crunch.Conflict):
        client.schedules.run(name)
    actor.act(**{"return": 5})
    assert job.result() == 5
    runs = client.schedules.get(name).runs
    assert [run.job for run in runs] in ([], [job.token])
    client.schedules.delete(name)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({}, ""),
        ({"cron": "61 * * * *"}, "/cron"),
        ({"every": "1h", "cron": "* * * * *"}, ""),
        ({"cron": "0 0 31 2 *"}, "/cron"),
        ({"every": "1h", "delay": "1s"}, "/job/delay_ms"),
    ],
)
def test_an_invalid_schedule_says_where(client: Any, name: str, options: Any, place: str) -> None:
    with pytest.raises(crunch.PayloadInvalid) as caught:
        client.schedules.put(name, "echo", **options)
    assert any(violation.pointer.startswith(place) for violation in caught.value.errors)


def test_what_can_not_be_sent_is_refused_at_once(client: Any) -> None:
    with pytest.raises(TypeError, match="no such option: crn"):
        client.schedules.put("name", "echo", crn="@daily")
    with pytest.raises(TypeError, match="no traceparent"):
        client.schedules.put("name", "echo", cron="@daily", traceparent="00-")
    with pytest.raises(ValueError, match="every: 'often' is not a duration"):
        client.schedules.put("name", "echo", every="often")
    with pytest.raises(ValueError, match=r"start_at: .* time zone"):
        client.schedules.put("name", "echo", every="1h", start_at=datetime(2026, 1, 1))
    with pytest.raises(TypeError, match="only JSON"):
        client.schedules.put("name", "echo", b"bytes", every="1h")
    with pytest.raises(ValueError, match="schedule"):
        client.schedules.get("No/Name")


def test_a_run_whose_answer_is_lost_is_not_repeated(
    make_client: Any, server: ScriptedServer
) -> None:
    client = make_client(server.url, timeout=5)
    server.script(cut())
    with pytest.raises(crunch.Unreachable, match="POST /schedules/nightly/run"):
        client.schedules.run("nightly")
