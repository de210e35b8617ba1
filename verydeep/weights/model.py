"""MODEL of the command line: a run folder, a file of ours or of another toolkit, or a name of the catalogue."""

import re
from pathlib import Path
from typing import Literal, NamedTuple

from verydeep.errors import ConfigError, ModelError
from verydeep.near import meant
from verydeep.net.classifier import Classifier
from verydeep.net.saved import read_classifier
from verydeep.paper import STRIDE
from verydeep.weights.catalogue import Entry, catalogue, checked_file
from verydeep.weights.exported import read_exported, told_in
from verydeep.weights.inputs import INPUTS, Input
from verydeep.weights.read import Net, open_foreign, with_fc
from verydeep.weights.recognise import OWN, layout_of, recognise
from verydeep.weights.shapes import FC

EXPECTED = "a run folder, .safetensors or another toolkit's file, builtin:fashion-a, a name of 'verydeep weights list'"
# of a folder: what is taken before all else, and what files of weights end in
USUALLY = ("model.safetensors", "pytorch_model.bin", "model.weights.h5")
ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".h5", ".keras", ".onnx", ".caffemodel", ".mat")


class Location(NamedTuple):
    """Where the tensors of MODEL lie or would, which net of the catalogue it names, what the user says of it."""

    path: Path
    entry: Entry | None = None
    expects: str | None = None
    key: str = ""  # which net of a file of several


def load(model: str | Path) -> Classifier:
    """The Classifier of MODEL on the CPU, ready to predict; of a run its best. Raises ConfigError and ModelError."""
    return with_fc(load_or_features(model), model)


def load_describing(model: str | Path) -> Classifier:
    """As `load`, but convolutions alone will do: then the net's FC layers are None, and `taps` goes as far as pool5."""
    found = load_or_features(model)
    if isinstance(found, Classifier):
        return found
    made = found.within(("",), STRIDE, 1)
    for fc in FC:
        setattr(made.net, fc, None)
    return made


def check_task(name: str | Path, net: Classifier, task: Literal["classes", "boxes"]) -> None:
    """Raises ModelError unless a net says what is there, `classes`, or where things are, `boxes`."""
    if (net.contract.task == "classes") != (task == "classes"):
        says, verb = ("what", "train") if task == "classes" else ("where", "localise train")
        other = "where things are" if task == "classes" else "what they are"
        raise ModelError(f"{name} says {other}; expected a net that says {says}, as 'verydeep {verb}' makes")


def load_or_features(model: str | Path, given: str | Input | None = None, start: bool = False) -> Net:
    """As `load`, but of a foreign file without FC layers its convolutions. `given`: the NAME of FILE@NAME."""
    path, entry, said, key = locate(model)
    if said is not None and given is not None:
        raise ConfigError(f"expects: @{said} says already what {model} expects; give one of @NAME and --expects")
    layout, (form, told) = (None, ("", {})) if entry else (layout_of(path), told_in(path))
    flags = {"--expects": given, f"@{said}": said, f"#{key}": key or None}
    marks = [flag for flag, value in flags.items() if value is not None]
    if marks and (entry or layout == OWN or form):
        what = f"{entry.name if entry else path} is one net that carries its contract, which says what it expects"
        raise ConfigError(f"{what}; leave {marks[0]} out")
    path = checked_file(entry) if entry else path
    if form:
        return read_exported(path, form, told)
    if (entry and not entry.builtin) or layout not in (None, OWN):
        return open_foreign(path, said if given is None else given, entry=entry, start=start, key=key)
    if layout is None and path.is_file() and (path.suffix != ".safetensors" or not path.stat().st_size):
        recognise(path)  # says what can be read
    return read_classifier(path)


def load_start(model: str | Path) -> Net:
    """What a training starts from: of a file with another head its convolutions, with a ContractWarning."""
    return load_or_features(model, start=True)


def locate(model: str | Path) -> Location:
    """FILE@NAME names a file of another toolkit and what its net expects. Raises ConfigError and ModelError."""
    if not (name := str(model)):
        raise ModelError(f"the name of the model is empty; expected {EXPECTED}")
    try:
        return there(name) or said_at(name)
    except (OSError, RuntimeError) as e:  # a folder that may not be looked into, a name too long, a ~ of nobody
        raise ModelError(f"{name[:200]} cannot be used as a model ({getattr(e, 'strerror', None) or e})") from e


def there(name: str) -> Location | None:
    """Of what exists or is in the catalogue."""
    path, entry = Path(name).expanduser(), catalogue().get(name)
    if entry and (entry.builtin or not path.exists()):
        return Location(entry.path, entry)
    if path.is_dir():
        return Location(within_folder(path))
    return Location(path) if path.exists() else None


def within_folder(path: Path) -> Path:
    """The best of a run, or the one file of weights that a folder holds, as hubs lay it out. Raises ModelError."""
    if (best := path / "best.safetensors").exists():
        return best
    if (path / "config.yaml").exists():
        raise ModelError(f"{path} has no best.safetensors yet: its first epoch is not done; expected {EXPECTED}")
    files = sorted(file for file in path.iterdir() if file.suffix in ENDINGS and file.is_file())
    if len(found := [file for file in files if file.name in USUALLY][:1] or files) == 1:
        return found[0]
    several = f"holds {len(files)} files of weights; give one, such as {files[0]}" if files else "is not a run folder"
    raise ModelError(f"{path} {several}; expected {EXPECTED}")


def said_at(name: str) -> Location:
    """Of FILE#KEY, FILE@NAME, and both. Raises ConfigError for a published net, and ModelError where there is none."""
    marks, file = dict[str, str](), name
    while len(marks) < 2 and (parted := re.fullmatch("(.+)([#@])([^#@]*)", file, re.DOTALL)):
        file, marks[parted[2]] = parted[1], parted[3]
        if found := there(file):
            if found.entry:
                what = "# and @ say something of a file of another toolkit"
                out = f"{file[:200]} is no such file, so leave {name[len(file) :][:80]} out"
                raise ConfigError(f"{name[:200]}: {what}; {out}")
            return found._replace(expects=marks.get("@"), key=marks.get("#", ""))
    if name.startswith("builtin:"):
        known = [known for known in catalogue() if known.startswith("builtin:")]
        raise ModelError(f"{name} is not a built-in net{meant(name, known, f'; try {known[0]}')}")
    file, _, given = name.rpartition("@")
    path = Path(file if file and (given in INPUTS or ":" in given) else name).expanduser()
    raise ModelError(f"{path} does not exist{meant(path.name, catalogue(), f'; expected {EXPECTED}')}")
