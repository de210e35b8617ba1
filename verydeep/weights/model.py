"""MODEL of the command line: a run folder, a file of ours or of another toolkit, or a name of the catalogue."""

from pathlib import Path
from typing import NamedTuple

from verydeep.errors import ConfigError, ModelError
from verydeep.near import meant
from verydeep.net.classifier import Classifier, read_classifier
from verydeep.weights.catalogue import Entry, catalogue, checked_file
from verydeep.weights.inputs import INPUTS, Input
from verydeep.weights.read import Net, open_foreign, with_fc
from verydeep.weights.recognise import OWN, layout_of, recognise

EXPECTED = "a run folder, .safetensors or another toolkit's file, builtin:fashion-a, a name of 'verydeep weights list'"


class Location(NamedTuple):
    """Where the tensors of MODEL lie or would, which net of the catalogue it names, what the user says it expects."""

    path: Path
    entry: Entry | None = None
    expects: str | None = None


def load(model: str | Path) -> Classifier:
    """The Classifier of MODEL on the CPU, ready to predict; of a run its best. Raises ConfigError and ModelError."""
    return with_fc(load_or_features(model), model)


def load_or_features(model: str | Path, given: str | Input | None = None, start: bool = False) -> Net:
    """As `load`, but of a foreign file without FC layers its convolutions. `given`: the NAME of FILE@NAME."""
    path, entry, said = locate(model)
    if said is not None and given is not None:
        raise ConfigError(f"expects: @{said} says already what {model} expects; give one of @NAME and --expects")
    layout = None if entry else layout_of(path)
    if (entry or layout == OWN) and (said is not None or given is not None):
        what, flag = entry.name if entry else path, "--expects" if said is None else f"@{said}"
        raise ConfigError(f"expects: {what} carries its contract, which says what it expects; leave {flag} out")
    if entry:
        path = checked_file(entry)
    if (entry and not entry.builtin) or layout not in (None, OWN):
        return open_foreign(path, said if given is None else given, entry=entry, start=start)
    if layout is None and path.is_file() and (path.suffix != ".safetensors" or not path.stat().st_size):
        recognise(path)  # says what can be read
    return read_classifier(path)


def load_start(model: str | Path) -> Net:
    """What a training starts from: of a file with another head its convolutions, with a ContractWarning."""
    return load_or_features(model, start=True)


def locate(model: str | Path) -> Location:
    """FILE@NAME names a file of another toolkit and what its net expects. Raises ConfigError and ModelError."""
    name = str(model)
    if not name:
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
        if (best := path / "best.safetensors").exists():
            return Location(best)
        begun = (path / "config.yaml").exists()
        state = "has no best.safetensors yet: its first epoch is not done" if begun else "is not a run folder"
        raise ModelError(f"{path} {state}; expected {EXPECTED}")
    return Location(path) if path.exists() else None


def said_at(name: str) -> Location:
    """Of FILE@NAME. Raises ConfigError where FILE says itself what it expects, and ModelError where there is none."""
    file, at, given = name.rpartition("@")
    path = Path(file if at and (given in INPUTS or ":" in given) else name).expanduser()
    if at and (found := there(file)):
        if found.entry or Path(file).expanduser().is_dir():
            what = "@ says what a file of another toolkit expects"
            raise ConfigError(f"{name[:200]}: {what}; {file[:200]} is no such file, so leave @{given[:80]} out")
        return found._replace(expects=given)
    if name.startswith("builtin:"):
        known = [known for known in catalogue() if known.startswith("builtin:")]
        raise ModelError(f"{name} is not a built-in net{meant(name, known, f'; try {known[0]}')}")
    raise ModelError(f"{path} does not exist{meant(path.name, catalogue(), f'; expected {EXPECTED}')}")
