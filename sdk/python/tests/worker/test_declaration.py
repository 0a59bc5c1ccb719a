from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

import crunch
from crunch.worker.declaration import unique

Value = TypeVar("Value")


@crunch.task
def count(text: str) -> int:
    """Counts the words
    of a text.

    Not the letters.
    """
    return len(text.split())


def test_a_task_can_be_called_like_its_function() -> None:
    assert count("to be or not to be") == 6
    assert count.__name__ == "count"
    assert (count.__doc__ or "").startswith("Counts")


def test_a_task_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(count)) is count


def test_name_and_description_are_those_of_the_function() -> None:
    assert count.name == "count"
    assert count.declaration["description"] == "Counts the words of a text."


def test_what_is_not_declared_is_left_to_the_worker() -> None:
    assert count.declaration.keys() == {
        "name",
        "description",
        "accepts",
        "payload_schema",
        "result_schema",
    }


def test_every_value_is_declared_by_its_name_in_the_channel() -> None:
    @crunch.task(
        "word.count",
        queue="text",
        description="Counts words",
        timeout="2h",
        max_attempts=5,
        backoff={"base": "500ms", "max": 60},
        priority="high",
        retention=timedelta(days=7),
        start_within="5m",
        accepts=["text/plain; charset=utf-8", "application/vnd.words+json", "TEXT/PLAIN"],
        content_type="text/csv",
        max_payload=10,
        max_result=20,
        indexes=["customer", "region"],
        group="/customer/id",
        unique=crunch.Unique(fields=["/customer/id"], for_="1h", on_conflict="reject"),
    )
    def task(data: bytes) -> str:
        return ""

    assert task.declaration == {
        "name": "word.count",
        "description": "Counts words",
        "queue": "text",
        "timeout_ms": 7_200_000,
        "max_attempts": 5,
        "backoff": {"base_ms": 500, "max_ms": 60_000},
        "priority": "high",
        "retention_ms": 604_800_000,
        "start_within_ms": 300_000,
        "accepts": ["text/plain", "application/json"],
        "content_type": "text/csv",
        "max_payload": 10,
        "max_result": 20,
        "indexes": ["customer", "region"],
        "group": "/customer/id",
        "unique": {"fields": ["/customer/id"], "for_ms": 3_600_000, "on_conflict": "reject"},
    }


def test_what_is_unique_by_its_payload_is_declared_without_members() -> None:
    @crunch.task(unique=crunch.Unique())
    def task() -> None: ...

    assert task.declaration["unique"] == {}


def test_a_name_may_be_given_by_name() -> None:
    @crunch.task(name="word.count")
    def task() -> None: ...

    assert task.name == "word.count"


