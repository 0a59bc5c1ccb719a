"""How the parameters of a function take a payload: its schema, and the arguments of a call.

| parameters, apart from the job | the payload |
|---|---|
| none | nothing: null, or an object without members |
| `bytes`, `bytearray` or `memoryview` | its bytes, of any content type |
| one | the whole payload |
| several, or only ones after `*` | an object: each parameter is a member |
"""

from __future__ import annotations

import inspect
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Final

from crunch.worker.batches import batches_of, hints_of_one
from crunch.worker.hints import Shapes, Unsupported
from crunch.worker.job import Job
from crunch.worker.objects import NOT_PUBLISHED, Member, ModelShape, ObjectShape, published
from crunch.worker.payloads import Payload, UnfitPayload
from crunch.worker.results import BYTES, Encoded, Result, encode, encode_json
from crunch.worker.shapes import SCALARS, AnyShape, Definitions, Invalid, Schema, Shape
from crunch.worker.values import JSON

Arguments: typing.TypeAlias = tuple[list[Any], dict[str, Any]]
"""Positional and keyword arguments of a call."""


class Reader(ABC):
    """Makes the arguments of a handler from a payload, and a payload from arguments."""

    accepts: Sequence[str] | None = None
    """The content types that it accepts if the task declares none; None: JSON."""

    @abstractmethod
    def schema(self) -> Schema | None:
        """Return the JSON Schema of the payload, if there is something to check."""

    @abstractmethod
    def read(self, payload: Payload) -> Arguments:
        """Return the arguments; raise `UnfitPayload` if it does not fit."""

    @abstractmethod
    def write(self, arguments: Sequence[Any]) -> Encoded:
        """Return the payload of a call with these arguments, without the job."""


class NothingReader(Reader):
    """Takes an empty payload."""

    def schema(self) -> Schema | None:
        return {"anyOf": [{"type": "null"}, {"type": "object", "maxProperties": 0}]}

    def read(self, payload: Payload) -> Arguments:
        if payload.content_type == JSON and payload.json() not in (None, {}):
            raise UnfitPayload(Invalid("this task has no parameters: expected null or {}"))
        return [], {}

    def write(self, arguments: Sequence[Any]) -> Encoded:
        if arguments:
            raise TypeError(f"the task has no parameters, got {len(arguments)} arguments")
        return Encoded(b"null")


class BytesReader(Reader):
    """Takes the bytes of the payload."""

    accepts = (BYTES,)

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def schema(self) -> Schema | None:
        return None

    def read(self, payload: Payload) -> Arguments:
        if self._kind is memoryview:
            return [payload.view()], {}
        data = payload.bytes()
        return [data if self._kind is bytes else self._kind(data)], {}

    def write(self, arguments: Sequence[Any]) -> Encoded:
        (data,) = arguments
        # A test may give the payload of a client: bytes, text, or what becomes JSON.
        return encode(data, None) if isinstance(data, bytes | bytearray) else _written(data)


class WholeReader(Reader):
    """Takes the payload as one value."""

    def __init__(self, parameter: Parameter, shape: Shape) -> None:
        self._shape, self._default = shape, parameter.default
        self.takes_text_or_bytes: Final = shape is SCALARS[str] or isinstance(shape, AnyShape)

    def schema(self) -> Schema | None:
        definitions = Definitions(of_results=False)
        schema = self._shape.schema(definitions)
        if self._default is not Parameter.empty:
            # Completed first: a definition at the top is not inlined below anyOf.
            schema = {"anyOf": [schema, {"type": "null"}]} if schema else {}
            if (default := published(self._default)) is not NOT_PUBLISHED:
                schema["default"] = default
        return definitions.complete(schema) or None

    def read(self, payload: Payload) -> Arguments:
        if payload.content_type != JSON and self.takes_text_or_bytes:
            text: Any = payload.text() if self._shape is SCALARS[str] else payload.bytes()
            return [text], {}
        _check_is_json(payload)
        if isinstance(self._shape, ModelShape) and self._default is Parameter.empty:
            return [_converted(self._shape.convert_json, payload.bytes() or b"null")], {}
        value = payload.json()
        if value is None and self._default is not Parameter.empty:
            return [self._default], {}
        return [_converted(self._shape.convert, value)], {}

    def write(self, arguments: Sequence[Any]) -> Encoded:
        if not arguments and self._default is not Parameter.empty:
            return Encoded(b"null")
        if len(arguments) != 1:
            raise TypeError(f"the task has one parameter, got {len(arguments)} arguments")
        return _written(arguments[0])


