"""What is known of another toolkit's file beside its tensors: what its net eats, its classes, where it comes from."""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

from verydeep.data.naming import imagenet_classes
from verydeep.errors import ModelError
from verydeep.weights import keras
from verydeep.weights.catalogue import Entry, catalogue
from verydeep.weights.descent import Descent, descent_of, unlike
from verydeep.weights.eats import EATS, ContractWarning, Eats, eats_of
from verydeep.weights.recognise import Layout
from verydeep.weights.shapes import Found


class Said(NamedTuple):
    eats: Eats
    pooling: Literal["up", "down"]
    origin: str
    licence: str
    classes: tuple[str, ...] = ()
    scales: tuple[int, int] | None = None


def said_of(
    path: Path, found: Found, layout: Layout, eats: str | Eats | None, entry: Entry | None, origin: str, licence: str
) -> Said:
    """What the user says, the catalogue knows of the file or its first layer, the file tells, or is usual."""
    pooling = found.pooling or layout.pooling
    if entry:
        eaten, origin = eats_of(entry.eats if eats is None else eats), origin or f"{entry.name}: {entry.origin}"
        classes = imagenets_classes() if entry.head else ()
        return Said(eaten, pooling, origin, licence or entry.licence, classes, entry.scales)
    known = descent_of(found.tensors)
    eaten = eats_told(path, found, layout, known) if eats is None else eats_given(path, eats_of(eats), known)
    origin = origin or f"{path.name}, {layout.origin} {layout.form}{f', {known}' if known else ''}"
    return Said(eaten, pooling, origin, licence or (catalogue()[known.name].licence if known else ""), found.classes)


def eats_given(path: Path, eats: Eats, known: Descent | None) -> Eats:
    """What the user says; with a ContractWarning where the first layer says something else."""
    if known and unlike(eats, known.eats):
        guessed(
            f"{path} was taken to eat {eats}, as was said, but {known}, which eats {known.eats}; "
            "if that is a mistake, leave it out: @NAME, eats= of read_foreign, or --eats of 'verydeep weights convert'"
        )
    return eats


def eats_told(path: Path, found: Found, layout: Layout, known: Descent | None) -> Eats:
    """What a file eats for all that it tells, with a ContractWarning for what was assumed. Raises ModelError."""
    if before := next((layer for layer in found.left if layer in keras.BEFORE), None):
        raise ModelError(
            f"{path} has a {before}, which changes what its convolutions eat; say what the net eats: {path.name}@NAME"
        )
    usual = eats_of(layout.usual)
    eats = known.eats if known and unlike(usual, known.eats) else usual
    if found.mean:
        eats = eats._replace(mean=(found.mean[0], found.mean[1], found.mean[2]))
    told = found.mean and (eats.order, eats.std) == (usual.order, usual.std)
    outputs = len(found.tensors["fc8.bias"]) if "fc8.bias" in found.tensors else 0
    # The first layer of a net that was trained on is no proof, as many were fed otherwise; all convolutions are one.
    if not told and not (known and known.whole and outputs in (0, len(imagenet_classes()))):
        because = f"{known}, and" if known else f"as is usual for {layout.origin} ({layout.form}),"
        guessed(
            f"{path} does not say what its net eats; {because} it was taken to eat {eats}. "
            f"If you know better, write {path.name}@NAME, also in verydeep.load, NAME being one of {', '.join(EATS)} "
            "or ORDER:mean:std (eats= of read_foreign)"
        )
    return eats


def guessed(what: str) -> None:
    warnings.warn(what, ContractWarning, stacklevel=6)


def imagenets_classes() -> tuple[str, ...]:
    """As ILSVRC's data calls them."""
    return tuple(f"{synset} {name}" for synset, name in imagenet_classes().items())
