"""The decorator `task`: what a task declares, and the function that runs its jobs."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import Parameter
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    get_args,
    overload,
)

from crunch.unique import Unique, checked_unique
from crunch.worker.batches import batches_of
from crunch.worker.hints import Unsupported
from crunch.worker.objects import first_paragraph
from crunch.worker.parameters import BytesReader, Parameters, WholeReader
from crunch.worker.results import BYTES, Encoded, Result
from crunch.worker.shapes import Definitions, Schema
from crunch.worker.values import (
    JSON,
    MAX_BYTES,
    Duration,
    checked_choice,
    checked_duration,
    checked_media_type,
    checked_name,
    checked_number,
    checked_pointer,
    checked_text,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Priority = Literal["low", "normal", "high", "urgent"]

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""The largest schema that a worker accepts."""
MAX_ATTEMPTS: Final = 100
"""The most attempts that a worker accepts."""

MAX_INDEXES: Final = 3
"""The most labels that a worker indexes."""
MAX_LABEL_BYTES: Final = 64
"""The longest name of a label."""

_DEFAULT_BACKOFF_MS: Final = {"base": 1_000, "max": 600_000}


class Backoff(TypedDict, total=False):
    """The delay after the n-th failure is random between 0 and base · 2ⁿ, never above max."""

    base: Duration
    max: Duration


