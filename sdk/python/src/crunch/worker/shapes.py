"""What a type hint means for a JSON value: its schema, and how it becomes a Python value.

Each shape has both, side by side, so that they cannot differ: what the schema accepts can be
converted, and what it rejects cannot. The exceptions are values that a schema accepts: a text that
does not have its `format`, what a constructor rejects, and numbers that are too large.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]


class Invalid(Exception):
    """A value that does not have a shape: where it is, and why."""

    def __init__(self, reason: str, *, by_schema: bool = True) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.by_schema: Final = by_schema
        """Whether the schema rejects it too, and so the API."""
        self.path: Final[list[str | int]] = []

    def inside(self, key: str | int) -> Invalid:
        """Return it as seen from the enclosing value."""
        self.path.insert(0, key)
        return self

    def __str__(self) -> str:
        """Return the path as a JSON pointer, then the reason, as the API words it."""
        pointer = "".join(f"/{_escaped(key)}" for key in self.path)
        return f"{pointer}: {self.reason}" if pointer else self.reason


def _escaped(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


class Definitions:
    """The schemas that others refer to, by name."""

    def __init__(self, *, of_results: bool) -> None:
        self.of_results: Final = of_results
        """Schemas of results describe what is written, those of payloads what is accepted."""
        self.schemas: Final[dict[str, Schema]] = {}
        self._names: Final[dict[int, str]] = {}
        self._references: Final[dict[str, int]] = {}

    def reference(self, shape: Shape, name: str, schema: Callable[[], Schema]) -> Schema:
        """Return a reference to the schema of `shape`, which is derived the first time."""
        key = self._names.get(id(shape))
        if key is None:
            key = self._free_name(name)
            self._names[id(shape)] = key
            # Known before it is derived: it may refer to itself.
            self._references[key] = 0
            self.schemas[key] = {}
            self.schemas[key] = schema()
        self._references[key] += 1
        return {"$ref": f"#/$defs/{key}"}

    def complete(self, schema: Schema) -> Schema:
        """Return the schema with all definitions, inlined at the top if it is used nowhere else."""
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        if len(schema) == 1 and self._references.get(name) == 1:
            schema = self.schemas.pop(name)
        return {**schema, "$defs": self.schemas} if self.schemas else schema

    def add(self, name: str, schema: Schema) -> None:
        """Add a schema under a name that only its owner uses."""
        self.schemas[name] = schema

    def _free_name(self, wanted: str) -> str:
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in wanted)
        name, number = plain, 2
        while name in self._references:
            name, number = f"{plain}-{number}", number + 1
        return name


class Shape(ABC):
    """The shape of a JSON value."""

    @abstractmethod
    def schema(self, definitions: Definitions) -> Schema:
        """Return its JSON Schema."""

    @abstractmethod
    def convert(self, value: Any) -> Any:
        """Return the Python value of a JSON value; raise `Invalid` if it has another shape."""


def json_kind(value: object) -> str:
    """Return what JSON calls the value, with an article."""
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return "an object"


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    (list, "an array"),
)


class AnyShape(Shape):
    """Every value, as it is."""

    def schema(self, definitions: Definitions) -> Schema:
        return {}

    def convert(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Scalar(Shape):
    """A boolean, a number, a string or null."""

    kind: str
    expected: str
    accepts: Callable[[Any], bool]
    make: Callable[[Any], Any] | None = None

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": self.kind}

    def convert(self, value: Any) -> Any:
        if not self.accepts(value):
            raise Invalid(f"expected {self.expected}, got {json_kind(value)}")
        if self.make is None:
            return value
        try:
            return self.make(value)
        except OverflowError:
            raise Invalid("the number is too large", by_schema=False) from None


def _is_integer(value: Any) -> bool:
    # To JSON Schema 1.0 is an integer: it does not distinguish the spellings of a number.
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SCALARS: Final[dict[type, Scalar]] = {
    type(None): Scalar("null", "null", lambda value: value is None),
    bool: Scalar("boolean", "a boolean", lambda value: isinstance(value, bool)),
    int: Scalar("integer", "a whole number", _is_integer, int),
    float: Scalar("number", "a number", _is_number, float),
    str: Scalar("string", "a string", lambda value: isinstance(value, str)),
}


@dataclass(frozen=True)
class Formatted(Shape):
    """A string that is the text of something else, such as a date."""

    format: str
    parse: Callable[[str], Any]

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "string", "format": self.format}

    def convert(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise Invalid(f"expected a string of format {self.format}, got {json_kind(value)}")
        try:
            return self.parse(value)
        except ValueError as error:
            reason = f"{short(value)} is not of format {self.format}: {error}"
            raise Invalid(reason, by_schema=False) from None


def _parse_datetime(text: str) -> datetime.datetime:
    # Python 3.10 does not know the Z of RFC 3339.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


def _parse_time(text: str) -> datetime.time:
    return datetime.time.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


FORMATS: Final[dict[type, Formatted]] = {
    datetime.datetime: Formatted("date-time", _parse_datetime),
    datetime.date: Formatted("date", datetime.date.fromisoformat),
    datetime.time: Formatted("time", _parse_time),
    uuid.UUID: Formatted("uuid", uuid.UUID),
}


class Choice(Shape):
    """One of some scalars: a Literal, or the values of an Enum."""

    def __init__(self, choices: Sequence[tuple[Any, Any]]) -> None:
        """Take pairs of a JSON value and its Python value."""
        self._choices = choices

    def schema(self, definitions: Definitions) -> Schema:
        values = [value for value, _ in self._choices]
        return {"const": values[0]} if len(values) == 1 else {"enum": values}

    def convert(self, value: Any) -> Any:
        for choice, made in self._choices:
            # In Python True equals 1, in JSON it does not.
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return made
        one_of = ", ".join(json.dumps(choice, ensure_ascii=False) for choice, _ in self._choices)
        raise Invalid(f"expected {'one of ' if ',' in one_of else ''}{one_of}, got {short(value)}")

    @classmethod
    def of_enum(cls, kind: type[enum.Enum]) -> Choice:
        """Return the shape of an Enum, by value."""
        for member in kind:
            if not isinstance(member.value, str | int | float | bool | None):
                raise TypeError(f"{member} has a value that is not a JSON scalar")
        return cls([(member.value, member) for member in kind])


class ListShape(Shape):
    """An array whose items have one shape: a list, a set, a tuple of any length."""

    def __init__(self, item: Shape, make: Callable[[list[Any]], Any], *, unique: bool) -> None:
        self._item, self._make, self._unique = item, make, unique

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "array"}
        if item := self._item.schema(definitions):
            schema["items"] = item
        return {**schema, "uniqueItems": True} if self._unique else schema

    def convert(self, value: Any) -> Any:
        if not isinstance(value, list):
            raise Invalid(f"expected an array, got {json_kind(value)}")
        items = converted_items(value, [self._item] * len(value))
        try:
            made = self._make(items)
        except TypeError:  # Unhashable items: arrays and objects.
            reason = "the items of a set cannot be arrays or objects"
            raise Invalid(reason, by_schema=False) from None
        if self._unique and len(made) != len(items):
            raise Invalid("the items are not unique")
        return made


class TupleShape(Shape):
    """An array of fixed length."""

    def __init__(self, items: Sequence[Shape]) -> None:
        self._items = items

    def schema(self, definitions: Definitions) -> Schema:
        count = len(self._items)
        schema: Schema = {"type": "array", "minItems": count, "maxItems": count}
        if count:
            schema["prefixItems"] = [item.schema(definitions) for item in self._items]
        return schema

    def convert(self, value: Any) -> Any:
        if not isinstance(value, list):
            raise Invalid(f"expected an array, got {json_kind(value)}")
        if len(value) != len(self._items):
            raise Invalid(f"expected {len(self._items)} items, got {len(value)}")
        return tuple(converted_items(value, self._items))


def converted_items(values: list[Any], shapes: Sequence[Shape]) -> list[Any]:
    """Convert each value to the shape at its place."""
    items: list[Any] = []
    first: Invalid | None = None
    for index, (value, shape) in enumerate(zip(values, shapes, strict=True)):
        try:
            items.append(shape.convert(value))
        except Invalid as error:
            first = first_reported(first, error.inside(index))
    if first is not None:
        raise first
    return items


def first_reported(first: Invalid | None, other: Invalid) -> Invalid:
    """Return the one to report; raise `other` if the schema rejects it: the API reports it."""
    if other.by_schema:
        raise other from None
    return other if first is None else first


class DictShape(Shape):
    """An object with any members of one shape."""

    def __init__(self, key: Shape, value: Shape) -> None:
        self._key, self._value = key, value

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "object"}
        if (names := self._key.schema(definitions)) != {"type": "string"}:
            schema["propertyNames"] = names
        if value := self._value.schema(definitions):
            schema["additionalProperties"] = value
        return schema

    def convert(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Invalid(f"expected an object, got {json_kind(value)}")
        made: dict[Any, Any] = {}
        first: Invalid | None = None
        for key, member in value.items():
            try:
                made[self._key.convert(key)] = self._value.convert(member)
            except Invalid as error:
                first = first_reported(first, error.inside(key))
        if first is not None:
            raise first
        return made


class Union(Shape):
    """One of some shapes: the first that fits."""

    def __init__(self, members: Sequence[Shape]) -> None:
        # An int is a number too: as the first shape, float would turn every int into a float.
        first_ints = sorted(members, key=lambda member: member is SCALARS[float])
        self._members = first_ints

    def schema(self, definitions: Definitions) -> Schema:
        schemas = [member.schema(definitions) for member in self._members]
        if {} in schemas:
            return {}
        if all(schema.keys() == {"type"} for schema in schemas):
            return {"type": [schema["type"] for schema in schemas]}
        return {"anyOf": schemas}

    def convert(self, value: Any) -> Any:
        errors: list[Invalid] = []
        for member in self._members:
            try:
                return member.convert(value)
            except Invalid as error:
                errors.append(error)
        # A shape whose schema accepts the value is the one that was meant.
        meant = [error for error in errors if not error.by_schema] or errors
        # Of several probably the one that got furthest.
        deepest = max(meant, key=lambda error: len(error.path))
        if deepest.path:
            raise deepest
        reasons = dict.fromkeys(error.reason for error in meant)
        raise Invalid("; or ".join(reasons), by_schema=deepest.by_schema)


@dataclass(frozen=True)
class Bounds:
    """The limits of a number, or of the length of a string or an array."""

    minimum: Any = None
    maximum: Any = None
    above: Any = None
    below: Any = None
    multiple_of: Any = None
    shortest: int | None = None
    longest: int | None = None

    def violated_by(self, value: Any) -> str | None:
        """Return which limit the JSON value violates. Limits of other kinds are ignored."""
        if _is_number(value):
            return self._violated_by_number(value)
        if isinstance(value, str | list | dict):
            return self._violated_by_length(len(value))
        return None

    def _violated_by_number(self, number: float) -> str | None:
        if self.minimum is not None and number < self.minimum:
            return f"{number} is less than the minimum of {self.minimum}"
        if self.maximum is not None and number > self.maximum:
            return f"{number} is greater than the maximum of {self.maximum}"
        if self.above is not None and number <= self.above:
            return f"{number} is not greater than {self.above}"
        if self.below is not None and number >= self.below:
            return f"{number} is not less than {self.below}"
        if self.multiple_of is not None and not _is_multiple(number, self.multiple_of):
            return f"{number} is not a multiple of {self.multiple_of}"
        return None

    def _violated_by_length(self, length: int) -> str | None:
        if self.shortest is not None and length < self.shortest:
            return f"the length {length} is less than the minimum of {self.shortest}"
        if self.longest is not None and length > self.longest:
            return f"the length {length} is greater than the maximum of {self.longest}"
        return None

    def keywords(self, kinds: Sequence[str]) -> Schema:
        """Return the keywords of a schema that accepts these types of JSON."""
        found: Schema = {}
        for keyword, limit in (
            ("minimum", self.minimum),
            ("maximum", self.maximum),
            ("exclusiveMinimum", self.above),
            ("exclusiveMaximum", self.below),
            ("multipleOf", self.multiple_of),
        ):
            if limit is not None:
                found[keyword] = limit
        for noun in [_NOUNS[kind] for kind in kinds if kind in _NOUNS]:
            if self.shortest:
                found[f"min{noun}"] = self.shortest
            if self.longest is not None:
                found[f"max{noun}"] = self.longest
        return found


_NOUNS: Final = {"string": "Length", "array": "Items", "object": "Properties"}


def _kinds(schema: Schema) -> list[str]:
    """Return the types of JSON that the schema accepts, as far as it names them."""
    kinds = schema.get("type", [])
    found: list[str] = [kinds] if isinstance(kinds, str) else list(kinds)
    for member in schema.get("anyOf", []):
        found += _kinds(member)
    return found


def _is_multiple(number: float, divisor: float) -> bool:
    quotient = number / divisor
    return math.isfinite(quotient) and quotient == round(quotient)


class Bounded(Shape):
    """A shape with limits, or with a description."""

    def __init__(self, shape: Shape, bounds: Sequence[Bounds], description: str | None) -> None:
        self._shape, self._bounds, self._description = shape, bounds, description

    def schema(self, definitions: Definitions) -> Schema:
        schema = dict(self._shape.schema(definitions))
        for bounds in self._bounds:
            schema.update(bounds.keywords(_kinds(schema)))
        if self._description is not None:
            schema["description"] = self._description
        return schema

    def convert(self, value: Any) -> Any:
        first: Invalid | None = None
        made: Any = None
        try:
            made = self._shape.convert(value)
        except Invalid as error:
            first = first_reported(None, error)
        for bounds in self._bounds:
            if (reason := bounds.violated_by(value)) is not None:
                raise Invalid(reason)
        if first is not None:
            raise first
        return made


def short(value: object) -> str:
    """Return the value as JSON, at most 40 characters of it: enough to recognize it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:40]}…"
