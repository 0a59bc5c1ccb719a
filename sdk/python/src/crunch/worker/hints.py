"""From a type hint to the shape of a JSON value."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crunch.worker.objects import (
    Member,
    ModelShape,
    ObjectShape,
    description_of,
    fields_of,
    is_model,
)
from crunch.worker.shapes import (
    FORMATS,
    SCALARS,
    AnyShape,
    Bounded,
    Bounds,
    Choice,
    DictShape,
    ListShape,
    Shape,
    TupleShape,
    Union,
)


@dataclass(frozen=True)
class Range:
    """The limits of a number, both included: `Annotated[int, crunch.Range(1, 100)]`."""

    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Length:
    """The limits of the length of a string or a list: `Annotated[str, crunch.Length(max=80)]`."""

    min: int = 0
    max: int | None = None


class Unsupported(TypeError):
    """A type hint whose values cannot be read from JSON."""


_SETS: Final = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_LISTS: Final = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_DICTS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Shapes:
    """Derives shapes. Each class has one, so that classes may contain themselves."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        """Take the local names that hints given as text may use."""
        self._names: Final = dict(names)
        self._known: Final[dict[type, Shape]] = {}

    def of(self, hint: Any) -> Shape:
        """Return the shape of a type hint; raise `Unsupported` if it has none."""
        if isinstance(hint, type) and hint in SCALARS:
            return SCALARS[hint]
        if hint is None:
            return SCALARS[type(None)]
        if hint is Any or hint is object:
            return AnyShape()
        origin = typing.get_origin(hint)
        if origin is not None:
            return self._of_generic(hint, origin, typing.get_args(hint))
        if isinstance(hint, type):
            return self._of_class(hint)
        # `type X = …` of Python 3.12, and NewType.
        alias = getattr(hint, "__value__", None) or getattr(hint, "__supertype__", None)
        if alias is not None:
            return self.of(alias)
        raise _unsupported(hint)

    def _of_generic(self, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Shape:
        if origin is typing.Annotated:
            return self._annotated(arguments[0], arguments[1:])
        if origin is typing.Union or origin is types.UnionType:
            return Union([self.of(member) for member in arguments])
        if origin is typing.Literal:
            return _literal(arguments)
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return ListShape(self.of(arguments[0]), tuple, unique=False)
            return TupleShape([self.of(item) for item in arguments])
        if _wrapper(origin) in ("Required", "NotRequired", "ReadOnly", "Final"):
            return self.of(arguments[0])
        if origin in _DICTS:
            return self._dict(*arguments)
        if origin in _LISTS or origin in _SETS:
            return self._list(origin, arguments[0])
        if is_model(hint):
            return self._model(hint)
        raise _unsupported(hint)

    def _of_class(self, kind: type) -> Shape:
        if kind in FORMATS:
            return FORMATS[kind]
        if kind in _DICTS:
            return self._dict(str, Any)
        if kind in _LISTS or kind in _SETS:
            return self._list(kind, Any)
        if kind is tuple:
            return ListShape(AnyShape(), tuple, unique=False)
        if issubclass(kind, enum.Enum):
            return Choice.of_enum(kind)
        known = self._known.get(kind)
        if known is not None:
            return known
        if is_model(kind):
            return self._model(kind)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind)
        if typing.is_typeddict(kind) or hasattr(kind, "__required_keys__"):
            return self._typed_dict(kind)
        if issubclass(kind, bytes | bytearray | memoryview):
            raise Unsupported(f"{_name(kind)} can only be the whole payload: JSON has no bytes")
        raise _unsupported(kind)

    def _list(self, kind: type, item: Any) -> Shape:
        make: Any = list
        if kind in _SETS:
            make = frozenset if kind in (frozenset, collections.abc.Set) else set
        return ListShape(self.of(item), make, unique=kind in _SETS)

    def _dict(self, key: Any, value: Any) -> Shape:
        names = self.of(key)
        if key is not str and key is not Any and not isinstance(names, Choice | Bounded):
            raise Unsupported(f"{_name(key)} cannot be a key: the names of members are strings")
        return DictShape(SCALARS[str] if key is Any else names, self.of(value))

    def _model(self, kind: Any) -> Shape:
        return self._known.setdefault(kind, ModelShape(kind))

    def _dataclass(self, kind: type) -> Shape:
        shape = ObjectShape(kind.__name__, lambda members: kind(**members), description_of(kind))
        self._known[kind] = shape
        pseudo: Any = vars(kind).get("__dataclass_fields__", {}).values()
        if any(field.type is dataclasses.InitVar for field in pseudo):
            raise Unsupported(f"{_name(kind)} has an InitVar")
        shape.set_members(fields_of(kind, self._hints_of(kind), self.of))
        return shape

    def _typed_dict(self, kind: Any) -> Shape:
        shape = ObjectShape(kind.__name__, dict, description_of(kind))
        self._known[kind] = shape
        members: list[Member] = []
        for name, hint in self._hints_of(kind).items():
            # Python 3.10 does not see Required and NotRequired in hints that are text.
            required = name in kind.__required_keys__
            wrapper = _wrapper(typing.get_origin(hint))
            required = {"Required": True, "NotRequired": False}.get(wrapper, required)
            members.append(Member(name, self.of(hint), required, always_written=required))
        shape.set_members(members)
        return shape

    def _hints_of(self, kind: type) -> dict[str, Any]:
        # A class that is defined in a function may refer to itself and to its neighbors.
        names = {**self._names, kind.__name__: kind}
        return typing.get_type_hints(kind, localns=names, include_extras=True)

    def _annotated(self, hint: Any, metadata: Sequence[Any]) -> Shape:
        flat: list[Any] = []
        for item in metadata:
            # A FieldInfo of pydantic keeps its constraints in a list.
            inner = getattr(item, "metadata", None)
            flat += [item, *inner] if isinstance(inner, list) else [item]
        bounds = [found for item in flat if (found := _bounds_of(item)) is not None]
        texts = [getattr(item, "documentation", None) or _description(item) for item in flat]
        description = next((text for text in texts if isinstance(text, str)), None)
        shape = self.of(hint)
        return Bounded(shape, bounds, description) if bounds or description else shape


def _wrapper(origin: Any) -> str:
    """Return the name of a special form: typing_extensions has objects of its own for some."""
    return str(getattr(origin, "_name", ""))


def _literal(values: tuple[Any, ...]) -> Shape:
    choices: list[tuple[Any, Any]] = []
    for value in values:
        plain = value.value if isinstance(value, enum.Enum) else value
        if not isinstance(plain, str | int | float | bool | None):
            raise Unsupported(f"{value!r} cannot be written in JSON")
        choices.append((plain, value))
    return Choice(choices)


def _description(item: Any) -> Any:
    """Return the description of a FieldInfo of pydantic."""
    return getattr(item, "description", None) if hasattr(item, "metadata") else None


def _bounds_of(item: Any) -> Bounds | None:
    """Return the limits that an argument of Annotated has, as annotated_types names them."""
    if isinstance(item, Range):
        return Bounds(minimum=item.min, maximum=item.max)
    if isinstance(item, Length):
        return Bounds(shortest=item.min, longest=item.max)
    named = {
        "minimum": getattr(item, "ge", None),
        "maximum": getattr(item, "le", None),
        "above": getattr(item, "gt", None),
        "below": getattr(item, "lt", None),
        "multiple_of": getattr(item, "multiple_of", None),
        "shortest": getattr(item, "min_length", None),
        "longest": getattr(item, "max_length", None),
    }
    found: dict[str, Any] = {
        name: limit
        for name, limit in named.items()
        if isinstance(limit, int | float) and not isinstance(limit, bool)
    }
    return Bounds(**found) if found else None


def _unsupported(hint: Any) -> Unsupported:
    return Unsupported(
        f"{_name(hint)} cannot be read from JSON; expected a plain type, a dataclass, a TypedDict "
        "or a pydantic model"
    )


def _name(hint: Any) -> str:
    return getattr(hint, "__qualname__", None) or str(hint)
