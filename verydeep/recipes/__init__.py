"""Recipes by name, and a configuration from its layers: defaults < start < recipe < files < words."""

import warnings
from collections.abc import Sequence
from functools import reduce
from importlib import resources
from operator import or_
from pathlib import Path
from typing import Any

from verydeep.config import Config, plain
from verydeep.errors import ConfigError
from verydeep.fields import known, yaml_fields

PAPER = Config()
FINE_TUNING = ("finetune", "finetune-features")  # random weights learn little at their rates
SHAPE = ("net", "base_width", "batch_norm", "pooling", "crop", "fc_width", "scale")  # of a net that is fine-tuned


def recipes() -> list[str]:
    names = (f.name for f in resources.files("verydeep.recipes").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def recipe_file(name: str) -> Path:
    if name not in recipes():
        raise ConfigError(f"recipe {name!r} is not known; expected one of {', '.join(recipes())}, or --config FILE")
    return Path(str(resources.files("verydeep.recipes").joinpath(f"{name}.yaml")))


def layered(
    recipe: str | None = None, *, files: Sequence[str | Path] = (), start: str | None = None, run: Path | None = None,
    base: Config = PAPER, **words: Any,
) -> Config:  # fmt: skip
    """A configuration: `base`, or the paper's with a recipe; the shape of the net it starts from; recipe; files; words.

    files: YAML, later ones over earlier ones. start: a model to fine-tune, not read where `run` goes on from it.
    Raises ConfigError, and ModelError for a start.
    """
    named = [recipe_file(recipe)] if recipe else []
    layers = [file_fields(Path(file)) for file in (*named, *files)] + [known(words, Config)]
    if start:
        layers = [shape_of(start, run), *layers, {"init_from": start}]
    merged = reduce(or_, layers, {} if recipe else plain(base))
    if recipe in FINE_TUNING and not merged.get("init_from"):
        raise ConfigError(
            f"recipe: {recipe} is for a start from learnt weights, and none is named; "
            "'verydeep train --from MODEL' names one"
        )
    return Config(**merged)


def file_fields(file: Path) -> dict[str, Any]:
    """The fields that a YAML file sets. Raises ConfigError naming the file."""
    try:
        return known(yaml_fields(file), Config)
    except OSError as e:
        raise ConfigError(f"config: {file} cannot be read ({e.strerror or e}); give a YAML file of fields") from e
    except ValueError as e:
        raise ConfigError(f"config: {file} {e}; give lines such as 'lr: 0.01'") from e
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from e


def shape_of(model: str, run: Path | None) -> dict[str, Any]:
    """The fields that a start brings; a run that goes on has them already, and does not need the start again."""
    from verydeep.run import has_state, read_config

    if run and has_state(run) and (config := read_config(run)).init_from == model:
        return {name: getattr(config, name) for name in SHAPE}
    from verydeep.weights import Features, load_start

    with warnings.catch_warnings(action="ignore"):  # the training reads it again, and warns
        found = load_start(model)
    if isinstance(found, Features):  # convolutions take crops of any size
        return {name: getattr(found, name) for name in SHAPE[:4]}
    low, high = found.contract.scales
    return {name: getattr(found.contract, name) for name in SHAPE[:-1]} | {"scale": low if low == high else (low, high)}
