"""Functions that are tasks, as a client sees them: their name, their payload, their result."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from crunch.api.payloads import Content, encode_payload
from crunch.errors import ResultUnreadable

if TYPE_CHECKING:
    from crunch.worker.declaration import Task
    from crunch.worker.job import Job
    from crunch.worker.results import Result

    T = TypeVar("T")
    R = TypeVar("R")

    # A function may be given its job before or after the payload, or not at all.
    TaskOf: TypeAlias = Task[[T], R] | Task[[T, Job], R] | Task[[Job, T], R]
    TaskOfNothing: TypeAlias = Task[[], R] | Task[[Job], R]
    # What a client gets as bytes.
    Binary: TypeAlias = bytes | bytearray | memoryview | Path | Result
    BinaryTaskOf: TypeAlias = TaskOf[T, Binary] | TaskOf[T, Coroutine[Any, Any, Binary]]
    BinaryTaskOfNothing: TypeAlias = (
        TaskOfNothing[Binary] | TaskOfNothing[Coroutine[Any, Any, Binary]]
    )

Decoder: TypeAlias = Callable[[Any], Any]
"""Makes of the JSON value of a result what the function returned."""


def name_of(task: str | Task[..., Any]) -> str:
    """Return the name of a task."""
    return task if isinstance(task, str) else task.name


def encoded(
    task: str | Task[..., Any], payload: object, content_type: str | None
) -> tuple[bytes, str]:
    """Return the bytes of a payload and their content type."""
    if isinstance(task, str) or content_type is not None or isinstance(payload, Content):
        return encode_payload(payload, content_type)
    written = task.encode() if payload is None else task.encode(payload)
    data = written.data.read_bytes() if isinstance(written.data, Path) else written.data
    return encode_payload(data, written.content_type or "application/json")


def as_it_is(value: Any) -> Any:
    """Return the JSON value."""
    return value


def decoder_of(task: str | Task[..., Any]) -> Decoder:
    """Return what makes of a JSON value what the function is declared to return."""
    if isinstance(task, str):
        return as_it_is
    # Only clients that have the functions of tasks need these modules.
    from crunch.worker.hints import Unsupported
    from crunch.worker.shapes import Invalid

    returns = task.parameters.returns
    if returns is Parameter.empty:
        return as_it_is
    try:
        shape = task.parameters.shapes.of(returns)
    except (Unsupported, NameError):
        # A result is written by its value, whatever the hint: NumPy arrays, iterators.
        return as_it_is

    def decode(value: Any) -> Any:
        if isinstance(value, Content):
            return value
        try:
            return shape.convert(value)
        except Invalid as invalid:
            reason = f"{task.name} does not return this: {invalid}"
            content, kind = encode_payload(value, None)
            raise ResultUnreadable(reason, content, kind) from invalid

    return decode
