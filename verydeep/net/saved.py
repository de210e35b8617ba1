"""A Classifier's file, read back: everything is checked before it is used."""

import os
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from verydeep.contract import Contract, from_json
from verydeep.errors import ModelError
from verydeep.files.disk import saying
from verydeep.files.tensors import LONGEST_HEADER, TYPES, check_header, checksum, cut
from verydeep.net.classifier import FLOATS, METADATA, Classifier, build, sealed_contract


def read_classifier(path: Path) -> Classifier:
    """The Classifier of a file that `save` wrote, in float32 on the CPU, in eval mode.

    Header, types, shapes and the SHA-256 of every byte are checked before use. Raises ModelError.
    """
    expected = "expected a run folder, a .safetensors file or a built-in name"
    try:
        with saying(f"{path} cannot be read", expected, ModelError):
            classifier, tensors = contents(path)
    except (safetensors.SafetensorError, ValueError) as e:
        raise ModelError(f"{path} cannot be read as safetensors ({cut(e)}); it is damaged or of another format") from e
    if checksum(tensors) != classifier.contract.sha256:
        raise damaged(path, "its tensors do not match their SHA-256")
    if colours := [name for name in ("mean", "std") if not torch.equal(tensors[name], getattr(classifier, name))]:
        raise damaged(path, f"{colours[0]} in its contract and in its tensors differ")
    classifier.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, assign=True)
    return classifier.eval()


def read_contract(path: Path) -> Contract:
    """The contract in the header of a file that `save` wrote; no tensor is read. Raises ModelError."""
    try:
        check_header(path)
        with safetensors.safe_open(path, framework="pt") as f:
            return contract_in(path, f.metadata() or {})
    except (OSError, safetensors.SafetensorError, ValueError) as e:
        raise ModelError(f"{path} cannot be read ({cut(e)}); expected a .safetensors file that verydeep saved") from e


def contract_in(path: Path, metadata: dict[str, str]) -> Contract:
    """Of a file's header, checked by its SHA-256."""
    if not (text := metadata.get(METADATA)):
        raise ModelError(f"{path} has no contract, so its input is unknown; expected a file that verydeep saved")
    if len(text) > LONGEST_HEADER // 2:
        raise damaged(path, "its contract is longer than any that is saved")
    if metadata != sealed_contract(text):
        raise damaged(path, "its contract does not match its SHA-256")
    return from_json(text, str(path))


def contents(path: Path) -> tuple[Classifier, dict[str, Tensor]]:
    """The net of a file's contract, without memory, and tensors of just its names, shapes and types."""
    if check_header(path) > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise ModelError(f"{path} is larger than the {memory / 1e9:.0f} GB of memory of this machine")
    with safetensors.safe_open(path, framework="pt") as f:
        classifier = build(contract_in(path, f.metadata() or {}), "meta")
        wanted = classifier.state_dict()
        if different := sorted(wanted.keys() ^ set(f.keys())):
            shown = ", ".join(f"{name[:40]!r}" for name in different[:3])
            raise damaged(path, f"its layers do not match its contract ({shown})")
        for name, tensor in wanted.items():
            found = f.get_slice(name)
            types = FLOATS if name.startswith("net.") and tensor.is_floating_point() else (TYPES[tensor.dtype],)
            if tuple(found.get_shape()) != tensor.shape or found.get_dtype() not in types:
                raise damaged(path, f"{name} has another shape or type than its contract says")
        # Copies, as the file may change once it was checked.
        return classifier, {name: f.get_tensor(name).clone() for name in wanted}


def damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: {why}; the file is damaged, fetch or train it again")
