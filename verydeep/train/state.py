"""The state a run goes on from: weights, momenta and counters, each with its SHA-256.

`last/state.json` names the files that belong together and is replaced last and atomically, so at every
moment it names one whole state: the old one or the new one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

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
from verydeep.files.tensors import LONGEST_HEADER, check_header, write_tensors
from verydeep.train.schedule import Schedule

OURS = re.compile(r"(weights|optimizer)-\d+\.safetensors")
AGAIN = "the file is damaged, start again with another --out"
Kind = TypeVar("Kind", "Counters", Schedule)


class Counters(NamedTuple):
    """Everything a run needs to go on except tensors. `batch` is the next batch of `epoch`."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0  # sums over the photos of this epoch
    errors: float = 0.0
    photos: int = 0
    best_error: float = float("inf")
    finished: str = ""


def save(
    folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters, schedule: Schedule
) -> None:
    """Writes a new state beside the old one, switches over, then removes the old one. Raises RunError; then the old one stands."""
    make_folder(folder)
    old = named(folder)
    sums = dict(old) if f"weights-{counters.step}.safetensors" in old else {}  # then only the counters have changed
    try:
        for name, tensors in (("weights", net.state_dict()), ("optimizer", momenta(net, optimizer))):
            path = folder / f"{name}-{counters.step}.safetensors"
            if path.name not in sums:
                sums[path.name] = write_atomically(
                    path, lambda temporary, tensors=tensors: write_tensors(tensors, temporary)
                )  # type: ignore[misc]
        values = counters._asdict() | {
            "best_error": None if counters.best_error == float("inf") else counters.best_error
        }
        write_sealed(folder / "state.json", {"counters": values, "schedule": schedule._asdict(), "sha256": sums})
    except RunError:
        # Where only the last flush failed, a power cut may bring either state back: both keep their files.
        if (now := named(folder)) or not exists(folder / "state.json"):
            tidy(folder, {*old, *now})
        raise
    tidy(folder, set(sums))


def named(folder: Path) -> dict[str, str]:
    """The files of the last state; none where it cannot be read, which a new state mends."""
    try:
        return read(folder).sha256
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


def read(folder: Path) -> State:
    """The last state without its tensors. Raises RunError where there is none or it is damaged."""
    file = folder / "state.json"
    state = read_sealed(file)
    try:
        values, sums = state["counters"], state["sha256"]
        counters = record_of(
            Counters, values | ({} if values["best_error"] is not None else {"best_error": float("inf")})
        )
        schedule = record_of(Schedule, state["schedule"])
        if set(sums) != {f"{name}-{counters.step}.safetensors" for name in ("weights", "optimizer")}:
            raise ValueError("it names other files than its own")
        return State(counters, schedule, {name: str(checksum) for name, checksum in sums.items()})
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise RunError(f"{file} describes no state ({str(e)[:100]!r}); {AGAIN}") from e


def record_of(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """A record whose fields have the types it declares. Raises TypeError."""
    kinds = get_type_hints(kind)
    if values.keys() != kinds.keys() or not all(fits(values[name], kinds[name]) for name in kinds):
        raise TypeError(f"{kind.__name__} has other fields or values of other kinds")
    return kind(**values)


def fits(value: object, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) <= float("inf")  # type: ignore[arg-type]  # false for NaN
    return type(value) is kind and (kind is not int or 0 <= value < 1 << 63)  # type: ignore[operator]


def restore(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Counters, Schedule] | None:
    """Loads the last state into net and optimizer; None where none was saved. Raises RunError if it is damaged."""
    if not exists(folder / "state.json"):
        return None
    state = read(folder)
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
