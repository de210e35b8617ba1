"""What `verydeep export` wrote: an ONNX file in floats is a model again, all others are known for what they are."""

import html
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from verydeep.contract import Contract, from_json
from verydeep.errors import ModelError
from verydeep.files.disk import mapped, open_regular
from verydeep.files.tensors import checksum
from verydeep.net.classifier import METADATA, SEAL, Classifier, build, sealed_contract
from verydeep.weights import onnx
from verydeep.weights.graph import graph_of
from verydeep.weights.shapes import reading, unrepeated
from verydeep.weights.wire import budget, last_text, message

PROPERTIES, LONGEST = 14, 1 << 26  # of ONNX's model; bytes of what a file says of itself
FORMS = {"onnx": "for ONNX Runtime", "openvino": "for OpenVINO", "pt2": "for torch.export"}
Told = dict[str, str]


def told_in(path: Path) -> tuple[str, Told]:
    """(the form, what the file says of itself) of an exported file, (``, {}) of any other."""
    with suppress(Exception), open_regular(path) as f:  # whatever a parser says of a foreign file
        start = f.read(64)
        if start.startswith(b"<?xml") and path.stat().st_size < LONGEST:
            values = re.findall(r'<(\w+) value="([^"]*)"', path.read_text("utf-8").rpartition("<verydeep>")[2])
            return if_ours("openvino", {name: html.unescape(value) for name, value in values})
        if start.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                inside = {m.filename.partition("/extra/")[2]: m for m in archive.infolist()}
                wanted = {name: inside[name] for name in (METADATA, SEAL, "labels", "licence", "int8", "differences")}
                if sum(m.file_size for m in wanted.values()) < LONGEST:
                    return if_ours("pt2", {name: archive.read(m).decode() for name, m in wanted.items()})
        return if_ours("onnx", dict(properties(mapped(path)))) if start[:1] == b"\x08" else ("", {})
    return "", {}


def if_ours(form: str, told: Told) -> tuple[str, Told]:
    return (form, told) if METADATA in told else ("", {})


def properties(model: memoryview) -> Iterator[tuple[str, str]]:
    left = budget()
    for entry in (message(one, left) for one in message(model, left)[PROPERTIES]):
        yield last_text(entry[1], 100), bytes(entry[2][-1]).decode()


def read_exported(path: Path, form: str, told: Told) -> Classifier:
    """The Classifier of an ONNX file in floats. Raises ModelError for another, saying what it is, and a damaged one."""
    if told.get(SEAL) != sealed_contract(told[METADATA])[SEAL]:
        raise ModelError(f"{path}: its contract does not match its SHA-256; the file is damaged, export it again")
    contract = from_json(told[METADATA], str(path))
    if form != "onnx" or told.get("int8") != "null":
        raise ModelError(f"{path} is {what(contract, form, told)}; give the model that it was exported from")
    with reading(path, "an exported model"):
        _, tensors = graph_of(mapped(path), left := budget())
        found = unrepeated(onnx.initialisers(tensors, left, onnx.Beside(path)))
        return with_tensors(contract, found, told["weights_sha256"])


def with_tensors(contract: Contract, found: dict[str, Tensor], sha256: str) -> Classifier:
    """Raises ValueError for other weights than were exported."""
    made = build(contract, "meta")
    own = {"net." + name if "." in name else name: tensor for name, tensor in found.items()}
    named = {name: own[name].reshape(t.shape) if name in own else torch.zeros_like(t, device="cpu")
             for name, t in made.state_dict().items()}  # fmt: skip
    if checksum({name: named[name] for name in own}) != sha256:
        raise ValueError("its weights do not match their SHA-256")
    made.load_state_dict(named, assign=True)
    return made.eval()


def what(contract: Contract, form: str, told: Told) -> str:
    int8 = {"null": "", "all": " in int8", "fc": " with FC weights in int8"}.get(told.get("int8", ""), "")
    return f"net {contract.net} of {len(contract.classes)} classes, exported by verydeep {FORMS[form]}{int8}"
