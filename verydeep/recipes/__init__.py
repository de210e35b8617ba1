"""Recipes by name, and a configuration from its layers: defaults < start < recipe < files < words."""

import os
import sys
import warnings
from collections.abc import Sequence
from functools import reduce
from importlib import resources
from pathlib import Path
from typing import Any

from verydeep.config import Config, in_proportion, plain
from verydeep.errors import ConfigError
from verydeep.fields import known, yaml_fields
from verydeep.near import meant

PAPER = Config()
FINE_TUNING = ("finetune", "finetune-features")  # random weights learn little at their rates
SHAPE = ("net", "base_width", "batch_norm", "pooling", "crop", "fc_width", "scale")  # of a net that is fine-tuned


AUTO = "auto"  # no file: choose/ does


def recipes(kind: type[Config] = Config) -> list[str]:
    """Names of the files for a kind of configuration, those of boxes end so; `auto` is none."""
    names = (f.name for f in resources.files("verydeep.recipes").iterdir())
    found = sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    return [name for name in found if name.endswith("-boxes") == (kind is not Config)]


def recipe_file(name: str, kind: type[Config] = Config) -> Path:
    if name not in recipes(kind):
        known = [AUTO] * (kind is Config) + recipes(kind)
        near = meant(name, known, f"; expected one of {', '.join(known)}, or --config FILE")
        raise ConfigError(f"recipe {name!r} is not known{near}")
    return Path(str(resources.files("verydeep.recipes").joinpath(f"{name}.yaml")))


def layered(
    recipe: str | None = None, *, files: Sequence[str | Path] = (), start: str | None = None, run: Path | None = None,
    base: Config = PAPER, data: str | None = None, time: str = "10m", folds: int | None = None, download: bool = False,
    **words: Any,
) -> Config:  # fmt: skip
    """A configuration: `base`, or one of its kind with a recipe; the shape of its start; recipe; files; words.

    The recipe `auto` looks at DATA and chooses what trains in about this time, each fold of several; a run that goes on
    keeps its own.

    files: YAML, later ones over earlier ones. start: a model to fine-tune, not read where `run` goes on from it.
    Raises ConfigError, and ModelError for a start.
    """
    kind = type(base)
    words = known(words, kind)
    first = [chosen_for(data, time, folds or 1, run, start, download, words)] if recipe == AUTO else []
    named = [recipe_file(recipe, kind)] if recipe and not first else []
    layers = first + [file_fields(Path(file), kind) for file in (*named, *files)] + [words]
    if start:
        layers = [shape_of(start, run, kind), *layers, {"init_from": start}]
    merged = reduce(over, layers, {} if recipe else plain(base))
    if recipe in FINE_TUNING and not merged.get("init_from"):
        raise ConfigError(
            f"recipe: {recipe} is for a start from learnt weights, and none is named; "
            "'verydeep train --from MODEL' names one"
        )
    return kind(**merged)


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A layer over another; where it says another number of epochs alone, the rate drops in the same proportion."""
    drops, epochs, others = below.get("drop_at"), below.get("epochs"), above.get("epochs")
    if drops and epochs and others and "drop_at" not in above:
        above = above | {"drop_at": in_proportion(tuple(drops), epochs, others)}
    return below | above


def chosen_for(
    data: str | None, time: str, folds: int, run: Path | None, start: str | None, download: bool, words: dict[str, Any]
) -> dict[str, Any]:
    """The fields that `auto` chooses for DATA, said in three lines; those of a run that goes on."""
    from verydeep.run import has_state, read_config

    if data is None or start:
        what = "chooses the start itself, so name none" if start else "is for 'verydeep train DATA'"
        raise ConfigError(f"recipe: auto {what}, or name another of {', '.join(recipes())}")
    if run and has_state(run):
        print(f"{run} goes on as it was begun, whatever the time is to be; another --out begins anew", file=sys.stderr)
        return plain(read_config(run))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("recipe: auto measures one machine; let it begin there, then give its config.yaml: --config")
    from verydeep.choose import choose, seconds_in
    from verydeep.data.source import open_data

    seconds, c = seconds_in(time), vars(PAPER) | words
    opened = open_data(
        data, (c["val_share"], c["test_share"]), c["seed"], download, groups=c["groups"], classes=c["classes"],
        corrections=c["corrections"],
    )  # fmt: skip
    opened = opened.read_as(Config(**c).reading)
    recipe, fields, lines = choose(opened, seconds, c["device"], folds)
    for line in lines:
        print(f"auto: {line}", file=sys.stderr, flush=True)
    return (file_fields(recipe_file(recipe)) if recipe else {}) | fields


def file_fields(file: Path, kind: type[Config] = Config) -> dict[str, Any]:
    """The fields that a YAML file sets. Raises ConfigError naming the file."""
    try:
        return known(yaml_fields(file), kind)
    except OSError as e:
        raise ConfigError(f"config: {file} cannot be read ({e.strerror or e}); give a YAML file of fields") from e
    except ValueError as e:
        raise ConfigError(f"config: {file} {e}; give lines such as 'lr: 0.01'") from e
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from e


def shape_of(model: str, run: Path | None, kind: type[Config] = Config) -> dict[str, Any]:
    """The fields that a start brings; a run that goes on has them already, and does not need the start again."""
    from verydeep.run import has_state, read_config

    if run and has_state(run) and (config := read_config(run, kind)).init_from == model:
        return {name: getattr(config, name) for name in SHAPE}
    from verydeep.weights import Features, load_start

    with warnings.catch_warnings(action="ignore"):  # the training reads it again, and warns
        found = load_start(model)
    if isinstance(found, Features):  # convolutions take crops of any size
        return {name: getattr(found, name) for name in SHAPE[:4]}
    low, high = found.contract.scales
    return {name: getattr(found.contract, name) for name in SHAPE[:-1]} | {"scale": low if low == high else (low, high)}
