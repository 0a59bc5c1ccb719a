"""Functions that are tasks: wrong payloads are errors of type checkers, results have their type."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import crunch
from crunch import errors
from crunch.api.payloads import Content
from crunch.client import Client
from crunch.testing import fake

PACKAGE = Path(__file__).parents[2]


def test_type_checkers_find_wrong_payloads() -> None:
    mypy = pytest.importorskip("mypy.api")
    calls = Path(__file__).parent / "typed" / "calls.py"
    options = [
        "--strict",
        "--python-version",
        "3.10",
        "--config-file",
        str(PACKAGE / "pyproject.toml"),
    ]
    report, trouble, code = mypy.run([*options, "--no-incremental", str(calls)])
    assert (code, trouble) == (0, ""), report


@dataclass
class Slab:
    rays: int
    seen: date = date(2026, 11, 28)
    parts: list[tuple[int, str]] = field(default_factory=list)


@crunch.task
def copy(slab: Slab, job: crunch.Job) -> Slab:
    return slab


@crunch.task
async def add(numbers: list[int]) -> int:
    return sum(numbers)


@crunch.task
def picture() -> bytes:
    return b"\x89PNG"


@pytest.fixture
def client() -> Any:
    client = Client("http://127.0.0.1:1")
    with fake(client, [copy, add, picture]):
        yield client


def test_a_result_has_the_type_that_the_function_declares(client: Client) -> None:
    slab = Slab(3, date(2027, 1, 2), [(1, "a")])
    assert client.submit(copy, slab).result() == slab


def test_a_coroutine_is_submitted_like_a_function(client: Client) -> None:
    assert client.submit(add, [1, 2]).result() == 3


def test_bytes_are_content(client: Client) -> None:
    result = client.submit(picture).result()
    assert isinstance(result, Content)
    assert (result, result.content_type) == (b"\x89PNG", "application/octet-stream")


def test_a_worker_of_another_version_is_noticed(client: Client) -> None:
    with fake(client, {"copy": lambda _: {"rays": "many"}}):
        job = client.submit(copy, Slab(1))
        with pytest.raises(
            errors.ResultUnreadable, match="/rays: expected a whole number"
        ) as caught:
            job.result()
    assert caught.value.content == b'{"rays":"many"}'


def test_errors_survive_pickling() -> None:
    """Errors travel between processes."""
    import pickle

    problem = errors.Problem.of(422, {"type": "/problems/invalid-submission"}, retry_after=3)
    for error in (
        problem,
        errors.JobFailed("code", "message", 2, "token"),
        errors.JobCanceled("message", "token"),
        errors.WaitTimeout("token", "running"),
        errors.ResultUnreadable("reason", b"x", "text/plain"),
        errors.JobsRefused(1, 1, [errors.Refusal(1, "key", problem)]),
        errors.Unreachable("nobody"),
        Content(b"x", "text/plain"),
    ):
        copied = pickle.loads(pickle.dumps(error))
        assert type(copied) is type(error)
        assert str(copied) == str(error)
