"""The state a run goes on from: weights, momenta and counters, each with its SHA-256.

`last/state.json` names the files that belong together and is replaced last and atomically, so at every
moment it names one whole state: the old one or the new one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from verydeep.errors import RunError
from verydeep.net.classifier import write_tensors
from verydeep.run import read_json, write_atomically, write_json
from verydeep.train.schedule import Schedule


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


def save(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters, schedule: Schedule) -> None:
    """Writes a new state beside the old one, switches over, then removes the old one."""
    folder.mkdir(exist_ok=True)
    sums = read(folder).sha256 if (folder / "state.json").exists() else {}
    if f"weights-{counters.step}.safetensors" not in sums:  # else only the counters have changed since
        sums = {}
        for name, tensors in (("weights", net.state_dict()), ("optimizer", momenta(net, optimizer))):
            path = folder / f"{name}-{counters.step}.safetensors"
            owned = {k: t.detach().cpu().contiguous() for k, t in tensors.items()}
            write_atomically(path, lambda temporary, owned=owned: write_tensors(owned, temporary))  # type: ignore[misc]
            sums[path.name] = file_checksum(path)
    values = counters._asdict() | {"best_error": None if counters.best_error == float("inf") else counters.best_error}
    state = {"counters": values, "schedule": schedule._asdict(), "sha256": sums}
    write_json(folder / "state.json", {**state, "seal": seal(state)})
    for old in folder.iterdir():
        if old.name not in {*sums, "state.json"}:
            old.unlink(missing_ok=True)


class State(NamedTuple):
    """What state.json says: where the run stands, and the SHA-256 of the files that belong to it."""

    counters: Counters
    schedule: Schedule
    sha256: dict[str, str]


def read(folder: Path) -> State:
    """The last state without its tensors. Raises RunError where there is none or it is damaged."""
    file = folder / "state.json"
    state = read_json(file)
    if state.pop("seal", None) != seal(state):
        raise RunError(f"{file} does not match its SHA-256; the file is damaged, start again with another --out")
    counters = state["counters"] | ({} if state["counters"]["best_error"] is not None else {"best_error": float("inf")})
    return State(Counters(**counters), Schedule(**state["schedule"]), state["sha256"])


def restore(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Counters, Schedule] | None:
    """Loads the last state into net and optimizer; None where none was saved. Raises RunError if it is damaged."""
    if not (folder / "state.json").exists():
        return None
    state = read(folder)
    loaded = {name: load(folder / name, expected) for name, expected in state.sha256.items()}
    try:
        net.load_state_dict(loaded[f"weights-{state.counters.step}.safetensors"])
        buffers = loaded[f"optimizer-{state.counters.step}.safetensors"]
        for name, parameter in net.named_parameters():
            if name in buffers:
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffers[name])
    except (KeyError, RuntimeError, AttributeError) as e:
        raise RunError(f"{folder} does not fit this run ({e}); it is damaged") from e
    return state.counters, state.schedule


def load(path: Path, expected: str) -> dict[str, Tensor]:
    try:
        if file_checksum(path) != expected:
            raise RunError(f"{path} does not match its SHA-256; the file is damaged, start again with another --out")
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as e:
        raise RunError(f"{path} cannot be read ({e}); start again with another --out") from e


def momenta(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    buffers = {name: optimizer.state[p].get("momentum_buffer") for name, p in net.named_parameters() if p in optimizer.state}
    return {name: b for name, b in buffers.items() if b is not None}


def seal(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def file_checksum(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
