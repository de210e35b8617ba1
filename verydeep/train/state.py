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
    files = {f"weights-{counters.step}": dict(net.state_dict()), f"optimizer-{counters.step}": momenta(net, optimizer)}
    sums = {}
    for name, tensors in files.items():
        path = folder / f"{name}.safetensors"
        owned = {k: t.detach().cpu().contiguous() for k, t in tensors.items()}
        write_atomically(path, lambda temporary, owned=owned: write_tensors(owned, temporary))  # type: ignore[misc]
        sums[path.name] = file_checksum(path)
    values = counters._asdict() | {"best_error": None if counters.best_error == float("inf") else counters.best_error}
    state = {"counters": values, "schedule": schedule._asdict(), "sha256": sums}
    write_json(folder / "state.json", {**state, "seal": seal(state)})
    for old in folder.iterdir():
        if old.name not in {*sums, "state.json"}:
            old.unlink(missing_ok=True)


def restore(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Counters, Schedule] | None:
    """Loads the last state into net and optimizer; None where none was saved. Raises RunError if it is damaged."""
    if not (folder / "state.json").exists():
        return None
    state = read_json(folder / "state.json")
    if "seal" in state or len(state) != 3:  # states of the first days have none
        given = state.pop("seal", None)
        if given != seal(state):
            raise RunError(f"{folder / 'state.json'} does not match its SHA-256; the file is damaged, start again with another --out")
    try:
        counters, schedule = dict[str, Any](state["counters"]), Schedule(**state["schedule"])
        if counters["best_error"] is None:
            counters["best_error"] = float("inf")
        found = Counters(**counters)
        loaded = {name: load(folder / name, expected) for name, expected in state["sha256"].items()}
        net.load_state_dict(loaded[f"weights-{found.step}.safetensors"])
        buffers = loaded[f"optimizer-{found.step}.safetensors"]
        for name, parameter in net.named_parameters():
            if name in buffers:
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffers[name])
        return found, schedule
    except (KeyError, TypeError, RuntimeError, AttributeError) as e:
        raise RunError(f"{folder} does not fit this run ({e}); it is damaged") from e


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
