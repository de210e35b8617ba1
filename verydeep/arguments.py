"""What the verbs take, in the user's words: recipes by name, and the parser's messages in one line."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verydeep.errors import ConfigError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

VERBS = {
    "demo": "train, test and explain a net on embedded photos, start to finish",
    "check": "say what is wrong with the photos of DATA, and what will be done about it",
    "train": "train a net on DATA into a run folder, or go on where it stopped; then test it and write the report",
    "study": "the paper's experiment on DATA: train several nets in stages, set up its tables, and see which of its claims hold",
    "evaluate": "count the errors of models on DATA by the tests of the paper, each model alone and several fused",
    "predict": "say what is on photos",
    "report": "write the report of a run again",
    "pack": "copy DATA into tar shards with an index, for big data sets and object stores; numbers stay the same",
}
DATA_HELP = (
    "a folder of class folders (or of train, val, test), a manifest (.csv, .jsonl), shards (photos-*.tar, here or on an object store), "
    "builtin:fashion-mini, builtin:fashion, hub:NAME or hub:./FOLDER"
)
MODEL_HELP = "a run folder, a .safetensors file or builtin:fashion-a"
WORDS = {
    "nets": "columns of Table 1, or shallow-B, with commas; B to E start from A, so A comes with them (default: %(default)s)",
    "seeds": "every net is trained once from each, with commas; from three on all must agree before a claim is decided. "
    "--seed only draws the split (default: %(default)s)",
    "train_scales": "which S each net is trained at: those of Table 3, only the first, or all three",
    "tuning_epochs": "epochs of the stages that start from the same net at a smaller S; null: as many as the others",
    "dry_run": "say what would be done and how long it would take; write nothing",
    "protocol": "how a photo is shown, with commas: centre (one crop), dense (the whole photo), crops (5 x 5 of them), "
    "both (dense and crops averaged) (default: %(default)s)",
    "scales": "smallest sides of the rescaled photo: single (the model's own), several (three that fit how it was trained), "
    "or numbers such as 256,384,512 (default: %(default)s)",
    "average": "what dense evaluation averages over the class map: scores, before soft-max, or posteriors, after it",
    "pooling": "how max-pooling rounds odd sides in this test; null: as in training",
    "save": "keep the posteriors in a .safetensors file, which may stand as a MODEL later",
    "bad_photos": "an unreadable photo stops the test and is named, or is skipped, counted and listed",
    "long_photos": "a photo longer than 8:1 stops dense evaluation, or only its middle part is seen there",
}


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
        spelled = {"out": "--out", "data": "DATA", "model": "MODEL", "models": "MODEL", "photos": "PHOTO_OR_FOLDER", "runs": "RUN"}
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


def config_arguments(parser: ArgumentParser) -> None:
    from verydeep.config import Config

    parser.add_argument("--recipe", metavar="NAME", help=f"a named set of fields: {', '.join(recipes())}")
    parser.add_argument("--config", action="config", metavar="FILE", help="a YAML file of fields")
    parser.add_class_arguments(Config, as_group=False)
    parser.add_argument("--json", action="store_true", help="print one machine-readable object on stdout")


def config_of(args: Namespace) -> Any:
    import dataclasses

    from verydeep.config import Config

    return Config(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Config)})


def numbers_in(name: str, text: str) -> list[int]:
    """Whole numbers separated by commas. Raises ConfigError naming the argument."""
    words = text.split(",")
    if not all(w.isascii() and w.isdigit() and len(w) < 19 for w in words):
        raise ConfigError(f"{name}: {text[:60]!r} is not understood; expected whole numbers such as 0,1,2")
    return [int(w) for w in words]
