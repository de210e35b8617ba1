"""Dataclasses as people fill them in: from words of the command line or YAML, by the annotations of their fields."""

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import yaml

from verydeep.errors import ConfigError
from verydeep.files.disk import read_text
from verydeep.files.records import UNIONS, described, taken
from verydeep.near import checked, choice_meant, meant

LONGEST_YAML = 16_000  # bytes; a configuration is a tenth of that, and the parser takes a second for it


@cache
def kinds_of(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, with their bounds."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in fields(kind)}


@cache
def explained(kind: type) -> dict[str, str]:
    """The help of a dataclass's fields, inherited ones too: the docstring below each."""
    kinds = [one for one in reversed(kind.__mro__) if is_dataclass(one)]
    bodies = [ast.parse(textwrap.dedent(inspect.getsource(one))).body[0] for one in kinds]
    pairs = [pair for body in bodies for pair in pairwise(body.body)]  # type: ignore[attr-defined]
    below = [(a, b) for a, b in pairs if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr)]
    return {a.target.id: " ".join(b.value.value.split()) for a, b in below}  # type: ignore[union-attr, attr-defined]


def settle(record: Any) -> None:
    """Makes each field of a dataclass what its annotation says: a list becomes a tuple. Raises ConfigError."""
    own = {name: value for name in kinds_of(record.__class__) if not is_dataclass(value := getattr(record, name))}
    for name, value in known(own, record.__class__).items():
        object.__setattr__(record, name, value)


def known(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The values, if each is of a field of the dataclass and of its kind. Raises ConfigError."""
    kinds = kinds_of(kind)
    if unknown := sorted(str(name) for name in set(values) - set(kinds)):
        more = meant(unknown[0], kinds, "; 'verydeep train --help' lists the known ones")
        raise ConfigError(f"unknown fields {', '.join(unknown)}{more}")
    return {name: checked(name, value, kinds[name]) for name, value in values.items()}


class WithoutAliases(yaml.SafeLoader):
    """A few lines of aliases of aliases would say a thousand million values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a configuration has no aliases")
        return super().compose_node(parent, index)


WithoutAliases.add_implicit_resolver(  # what YAML 1.1 takes for text
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$", re.ASCII), list("-+0123456789")
)


def yaml_fields(file: Path) -> dict[str, Any]:
    """What a YAML file says by name. Raises OSError, and ValueError where it says nothing so."""
    text = read_text(file, LONGEST_YAML)
    try:
        values = WithoutAliases(text).get_single_data()
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as e:
        raise ValueError("is not YAML") from e
    if not isinstance(values, dict):
        raise ValueError("holds no fields")
    return values


class Parser(argparse.ArgumentParser):
    """What is not given leaves no trace, and what is wrong is one line. Raises ConfigError."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **how)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, with the option that an unknown one may mean."""
        found, strange = self.parse_known_args(args, namespace)
        if strange:
            near = meant(strange[0].partition("=")[0], self._option_string_actions, "")
            self.error(f"unrecognized arguments: {' '.join(strange)}{near}")
        return found

    def flag(self, name: str, text: str, required: bool = False, **how: Any) -> None:
        """Underscores may be typed as hyphens, which the help does not repeat."""
        how = {"dest": name, **how}
        self.add_argument(f"--{name}", help=text.replace("%", "%%"), required=required, **how)
        if "_" in name:
            self.add_argument(f"--{name.replace('_', '-')}", help=argparse.SUPPRESS, **how)

    def add_fields(self, kind: type, source: Any, told: Mapping[str, str], hidden: Collection[str] = ()) -> None:
        """Positional fields of a dataclass as words, keyword-only ones as flags, but for those that are dataclasses.

        source: the class, whose switches that are off then need no value, or one of it with other defaults.
        """
        for f in fields(kind):
            one, default, text = kinds_of(kind)[f.name], getattr(source, f.name, MISSING), told.get(f.name, "")
            several = get_origin(one) is tuple
            if is_dataclass(one):
                continue
            if not f.kw_only:
                metavar = f.name.upper().removesuffix("S" if several else "")
                self.add_argument(f.name, metavar=metavar, nargs="+" if several else None, help=text)
            elif source is kind and default is False:
                self.flag(f.name, text, action="store_true")
            else:
                text += " (required)" if default is MISSING else f" (default: {spelled(default)})"
                text = argparse.SUPPRESS if f.name in hidden else text
                self.flag(f.name, text, default is MISSING, metavar=metavar_of(one, f.name))


class Once(argparse.Action):
    """A flag whose second value would hide the first."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        if (first := getattr(namespace, self.dest, None)) is not None:
            parser.error(f"{self.dest}: {first} and {value} are named; give one of them")
        setattr(namespace, self.dest, value)


def metavar_of(kind: Any, name: str) -> str:
    """What the help writes for a value."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"{{{','.join(map(str, inner))}}}"
    if origin in (Annotated, tuple, *UNIONS):
        return metavar_of(inner[0], name) + ",..." * (origin is tuple)
    return {int: "N", float: "X", bool: "{true,false}"}.get(kind, name.upper())


def spelled(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "[]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def given(found: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The fields of a dataclass that the words say. Raises ConfigError naming field, word and what is expected."""
    values = {}
    for name, one in kinds_of(kind).items():
        if (words := getattr(found, name, MISSING)) is not MISSING:
            try:
                values[name] = taken(worded(words, one) if isinstance(words, str) else words, one)
            except ValueError as e:
                more = ", with commas between" * ("tuple" in str(one)) + choice_meant(words, one)
                raise ConfigError(f"{name}: {str(words)[:60]!r} is not {described(one)}{more}") from e
    return values


def worded(text: str, kind: Any) -> Any:
    """The plain value that a word spells for a kind; a word that spells none stays text, which `taken` refuses."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return worded(text, inner[0])
    if origin in UNIONS:
        if NoneType in inner and text == "null":
            return None
        if any(text in get_args(one) for one in inner if get_origin(one) is Literal):
            return text
        return next((value for one in inner if (value := worded(text, one)) is not text), text)
    if origin is tuple:
        items = text.removeprefix("[").removesuffix("]").split(",") if text != "[]" else []
        return [worded(item.strip(), inner[0]) for item in items]
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
