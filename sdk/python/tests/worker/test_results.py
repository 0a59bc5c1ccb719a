"""What a handler returns, and the result that clients get."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pydantic
import pytest

import crunch
from crunch.testing import run


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: float
    of: Color = Color.RED


class Model(pydantic.BaseModel):
    on: datetime.date
    under: int = pydantic.Field(alias="unterm", default=0)


class NumpyLike:
    """As the scalars and arrays of NumPy behave."""

    def tolist(self) -> Any:
        return [1, 2.5]


Pair = namedtuple("Pair", "a b")
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, None),
        ([1, "x", None, 1.5], [1, "x", None, 1.5]),
        ((1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (OrderedDict(a=1), {"a": 1}),
        ({1}, [1]),
        (frozenset("a"), ["a"]),
        (Point(1), {"x": 1, "of": "red"}),
        ([Point(1)], [{"x": 1, "of": "red"}]),
        (Color.RED, "red"),
        (Level.LOW, 1),
        (Pair(1, 2), [1, 2]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), "2026-01-02T00:00:00+00:00"),
        (datetime.time(12), "12:00:00"),
        (ID, str(ID)),
        (Model(on=datetime.date(2026, 1, 2)), {"on": "2026-01-02", "unterm": 0}),
        ({"m": [Model(on=datetime.date(2026, 1, 2))]}, {"m": [{"on": "2026-01-02", "unterm": 0}]}),
        (NumpyLike(), [1, 2.5]),
        ("ä", "ä"),
        (2**70, 2**70),
    ],
)
def test_values_are_written_as_json(value: Any, result: Any) -> None:
    @crunch.task
    def task() -> Any:
        return value

    report = run(task)
    assert report.result == result
    assert report.content_type == "application/json"


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), float("inf"), "\udc80", {(1, 2): 3}, circle(), print, Point, 1j],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_not_json_fail_for_good(value: Any) -> None:
    @crunch.task
    def task() -> Any:
        return value

    report = run(task)
    assert report.status == "failed"
    assert report.error is not None
    assert (report.error.code, report.error.retryable) == ("result_invalid", False)


def test_bytes_have_a_content_type_of_their_own_unless_the_task_declares_one() -> None:
    @crunch.task
    def undeclared() -> Any:
        return b"x"

    @crunch.task(content_type="image/png")
    def declared() -> Any:
        return bytearray(b"x")

    @crunch.task(content_type="application/json")
    def json_bytes(data: Any) -> Any:
        return memoryview(data.encode())

    assert run(undeclared).content_type == "application/octet-stream"
    assert (run(declared).result, run(declared).content_type) == (b"x", "image/png")
    assert run(json_bytes, "[1]").result == [1]
    assert run(json_bytes, "[").status == "failed"


def test_paths_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"x")

    @crunch.task
    def task() -> Path:
        return file

    assert (run(task).result, run(task).content_type) == (b"x", "image/png")


def test_a_result_has_its_content_type(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")

    @crunch.task
    def task(kind: str) -> crunch.Result:
        data: dict[str, Any] = {"text": "ä", "bytes": b"x", "path": file, "none": None}
        return crunch.Result(data[kind], "Text/Plain; charset=utf-8")

    assert run(task, "text").result == "ä".encode()
    assert run(task, "text").content_type == "text/plain"
    assert run(task, "bytes").result == b"x"
    assert run(task, "path").result == b"x"
    assert run(task, "none").result == b""

    @crunch.task
    def json() -> crunch.Result:
        return crunch.Result([1], "application/json")

    assert run(json).result == [1]
    with pytest.raises(ValueError, match="not a media type"):
        crunch.Result(b"", "png")


def test_text_is_written_as_it_is_if_the_task_declares_text() -> None:
    @crunch.task(content_type="text/plain")
    def task(value: Any) -> Any:
        return value

    assert run(task, "ä").result == "ä".encode()
    assert run(task, None).result == b""
    report = run(task, [1])
    assert report.error is not None
    assert report.error.message == "the handler returned list, but the result is text/plain"


def test_a_result_over_the_limit_fails_for_good() -> None:
    @crunch.task(max_result=10)
    def task(size: int) -> bytes:
        return b"x" * size

    assert run(task, 10).status == "succeeded"
    report = run(task, 11)
    assert (report.status, report.error and report.error.code) == ("failed", "result_too_large")