class Task(Generic[P, R_co]):
    """A function that runs the jobs of a task. Called, it is the function."""

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, R_co],
        name: str | None,
        values: Mapping[str, Any],
        names: Mapping[str, Any],
    ) -> None:
        """Take the checked values, and the local names that hints may use."""
        functools.update_wrapper(self, function)
        self.function: Final = function
        self.name: Final = checked_name("name", _name_of(function) if name is None else name)
        self.is_async: Final = inspect.iscoroutinefunction(function)
        self.batches: Final = batches_of(function)
        """What collects its jobs, if it takes batches."""
        self._values: Final = values
        self._names: Final = names
        self.number: Final = next(_numbers)
        """Tasks are listed in the order of their definition."""
        _check_function(function, self.name)
        _all_tasks.add(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> str:
        # Pickled by name, like a function: multiprocessing sends tasks to its processes.
        return self.function.__qualname__

    def __repr__(self) -> str:
        return f"<Task {self.name}: {self.function.__module__}.{self.function.__qualname__}>"

    @cached_property
    def parameters(self) -> Parameters:
        """How the function takes the payload. Derived late: hints may name what follows."""
        try:
            return Parameters(self.function, self._names)
        except (Unsupported, NameError, TypeError) as error:
            raise TypeError(f"task {self.name!r}: {error}") from error

    @cached_property
    def content_type(self) -> str | None:
        """The content type of results; None: JSON, unless a result has a type of its own."""
        declared: str | None = self._values.get("content_type")
        if declared is None and self.parameters.returns in (bytes, bytearray, memoryview, Path):
            return BYTES if self.parameters.returns is not Path else None
        return declared

    @property
    def max_attempts(self) -> int:
        """How often a job is tried."""
        attempts: int = self._values.get("max_attempts", 3)
        return attempts

    @property
    def max_result(self) -> int | None:
        """The largest result in bytes, if the task declares it."""
        return self._values.get("max_result")

    @cached_property
    def declaration(self) -> dict[str, Any]:
        """The task as `hello` declares it. What is not declared has the worker's default."""
        description = first_paragraph(self.function.__doc__ or "")
        declared: dict[str, Any] = {"name": self.name, "description": description}
        declared |= {key: value for key, value in self._values.items() if value is not None}
        declared.setdefault("accepts", list(self.parameters.reader.accepts or [JSON]))
        if self.content_type is not None:
            declared["content_type"] = self.content_type
        elif self.parameters.returns is Path:
            declared["content_type"] = BYTES
        self._check_accepts(declared["accepts"])
        schemas = {
            "payload_schema": self._payload_schema(declared["accepts"]),
            "result_schema": self._result_schema(),
        }
        for member, schema in schemas.items():
            if schema is not None:
                self._check_size(member, schema)
                declared[member] = schema
        return declared

    def encode(self, *arguments: Any) -> Encoded:
        """Return the payload of a call with these arguments (without the job)."""
        return self.parameters.reader.write(arguments)

    def _check_accepts(self, accepts: Sequence[str]) -> None:
        others = [kind for kind in accepts if kind != JSON]
        reader = self.parameters.reader
        takes_others = isinstance(reader, BytesReader) or (
            isinstance(reader, WholeReader) and reader.takes_text_or_bytes
        )
        if others and not takes_others:
            raise TypeError(
                f"task {self.name!r}: it accepts {others[0]}, so its parameter must be bytes, "
                "bytearray, memoryview, str or Any"
            )

    def _payload_schema(self, accepts: Sequence[str]) -> Schema | None:
        return self.parameters.reader.schema() if JSON in accepts else None

    def _result_schema(self) -> Schema | None:
        returns = self.parameters.returns
        if returns in (Parameter.empty, Any, Result) or self.content_type not in (None, JSON):
            return None
        definitions = Definitions(of_results=True)
        try:
            schema = self.parameters.shapes.of(returns).schema(definitions)
        except (Unsupported, NameError):
            # A result is written by its value, whatever the hint: NumPy arrays, iterators.
            return None
        return definitions.complete(schema) or None

    def _check_size(self, member: str, schema: Schema) -> None:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
        if size > MAX_SCHEMA_BYTES:
            raise TypeError(
                f"task {self.name!r}: {member} has {size} bytes, more than {MAX_SCHEMA_BYTES}; "
                "use a more general hint, such as Mapping or Any"
            )


_numbers: Final = itertools.count()
_all_tasks: Final[weakref.WeakSet[Task[..., Any]]] = weakref.WeakSet()


def _name_of(function: Callable[..., Any]) -> str:
    name: str = getattr(function, "__name__", "")
    try:
        return checked_name("name", name)
    except ValueError:
        raise ValueError(
            f"the function's name {name!r} cannot be the name of a task; give it one: "
            f'@crunch.task("{name.lower().strip("_<>")}")'
        ) from None


def _check_function(function: Callable[..., Any], name: str) -> None:
    if not callable(function):
        raise TypeError(f"task {name!r}: {function!r} is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"task {name!r}: a generator cannot be a task: it returns no result")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            raise TypeError(
                f"task {name!r}: *{parameter.name} has no name in a payload; use a list"
            )


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    name: str | None = None,
    *,
    queue: str | None = None,
    description: str | None = None,
    timeout: Duration | None = None,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    priority: Priority | None = None,
    retention: Duration | None = None,
    start_within: Duration | None = None,
    accepts: str | Sequence[str] | None = None,
    content_type: str | None = None,
    max_payload: int | None = None,
    max_result: int | None = None,
    indexes: Sequence[str] | None = None,
    group: str | None = None,
    unique: Unique | None = None,
) -> _Decorator: ...
def task(
    name: Callable[..., Any] | str | None = None, **values: Any
) -> Task[..., Any] | _Decorator:
    """Declare a function as a task: `@crunch.task`, or `@crunch.task("name", timeout="1h", …)`.

    The name is the function's, the description the first paragraph of its docstring; every other
    value has the worker's default (docs/commands.md). Its hints become the schemas of payload and
    result. Wrong values raise ValueError here, wrong hints raise TypeError when the child starts.
    """
    checked = _checked(values)
    # The names that hints of a function inside a function may use.
    frame = sys._getframe(1)
    names = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
    if callable(name):
        return Task(name, None, checked, names)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"@crunch.task takes a name, not {name!r}")
    given = None if name is None else checked_name("name", name)

    def decorate(function: Callable[P, R], /) -> Task[P, R]:
        return Task(function, given, checked, names)

    return decorate


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by the names that they have in `hello`."""
    unknown = values.keys() - _CHECKS.keys()
    if unknown:
        known = ", ".join(_CHECKS)
        raise TypeError(f"a task has no {sorted(unknown)[0]!r}; it may have {known}")
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if value is not None:
            member, check = _CHECKS[key]
            checked[member] = check(key, value)
    return checked


def _checked_backoff(member: str, value: object) -> dict[str, int]:
    if not isinstance(value, Mapping) or not value.keys() <= _DEFAULT_BACKOFF_MS.keys():
        raise ValueError(f'{member}: {value!r} is not like {{"base": "1s", "max": "10m"}}')
    given = {key: checked_duration(member, it, min_ms=0) for key, it in value.items()}
    both = _DEFAULT_BACKOFF_MS | given
    if both["base"] > both["max"]:
        raise ValueError(
            f"{member}: base ({both['base']} ms) is longer than max ({both['max']} ms)"
        )
    return {"base_ms": both["base"], "max_ms": both["max"]}


def _checked_accepts(member: str, value: object) -> list[str]:
    kinds = [value] if isinstance(value, str) else value
    if not isinstance(kinds, Sequence) or not kinds:
        raise ValueError(f'{member}: {value!r} is not a list such as ["image/png", "image/jpeg"]')
    return list(dict.fromkeys(checked_media_type(member, kind) for kind in kinds))


def _checked_indexes(member: str, value: object) -> list[str]:
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, Sequence) or not all(isinstance(it, str) for it in labels):
        raise ValueError(f'{member}: {value!r} is not a list such as ["customer", "region"]')
    for label in labels:
        if not 1 <= len(label.encode()) <= MAX_LABEL_BYTES or not label.isprintable():
            raise ValueError(f"{member}: {label!r} is not the name of a label")
    if len(set(labels)) < len(labels):
        raise ValueError(f"{member}: {value!r} has a label twice")
    if len(labels) > MAX_INDEXES:
        raise ValueError(f"{member}: at most {MAX_INDEXES} labels can be indexed")
    return list(labels)


_CHECKS: Final[Mapping[str, tuple[str, Callable[[str, object], Any]]]] = {
    "queue": ("queue", checked_name),
    "description": ("description", checked_text),
    "timeout": ("timeout_ms", checked_duration),
    "max_attempts": (
        "max_attempts",
        lambda member, it: checked_number(member, it, 1, MAX_ATTEMPTS),
    ),
    "backoff": ("backoff", _checked_backoff),
    "priority": ("priority", lambda member, it: checked_choice(member, it, get_args(Priority))),
    "retention": ("retention_ms", checked_duration),
    "start_within": ("start_within_ms", checked_duration),
    "accepts": ("accepts", _checked_accepts),
    "content_type": ("content_type", checked_media_type),
    "max_payload": ("max_payload", lambda member, it: checked_number(member, it, 0, MAX_BYTES)),
    "max_result": ("max_result", lambda member, it: checked_number(member, it, 1, MAX_BYTES)),
    "indexes": ("indexes", _checked_indexes),
    "group": ("group", checked_pointer),
    "unique": ("unique", checked_unique),
}


def tasks_of(module: str, names: Mapping[str, Any]) -> list[Task[..., Any]]:
    """Return the tasks in the namespace of a module, and those of its submodules."""
    found = {it.number: it for it in names.values() if isinstance(it, Task)}
    for it in list(_all_tasks):
        if it.function.__module__ == module or it.function.__module__.startswith(f"{module}."):
            found[it.number] = it
    return [found[number] for number in sorted(found)]


def unique(tasks: Sequence[Task[..., Any]]) -> dict[str, Task[..., Any]]:
    """Return the tasks by name; raise ValueError if two have the same."""
    by_name: dict[str, Task[..., Any]] = {}
    for it in tasks:
        other = by_name.setdefault(it.name, it)
        if other is not it:
            raise ValueError(
                f"task {it.name!r} is declared twice: by {_place(other)} and by {_place(it)}"
            )
    return by_name


def _place(it: Task[..., Any]) -> str:
    return f"{it.function.__module__}.{it.function.__qualname__}"
