"""The state a run goes on from: weights, momenta and counters, each with its SHA-256.

`last/state.json` names the files that belong together and is replaced last and atomically, so at every
moment it names one whole state: the old one or the new one.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from verydeep.errors import ModelError, RunError
from verydeep.files.disk import (
    exists,
    make_folder,
    open_regular,
    read_sealed,
    remove_files,
    remove_temporary,
    write_atomically,
    write_sealed,
)
from verydeep.files.records import record_of
from verydeep.files.tensors import LONGEST_HEADER, check_header, write_tensors
from verydeep.train.schedule import Schedule, Whole

OURS = re.compile(r"(weights|optimizer)-\d+\.safetensors")
AGAIN = "the file is damaged, start again with another --out"


class Counters(NamedTuple):
    """Everything a run needs to go on except tensors. `batch` is the next batch of `epoch`."""

    epoch: Whole = 0
    batch: Whole = 0
    step: Whole = 0
    loss: float = 0.0  # sums over the photos of this epoch
    error: float = 0.0
    photos: Whole = 0
    best_error: float = math.inf
    finished: str = ""


def save(
    folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters, schedule: Schedule
) -> None:
    """Writes a new state beside the old, switches over, removes the old. Raises RunError; then the old one stands."""
    make_folder(folder)
    old = named(folder)
    sums = dict(old) if f"weights-{counters.step}.safetensors" in old else {}  # then only the counters have changed
    try:
        for name, tensors in (("weights", net.state_dict()), ("optimizer", momenta(net, optimizer))):
            path = folder / f"{name}-{counters.step}.safetensors"
            if path.name not in sums:
                sums[path.name] = write_atomically(path, partial(write_tensors, tensors))
        values = {"counters": finite(counters), "schedule": finite(schedule), "sha256": sums}
        write_sealed(folder / "state.json", values)
    except RunError:
        # Where only the last flush failed, a power cut may bring either state back: both keep their files.
        if (now := named(folder)) or not exists(folder / "state.json"):
            tidy(folder, {*old, *now})
        raise
    tidy(folder, set(sums))


def named(folder: Path) -> dict[str, str]:
    """The files of the last state; none where it cannot be read, which a new state mends."""
    try:
        return read_state(folder).sha256
    except RunError:
        return {}


def tidy(folder: Path, kept: set[str]) -> None:
    """Removes what earlier saves left, and nothing of anybody else."""
    remove_files(lambda name: OURS.fullmatch(name) is not None and name not in kept, folder)
    remove_temporary(folder)


class State(NamedTuple):
    """What state.json says: where the run stands, and the SHA-256 of the files that belong to it."""

    counters: Counters
    schedule: Schedule
    sha256: dict[str, str]


def read_state(folder: Path) -> State:
    """The last state without its tensors. Raises RunError where there is none or it is damaged."""
    file = folder / "state.json"
    try:
        values = read_sealed(file)
        for part in ("counters", "schedule"):
            values[part] = {name: math.inf if v is None else v for name, v in values[part].items()}
        if "errors" in values["counters"]:  # counted by earlier versions, not in percent
            values["counters"]["error"] = 100 * values["counters"].pop("errors")
        state = record_of(State, values)
        if set(state.sha256) != {f"{name}-{state.counters.step}.safetensors" for name in ("weights", "optimizer")}:
            raise ValueError("it names other files than its own")
        return state
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise RunError(f"{file} describes no state ({str(e)[:100]!r}); {AGAIN}") from e


def reopen(folder: Path) -> None:
    """Lets a run go on that ended with its last epoch. Raises RunError."""
    state = read_state(folder)
    counters, schedule = state.counters._replace(finished=""), state.schedule._replace(ended=False)
    values = {"counters": finite(counters), "schedule": finite(schedule), "sha256": state.sha256}
    write_sealed(folder / "state.json", values)


def finite(record: Counters | Schedule) -> dict[str, Any]:
    """As JSON can hold it: null for no error yet."""
    return {name: None if v == math.inf else v for name, v in record._asdict().items()}


def restore(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Counters, Schedule] | None:
    """Loads the last state into net and optimizer; None where none was saved. Raises RunError if it is damaged."""
    if not exists(folder / "state.json"):
        return None
    state = read_state(folder)
    weights = net.state_dict()
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}  # the frozen have no momenta
    step = state.counters.step
    found = load(folder / f"weights-{step}.safetensors", state, weights)
    buffers = load(folder / f"optimizer-{step}.safetensors", state, parameters)
    check_fit(folder, found, weights)
    if buffers:  # before the first step there are none
        check_fit(folder, buffers, parameters)
    net.load_state_dict(found)
    for name, parameter in parameters.items() if buffers else ():
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffers[name])
    return state.counters, state.schedule


def load(path: Path, state: State, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of the state, which `wanted` bounds in size."""
    try:
        too_long = check_header(path) > LONGEST_HEADER + sum(t.nbytes for t in wanted.values())
        if too_long or file_checksum(path) != state.sha256[path.name]:
            raise RunError(f"{path} does not match its SHA-256; {AGAIN}")
        return safetensors.torch.load_file(path)
    except (OSError, ModelError, safetensors.SafetensorError) as e:
        raise RunError(f"{path} cannot be read ({e}); start again with another --out") from e


def check_fit(folder: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name in sorted({*found, *wanted}):
        a, b = found.get(name), wanted.get(name)
        if a is None or b is None or (a.shape, a.dtype) != (b.shape, b.dtype):
            raise RunError(
                f"{folder} does not fit this run (by its {name[:80]!r}); it is damaged, start again with another --out"
            )


def momenta(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    buffers = {
        name: optimizer.state[p].get("momentum_buffer") for name, p in net.named_parameters() if p in optimizer.state
    }
    return {name: b for name, b in buffers.items() if b is not None}


def file_checksum(path: Path) -> str:
    with open_regular(path) as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
