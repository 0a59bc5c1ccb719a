"""How the parameters of a function take the payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

import crunch
from crunch.testing import run


@dataclass
class Slab:
    rays: int = 5


class Model(pydantic.BaseModel):
    rays: int = 5


def test_one_parameter_takes_the_whole_payload() -> None:
    @crunch.task
    def task(slab: Slab) -> Any:
        return [type(slab).__name__, slab.rays]

    assert run(task, Slab(7)).result == ["Slab", 7]
    assert run(task, {"rays": 7}).result == ["Slab", 7]
    assert run(task, payload=b'{"rays": 7}').result == ["Slab", 7]
    assert task.declaration["payload_schema"]["properties"] == {
        "rays": {"type": "integer", "default": 5}
    }


def test_a_model_takes_the_whole_payload() -> None:
    @crunch.task
    def task(model: Model) -> Model:
        return model

    assert run(task, Model(rays=7)).result == {"rays": 7}
    assert run(task, payload=b'{"rays": "many"}').status == "rejected"
    assert run(task, payload=b"{").status == "rejected"
    assert run(task, payload=b"").status == "rejected"


def test_the_default_of_the_only_parameter_stands_for_null() -> None:
    @crunch.task
    def task(slab: Slab = Slab(9)) -> int:  # noqa: B008
        return slab.rays

    assert run(task).result == 9
    assert run(task, payload=b"").result == 9
    assert run(task, payload=b"null").result == 9
    assert run(task, Slab(1)).result == 1
    schema = task.declaration["payload_schema"]
    assert schema["default"] == {"rays": 9}
    assert schema["anyOf"] == [{"$ref": "#/$defs/Slab"}, {"type": "null"}]

    @crunch.task
    def model(model: Model = Model(rays=9)) -> int:  # noqa: B008
        return model.rays

    assert run(model).result == 9
    assert run(model, {}).result == 5


def test_several_parameters_are_members() -> None:
    @crunch.task
    def task(text: str, top: int = 3, *, job: crunch.Job, slab: Slab | None = None) -> Any:
        return [text, top, job.task, slab and slab.rays]

    assert run(task, "a").result == ["a", 3, "task", None]
    assert run(task, "a", 1).result == ["a", 1, "task", None]
    assert run(task, {"text": "a", "slab": {"rays": 2}}).result == ["a", 3, "task", 2]
    assert run(task, "a", 1, Slab(4)).result == ["a", 1, "task", 4]
    error = run(task, {"top": 1}).error
    assert error is not None
    assert error.message == "the payload: the member 'text' is missing"
    error = run(task, {"text": "a", "bottom": 1}).error
    assert error is not None
    assert error.message == "/bottom: there is no such member; known are: text, top, slab"
    schema = task.declaration["payload_schema"]
    assert schema["required"] == ["text"]
    assert schema["properties"]["top"] == {"type": "integer", "default": 3}
    assert schema["additionalProperties"] is False


def test_one_parameter_after_the_star_is_a_member() -> None:
    @crunch.task
    def task(*, text: str) -> str:
        return text

    assert run(task, {"text": "a"}).result == "a"
    assert run(task, payload=b'"a"').status == "rejected"


def test_keywords_take_other_members() -> None:
    @crunch.task
    def task(text: str, **counts: int) -> Any:
        return [text, counts]

    assert run(task, {"text": "a", "b": 1}).result == ["a", {"b": 1}]
    assert run(task, {"text": "a", "b": "x"}).status == "rejected"
    assert task.declaration["payload_schema"]["additionalProperties"] == {"type": "integer"}


@pytest.mark.parametrize("payload", [b"", b"null", b"{}"])
def test_no_parameter_takes_nothing(payload: bytes) -> None:
    @crunch.task
    def task(job: crunch.Job) -> str:
        return job.task

    assert run(task, payload=payload).result == "task"
    assert run(task).result == "task"
    assert run(task, payload=b'{"a": 1}').status == "rejected"
    with pytest.raises(TypeError, match="no parameters, got 1"):
        run(task, 1)


def test_positional_parameters_and_the_job_find_their_place() -> None:
    @crunch.task
    def first(job: crunch.Job, number: int) -> Any:
        return [job.task, number]

    @crunch.task
    def between(a: int, job: crunch.Job | None, b: int = 2, /, c: int = 3) -> Any:
        return [a, job is not None, b, c]

    @crunch.task
    def only(number: int, /) -> int:
        return number

    assert run(first, 5).result == ["first", 5]
    assert run(between, {"a": 1}).result == [1, True, 2, 3]
    assert run(between, 1, 5, 6).result == [1, True, 5, 6]
    assert run(only, 5).result == 5


def test_bytes_take_any_content_type() -> None:
    @crunch.task(accepts=["image/png", "application/json"])
    def task(data: bytes, job: crunch.Job) -> Any:
        return [type(data).__name__, len(data), job.content_type]

    assert run(task, b"\x89PNG").result == ["bytes", 4, "image/png"]
    report = run(task, b"[1]", content_type="application/json")
    assert report.result == ["bytes", 3, "application/json"]
    report = run(task, b"\x89PNG", content_type="image/gif")
    assert report.status == "rejected"
    assert "payload_schema" not in task.declaration

    @crunch.task
    def array(data: bytearray) -> str:
        return type(data).__name__

    @crunch.task
    def view(data: memoryview) -> str:
        return type(data).__name__

    assert run(array, b"x").result == "bytearray"
    assert run(view, b"x").result == "memoryview"


def test_text_takes_text() -> None:
    @crunch.task(accepts=["text/plain", "application/json"])
    def task(text: str) -> str:
        return text

    assert run(task, payload="ä".encode(), content_type="text/plain").result == "ä"
    assert run(task, payload=b'"a"').result == "a"
    assert run(task, payload=b'"\xff"').status == "rejected"
    # The API does not read it.
    report = run(task, payload=b"\xff", content_type="text/plain")
    assert report.status == "failed"
    assert report.error is not None
    assert report.error.code == "payload_invalid"


def test_anything_takes_bytes_of_other_content_types() -> None:
    @crunch.task(accepts=["image/png", "application/json"])
    def task(data: Any) -> str:
        return type(data).__name__

    assert run(task, payload=b"\x89PNG", content_type="image/png").result == "bytes"
    assert run(task, payload=b"[]").result == "list"


def test_too_many_arguments_are_a_mistake_of_the_test() -> None:
    @crunch.task
    def one(number: int) -> None: ...

    @crunch.task
    def two(a: int, b: int) -> None: ...

    with pytest.raises(TypeError, match="one parameter, got 2"):
        run(one, 1, 2)
    with pytest.raises(TypeError, match="2 parameters, got 3"):
        run(two, 1, 2, 3)
