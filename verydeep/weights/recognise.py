"""Whose file it is, by its content; a name may say anything."""

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import safetensors

from verydeep.errors import ModelError
from verydeep.files.disk import mapped, open_regular
from verydeep.files.matlab import is_mat
from verydeep.files.tensors import check_header
from verydeep.net.classifier import METADATA
from verydeep.weights import caffe, onnx, torch_file
from verydeep.weights.graph import GRAPH
from verydeep.weights.inputs import USUAL
from verydeep.weights.torchvision import TIMM
from verydeep.weights.wire import beginning

HDF5 = b"\x89HDF\r\n\x1a\n"
Origin = Literal["verydeep", "caffe", "matconvnet", "keras", "torchvision", "timm", "onnx"]


class Layout(NamedTuple):
    """Whose names a file uses, and in which of its forms; of ONNX the form is whose names they are."""

    origin: Origin
    form: str

    @property
    def usual(self) -> str:
        """The usual input of such nets."""
        return USUAL.get(self.form) or USUAL.get(self.origin, "rgb-01-std")


OWN = Layout("verydeep", "safetensors")
# What is known and not read: (how it begins, a member of its archive, what it is)
OTHERS = (
    (b"PK", "/code/", "TorchScript (torch.jit.load(FILE) makes a net of it)"),
    (b"PK", "serialized_", "a program of torch.export"), (b"PK", "models/", "a program of torch.export"),
    (b"PK", ".npy", "a .npz of NumPy, which names no net"), (b"\x93NUMPY", "", "an array of NumPy, which names no net"),
    (b"\x80", "", "a plain pickle, which runs what it likes when it is loaded"),
)  # fmt: skip


def recognise(path: Path) -> Layout:
    """The layout of a file. Raises ModelError for one of none of these."""
    if layout := layout_of(path):
        return layout
    if path.is_file() and not path.stat().st_size:
        raise ModelError(f"{path} is empty; fetch or write it again")
    raise ModelError(
        f"{path} is {unread(path) or 'no file that can be read'}; expected a model of verydeep, a .caffemodel, a Mat"
        "ConvNet .mat (-v7), a Keras .h5, .weights.h5 or .keras, a .pth, .ckpt or .safetensors of PyTorch, or an .onnx"
    )


def unread(path: Path) -> str:
    """What is known of a file that is not read, and what to do; empty where nothing is."""
    with suppress(OSError, ValueError, zipfile.BadZipFile), open_regular(path) as f:
        start = f.read(8)
        members = [""] if start[:2] != b"PK" else zipfile.ZipFile(f).namelist()
        for begins, inside, what in OTHERS:
            if start.startswith(begins) and any(inside in name for name in members):
                return f"{what} (save the net it is of: torch.save(net.state_dict(), 'x.pth'))"
    return ""


def layout_of(path: Path) -> Layout | None:
    """The layout, or None where the file is none of these or cannot be opened."""
    with suppress(Exception):  # whatever a parser says of a foreign file
        with open_regular(path) as f:
            start = f.read(128)
        if start.startswith(HDF5):
            return Layout("keras", "h5")
        if is_mat(start):
            return Layout("matconvnet", "mat")
        if start.startswith(torch_file.ZIP):
            members = zipfile.ZipFile(path).namelist()
            if "model.weights.h5" in members:
                return Layout("keras", "archive")
            pickled = any(name.endswith("data.pkl") for name in members) and not any("/code/" in m for m in members)
            return of_torch(path, "pickle") if pickled else None
        if torch_file.MAGIC in start[:40]:
            return of_torch(path, "pickle")
        if start[8:9] == b"{":
            check_header(path)
            with safetensors.safe_open(path, framework="pt") as file:
                return OWN if METADATA in (file.metadata() or {}) else of_torch(path, "safetensors")
        return None if start.startswith(b"\x80") else of_protobuf(mapped(path))
    return None


def of_torch(path: Path, form: str) -> Layout:
    """By the names that stand at its beginning, in its pickle or header."""
    start = bytes(mapped(path)[: torch_file.LONGEST_PICKLE])
    if TIMM["fc6"].encode() in start:
        return Layout("timm", form)
    return Layout("torchvision", "caffe's names" if b"conv1_1" in start else form)


def of_protobuf(data: memoryview) -> Layout | None:
    """ONNX begins with a version and a graph, or, cut off in its graph, a producer; Caffe with a name and layers."""
    start = beginning(data)
    if start.get(1) is True:
        if False not in (start.get(GRAPH), start.get(onnx.PRODUCER)):
            return None
        return Layout("onnx", onnx.form(onnx.names_in(data)))
    version = next((version for version, (layers, *_) in caffe.LAYER.items() if start.get(layers) is False), None)
    return Layout("caffe", version) if version else None
