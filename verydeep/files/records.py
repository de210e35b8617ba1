"""Typed values: what a field may hold stands in its annotation, whether it comes from JSON, YAML, words or Python."""

import math
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
UNIONS = (UnionType, Union)  # Annotated makes the older one
SHORT = Repr()  # a wrong value in a message, never spelled out whole
SHORT.maxstring = SHORT.maxother = 60
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "some text",
    Path: "a path",
    NoneType: "null",
}


class Within(NamedTuple):
    """Bounds of a number, or of the length of text: `Annotated[int, Within(1)]` is 1 or more."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # low itself is outside
    below: bool = False  # high itself is outside

    def holds(self, value: Any) -> bool:
        x = len(value) if isinstance(value, str) else value
        return bool(
            (self.low < x if self.above else self.low <= x) and (x < self.high if self.below else x <= self.high)
        )

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        high = f"below {self.high:g}" if self.below else f"at most {self.high:g}"
        return " and ".join([low] * (self.low > -math.inf) + [high] * (self.high < math.inf))


Count = Annotated[int, Within(1)]
Workers = Annotated[int, Within(-1)]
Natural = Annotated[int, Within(0)]
NotNegative = Annotated[float, Within(0)]
Positive = Annotated[float, Within(0, above=True)]
Share = Annotated[float, Within(0, 1, below=True)]
Some = Annotated[float, Within(0, 1, above=True, below=True)]  # a share that may not be nothing


def described(kind: Any) -> str:
    """A kind in the user's words: `a whole number, 1 or more, or null`."""
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        return ", ".join([described(inner[0]), *map(str, inner[1:])])
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if get_origin(kind) in UNIONS:
        return ", or ".join(map(described, inner))
    if get_origin(kind) is tuple:
        each = described(inner[0])
        some = re.sub(r"^(?:an? )?(.*?)(,|$)", r"\1s\2", each) if each.startswith("a ") else f"values, each {each}"
        if inner[-1] is ...:
            return f"a list of {some}"
        names = {1: "one", 2: "two", 3: "three"}
        return (
            f"{names.get(len(inner), len(inner))} {some}" if len(set(inner)) == 1 else ", ".join(map(described, inner))
        )
    return WORDS.get(kind, "an object")


def taken(value: object, kind: Any) -> Any:
    """The value as its kind holds it: a list becomes a tuple, an object a record. Raises ValueError for others."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = value if is_plain(value, inner[0]) else taken(value, inner[0])  # quick in long lists
        if found is not None and not all(bounds.holds(found) for bounds in inner[1:]):
            raise wrong(value, kind)
        return found
    if origin in UNIONS:
        for one in inner:
            try:
                return taken(value, one)
            except ValueError:
                continue
        raise wrong(value, kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(value) == len(kinds):
            return tuple(map(taken, value, kinds))
    elif origin is dict and isinstance(value, Mapping):
        return {taken(k, inner[0]): taken(v, inner[1]) for k, v in value.items()}
    elif is_plain(value, kind):
        return value
    elif kind is Path and isinstance(value, (str, Path)) and str(value):
        return Path(value)
    elif is_record(kind) and isinstance(value, Mapping):
        return record_of(kind, value)
    raise wrong(value, kind)


def is_plain(value: object, kind: Any) -> bool:
    """Whether a value is of a kind that stays as it is; a bool is no number, and what is not a number is none."""
    if kind is float:
        return type(value) in (int, float) and value == value
    if kind is int:
        return type(value) is int and abs(value) < 1 << 63
    if get_origin(kind) is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(kind))
    return kind is Any or (kind in (bool, str, NoneType) and type(value) is kind)


def record_of(kind: type[T], values: object) -> T:
    """A dataclass or named tuple of plain values, which are just its fields. Raises ValueError naming the field.

    Those that the class names in MAY_LACK may be left out and are what they are by default.
    """
    kinds = get_type_hints(kind, include_extras=True)
    if not isinstance(values, Mapping):
        raise ValueError(f"it is {SHORT.repr(values)}, and not an object")
    may_lack: set[str] = getattr(kind, "MAY_LACK", set())
    if odd := sorted(SHORT.repr(name) for name in (values.keys() ^ kinds.keys()) - may_lack):
        raise ValueError(f"the fields are other ones: {', '.join(odd[:5])}")
    return kind(**{name: field_of(name, values[name], kinds[name]) for name in kinds if name in values})


def field_of(name: str, value: object, kind: Any) -> Any:
    try:
        return taken(value, kind)
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from e


def wrong(value: object, kind: Any) -> ValueError:
    return ValueError(f"{SHORT.repr(value)} is not {described(kind)}")


def is_record(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"))
