"""Type hints: their schemas, and how values become theirs."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import annotated_types
import jsonschema
import pydantic
import pytest
import typing_extensions
from pydantic_core import PydanticCustomError

import crunch
from crunch.worker.hints import Shapes
from crunch.worker.shapes import Definitions, Invalid, Schema


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    """A place.

    In the plane.
    """

    x: float
    y: float = 0.0


@dataclass
class Line:
    begin: Point
    end: Point
    label: Optional[str] = None
    colors: list[Color] = field(default_factory=list)
    made_at: datetime.datetime = field(default_factory=datetime.datetime.now)
    length: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.begin == self.end:
            raise ValueError("a line has two ends")


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


class Words(TypedDict):
    text: str
    top: typing_extensions.NotRequired[int]


class Partial(TypedDict, total=False):
    a: int
    b: typing_extensions.Required[str]


class Inner(pydantic.BaseModel):
    on: datetime.date


class Model(pydantic.BaseModel):
    """A model."""

    number: int = pydantic.Field(ge=1)
    inner: Inner | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: datetime.datetime
    pair: tuple[int, int]


class Checked(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    even: int
    when: datetime.datetime | None = None
    name: str = pydantic.Field("xxxx", min_length=2)

    @pydantic.field_validator("even")
    @classmethod
    def is_even(cls, value: int) -> int:
        """Reject odd numbers."""
        if value % 2:
            raise ValueError("odd")
        return value

    @pydantic.field_validator("name")
    @classmethod
    def is_known(cls, value: str) -> str:
        """Reject with an error of its own."""
        if value == "none":
            raise PydanticCustomError("unknown_name", "nobody has this name")
        return value


UserId = NewType("UserId", int)


def schema_of(hint: Any, *, of_results: bool = False) -> Schema:
    definitions = Definitions(of_results=of_results)
    schema = Shapes({}).of(hint).schema(definitions)
    return definitions.complete(schema)


def converted(hint: Any, value: Any) -> Any:
    return Shapes({}).of(hint).convert(value)


POINT = {
    "type": "object",
    "description": "A place.",
    "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0.0}},
    "required": ["x"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (bool, {"type": "boolean"}),
        (float, {"type": "number"}),
        (str, {"type": "string"}),
        (None, {"type": "null"}),
        (Any, {}),
        (object, {}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list, {"type": "array"}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple, {"type": "array"}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
            },
        ),
        (tuple[()], {"type": "array", "minItems": 0, "maxItems": 0}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (AbstractSet[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (dict, {"type": "object"}),
        (dict[str, Any], {"type": "object"}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict[Color, Any], {"type": "object", "propertyNames": {"enum": ["red", "green"]}}),
        (Optional[int], {"type": ["integer", "null"]}),
        (int | str, {"type": ["integer", "string"]}),
        (Union[float, int], {"type": ["integer", "number"]}),
        (
            list[int] | None,
            {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
        ),
        (Any | None, {}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Literal["a"], {"const": "a"}),
        (Color, {"enum": ["red", "green"]}),
        (Level, {"enum": [1, 2]}),
        (UserId, {"type": "integer"}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (datetime.time, {"type": "string", "format": "time"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (Annotated[int, crunch.Range(1, 9)], {"type": "integer", "minimum": 1, "maximum": 9}),
        (Annotated[int, crunch.Range(min=0)], {"type": "integer", "minimum": 0}),
        (Annotated[str, crunch.Length(1, 9)], {"type": "string", "minLength": 1, "maxLength": 9}),
        (Annotated[list, crunch.Length(max=9)], {"type": "array", "maxItems": 9}),
        (
            Annotated[dict[str, Any] | None, crunch.Length(1)],
            {"type": ["object", "null"], "minProperties": 1},
        ),
        (
            Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)],
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        ),
        (Annotated[int, annotated_types.MultipleOf(5)], {"type": "integer", "multipleOf": 5}),
        (
            Annotated[str, annotated_types.Len(2, 3)],
            {"type": "string", "minLength": 2, "maxLength": 3},
        ),
        (
            Annotated[int, pydantic.Field(ge=1, description="how many")],
            {"type": "integer", "minimum": 1, "description": "how many"},
        ),
        (
            Annotated[int, typing_extensions.Doc("how many")],
            {"type": "integer", "description": "how many"},
        ),
        (Annotated[int, "a comment"], {"type": "integer"}),
        (Point, POINT),
        (
            Words,
            {
                "type": "object",
                "properties": {"text": {"type": "string"}, "top": {"type": "integer"}},
                "required": ["text"],
                "additionalProperties": False,
            },
        ),
        (
            Partial,
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
                "required": ["b"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_a_hint_has_a_schema(hint: Any, schema: Schema) -> None:
    assert schema_of(hint) == schema
    jsonschema.Draft202012Validator.check_schema(schema)


def test_classes_inside_others_are_definitions() -> None:
    schema = schema_of(Line)
    assert schema["properties"] == {
        "begin": {"$ref": "#/$defs/Point"},
        "end": {"$ref": "#/$defs/Point"},
        "label": {"type": ["string", "null"], "default": None},
        "colors": {"type": "array", "items": {"enum": ["red", "green"]}, "default": []},
        # Another time in each process, which would be another declaration.
        "made_at": {"type": "string", "format": "date-time"},
    }
    assert schema["required"] == ["begin", "end"]
    assert schema["$defs"] == {"Point": POINT}


def test_a_class_may_contain_itself() -> None:
    schema = schema_of(Tree)
    assert schema["$ref"] == "#/$defs/Tree"
    children = schema["$defs"]["Tree"]["properties"]["children"]
    assert children["items"] == {"$ref": "#/$defs/Tree"}
    tree = converted(Tree, {"value": 1, "children": [{"value": 2}]})
    assert tree == Tree(1, [Tree(2)])


def test_classes_of_one_name_have_different_definitions() -> None:
    def point() -> type:
        @dataclass
        class Point:
            z: int

        return Point

    schema = schema_of(tuple[Point, point()])  # type: ignore[misc]
    assert schema["prefixItems"] == [{"$ref": "#/$defs/Point"}, {"$ref": "#/$defs/Point-2"}]
    assert schema["$defs"]["Point-2"]["properties"] == {"z": {"type": "integer"}}


def test_results_have_all_their_members() -> None:
    schema = schema_of(Point, of_results=True)
    assert schema["required"] == ["x", "y"]
    assert "additionalProperties" not in schema
    assert schema["properties"]["y"] == {"type": "number"}
    assert schema_of(Words, of_results=True)["required"] == ["text"]


def test_models_describe_themselves() -> None:
    schema = schema_of(Model)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"number": 1, "inner": {"on": "2026-01-01"}}, schema)
    assert schema["$defs"].keys() == {"Model.Inner"}
    nested = schema_of(list[Model])
    assert nested["$defs"].keys() == {"Model", "Model.Inner"}
    jsonschema.validate([{"number": 1, "inner": {"on": "2026-01-01"}}], nested)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"number": 1, "inner": 5}], nested)


NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (int, 1.0, 1),
        (float, 1, 1.0),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "x"], (1, "x")),
        (set[int], [1, 2], {1, 2}),
        (frozenset[int], [1, 2], frozenset({1, 2})),
        (dict[Color, int], {"red": 1}, {Color.RED: 1}),
        (float | int, 1, 1),
        (float | int, 1.5, 1.5),
        (int | None, None, None),
        (Point | Line, {"x": 1}, Point(1)),
        (Literal["a", 1], 1, 1),
        (Color, "red", Color.RED),
        (Level, 2, Level.HIGH),
        (datetime.datetime, "2026-01-02T12:00:00Z", NOON),
        (datetime.datetime, "2026-01-02T12:00:00+00:00", NOON),
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.time, "12:30:00", datetime.time(12, 30)),
        (uuid.UUID, str(ID), ID),
        (Point, {"x": 1}, Point(1.0)),
        (Words, {"text": "x"}, {"text": "x"}),
        (Model, {"number": 1}, Model(number=1)),
        (list[Strict], [{"when": "2026-01-02T12:00:00Z", "pair": [1, 2]}], None),
    ],
)
def test_a_value_becomes_that_of_its_hint(hint: Any, value: Any, made: Any) -> None:
    got = converted(hint, value)
    assert made is None or (got == made and type(got) is type(made))
    jsonschema.validate(value, schema_of(hint))


LINE = {"begin": {"x": 1}, "end": {"x": 2}}


@pytest.mark.parametrize(
    ("hint", "value", "why"),
    [
        (int, True, "expected a whole number, got a boolean"),
        (int, 1.5, "expected a whole number, got a number"),
        (int, None, "expected a whole number, got null"),
        (float, "1", "expected a number, got a string"),
        (bool, 1, "expected a boolean, got a number"),
        (str, [], "expected a string, got an array"),
        (str, {}, "expected a string, got an object"),
        (list[int], {}, "expected an array, got an object"),
        (list[int], [1, "x"], "/1: expected a whole number, got a string"),
        (tuple[int, int], [1], "expected 2 items, got 1"),
        (set[int], [1, 1], "the items are not unique"),
        (dict[str, int], {"a/b~": "x"}, "/a~1b~0: expected a whole number, got a string"),
        (dict[Color, int], {"blue": 1}, '/blue: expected one of "red", "green", got "blue"'),
        (
            int | str,
            [],
            "expected a whole number, got an array; or expected a string, got an array",
        ),
        (Line | None, {**LINE, "end": {}}, "/end: the member 'x' is missing"),
        (Line, {**LINE, "end": LINE["begin"]}, "a line has two ends"),
        (Line, {**LINE, "colour": 1}, "/colour: there is no such member; known are: begin, end, "),
        (list[Line], [LINE, {**LINE, "label": 5}], "/1/label: expected a string, got a number"),
        (Literal["a"], "b", 'expected "a", got "b"'),
        (Literal[1], True, "expected 1, got true"),
        (Color, "x" * 100, 'got "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'),
        (datetime.date, "2026-13-01", '"2026-13-01" is not of format date: '),
        (datetime.date, 5, "expected a string of format date, got a number"),
        (uuid.UUID, "x", "is not of format uuid"),
        (Annotated[int, crunch.Range(1, 9)], 10, "10 is greater than the maximum of 9"),
        (Annotated[int, crunch.Range(1, 9)], 0, "0 is less than the minimum of 1"),
        (Annotated[str, crunch.Length(2)], "x", "the length 1 is less than the minimum of 2"),
        (
            Annotated[list[int], crunch.Length(max=1)],
            [1, 2],
            "the length 2 is greater than the maximum of 1",
        ),
        (Annotated[float, annotated_types.Gt(0)], 0, "0 is not greater than 0"),
        (Annotated[float, annotated_types.Lt(1)], 1, "1 is not less than 1"),
        (Annotated[int, annotated_types.MultipleOf(5)], 7, "7 is not a multiple of 5"),
        (Words, {}, "the member 'text' is missing"),
        (Model, {"number": 0}, "/number: Input should be greater than or equal to 1"),
        (Model, {"number": 0, "inner": 1}, "(and 1 more)"),
        (list[Model], [{"number": 0}], "/0/number: Input should be"),
    ],
)
def test_a_value_that_does_not_fit_is_rejected_with_its_place(
    hint: Any, value: Any, why: str
) -> None:
    with pytest.raises(Invalid) as caught:
        converted(hint, value)
    assert why in str(caught.value)


SHORT: Any = {"begin": {"x": 1}, "end": {"x": 1}}


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Line, SHORT),
        (Line, {**SHORT, "label": 5}),
        (Line, {"begin": SHORT["begin"], "made_at": "yesterday"}),
        (list[Line], [SHORT, LINE]),
        (list[Line], [SHORT, {}]),
        (datetime.date, "2026-13-01"),
        (datetime.date, 5),
        (list[datetime.date], ["2026-13-01", 5]),
        (tuple[datetime.date, int], ["2026-13-01", 5]),
        (tuple[datetime.date, int], ["2026-13-01", "5"]),
        (dict[str, datetime.date], {"a": "x"}),
        (dict[str, datetime.date], {"a": "x", "b": 5}),
        (datetime.date | int, "x"),
        (datetime.date | int, []),
        (datetime.date | Line, SHORT),
        (Annotated[list[datetime.date], crunch.Length(max=1)], ["x"]),
        (Annotated[list[datetime.date], crunch.Length(max=1)], ["x", "y"]),
        (set[Any], [[1]]),
        (float, 10**400),
        (Model, {"number": 0}),
        (Checked, {"even": 1}),
        (Checked, {"even": "x"}),
        (Checked, {"even": 1, "unknown": 1}),
        (Checked, {"even": 2, "when": "x"}),
        (Checked, {"even": 2, "when": []}),
        (Checked, {"even": 2, "name": "x"}),
        (Checked, {"even": 2, "name": "none"}),
        (Checked, {}),
    ],
)
def test_a_value_that_does_not_fit_is_known_to_be_rejected_by_the_schema(
    hint: Any, value: Any
) -> None:
    with pytest.raises(Invalid) as caught:
        converted(hint, value)
    is_valid = jsonschema.Draft202012Validator(schema_of(hint)).is_valid(value)
    assert caught.value.by_schema == (not is_valid), str(caught.value)


VALUES: list[Any] = [
    None, True, False, 0, 1, 2, -1, 1.0, 1.5, 10, 2**70, "", "a", "red", "x" * 30, [], [1], [1, 1],
    [1, 2], [1, "x"], ["a", "b"], [True, 1], {}, {"x": 1}, {"x": "1"}, {"x": 1, "y": 2},
    {"text": "a"}, {"text": "a", "top": 1}, {"b": "x"}, {"a": 1}, {"red": 1}, {"blue": 1},
    LINE, {**LINE, "z": 1},
    {"value": 1, "children": [{"value": 2, "children": []}]}, {"value": 1, "children": [3]},
]  # fmt: skip
HINTS: list[Any] = [
    int, bool, float, str, None, Any, list[int], tuple[int, ...], tuple[int, int], tuple[()],
    set[int], dict[str, int], dict[Color, int], Optional[int], int | str, list[int] | None,
    Literal["a", 1],
    Literal[1], Literal[True], Color, Level, Point, Tree, Words, Partial, Point | Words,
    Annotated[int, crunch.Range(1, 9)], Annotated[str, crunch.Length(1, 9)],
    Annotated[list[int], crunch.Length(1, 1)], Annotated[float, annotated_types.MultipleOf(0.5)],
    Annotated[list[int] | str, crunch.Length(1, 1)],
]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_the_schema_accepts_what_can_be_converted(hint: Any) -> None:
    shape, schema = Shapes({}).of(hint), schema_of(hint)
    validator = jsonschema.Draft202012Validator(schema)
    for value in VALUES:
        try:
            shape.convert(value)
            fits = True
        except Invalid:
            fits = False
        assert validator.is_valid(value) == fits, (value, schema)
