"""What the verbs take, in the user's words: recipes by name, and the parser's messages in one line."""

from __future__ import annotations

import argparse
import re
import warnings
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    "weights": "published nets: list, fetch NAME, convert IN --to FORMAT OUT, show MODEL, verify MODEL",
    "pack": "copy DATA into tar shards with an index, for big data sets and object stores; numbers stay the same",
}
WEIGHTS_VERBS = {
    "list": "published nets with origin, what they eat, licence and published errors, and whether they are at hand",
    "fetch": "fetch a published net into $VERYDEEP_WEIGHTS or the user's cache; a broken download goes on",
    "convert": "write a model for another toolkit, or with its contract as .safetensors",
    "show": "the contract of a model, and its tensors with their statistics",
    "verify": "whether a model is whole, finite, learnt and known; exit 1 if it is not",
}
DATA_HELP = (
    "a folder of class folders (or of train, val, test), ILSVRC-2012 as published, a manifest (.csv, .jsonl), shards (photos-*.tar, here "
    "or on an object store), builtin:fashion-mini, builtin:fashion, hub:NAME or hub:./FOLDER"
)
MODEL_HELP = (
    "a run folder, a .safetensors file, builtin:fashion-a, a published net of 'verydeep weights list', or a file of Caffe, Keras, "
    "torchvision, timm, MatConvNet or ONNX"
)
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
SEVERAL = {
    "--drop_at": r"\d+(\s*,\s*\d+)*",
    "--scale": r"\d+(\s*,\s*\d+)+",
}  # fields of several numbers, spelled without brackets
FINE_TUNING = ("finetune", "finetune-features")  # recipes
SHAPE = ("net", "base_width", "batch_norm", "pooling", "crop", "fc_width", "scale")  # of a net that is fine-tuned


def plainly(message: str) -> str:
    """The parser's message in one line and in the user's words."""
    message = " ".join(message.split())
    if found := re.fullmatch(r'Parser key "(\w+)": Does not validate against any .*Given value: (.*)', message):
        return f"{found[1]}: {found[2]!r} is not understood; expected one number, or two with a comma; write 72,128 or [72,128]"
    if found := re.fullmatch(r'Parser key "(\w+)": Expected a (.*)\. Got value: (.*)', message):
        kind = found[2].removeprefix("typing.")
        words = {
            "<class 'int'>": "a whole number", "<class 'float'>": "a number", "<class 'bool'>": "true or false",
            "<class 'tuple'>": "a list of whole numbers; write 6,10 or [6,10]",
        }.get(kind)  # fmt: skip
        return f"{found[1]}: {found[3]!r} is not {words or 'known'}" + (
            "" if words else f"; expected one of {kind[len('Literal[') : -1]}"
        )
    if found := re.fullmatch(r"the following arguments are required: (.*)", message):
        as_typed = {
            "out": "--out",
            "data": "DATA",
            "model": "MODEL",
            "models": "MODEL",
            "photos": "PHOTO_OR_FOLDER",
            "runs": "RUN",
            "to": "--to FORMAT",
        }
        return f"what is required is missing: {', '.join(as_typed.get(name, name) for name in found[1].split(', '))}"
    return re.sub(r'^Parser key "(\w+)":', r"\1:", message)


def bracketed(words: list[str]) -> list[str]:
    """`--drop_at 6,10`, as everybody writes it, becomes `--drop_at [6,10]`, as the parser does."""
    words = [w for word in words for w in (word.split("=", 1) if word.split("=", 1)[0] in SEVERAL else [word])]
    return [
        f"[{w}]" if before in SEVERAL and re.fullmatch(SEVERAL[before], w, re.ASCII) else w
        for before, w in pairwise(["", *words])
    ]


def parser_of(verb: str) -> ArgumentParser:
    """An empty one for a verb."""
    import jsonargparse

    class Help(jsonargparse.DefaultHelpFormatter):
        def _get_type_str(self, action: object) -> None:
            """Types of Python say nothing to those who read the help."""

    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return jsonargparse.ArgumentParser(
        prog=f"verydeep {verb}", description=VERBS[verb], formatter_class=Help, exit_on_error=False, allow_abbrev=False
    )


def recipe_first(words: list[str], default: str | None) -> list[str]:
    """--recipe NAME, or the default, becomes --config FILE before everything else, so that --config and fields overrule it."""
    words = [w for word in words for w in (word.split("=", 1) if word.startswith("--recipe=") else [word])]
    if "--recipe" not in words:
        return ["--config", str(recipe_file(default)), *words] if default else words
    at = words.index("--recipe")
    if at + 1 == len(words):
        raise ConfigError(f"--recipe needs a name: {', '.join(recipes())}")
    return ["--config", str(recipe_file(words[at + 1])), *words[:at], *words[at + 2 :]]


def need_start(words: list[str], init_from: str | None) -> None:
    """Raises ConfigError for a recipe of fine-tuning without a net to start from: random weights learn little at its rates."""
    names = [w.removeprefix("--recipe=") for w in words if w.startswith("--recipe=")] + [
        b for a, b in pairwise(words) if a == "--recipe"
    ]
    if not init_from and (name := next((n for n in names if n in FINE_TUNING), "")):
        raise ConfigError(
            f"recipe and from: {name} is for a start from learnt weights, and none is named; add --from MODEL"
        )


