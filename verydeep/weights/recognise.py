"""Whose file it is, by its content; a name may say anything."""

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from verydeep.errors import ModelError
from verydeep.files.disk import mapped, open_regular
from verydeep.files.matlab import is_mat
from verydeep.shape import Pooling
from verydeep.weights import caffe, onnx, torch_file, torchvision
from verydeep.weights.inputs import USUAL
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
        return USUAL.get(self.origin) or USUAL.get(self.form, "rgb-01-std")

    @property
    def pooling(self) -> Pooling:
        return "up" if self.origin in ("caffe", "matconvnet") else "down"


OWN = Layout("verydeep", "safetensors")


def recognise(path: Path) -> Layout:
    """The layout of a file. Raises ModelError for one of none of these."""
    if (layout := layout_of(path)) is None:
        if path.is_file() and not path.stat().st_size:
            raise ModelError(f"{path} is empty; fetch or write it again")
        raise ModelError(
            f"{path} is no file that can be read; expected a model of verydeep, a .caffemodel, a MatConvNet "
            ".mat (-v7), a Keras .h5, .weights.h5 or .keras, a .pth or .safetensors of torchvision or timm, or an .onnx"
        )
    return layout


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
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
            if "model.weights.h5" in members:
                return Layout("keras", "archive")
            return of_torch(path, "pickle") if any(name.endswith("data.pkl") for name in members) else None
        if start.startswith(torch_file.LEGACY):
            return of_torch(path, "pickle")
        return of_torch(path, "safetensors") if start[8:9] == b"{" else of_protobuf(mapped(path))
    return None


def of_torch(path: Path, form: str) -> Layout | None:
    """By the names in it; a pickle that cannot be walked through is refused when it is read."""
    found, own, pickled = set[str](), False, form == "pickle"
    with suppress(Exception):
        found, own = torch_file.names_in(path, pickled)
    if own:
        return OWN
    if any(name.startswith(tuple(torchvision.TIMM.values())) for name in found):
        return Layout("timm", form)
    known = pickled or any(name.startswith("features.") for name in found)
    return Layout("torchvision", form) if known else None


def of_protobuf(data: memoryview) -> Layout | None:
    """ONNX begins with a version and a graph, or, cut off in its graph, a producer; Caffe with a name and layers."""
    start = beginning(data)
    if start.get(1) is True:
        if False not in (start.get(onnx.GRAPH), start.get(onnx.PRODUCER)):
            return None
        return Layout("onnx", onnx.form(onnx.names_in(data)))
    version = next((version for version, (layers, *_) in caffe.LAYER.items() if start.get(layers) is False), None)
    return Layout("caffe", version) if version else None
