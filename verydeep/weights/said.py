"""What is known of another toolkit's file beside its tensors: what its net eats, its classes, where it comes from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

from verydeep.data.ilsvrc import class_names
from verydeep.errors import ModelError
from verydeep.weights import keras
from verydeep.weights.catalogue import Entry, catalogue
from verydeep.weights.descent import Descent, descent_of, unlike
from verydeep.weights.eats import EATS, ContractWarning, Eats, eats_of
from verydeep.weights.recognise import Layout
from verydeep.weights.shapes import Found, describe, reading, without_fc

IMAGENETS = "its 1,000 outputs were taken for ImageNet's classes"


class Said(NamedTuple):
    eats: Eats
    pooling: Literal["up", "down"]
    origin: str
    licence: str
    classes: tuple[str, ...] = ()
    scales: tuple[int, int] | None = None


def said_of(
    path: Path, found: Found, layout: Layout, eats: str | Eats | None, entry: Entry | None, origin: str, licence: str
) -> Said:  # fmt: skip
    """What the user says, what the catalogue knows of the file or of its first layer, what the file tells, what is usual of its layout."""
    pooling = found.pooling or layout.pooling
    if entry:
        if eats is None:
            check_net(path, found, entry)
        return Said(
            eats_of(entry.eats if eats is None else eats), pooling, origin or f"{entry.name}: {entry.origin}", licence or entry.licence,
            imagenets_classes() if entry.head else (), entry.scales,
        )  # fmt: skip
    known = descent_of(found.tensors)
    traits = (f"{path.name}, {layout.origin} {layout.form}", str(known or ""), IMAGENETS if nameless(found) else "")
    return Said(
        eats_told(path, found, layout, known) if eats is None else eats_given(path, eats_of(eats), known), pooling,
        origin or ", ".join(filter(None, traits)), licence or (catalogue()[known.name].licence if known else ""),
        imagenets_classes() if nameless(found) else found.classes,
    )  # fmt: skip


def eats_given(path: Path, eats: Eats, known: Descent | None) -> Eats:
    """What the user says; with a ContractWarning where the first layer says something else."""
    if known and unlike(eats, known.eats):
        warnings.warn(f"{path} was said to eat {words(eats)}, and {known}, which eats {words(known.eats)}", ContractWarning, stacklevel=5)
    return eats


def eats_told(path: Path, found: Found, layout: Layout, known: Descent | None) -> Eats:
    """What a file eats for all that it tells, with a ContractWarning for what was assumed. Raises ModelError."""
    if before := next((layer for layer in found.left if layer in keras.BEFORE), None):
        raise ModelError(f"{path} has a {before}, which changes what its convolutions eat; say what the net eats: {path.name}@NAME")
    usual = eats_of(layout.usual)
    if known and unlike(usual, known.eats):
        usual = known.eats
    if found.mean:
        return usual._replace(mean=(found.mean[0], found.mean[1], found.mean[2]))
    if known and known.whole and outputs(found) in (0, len(class_names())):
        return usual
    # The first layer of a net that was trained on is no proof: many were fed otherwise than their start.
    because = f"{known}, and" if known else f"as is usual for {layout.origin} ({layout.form}),"
    assumed = f", and {IMAGENETS}" if nameless(found) else ""
    warnings.warn(
        f"{path} does not say what its net eats; {because} it was taken to eat {words(usual)}{assumed}. If you know better, write "
        f"{path.name}@NAME, where NAME is one of {', '.join(EATS)} or ORDER:mean:std (in Python eats=)",
        ContractWarning, stacklevel=5,
    )  # fmt: skip
    return usual


def outputs(found: Found) -> int:
    """How many classes a file tells apart; 0 where it has no fc8."""
    return len(found.tensors["fc8.bias"]) if "fc8.bias" in found.tensors else 0


def nameless(found: Found) -> bool:
    """Whether it has a thousand outputs without names, which are ImageNet's in every file that was seen."""
    return not found.classes and outputs(found) == len(class_names())


def imagenets_classes() -> tuple[str, ...]:
    """As ILSVRC's data calls them."""
    return tuple(f"{synset} {name}" for synset, name in class_names().items())


def check_net(path: Path, found: Found, entry: Entry) -> None:
    """Raises ModelError for a file of another net than its checksum says, which only a short checksum can do."""
    with reading(path, "convolutions"):
        shape = describe(without_fc(found.tensors))
    if (shape.net, shape.batch_norm) != (entry.net, entry.batch_norm):
        raise ModelError(f"{path} holds net {shape.net}, and {entry.name} is net {entry.net}; delete it and fetch it again")


def words(eats: Eats) -> str:
    """With the name that it has, if any."""
    name = next((f"{name}: " for name, one in EATS.items() if one == eats), "")
    mean, std = ([round(c, 3) for c in colours] for colours in (eats.mean, eats.std))
    return f"{name}{eats.order}, mean {mean}, std {std} of 0-255"
