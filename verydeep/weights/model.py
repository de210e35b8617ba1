"""MODEL of the command line becomes a Classifier: a run folder, a .safetensors file, a built-in name, or another toolkit's file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from verydeep.errors import ModelError
from verydeep.net.classifier import Classifier, read_classifier
from verydeep.weights.read import read_foreign
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
        if not path.is_dir():
            return read_file(path)
        best = path / "best.safetensors"
        if best.exists():
            return read_classifier(best)
        state = "has no best.safetensors yet: its first epoch is not done" if (path / "config.yaml").exists() else "is not a run folder"
    except (OSError, RuntimeError) as e:  # a folder that may not be looked into, a name too long, a ~ of nobody
        raise ModelError(f"{name[:200]} cannot be used as a model ({getattr(e, 'strerror', None) or e})") from e
    raise ModelError(f"{path} {state}; expected a run folder, a .safetensors file or builtin:fashion-a")


def read_file(path: Path) -> Classifier:
    """Our own file, or one of Caffe, MatConvNet, Keras, torchvision, timm or ONNX."""
    layout = layout_of(path)
    return read_classifier(path) if layout is None or layout.origin == "verydeep" else read_foreign(path)
