"""Keras: legacy `.h5`, `.weights.h5` of Keras 3, and the `.keras` archive; kernels H x W x in x out, FC weights in x out, channels last.

Layers are block1_conv1 ... block5_conv4, fc1, fc2, predictions. Keras 3 does not keep these names, so there the order of the layers tells.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from verydeep.errors import ModelError
from verydeep.files.disk import LONGEST_JSON, open_regular, write_atomically
from verydeep.net.vgg import column
from verydeep.weights.shapes import PLAIN, Found, describe, parameters, reading, rename

MOST_LINKS, SLACK = 10_000, 1_000_000  # of a file; bytes that its numbers may take beyond it
HARMLESS = {1, 2, 3}  # HDF5's filters deflate, shuffle and checksum: those it does not load from elsewhere
NAMED = re.compile(r"block\d_conv\d|fc\d|predictions")
NUMBERED = re.compile(
    r"(?:.*[/\\])?(conv2d|dense)(?:_(\d+))?[/\\](?:vars[/\\][01]|(?:kernel|bias)(?::0)?)"
)  # conv2d_3/vars/0
HEAD = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
BEFORE = {
    "layer Rescaling",
    "layer Normalization",
    "layer Lambda",
    "layer Permute",
}  # layers that change what conv1_1 is given
STRANGERS = BEFORE | {"layer BatchNormalization"}  # and one that changes what the weights mean
DEEPEST = 20  # nets within nets
PARAMETERS = {"weight": "kernel", "bias": "bias"}


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight <-> block1_conv1/kernel, fc6.bias <-> fc1/bias. These nets have no batch norm."""
    there = {
        f"conv{b}_{i}": f"block{b}_conv{i}" for b, block in enumerate(column(net), 1) for i in range(1, len(block) + 1)
    } | HEAD
    return {ours: f"{there[layer]}/{PARAMETERS[p]}" for ours, layer, p in parameters(net, False)}


def read(path: Path) -> Found:
    """The tensors of a Keras file of any of the three kinds. Raises ModelError."""
    with reading(path, "a Keras file"), opened(path) as (file, strange):
        found = rename(by_layer(arrays(file)), names)
        kernels = {n: t.permute(3, 2, 0, 1).contiguous() if t.ndim == 4 else t for n, t in found.tensors.items()}
        return found._replace(tensors=dense_to_ours(kernels), left=(*found.left, *strange))


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """The HDF5 file at a path or in an archive, and layers of its configuration that no VGG has."""
    h5py = library()
    with open_regular(path) as f:
        strange, stream = list[str](), cast(BinaryIO, f)
        if f.read(2) == b"PK":
            stream, strange = member(f)
        with h5py.File(stream, "r") as file:
            if config := file.attrs.get("model_config"):  # of a whole model in the older form
                if len(config) > LONGEST_JSON:
                    raise ValueError("its configuration is too long")
                strange = strangers(json.loads(config))
            yield file, strange


def library() -> Any:
    try:
        import h5py
    except ImportError as e:
        raise ModelError("Keras files need h5py; install it with pip install 'verydeep[weights]'") from e
    return h5py


def member(f: io.BufferedReader) -> tuple[BinaryIO, list[str]]:
    """model.weights.h5 of an archive, where it lies in it, and the layers in config.json that no VGG has."""
    with zipfile.ZipFile(f) as archive:
        weights, config = archive.getinfo("model.weights.h5"), archive.getinfo("config.json")
        if weights.compress_type != zipfile.ZIP_STORED or config.file_size > LONGEST_JSON:
            raise ValueError("its weights are compressed or its configuration is too long")
        strange = strangers(json.loads(archive.read(config)))
    f.seek(weights.header_offset)
    header = f.read(30)
    start = (
        weights.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    )
    return cast(BinaryIO, Part(f, start, weights.file_size)), strange


def strangers(layer: dict[str, Any], depth: int = 0) -> list[str]:
    """The layers that no VGG has in a configuration, and in the nets within it. Raises ValueError where channels come first."""
    config = layer["config"]
    inner = config if isinstance(config, list) else config.get("layers", ())  # a list in the oldest files
    if depth > DEEPEST or (isinstance(config, dict) and config.get("data_format", "channels_last") != "channels_last"):
        raise ValueError("its nets are nested too deeply" if depth > DEEPEST else "its channels come first")
    own = [name] if (name := f"layer {layer.get('class_name')}") in STRANGERS else []
    return own + [name for one in inner for name in strangers(one, depth + 1)]


class Part(io.RawIOBase):
    """A stretch of a file as a file, so that half a gigabyte is not copied first."""

    def __init__(self, f: io.BufferedReader, start: int, size: int) -> None:
        self.f, self.start, self.size, self.at = f, start, min(size, max(0, os.fstat(f.fileno()).st_size - start)), 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self.size - self.at)]
        self.f.seek(self.start + self.at)
        count = self.f.readinto(view)
        self.at += count
        return count


def arrays(file: Any) -> dict[str, Any]:
    """The HDF5 sets of float numbers by path, all within the file and no larger than it. Raises ValueError."""
    h5py, found, links = library(), {}, 0

    def visit(name: str, thing: Any) -> None:
        nonlocal links
        links += 1
        if links > MOST_LINKS:
            raise ValueError(f"more than {MOST_LINKS:,} entries")
        if (
            isinstance(thing, h5py.Dataset)
            and thing.dtype.kind == "f"
            and not name.startswith(("optimizer", "_optimizer"))
        ):
            plan = thing.id.get_create_plist()
            if (
                thing.is_virtual
                or thing.external
                or not {plan.get_filter(i)[0] for i in range(plan.get_nfilters())} <= HARMLESS
            ):
                raise ValueError(f"{name[:60]} lies elsewhere or is packed in an unknown way")
            found[name] = thing

    file.get("model_weights", file).visititems(visit)  # links to elsewhere are not followed
    if sum(thing.size * max(4, thing.dtype.itemsize) for thing in found.values()) > 2 * file.id.get_filesize() + SLACK:
        raise ValueError("its numbers are larger than the file")
    return found