class MembersReader(Reader):
    """Takes the members of a JSON object, by the names of the parameters."""

    def __init__(
        self, parameters: Sequence[Parameter], members: Sequence[Member], others: Shape | None
    ) -> None:
        self._parameters = parameters
        self._shape = ObjectShape("Payload", dict)
        self._shape.set_members(members)
        self._shape.others = others

    def schema(self) -> Schema | None:
        definitions = Definitions(of_results=False)
        return definitions.complete(self._shape.own_schema(definitions))

    def read(self, payload: Payload) -> Arguments:
        _check_is_json(payload)
        named = _converted(self._shape.convert, payload.json())
        positional: list[Any] = []
        for parameter in self._parameters:
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                # Those with a default stand after those without one.
                default = parameter.default
                positional.append(named.pop(parameter.name, default))
        return positional, named

    def write(self, arguments: Sequence[Any]) -> Encoded:
        if len(arguments) == 1 and isinstance(arguments[0], Mapping):
            return _written(arguments[0])
        names = [parameter.name for parameter in self._parameters]
        if len(arguments) > len(names):
            raise TypeError(f"the task has {len(names)} parameters, got {len(arguments)} arguments")
        return _written(dict(zip(names, arguments, strict=False)))


def _check_is_json(payload: Payload) -> None:
    # The file of tasks may let a task accept more than its function takes.
    if payload.content_type != JSON:
        reason = f"is {payload.content_type}, but the function takes {JSON}"
        raise UnfitPayload(Invalid(reason, by_schema=False))


def _converted(convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except Invalid as invalid:
        raise UnfitPayload(invalid) from None


def _written(value: Any) -> Encoded:
    if isinstance(value, Result | bytes | bytearray):
        return encode(value, None)
    return Encoded(encode_json(value))


class Parameters:
    """The parameters of a handler: which gets the job, and which get the payload."""

    def __init__(self, function: Callable[..., Any], names: Mapping[str, Any]) -> None:
        hints = typing.get_type_hints(function, localns=dict(names), include_extras=True)
        if batches_of(function) is not None:
            hints = hints_of_one(hints)
        self.returns: Final[Any] = hints.get("return", Parameter.empty)
        self.shapes: Final = Shapes(names)
        found = list(inspect.signature(function).parameters.values())
        jobs = [it for it in found if _is_job(hints.get(it.name))]
        if len(jobs) > 1:
            raise TypeError(f"two parameters are the job: {jobs[0].name} and {jobs[1].name}")
        for it in found:
            if it.name == "job" and it.annotation is Parameter.empty:
                raise TypeError(
                    "parameter 'job' has no hint: write job: crunch.Job for the job, "
                    "or job: Any for a member of the payload"
                )
        self._job: Final = jobs[0] if jobs else None
        self._job_at: Final = found.index(jobs[0]) if jobs else 0
        self.reader: Final = self._reader([it for it in found if it not in jobs], hints)

    def arguments(self, payload: Payload, job: Job) -> Arguments:
        """Return the arguments of the call; raise `UnfitPayload` if it does not fit."""
        positional, named = self.reader.read(payload)
        if self._job is None:
            return positional, named
        if self._job.kind is Parameter.KEYWORD_ONLY or len(positional) < self._job_at:
            named[self._job.name] = job
        else:
            positional.insert(self._job_at, job)
        return positional, named

    def _reader(self, parameters: list[Parameter], hints: Mapping[str, Any]) -> Reader:
        if not parameters:
            return NothingReader()
        first = parameters[0]
        if len(parameters) == 1 and first.kind in _POSITIONAL:
            hint = hints.get(first.name, Any)
            if hint in (bytes, bytearray, memoryview):
                return BytesReader(hint)
            return WholeReader(first, self._shape_of(first, hint))
        members = [
            self._member(it, hints) for it in parameters if it.kind is not Parameter.VAR_KEYWORD
        ]
        rest = [it for it in parameters if it.kind is Parameter.VAR_KEYWORD]
        others = self._shape_of(rest[0], hints.get(rest[0].name, Any)) if rest else None
        named = [it for it in parameters if it.kind is not Parameter.VAR_KEYWORD]
        return MembersReader(named, members, others)

    def _member(self, parameter: Parameter, hints: Mapping[str, Any]) -> Member:
        shape = self._shape_of(parameter, hints.get(parameter.name, Any))
        required = parameter.default is Parameter.empty
        default = NOT_PUBLISHED if required else published(parameter.default)
        return Member(parameter.name, shape, required, default)

    def _shape_of(self, parameter: Parameter, hint: Any) -> Shape:
        try:
            return self.shapes.of(hint)
        except Unsupported as error:
            raise Unsupported(f"parameter {parameter.name!r}: {error}") from None


_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _is_job(hint: Any) -> bool:
    """Whether the hint is `Job`, or `Job | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return Job in typing.get_args(hint)
    return hint is Job
