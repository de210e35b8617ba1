"""What the verbs take, in the user's words: recipes by name, and the parser's messages in one line."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from verydeep.errors import ConfigError


def plainly(message: str) -> str:
    """The parser's message in one line and in the user's words."""
    message = " ".join(message.split())
    if found := re.fullmatch(r'Parser key "(\w+)": Does not validate against any .*Given value: (.*)', message):
        return f"{found[1]}: {found[2]!r} is not understood; expected one number, or two as [72,128]"
    if found := re.fullmatch(r'Parser key "(\w+)": Expected a (.*)\. Got value: (.*)', message):
        kind = found[2].removeprefix("typing.")
        words = {"<class 'int'>": "a whole number", "<class 'float'>": "a number", "<class 'bool'>": "true or false"}.get(kind)
        return f"{found[1]}: {found[3]!r} is not {words or 'known'}" + ("" if words else f"; expected one of {kind[len('Literal[') : -1]}")
    if found := re.fullmatch(r"the following arguments are required: (.*)", message):
        spelled = {"out": "--out RUN", "data": "DATA", "model": "MODEL", "models": "MODEL", "photos": "PHOTO_OR_FOLDER", "runs": "RUN"}
        return f"what is required is missing: {', '.join(spelled.get(name, name) for name in found[1].split(', '))}"
    return re.sub(r'^Parser key "(\w+)":', r"\1:", message)


def recipe_first(words: list[str], default: str | None) -> list[str]:
    """--recipe NAME, or the default, becomes --config FILE before everything else, so that --config and fields overrule it."""
    words = [w for word in words for w in (word.split("=", 1) if word.startswith("--recipe=") else [word])]
    if "--recipe" not in words:
        return ["--config", str(recipe_file(default)), *words] if default else words
    at = words.index("--recipe")
    if at + 1 == len(words):
        raise ConfigError(f"--recipe needs a name: {', '.join(recipes())}")
    return ["--config", str(recipe_file(words[at + 1])), *words[:at], *words[at + 2 :]]


def recipes() -> list[str]:
    return sorted(f.name.removesuffix(".yaml") for f in resources.files("verydeep.recipes").iterdir() if f.name.endswith(".yaml"))


def recipe_file(name: str) -> Path:
    if name not in recipes():
        raise ConfigError(f"recipe {name!r} is not known; expected one of {', '.join(recipes())}, or --config FILE")
    return Path(str(resources.files("verydeep.recipes").joinpath(f"{name}.yaml")))
