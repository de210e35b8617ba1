"""The verbs of the command line, a module each: frozen dataclasses whose fields are their words and flags.

From Python `verydeep.train("photos", recipe="auto", out="runs/mine")` does what the command line does, returns the
plain values that `--json` prints, and prints nothing on stdout.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

from verydeep.config import Config
from verydeep.errors import ConfigError
from verydeep.evaluate.views import MEANS
from verydeep.fields import Once, Parser, explained, given, settle
from verydeep.recipes import AUTO, layered, recipes

DATA = (
    "a folder of class folders (or of train, val, test), ILSVRC-2012 as published, a manifest (.csv, .jsonl), boxes of "
    "Pascal VOC, COCO, YOLO, LabelMe, CVAT or Label Studio, shards (photos-*.tar, here or on an object store), "
    "builtin:fashion[-mini|-scenes[-large]|-placed], hub:NAME or hub:./FOLDER"
)
MODEL = (
    "a run folder, a .safetensors file, builtin:fashion-a, a published net of 'verydeep weights list', or a file of "
    "Caffe, Keras, torchvision, timm, MatConvNet or ONNX"
)
ENGINE = "what computes: auto, by what the machine has; measure, the fastest for these nets, remembered; or its name"
EVERYWHERE = {  # fields that mean the same in all verbs
    "data": DATA, "model": MODEL, "models": MODEL, "download": "fetch a built-in data set that is not at hand",
    "device": "where to compute", "engine": ENGINE, "workers": "threads that read photos; -1 chooses",
    "protocol": f"how a photo is shown, with commas: {', '.join(f'{name} ({m.brief})' for name, m in MEANS.items())}",
}  # fmt: skip
FilePath = str | Path
Device = Literal["auto", "cpu", "cuda", "mps"]
Engine = Literal["auto", "measure", "torch", "openvino", "onnxruntime"]
BadPhotos = Literal["stop", "skip"]


class Verb(ABC):
    """Positional fields are words of the command line, keyword-only ones flags."""

    SPARES: ClassVar[str] = "free some, or use a machine with more"  # what helps where the memory does not hold it

    def __post_init__(self) -> None:
        settle(self)

    @abstractmethod
    def run(self) -> Any:
        """Does the work; returns plain values, or None where another rank has them."""

    def text(self, record: Any) -> str:
        """What `run` returned, for people."""
        return json.dumps(record)

    def show(self, record: Any, as_json: bool) -> int:
        """Prints what `run` returned; returns the exit status."""
        if record is not None:
            print(json.dumps(record) if as_json else self.text(record))
        return 0

    @classmethod
    def describe(cls, parser: Parser) -> None:
        """Adds its words and flags, or its own verbs."""
        if own := cls.own():
            verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
            for name, kind in own.items():
                kind.describe(verbs.add_parser(name, help=kind.__doc__, description=kind.__doc__))
        parser.add_fields(cls, cls, EVERYWHERE | explained(cls))
        parser.flag("json", "print one machine-readable object on stdout", action="store_true")

    @classmethod
    def own(cls) -> dict[str, type[Verb]]:
        """Its own verbs: the classes made of it."""
        return {kind.__name__.lower(): kind for kind in cls.__subclasses__()}

    @classmethod
    def asked(cls, found: Namespace) -> Verb:
        """The verb that the words say. Raises ConfigError."""
        if hasattr(found, "json") and hasattr(found, "csv"):
            raise ConfigError("json and csv: the output has one form; give one of them")
        return cls.own()[found.verb].asked(found) if cls.own() else cls(**given(found, cls))


class Trains(Verb):
    """A verb with a configuration, whose fields are flags, and may come from a start, a recipe and files."""

    STARTS: ClassVar[bool] = False  # whether --from MODEL may give the first layer
    REFUSED: ClassVar[Mapping[str, str]] = {}  # fields that it sets itself, and what to give instead
    SPARES = "add --accumulate 2 or more, or take a smaller --batch, --base_width, --fc_width or --crop"
    config: Config

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.report.tables import results_text

        said = [record["verdict"]["words"]] if "verdict" in record else []
        return "\n".join([*said, "", results_text(record["results"]), f"the report: {record['report']}"])

    @classmethod
    def describe(cls, parser: Parser) -> None:
        super().describe(parser)
        if cls.STARTS:
            more = "fine-tune this model, whose net, crop and S are the defaults then; as --init_from"
            parser.flag("from", more, action=Once, metavar="MODEL")
        kind: Any = type(cls.config)
        named = [AUTO] * (cls.STARTS and kind is Config) + recipes(kind)
        parser.flag("recipe", f"a named set of fields: {', '.join(named)}", action=Once, metavar="NAME")
        more = "a YAML file of fields; of several the later ones win"
        parser.flag("config", more, dest="files", action="append", metavar="FILE")
        parser.add_fields(kind, cls.config, explained(kind), cls.REFUSED)

    @classmethod
    def asked(cls, found: Namespace) -> Verb:
        layers = {name: getattr(found, name) for name in ("recipe", "from", "files") if hasattr(found, name)}
        return cls.of(given(found, cls), given(found, type(cls.config)), **layers)

    @classmethod
    def of(cls, own: dict[str, Any], words: dict[str, Any], **layers: Any) -> Verb:
        """own: its own fields; words: those of the configuration; layers: recipe, from, files. Raises ConfigError."""
        recipe, start, files = layers.get("recipe"), layers.get("from"), layers.get("files", ())
        if refused := next((name for name in cls.REFUSED if name in words), None):
            raise ConfigError(f"{refused}: {cls.REFUSED[refused]}")
        if start and "init_from" in words:
            raise ConfigError("from and init_from: a net starts from one model, and both name it; give one of them")
        run = Path(own["out"], *["fold-1"] * bool(own.get("folds"))) if "out" in own else None
        seen = {name: own[name] for name in ("data", "time", "folds", "download") if name in own and cls.STARTS}
        if "time" in own and recipe != AUTO:
            raise ConfigError("time: only --recipe auto chooses by the time; give --epochs or --steps")
        config = layered(recipe, files=files, start=start, run=run, base=cls.config, **seen, **words)
        return cls(**own | {"config": config})


LAYERS = {"recipe": "recipe", "from": "start", "files": "config"}  # of a configuration, and their names in Python


def verb_class(name: str) -> type[Verb]:
    kind: type[Verb] = getattr(import_module(f"verydeep.verbs.{name}"), name.capitalize())
    return kind


def call(verb: str, *words: Any, **flags: Any) -> Any:
    """What a verb returns for its words and flags; `start` is the model to start from. Raises VeryDeepError."""
    kind = verb_class(verb)
    known = {f.name: f.kw_only for f in fields(kind)}  # type: ignore[arg-type]  # all verbs are dataclasses
    positional = [name for name, flag in known.items() if not flag]
    if len(words) > len(positional):
        raise ConfigError(f"{verb}: {len(words)} words are given; it takes {', '.join(positional) or 'none'}")
    own = dict(zip(positional, words, strict=False))
    if not issubclass(kind, Trains):
        return kind(**own | flags).run()
    layers = {name: given for name, flag in LAYERS.items() if (given := flags.pop(flag, None)) is not None}
    if isinstance(files := layers.get("files", ()), (str, Path)):
        layers["files"] = (files,)
    elif not isinstance(files, (tuple, list)):
        raise ConfigError(f"config: expected a YAML file or several, not {type(files).__name__}; fields go by name")
    own |= {name: flags.pop(name) for name in list(flags) if name in known}
    return kind.of(own, flags, **layers).run()
