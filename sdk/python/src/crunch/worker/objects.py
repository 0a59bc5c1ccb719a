"""The shapes of JSON objects with known members: dataclasses, TypedDicts, pydantic models."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from crunch.worker.shapes import (
    Definitions,
    Invalid,
    Schema,
    Shape,
    first_reported,
    json_kind,
)

NOT_PUBLISHED: Final = object()
"""Stands for a default that is missing, or that must not be published."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of an object."""

    name: str
    shape: Shape
    required: bool = True
    default: Any = NOT_PUBLISHED
    """A default to publish, or NOT_PUBLISHED. It is documentation: nothing is filled in from it."""
    always_written: bool = True
    """Whether results always have it."""

    def schema(self, definitions: Definitions) -> Schema:
        """Return its schema with its default."""
        schema = self.shape.schema(definitions)
        if definitions.of_results or self.default is NOT_PUBLISHED:
            return schema
        return {**schema, "default": self.default}


class ObjectShape(Shape):
    """An object with known members, and no others unless `others` has a shape for them."""

    def __init__(
        self, name: str, make: Callable[[dict[str, Any]], Any], description: str | None = None
    ) -> None:
        self.name: Final = name
        self.description: Final = description
        self.members: dict[str, Member] = {}
        """Filled after construction, because an object may contain objects of its own shape."""
        self.others: Shape | None = None
        self._make = make

    def set_members(self, members: Sequence[Member]) -> None:
        """Set the members."""
        self.members = {member.name: member for member in members}

    def schema(self, definitions: Definitions) -> Schema:
        return definitions.reference(self, self.name, lambda: self.own_schema(definitions))

    def own_schema(self, definitions: Definitions) -> Schema:
        """Return the schema itself, not a reference to it."""
        schema: Schema = {"type": "object"}
        if self.description:
            schema["description"] = self.description
        members = self.members.values()
        schema["properties"] = {it.name: it.schema(definitions) for it in members}
        of_results = definitions.of_results
        required = [it.name for it in members if (it.always_written if of_results else it.required)]
        if required:
            schema["required"] = required
        if self.others is not None:
            schema["additionalProperties"] = self.others.schema(definitions)
        elif not of_results:
            schema["additionalProperties"] = False
        return schema

    def convert(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise Invalid(f"expected an object, got {json_kind(value)}")
        try:
            return self._make(self.converted_members(value))
        except Invalid:
            raise
        except (ValueError, AssertionError) as error:
            # As pydantic does it, a constructor rejects values with one of these.
            raise Invalid(str(error) or type(error).__name__, by_schema=False) from None

    def converted_members(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return the members with their Python values."""
        made: dict[str, Any] = {}
        first: Invalid | None = None
        for name, member_value in value.items():
            member = self.members.get(name)
            shape = self.others if member is None else member.shape
            if shape is None:
                known = ", ".join(self.members) or "none"
                raise Invalid(f"there is no such member; known are: {known}").inside(name)
            try:
                made[name] = shape.convert(member_value)
            except Invalid as error:
                first = first_reported(first, error.inside(name))
        for name, member in self.members.items():
            if member.required and name not in value:
                raise Invalid(f"the member {name!r} is missing")
        if first is not None:
            raise first
        return made


def fields_of(
    kind: type, hints: Mapping[str, Any], shape_of: Callable[[Any], Shape]
) -> list[Member]:
    """Return the members of a dataclass."""
    members: list[Member] = []
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        has_default = field.default is not dataclasses.MISSING
        has_factory = field.default_factory is not dataclasses.MISSING
        default = field.default if has_default else _made_by(field.default_factory)
        members.append(
            Member(
                field.name,
                shape_of(hints[field.name]),
                required=not has_default and not has_factory,
                default=published(default),
            )
        )
    return members


def _made_by(factory: Any) -> Any:
    """Return what a default_factory makes, if that is the same in every process."""
    return factory() if factory in (list, dict, set, tuple, frozenset, str) else NOT_PUBLISHED


def published(default: Any) -> Any:
    """Return a default as JSON, or NOT_PUBLISHED if it may not be published.

    All children of a server must declare the same. A time or an id that was made at import differs
    between them, so only values that are plain data are published.
    """
    if isinstance(default, enum.Enum):
        return published(default.value)
    if default is None or isinstance(default, bool | int | float | str):
        return default if default == default else NOT_PUBLISHED  # noqa: PLR0124 - NaN
    if isinstance(default, list | tuple | set | frozenset):
        # The order of a set of strings differs between processes.
        items: list[Any] = [published(item) for item in default]
        if isinstance(default, set | frozenset) and len(items) > 1:
            return NOT_PUBLISHED
        return NOT_PUBLISHED if NOT_PUBLISHED in items else items
    if isinstance(default, dict):
        return _published_members(default)
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        names = [field.name for field in dataclasses.fields(default)]
        return _published_members({name: getattr(default, name) for name in names})
    return NOT_PUBLISHED


def _published_members(members: Mapping[Any, Any]) -> Any:
    found = {name: published(value) for name, value in members.items()}
    plain = all(isinstance(name, str) for name in found)
    return found if plain and NOT_PUBLISHED not in found.values() else NOT_PUBLISHED


def description_of(kind: type) -> str | None:
    """Return the first paragraph of the class's own docstring."""
    text = kind.__dict__.get("__doc__")
    # The decorator `dataclass` writes a signature if there is no docstring.
    if not text or text.startswith(f"{kind.__name__}("):
        return None
    return first_paragraph(text)


def first_paragraph(text: str) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


def is_model(kind: object) -> bool:
    """Whether it is a pydantic model. Pydantic is not imported: a model exists only if it was."""
    pydantic = sys.modules.get("pydantic")
    base = getattr(pydantic, "BaseModel", None)
    if base is None or not isinstance(kind, type) or not issubclass(kind, base):
        return False
    if not hasattr(kind, "model_json_schema"):
        raise TypeError(f"{kind.__qualname__} is a model of pydantic 1; pydantic 2 is needed")
    return True


class ModelShape(Shape):
    """A pydantic model. Pydantic derives its schema, and validates."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def schema(self, definitions: Definitions) -> Schema:
        return definitions.reference(
            self, self._model.__name__, lambda: self._own_schema(definitions)
        )

    def _own_schema(self, definitions: Definitions) -> Schema:
        # Two models may have definitions of the same name.
        prefix = self._model.__name__
        schema: Schema = self._model.model_json_schema(
            ref_template=f"#/$defs/{prefix}.{{model}}",
            mode="serialization" if definitions.of_results else "validation",
        )
        for name, definition in schema.pop("$defs", {}).items():
            definitions.add(f"{prefix}.{name}", definition)
        return schema

    def convert(self, value: Any) -> Any:
        # Not from Python values: a strict model accepts a date or a tuple only in JSON.
        return self.convert_json(json.dumps(value))

    def convert_json(self, text: str | bytes) -> Any:
        """Return the model of a JSON text."""
        try:
            return self._model.model_validate_json(text)
        except ValueError as error:
            raise _invalid(error) from None


def _invalid(error: ValueError) -> Invalid:
    """Return the first violation that pydantic found, and how many more there are."""
    found: list[dict[str, Any]] = getattr(error, "errors", list)()
    if not found:
        return Invalid(str(error), by_schema=False)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    by_schema = any(_is_by_schema(it["type"]) for it in found)
    invalid = Invalid(f"{found[0]['msg']}{more}", by_schema=by_schema)
    invalid.path.extend(found[0]["loc"])
    return invalid


def _is_by_schema(kind: str) -> bool:
    """Whether the schema of a model rejects what pydantic has rejected with an error of this kind.

    Not what validators and formats reject.
    """
    return kind in _BY_SCHEMA or kind.endswith("_type")


_BY_SCHEMA: Final = frozenset(
    {
        "bool_parsing", "enum", "extra_forbidden", "float_parsing", "greater_than",
        "greater_than_equal", "int_from_float", "int_parsing", "invalid_key", "json_invalid",
        "less_than", "less_than_equal", "literal_error", "missing", "multiple_of", "none_required",
        "string_pattern_mismatch", "string_too_long", "string_too_short", "too_long", "too_short",
        "union_tag_invalid", "union_tag_not_found",
    }
)  # fmt: skip
