"""Whose file it is, by its content; a name may say anything."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import safetensors

from verydeep.errors import ModelError
from verydeep.files.disk import mapped, open_regular
from verydeep.files.matlab import is_mat
from verydeep.weights import caffe, onnx, timm, torch_file

HDF5 = b"\x89HDF\r\n\x1a\n"
Origin = Literal["verydeep", "caffe", "matconvnet", "keras", "torchvision", "timm", "onnx"]


class Layout(NamedTuple):
    """Whose names a file uses, in which of its forms, and what files of this layout usually eat."""

    origin: Origin
    form: str
    usual: str = ""  # a name in eats.EATS
    pooling: Literal["up", "down"] = "down"


CAFFE_V1, CAFFE_V2 = (Layout("caffe", version, "bgr-255", "up") for version in ("V1", "V2"))
MATCONVNET = Layout("matconvnet", "mat", "rgb-255", "up")
KERAS, KERAS_ARCHIVE = Layout("keras", "h5", "bgr-255"), Layout("keras", "archive", "bgr-255")
ONNX = {
    names: Layout("onnx", names, usual)
    for names, usual in (("zoo", "rgb-01-std"), ("keras", "bgr-255"), ("torch", "rgb-01-std"))
}
OWN = Layout("verydeep", "safetensors")


def recognise(path: Path) -> Layout:
    """The layout of a file. Raises ModelError for one of none of these."""
    if (layout := layout_of(path)) is None:
        if path.is_file() and not path.stat().st_size:
            raise ModelError(f"{path} is empty; fetch or write it again")
        raise ModelError(
            f"{path} is no file that can be read; expected a model of verydeep, a .caffemodel, a MatConvNet .mat (-v7), a Keras .h5, "
            ".weights.h5 or .keras, a .pth or .safetensors of torchvision or timm, or an .onnx"
        )
    return layout


def layout_of(path: Path) -> Layout | None:
    """The layout, or None where the file is none of these or cannot be opened."""
    with suppress(
        OSError, ValueError, LookupError, RuntimeError, ModelError, zipfile.BadZipFile, safetensors.SafetensorError
    ):
        with open_regular(path) as f:
            start = f.read(2048)
            if start.startswith(b"PK\x03\x04"):
                return zipped(zipfile.ZipFile(f).namelist(), path)
        if start.startswith(HDF5):
            return KERAS
        if is_mat(start):
            return MATCONVNET
        if start.startswith(torch_file.LEGACY):
            return of_torch(path, "pickle")
        if start[8:9] == b"{":
            found, own = torch_file.names_in(path)
            return OWN if own else of_names(found, "safetensors")
        data = mapped(path)
        if onnx.is_model(data):
            return ONNX[onnx.form(onnx.names_in(data))]
        return {"V1": CAFFE_V1, "V2": CAFFE_V2}.get(caffe.version_of(data) or "")
    return None


def zipped(members: list[str], path: Path) -> Layout | None:
    if "model.weights.h5" in members:
        return KERAS_ARCHIVE
    return of_torch(path, "pickle") if any(name.endswith("data.pkl") for name in members) else None


def of_torch(path: Path, form: str) -> Layout:
    """A pickle's names are text in it, so they are found without obeying it."""
    with open_regular(path) as f:
        names = torch_file.text_in(f)
    return of_names(names, form) or Layout("torchvision", form, "rgb-01-std")


def of_names(names: set[str], form: str) -> Layout | None:
    if timm.is_timm(names):
        return Layout("timm", form, "rgb-01-std")
    return Layout("torchvision", form, "rgb-01-std") if any(name.startswith("features.") for name in names) else None
