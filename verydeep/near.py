"""What may be meant by a wrong name: the nearest of the names that there are."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from verydeep.errors import ConfigError
from verydeep.files.records import field_of
from verydeep.paper import ALSO_CALLED

NOISE = re.compile(r"^.*:|[-_]", re.DOTALL)
NEAR = 0.7  # of 1, which is equal: trian is near train, and conv9_9 near no layer


def meant(given: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """How an error about a wrong name goes on: with the near one, else with `otherwise`, None for all that there are.

    Capitals, hyphens, underscores and what stands before a colon make no difference.
    """
    names = list(known)
    bare, word = {NOISE.sub("", name.lower()): name for name in reversed(names)}, NOISE.sub("", given[:60].lower())
    if (net := ALSO_CALLED.get(word.removesuffix("bn"))) in names:
        return f"; the paper calls it {net}"
    if near := get_close_matches(word, bare, 1, NEAR):
        return f"; did you mean {bare[near[0]]}?"
    return f"; expected one of {', '.join(names)}" if otherwise is None else otherwise


def choices(kind: Any) -> list[str]:
    """The words that a kind allows, alone or in a list."""
    if kind is bool:
        return ["true", "false"]
    inner = get_args(kind)
    return list(map(str, inner)) if get_origin(kind) is Literal else [word for one in inner for word in choices(one)]


def choice_meant(given: object, kind: Any) -> str:
    """As `meant`, of a value that a kind does not allow; the error names all choices already."""
    known = choices(kind)
    words = [str(one).strip() for one in (given if isinstance(given, (list, tuple)) else str(given).split(","))]
    return next((meant(word, known, "") for word in words if known and word not in known), "")


def checked(name: str, value: object, kind: Any) -> Any:
    """The value as a field of this kind holds it. Raises ConfigError with what may be meant."""
    try:
        return field_of(name, value, kind)
    except ValueError as e:
        raise ConfigError(f"{e}{choice_meant(value, kind)}") from e
