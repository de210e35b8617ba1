"""The names of a net's classes, from whatever lies beside its weights."""

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from verydeep.data.naming import imagenet_classes
from verydeep.errors import ModelError
from verydeep.files.disk import LONGEST_JSON, read_text
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.pickles import Named
from verydeep.weights.shapes import Classes, Found

CLASS_KEYS = (
    "class_to_idx", "class_names", "classes", "idx_to_class", "id2label", "label2id", "label_names", "categories",
)  # fmt: skip


def names_in(value: Any) -> tuple[str, ...]:
    """Names of classes in order, of a list of them, or of a mapping from or to their numbers; else none."""
    value = (value.held or value.items) if isinstance(value, Named) else value
    with suppress(ValueError, TypeError):
        if isinstance(value, dict):
            numbered = all(type(v) is int for v in value.values())
            there = {v: k for k, v in value.items()} if numbered else {int(k): v for k, v in value.items()}
            value = [there.get(i) for i in range(len(value))]
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) and name for name in value):
            return distinct(value)
    return ()


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """What comes again (ImageNet has two cranes) gets its number from 0."""
    often = Counter(names)
    return tuple(f"{name} (class {i})" if often[name] > 1 else name for i, name in enumerate(names))


def classes_beside(path: Path) -> Classes:
    """What a config.json in the same folder names, as hubs and trainers write it."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        told = json.loads(read_text(path.with_name("config.json"), LONGEST_JSON))
        named = [(f"config.json's {key}", names_in(told[key])) for key in CLASS_KEYS if key in told]
        return tuple((key, names) for key, names in named if names)
    return ()


def pair(names: tuple[str, ...], single: bool) -> tuple[str, ...]:
    """Of the one class that a net with one output tells from all else."""
    return (f"not {names[0]}", names[0]) if single and len(names) == 1 else names


def classes_told(found: Found, outputs: int, single: bool) -> tuple[str, tuple[str, ...]]:
    """(where, what) the file calls its classes. Raises ModelError where it gives them two sets of names."""
    fits = [(where, names) for where, given in found.classes if len(names := pair(given, single)) == outputs]
    if len({names for _, names in fits}) > 1:
        places = " and ".join(where for where, _ in fits[:3])
        raise ModelError(f"{places} of one file name its classes differently; in Python read_foreign(FILE, classes=[])")
    return fits[0] if fits else ("", ())


def names_for(path: Path, outputs: int) -> tuple[str, ...]:
    """`class 0` and on; a thousand are ImageNet's, with a ContractWarning."""
    if outputs != len(imagenets := imagenets_classes()):
        return tuple(f"class {i}" for i in range(outputs))
    taken = "they were taken for ImageNet's classes in the order of the synsets (classes= of read_foreign says others)"
    warnings.warn(f"{path} names none of its 1,000 outputs; {taken}", ContractWarning, stacklevel=4)
    return imagenets


def imagenets_classes() -> tuple[str, ...]:
    """As ILSVRC's data calls them."""
    return tuple(f"{synset} {name}" for synset, name in imagenet_classes().items())
