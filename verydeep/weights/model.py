"""MODEL of the command line becomes a Classifier: a run folder, a file of ours or of another toolkit, a built-in or a published name."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier, read_classifier
from verydeep.weights.catalogue import Entry, at_hand, catalogue, check_file
from verydeep.weights.eats import EATS, ContractWarning
from verydeep.weights.read import Features, OtherHead, open_foreign, read_features, read_foreign, whole
from verydeep.weights.recognise import layout_of, recognise

BUILTIN = ("fashion-a",)
EXPECTED = (
    "a run folder, a .safetensors file, another toolkit's file, builtin:fashion-a or a name of 'verydeep weights list'"
)


def load(model: str | Path) -> Classifier:
    """The Classifier of MODEL on the CPU, ready to predict; of a run its best. Raises ModelError."""
    name = str(model)
    try:
        file, eats = with_eats(model)
        if name.startswith("builtin:"):
            return builtin(name)
        path = located(file)
        if name in catalogue() and not path.exists():
            return whole(published(catalogue()[name], at_hand(name)), name)
        if not path.is_dir():
            return read_file(path, eats)
        best = path / "best.safetensors"
        if best.exists():
            return read_classifier(best)
        state = (
            "has no best.safetensors yet: its first epoch is not done"
            if (path / "config.yaml").exists()
            else "is not a run folder"
        )
    except OSError as e:  # a folder that may not be looked into, a name too long
        raise ModelError(f"{name[:200]} cannot be used as a model ({getattr(e, 'strerror', None) or e})") from e
    raise ModelError(f"{path} {state}; expected {EXPECTED}")


def builtin(name: str) -> Classifier:
    short = name.removeprefix("builtin:")
    if short not in BUILTIN:
        raise ModelError(f"{name} is not a built-in net; try builtin:{' or builtin:'.join(BUILTIN)}")
    with resources.as_file(resources.files("verydeep.weights").joinpath(f"{short}.safetensors")) as path:
        return read_classifier(path)


def load_or_features(model: str | Path) -> Classifier | Features:
    """As `load`, but of a foreign file without FC layers its convolutions. Raises ModelError."""
    name, (file, eats) = str(model), with_eats(model)
    path = located(file)
    if name in catalogue() and not path.exists() and not catalogue()[name].builtin:
        return published(catalogue()[name], at_hand(name))
    return open_foreign(path, eats) if is_foreign(path) else load(model)


def load_start(model: str | Path) -> Classifier | Features:
    """What a training starts from: as `load_or_features`, but of a file with another head its convolutions, with a ContractWarning."""
    try:
        return load_or_features(model)
    except OtherHead as e:
        file, eats = with_eats(model)
        with warnings.catch_warnings(action="ignore", category=ContractWarning):  # said already
            found = read_features(located(file), eats)
        warnings.warn(f"only the convolutions are taken: {e}", ContractWarning, stacklevel=2)
        return found


def with_eats(model: str | Path) -> tuple[str, str | None]:
    """FILE@NAME names a file of another toolkit and what its net eats. Raises ConfigError where there is nothing to say, and ModelError."""
    name = str(model)
    if not name:
        raise ModelError(f"the name of the model is empty; expected {EXPECTED}")
    file, at, eats = name.rpartition("@")
    if not at or located(model).exists():
        return name, None
    if located(file).is_file():
        return file, eats
    if file.startswith("builtin:") or file in catalogue() or located(file).is_dir():
        raise ConfigError(
            f"{name[:200]}: @ says what a file of another toolkit eats; {file[:200]} is no such file, so leave @{eats[:80]} out"
        )
    if eats in EATS or ":" in eats:
        raise missing(located(file))
    return name, None


def file_of(model: str | Path) -> Path:
    """Where the tensors of MODEL lie, or would. Raises ConfigError and ModelError."""
    file, _ = with_eats(model)
    path = located(file)
    if file in catalogue() and not path.exists():
        return catalogue()[file].path
    return path / "best.safetensors" if path.is_dir() else path


def missing(path: Path) -> ModelError:
    if near := get_close_matches(path.name, catalogue(), cutoff=0.5):
        return ModelError(
            f"{path} does not exist; published nets of a similar name are {', '.join(near)}: see 'verydeep weights list'"
        )
    return ModelError(f"{path} does not exist; expected {EXPECTED}")


def located(model: str | Path) -> Path:
    """Raises ModelError for a ~ of nobody."""
    try:
        return Path(model).expanduser()
    except RuntimeError as e:
        raise ModelError(f"{str(model)[:200]} cannot be used as a model ({e})") from e


def is_foreign(path: Path) -> bool:
    """Whether there is a file of another toolkit."""
    return path.is_file() and (layout := layout_of(path)) is not None and layout.origin != "verydeep"


def read_file(path: Path, eats: str | None) -> Classifier:
    """Our own file, or one of Caffe, MatConvNet, Keras, torchvision, timm or ONNX."""
    if not path.exists():
        raise missing(path)
    layout = layout_of(path)
    if layout is not None and layout.origin != "verydeep":
        return read_foreign(path, eats)
    if layout is not None and eats is not None:
        raise ConfigError(f"{path} carries its contract, which says what it eats; leave @{eats} out")
    if layout is None and path.is_file() and (path.suffix != ".safetensors" or not path.stat().st_size):
        recognise(path)  # says what can be read
    return read_classifier(path)


def published(entry: Entry, path: Path) -> Classifier | Features:
    """The net of a file that must be this one of the catalogue. Raises ModelError for another file."""
    check_file(entry, path)
    return open_foreign(path, entry=entry)