def by_layer(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """block1_conv1/kernel -> its tensor: by the layers' names where the file has them, else by their order."""
    layers: dict[str, list[Any]] = {}
    counted: dict[tuple[str, int], list[Any]] = {}
    left: dict[str, Any] = {}
    for path, thing in found.items():
        if m := next((m for part in path.split("/")[:-1] if (m := NAMED.fullmatch(part))), None):
            layers.setdefault(m[0], []).append(thing)
        elif m := NUMBERED.fullmatch(path):
            counted.setdefault((m[1], int(m[2] or 0)), []).append(thing)
        else:
            left[path] = thing
    if any(kind == "conv2d" for kind, _ in counted):
        layers |= in_order({key: counted[key] for key in sorted(counted)})
    else:  # some other head on convolutions that have their names
        left |= {f"{kind}_{n}/{i}": thing for (kind, n), things in counted.items() for i, thing in enumerate(things)}
    for layer, things in layers.items():
        for thing in things:
            key = f"{layer}/{'bias' if thing.ndim == 1 else 'kernel'}"
            if key in left:
                raise ValueError(f"{key} stands in it twice")
            left[key] = thing
    return {name: torch.from_numpy(np.asarray(thing[()], dtype=np.float32)) for name, thing in left.items()}


def in_order(counted: Mapping[tuple[str, int], list[Any]]) -> dict[str, list[Any]]:
    """The names of layers known by their number only: the net is the one whose widths these are."""
    convolutions = [things for (kind, _), things in counted.items() if kind == "conv2d"]
    dense = {f"dense_{n}": things for (kind, n), things in counted.items() if kind == "dense"}
    widths = [max(things, key=lambda t: t.ndim).shape[-1] for things in convolutions]
    for net in PLAIN:
        blocks = column(net)
        if widths and widths == [max(1, layer.width * widths[0] // 64) for block in blocks for layer in block]:
            there = [f"block{b}_conv{i}" for b, block in enumerate(blocks, 1) for i in range(1, len(block) + 1)]
            head = dict(zip(HEAD.values(), dense.values(), strict=True)) if len(dense) == len(HEAD) else dense
            return dict(zip(there, convolutions, strict=True)) | head
    raise ValueError(f"no net of Table 1 has convolutions of the widths {widths[:20]}")


def dense_to_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """FC weights in x out become out x in; fc6's inputs from height, width, channel to channel, height, width."""
    found = dict(tensors)
    for name in ("fc6.weight", "fc7.weight", "fc8.weight"):
        if name not in found:
            continue
        weight = found[name]
        if name.startswith("fc6"):
            side = isqrt(weight.shape[0] // channels_of(tensors))
            weight = weight.reshape(side, side, -1, weight.shape[1]).permute(3, 2, 0, 1).flatten(1)
        else:
            weight = weight.T
        found[name] = weight.contiguous()
    return found


def channels_of(tensors: Mapping[str, Tensor]) -> int:
    """Of the last pooled map."""
    return tensors[max(n for n in tensors if n.startswith("conv") and n.endswith("bias"))].shape[0]


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Keras' names and layouts, in the order of the net."""
    shape = describe(tensors)
    if shape.batch_norm:
        raise ValueError("Keras' VGGs have no batch norm")
    found = {}
    for ours, there in names(shape.net, False).items():
        if ours not in tensors:
            continue
        t = tensors[ours]
        if t.ndim == 4:
            t = t.permute(2, 3, 1, 0)
        elif ours == "fc6.weight":
            side = shape.crop // 32
            t = t.view(t.shape[0], -1, side, side).permute(2, 3, 1, 0).flatten(0, 2)
        found[there] = np.ascontiguousarray((t.T if ours in ("fc7.weight", "fc8.weight") else t).numpy())
    return found


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """For model.load_weights of Keras: as Keras 3 where the path ends in .weights.h5, else the legacy `.h5`. Raises RunError."""
    found, h5py, modern = theirs(tensors), library(), path.name.endswith(".weights.h5")
    layers = list(dict.fromkeys(there.split("/")[0] for there in found))

    def fill(temporary: Path) -> None:
        counts = {"conv2d": 0, "dense": 0}
        with h5py.File(temporary, "w") as file:
            for layer in layers:
                kind = "conv2d" if layer.startswith("block") else "dense"
                place = (
                    f"layers/{kind}{f'_{counts[kind]}' if counts[kind] else ''}/vars" if modern else f"{layer}/{layer}"
                )
                counts[kind] += 1
                weights = [f"{layer}/kernel", f"{layer}/bias"]
                for i, weight in enumerate(weights):
                    file[f"{place}/{i}" if modern else f"{layer}/{weight}:0"] = found[weight]
                if not modern:
                    file[layer].attrs["weight_names"] = [f"{weight}:0".encode() for weight in weights]
            if not modern:
                file.attrs["layer_names"] = [layer.encode() for layer in layers]
                file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"

    write_atomically(path, fill)