def test_one_duration_of_a_backoff_leaves_the_other_at_its_default() -> None:
    @crunch.task(backoff={"base": "2s"})
    def task() -> None: ...

    assert task.declaration["backoff"] == {"base_ms": 2000, "max_ms": 600_000}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"queue": "Text"}, "queue: 'Text' is not a name"),
        ({"queue": "crunch.webhooks"}, "reserved"),
        ({"timeout": "10"}, "timeout: '10' is not a duration"),
        ({"timeout": "1h30m"}, "timeout"),
        ({"timeout": "0s"}, "not from 1 ms"),
        ({"timeout": "367d"}, "to a year"),
        ({"timeout": "9" * 5000 + "s"}, "not a duration"),
        ({"timeout": float("nan")}, "not a duration"),
        ({"timeout": float("inf")}, "not a duration"),
        ({"timeout": True}, "not a duration"),
        ({"max_attempts": 0}, "max_attempts: 0 is not a whole number from 1 to 100"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 3.0}, "max_attempts"),
        ({"backoff": "1s"}, "backoff"),
        ({"backoff": {"bass": "1s"}}, "backoff"),
        ({"backoff": {"base": "11m"}}, "longer than max"),
        ({"priority": "higher"}, "one of low, normal, high, urgent"),
        ({"retention": -1}, "retention"),
        ({"accepts": []}, "accepts"),
        ({"accepts": ["json"]}, "not a media type"),
        ({"accepts": 5}, "accepts"),
        ({"content_type": "text"}, "not a media type"),
        ({"max_payload": -1}, "max_payload"),
        ({"max_result": 0}, "max_result: 0 is not a whole number from 1"),
        ({"max_result": 2**26 + 1}, "max_result"),
        ({"indexes": 5}, "is not a list such as"),
        ({"indexes": ["a", "a"]}, "has a label twice"),
        ({"indexes": ["a", "b", "c", "d"]}, "at most 3 labels"),
        ({"indexes": [""]}, "is not the name of a label"),
        ({"indexes": ["a\n"]}, "is not the name of a label"),
        ({"group": "customer"}, "is not a JSON Pointer"),
        ({"group": "/a~2"}, "is not a JSON Pointer"),
        ({"group": "/a\n"}, "is not a JSON Pointer"),
        ({"group": "/" + 256 * "a"}, "is not a JSON Pointer"),
        ({"group": 5}, "not text"),
        ({"unique": {"key": "a"}}, "unique: {'key': 'a'} is not a crunch.Unique"),
        ({"description": 5}, "not text"),
    ],
)
def test_wrong_values_are_rejected_at_the_decorator(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        crunch.task(**values)
    assert why in str(caught.value)


def test_an_unknown_value_is_rejected() -> None:
    wrong: Any = {"retries": 3}
    with pytest.raises(TypeError, match="a task has no 'retries'; it may have queue, "):
        crunch.task(**wrong)


def test_wrong_names_are_rejected() -> None:
    with pytest.raises(ValueError, match="name: 'Word Count' is not a name"):
        crunch.task("Word Count")
    with pytest.raises(ValueError, match=r"the function's name 'CountWords' .*\"countwords\""):

        @crunch.task
        def CountWords() -> None: ...  # noqa: N802

    with pytest.raises(ValueError, match="lambda"):
        crunch.task(lambda: None)
    with pytest.raises(ValueError, match="name: '' is not a name"):
        crunch.task(name="")
    wrong: Any = 5
    with pytest.raises(TypeError, match="takes a name, not 5"):
        crunch.task(wrong)


def test_functions_that_cannot_be_tasks_are_rejected() -> None:
    with pytest.raises(TypeError, match="generator"):

        @crunch.task
        def generates() -> Iterator[int]:
            yield 1

    with pytest.raises(TypeError, match=r"\*words has no name"):

        @crunch.task
        def takes_any(*words: str) -> None: ...


class Unknown:
    pass


class Box(Generic[Value]):
    pass


@pytest.mark.parametrize("hint", [Unknown, Box[int], Value, list[Unknown], bytes | str, complex])
def test_hints_that_cannot_be_read_from_json_are_rejected_when_the_child_starts(hint: Any) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = hint
    task = crunch.task("t")(function)
    with pytest.raises(TypeError, match="task 't': parameter 'value': "):
        _ = task.declaration


def test_a_name_that_does_not_exist_is_rejected_when_the_child_starts() -> None:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = "Nonexistent"
    task = crunch.task(function)
    with pytest.raises(TypeError, match="task 'function': name 'Nonexistent' is not defined"):
        _ = task.declaration


def test_a_parameter_that_could_be_the_job_needs_a_hint() -> None:
    def function(value, job): ...  # type: ignore[no-untyped-def]

    task = crunch.task(function)
    with pytest.raises(TypeError, match="parameter 'job' has no hint"):
        _ = task.declaration


def test_two_jobs_are_one_too_many() -> None:
    @crunch.task
    def task(first: crunch.Job, second: crunch.Job) -> None: ...

    with pytest.raises(TypeError, match="two parameters are the job: first and second"):
        _ = task.declaration


def test_other_content_types_need_a_parameter_that_takes_them() -> None:
    @crunch.task(accepts="image/png")
    def task(number: int) -> None: ...

    with pytest.raises(TypeError, match="accepts image/png, so its parameter must be bytes"):
        _ = task.declaration


def test_bytes_accept_any_bytes_unless_the_task_says_what() -> None:
    @crunch.task
    def task(data: bytes) -> bytes:
        return data

    assert task.declaration["accepts"] == ["application/octet-stream"]
    assert task.declaration["content_type"] == "application/octet-stream"
    assert "payload_schema" not in task.declaration
    assert "result_schema" not in task.declaration


def test_a_path_has_the_content_type_of_bytes() -> None:
    @crunch.task
    def task() -> Path:
        return Path()

    assert task.declaration["content_type"] == "application/octet-stream"
    assert "result_schema" not in task.declaration


def test_a_result_of_unknown_type_has_no_schema() -> None:
    @crunch.task
    def unknown() -> Unknown:
        return Unknown()

    @crunch.task
    def unannotated():  # type: ignore[no-untyped-def]
        return 1

    assert "result_schema" not in unknown.declaration
    assert "result_schema" not in unannotated.declaration


def test_two_tasks_of_one_name_are_rejected() -> None:
    @crunch.task("t")
    def first() -> None: ...

    @crunch.task("t")
    def second() -> None: ...

    with pytest.raises(ValueError, match=r"task 't' is declared twice: by .*first and by .*second"):
        unique([first, second])
    assert unique([first, first]) == {"t": first}


def test_a_schema_that_no_worker_takes_is_rejected() -> None:
    from typing import Literal

    def function(value: Any) -> None: ...

    words = tuple("x" * 1000 + str(number) for number in range(70))
    function.__annotations__["value"] = Literal[words]
    with pytest.raises(TypeError, match=r"payload_schema has .* bytes, more than 65536"):
        _ = crunch.task(function).declaration


def test_hints_may_name_local_classes() -> None:
    from dataclasses import dataclass

    @dataclass
    class Local:
        others: list[Local]

    @crunch.task
    def task(local: Local) -> None: ...

    assert task.declaration["payload_schema"]["$ref"] == "#/$defs/Local"


def test_every_name_of_the_package_can_be_imported() -> None:
    from crunch import errors

    assert {"task", "Job", "Client", "AsyncClient", "testing"} <= set(dir(crunch))
    for name in dir(crunch):
        assert getattr(crunch, name) is not None
    public = [name for name in vars(errors) if isinstance(vars(errors)[name], type)]
    own = [name for name in public if vars(errors)[name].__module__ == errors.__name__]
    assert {name for name in own if not name.startswith("_")} <= set(dir(crunch))
    with pytest.raises(AttributeError, match="no attribute 'tusk'"):
        crunch.tusk  # noqa: B018