def start_first(words: list[str]) -> list[str]:
    """--from MODEL becomes --init_from MODEL, and the shape of that net comes before everything else, so that recipes and fields overrule.

    Raises ConfigError and ModelError.
    """
    words = [w for word in words for w in (word.split("=", 1) if word.startswith("--from=") else [word])]
    if "--from" not in words:
        return words
    at = words.index("--from")
    if at + 1 == len(words):
        raise ConfigError(f"--from needs a model: {MODEL_HELP}")
    if any(w.split("=")[0] in ("--from", "--init_from") for w in words[at + 1 :] + words[:at]):
        raise ConfigError(
            "from and init_from: a net starts from one model, and --from and --init_from both name it; give one of them once"
        )
    return [*shape_of(words[at + 1], words), *words[:at], "--init_from", *words[at + 1 :]]


def shape_of(model: str, words: list[str]) -> list[str]:
    """The fields of a start as arguments; a run that goes on has them already, and does not need the start again."""
    from verydeep.run import has_state, read_config

    given = [w.removeprefix("--out=") for w in words if w.startswith("--out=")] + [
        b for a, b in pairwise(words) if a == "--out"
    ]
    if given and has_state(run := Path(given[-1])) and (config := read_config(run)).init_from == model:
        return [w for name in SHAPE for w in (f"--{name}", spelled(getattr(config, name)))]
    from verydeep.weights import Features, load_start

    with warnings.catch_warnings(action="ignore"):  # the training reads it again, and warns
        found = load_start(model)
    if isinstance(found, Features):  # convolutions take crops of any size
        return [w for name in SHAPE[:4] for w in (f"--{name}", spelled(getattr(found, name)))]
    low, high = found.contract.scales
    shape = [w for name in SHAPE[:-1] for w in (f"--{name}", spelled(getattr(found.contract, name)))]
    return [*shape, "--scale", spelled(low if low == high else (low, high))]


def spelled(value: object) -> str:
    """A field as the command line takes it."""
    return f"[{value[0]},{value[1]}]" if isinstance(value, tuple) else str(value)


def recipes() -> list[str]:
    return sorted(
        f.name.removesuffix(".yaml") for f in resources.files("verydeep.recipes").iterdir() if f.name.endswith(".yaml")
    )


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


def pack_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--out", required=True, metavar="PATTERN", help="where the shards go, such as shards/flowers-%%05d.tar"
    )
    parser.add_argument(
        "--smallest_side", "--smallest-side", type=int | None, metavar="S", help="rescale bigger photos once, for speed"
    )
    parser.add_argument("--shard_mb", type=int, default=256, help="megabytes a shard (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order in the shards (default: %(default)s)")
    parser.add_argument(
        "--bad_photos",
        type=Literal["stop", "skip"],
        default="stop",
        help="what a file that cannot be read does; photos are decoded only with --smallest_side, so check DATA first",
    )
    parser.add_argument("--workers", type=int, default=-1, help="threads that read photos; -1 chooses")
    parser.add_argument("--download", action="store_true", help="fetch a built-in data set that is not at hand")
    parser.add_argument("--json", action="store_true", help="print one machine-readable object on stdout")


def weights_arguments(parser: ArgumentParser, verb: str = "") -> None:
    """What one verb of `weights` takes; without one, the list of them. Raises ConfigError for another."""
    parser.add_argument("--json", action="store_true", help="print one machine-readable object on stdout")
    if verb not in WEIGHTS_VERBS:
        width = max(map(len, WEIGHTS_VERBS)) + 2
        parser.add_argument(
            "verb", choices=list(WEIGHTS_VERBS), help="; ".join(f"{v:<{width}}{w}" for v, w in WEIGHTS_VERBS.items())
        )
        return
    parser.add_argument("--verb", help=argparse.SUPPRESS)
    if verb == "fetch":
        parser.add_argument("name", metavar="NAME", help="a name of 'verydeep weights list'")
    elif verb != "list":
        parser.add_argument("source", metavar="MODEL", help=MODEL_HELP)
    if verb == "convert":
        parser.add_argument("out", metavar="OUT", type=Path, help="the file to write")
        formats = Literal["safetensors", "torchvision", "keras", "caffe", "caffe-v1", "timm"]
        parser.add_argument(
            "--to", type=formats, required=True, help="the layout to write; safetensors carries the contract"
        )
        eats = (
            "what a foreign file eats, such as bgr-255 or rgb-01-std (default: what is known of it, else what is usual)"
        )
        parser.add_argument("--eats", type=str | None, help=eats)
        parser.add_argument(
            "--fold_mean",
            "--fold-mean",
            action="store_true",
            help="fold another mean into conv1_1; borders differ then",
        )
        parser.add_argument(
            "--keep", action="store_true", help="change no weight; the file then needs the model's own mean and std"
        )
