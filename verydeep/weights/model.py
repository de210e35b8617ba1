"""MODEL of the command line becomes a Classifier: a run folder, a file of ours or of another toolkit, a built-in or a published name."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

from verydeep.data.ilsvrc import class_names
from verydeep.errors import ModelError
from verydeep.net.classifier import Classifier, read_classifier
from verydeep.weights.catalogue import Entry, at_hand, catalogue, check_file, digests, whose
from verydeep.weights.read import Features, open_foreign, read_foreign
from verydeep.weights.recognise import layout_of

BUILTIN = ("fashion-a",)


def load(model: str | Path) -> Classifier:
    """The Classifier of MODEL on the CPU, ready to predict; of a run its best. Raises ModelError."""
    name = str(model)
    if name.startswith("builtin:"):
        short = name.removeprefix("builtin:")
        if short not in BUILTIN:
            raise ModelError(f"{name} is not a built-in net; try builtin:{' or builtin:'.join(BUILTIN)}")
        with resources.as_file(resources.files("verydeep.weights").joinpath(f"{short}.safetensors")) as path:
            return read_classifier(path)
    try:
        path = Path(model).expanduser()
        if name in catalogue() and not path.exists():
            return published(catalogue()[name], at_hand(name))
        if not path.is_dir():
            return read_file(path)
        best = path / "best.safetensors"
        if best.exists():
            return read_classifier(best)
        state = "has no best.safetensors yet: its first epoch is not done" if (path / "config.yaml").exists() else "is not a run folder"
    except (OSError, RuntimeError) as e:  # a folder that may not be looked into, a name too long, a ~ of nobody
        raise ModelError(f"{name[:200]} cannot be used as a model ({getattr(e, 'strerror', None) or e})") from e
    raise ModelError(f"{path} {state}; expected a run folder, a .safetensors file or builtin:fashion-a")


def load_or_features(model: str | Path) -> Classifier | Features:
    """As `load`, but of a foreign file without FC layers its convolutions. Raises ModelError."""
    path = Path(model).expanduser()
    if not str(model).startswith("builtin:") and path.is_file():
        layout = layout_of(path)
        if layout is not None and layout.origin != "verydeep":
            return known(path) or open_foreign(path)
    return load(model)


def read_file(path: Path) -> Classifier:
    """Our own file, or one of Caffe, MatConvNet, Keras, torchvision, timm or ONNX."""
    layout = layout_of(path)
    if layout is None or layout.origin == "verydeep":
        return read_classifier(path)
    return known(path) or read_foreign(path)


def known(path: Path) -> Classifier | None:
    """The net of a file that is one of the catalogue's, whatever its name. Raises ModelError."""
    try:
        name = whose(digests(path))
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror or e})") from e
    return of_entry(catalogue()[name], path) if name else None


def published(entry: Entry, path: Path) -> Classifier:
    """The net of a file that must be this one of the catalogue. Raises ModelError for another file."""
    check_file(entry, path)
    return of_entry(entry, path)


def of_entry(entry: Entry, path: Path) -> Classifier:
    """A net with the contract that the catalogue knows."""
    classes = [f"{synset} {name}" for synset, name in class_names().items()]
    found = read_foreign(path, entry.eats, classes, origin=f"{entry.name}: {entry.origin}", licence=entry.licence)
    if (found.contract.net, found.contract.batch_norm) != (entry.net, entry.batch_norm):
        raise ModelError(f"{path} holds net {found.contract.net}, and {entry.name} is net {entry.net}; delete it and fetch it again")
    found.contract = dataclasses.replace(found.contract, scales=entry.scales or found.contract.scales)
    return found
