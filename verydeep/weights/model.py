"""MODEL of the command line becomes a Classifier: a run folder, a .safetensors file, or a built-in name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from verydeep.errors import ModelError
from verydeep.net.classifier import Classifier, read_classifier

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
    path = Path(model).expanduser()
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.exists():
            state = "has no best.safetensors yet: its first epoch is not done" if (path / "config.yaml").exists() else "is not a run folder"
            raise ModelError(f"{path} {state}; expected a run folder, a .safetensors file or builtin:fashion-a")
        return read_classifier(best)
    return read_classifier(path)
