"""Keras: legacy `.h5`, `.weights.h5` of Keras 3, which keeps no names of layers, and the `.keras` archive.

Kernels are H x W x in x out, FC weights in x out, channels come last.
"""

import io
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verydeep.errors import ModelError
from verydeep.files.disk import LONGEST_JSON, mapped
from verydeep.net.vgg import as_kernel, column
from verydeep.weights.before import probe, told
from verydeep.weights.keras_graph import begins, strangers, through
from verydeep.weights.shapes import FC, PLAIN, Found, Unlike, by_theirs, parameters, rename, unrepeated
from verydeep.weights.torch_file import ZIP, members_of

MOST_LINKS, SLACK = 10_000, 1_000_000  # of a file; bytes that its numbers may take beyond it
HARMLESS = {1, 2, 3}  # HDF5's filters deflate, shuffle and checksum: those it does not load from elsewhere
NAMED = re.compile(r"block\d_conv\d|fc\d|predictions")
# conv2d_3/vars/0, conv2d_3/kernel:0
NUMBERED = re.compile(r"(?:.*[/\\])?(conv2d|dense)(?:_(\d+))?[/\\](?:vars[/\\][01]|(?:kernel|bias)(?::0)?)")
HEAD = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
NORMALISES = re.compile(r"(?:.*/)?normalization\w*/(?:.*/)?(?:(0|mean)|(1|variance)|2|count)(?::0)?")
PARAMETERS = {"weight": "kernel", "bias": "bias"}


def names(net: str, batch_norm: bool) -> dict[str, str]:
    """conv1_1.weight -> block1_conv1/kernel. Every file has paths of its own, of which `by_layer` makes these."""
    labels = HEAD | {f"conv{b}_{i}": f"block{b}_conv{i}" for b in range(1, 6) for i in range(1, 5)}
    return {ours: f"{labels[layer]}/{PARAMETERS[p]}" for ours, layer, p in parameters(net, False)}


def read(path: Path) -> Found:
    """A file of any of the three kinds."""
    with hdf5(path) as (file, config):
        found = arrays(file)
        norms = {name: m for name in found if (m := NORMALISES.fullmatch(name)) and "batch_norm" not in name}
        named = by_layer({name: thing for name, thing in found.items() if name not in norms})
        for name, thing in named.items():
            tensor = torch.from_numpy(np.asarray(thing[()], dtype=np.float32))
            named[name] = tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor
        kept = {m.lastindex: found[name][()] for name, m in norms.items() if m.lastindex and found[name].size <= 3}
        taken = dense_to_ours(rename(named, names))
        if not config:
            return taken
        kept = kept if len(norms) <= 3 else {}
        expects, why = told(lambda: through(config, probe(), kept)) if begins(config) else (None, "")
        return taken._replace(left=(*taken.left, *strangers(config)), expects=expects, before=why)


@contextmanager
def hdf5(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The HDF5 file at a path or in an archive, and its configuration, empty where it has none."""
    h5py, data, config = library(), mapped(path), b""
    if data[:4] == ZIP:
        members = members_of(path, data)
        data, config = members["model.weights.h5"], bytes(members["config.json"])
    with h5py.File(Stretch(data), "r") as file:
        config = config or file.attrs.get("model_config", b"")  # of a whole model in the older form
        if len(config) > LONGEST_JSON:
            raise ValueError("its configuration is too long")
        yield file, json.loads(config) if config else {}


def library() -> Any:
    try:
        import h5py
    except ImportError as e:
        raise ModelError("Keras files need h5py; install it with pip install 'verydeep[weights]'") from e
    return h5py


class Stretch(io.RawIOBase):
    """Mapped bytes as a file, so that half a gigabyte is not copied first."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: len(self.data)}[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        part = self.data[self.at : self.at + len(into)]
        into[: len(part)] = part
        self.at += len(part)
        return len(part)


def arrays(file: Any) -> dict[str, Any]:
    """The HDF5 sets of float numbers by path, all within the file and no larger than it. Raises ValueError."""
    found, left = dict[str, Any](), iter(range(MOST_LINKS))

    def visit(name: str, thing: Any) -> None:
        if next(left, None) is None:
            raise ValueError(f"more than {MOST_LINKS:,} entries")
        optimizer = name.startswith(("optimizer", "_optimizer"))
        if hasattr(thing, "dtype") and thing.dtype.kind == "f" and not optimizer:
            plan = thing.id.get_create_plist()
            filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
            if thing.is_virtual or thing.external or not filters <= HARMLESS:
                raise ValueError(f"{name[:60]} lies elsewhere or is packed in an unknown way")
            found[name] = thing

    file.get("model_weights", file).visititems(visit)  # links to elsewhere are not followed
    if sum(thing.size * max(4, thing.dtype.itemsize) for thing in found.values()) > 2 * file.id.get_filesize() + SLACK:
        raise ValueError("its numbers are larger than the file")
    return found


def by_layer(found: Mapping[str, Any]) -> dict[str, Any]:
    """block1_conv1/kernel -> its numbers: by the layers' names where the file has them, else by their order."""
    layers, counted = defaultdict[str, list[Any]](list), defaultdict[tuple[str, int], list[Any]](list)
    left: dict[str, Any] = {}
    for path, thing in found.items():
        if label := next((part for part in path.split("/")[:-1] if NAMED.fullmatch(part)), None):
            layers[label].append(thing)
        elif m := NUMBERED.fullmatch(path):
            counted[m[1], int(m[2] or 0)].append(thing)
        else:
            left[path] = thing
    convolutions, dense = ([counted[key] for key in sorted(counted) if key[0] == kind] for kind in ("conv2d", "dense"))
    if convolutions:
        layers |= zip(by_number(convolutions), convolutions, strict=True)
    if len(dense) == len(HEAD) and not layers.keys() & set(HEAD.values()):
        layers |= zip(HEAD.values(), dense, strict=True)
    else:  # some other head
        left |= {f"dense_{n}/{i}": thing for n, things in enumerate(dense) for i, thing in enumerate(things)}
    named = [(layer, thing) for layer, things in layers.items() for thing in things]
    keys = ((f"{layer}/{'bias' if thing.ndim == 1 else 'kernel'}", thing) for layer, thing in named)
    return unrepeated([*left.items(), *keys])


def by_number(convolutions: list[list[Any]]) -> list[str]:
    """The names of convolutions known by their number only: the net is the one whose widths these are."""
    widths = [max(things, key=lambda t: t.ndim).shape[-1] for things in convolutions]
    for net in PLAIN:
        layers = [layer for block in column(net) for layer in block]
        if widths == [max(1, layer.width * widths[0] // 64) for layer in layers]:
            return [f"block{layer.name[4]}_conv{layer.name[6]}" for layer in layers]
    raise Unlike(f"no net of Table 1 has convolutions of the widths {widths[:20]}")


def dense_to_ours(found: Found) -> Found:
    """FC weights in x out become out x in; fc6's inputs from height, width, channel to channel, height, width."""
    tensors = found.tensors
    for name in (f"{fc}.weight" for fc in FC if f"{fc}.weight" in tensors):
        weight = tensors[name].T
        if name == "fc6.weight":
            channels = len(tensors[max(n for n in tensors if n.startswith("conv") and n.endswith("bias"))])
            side = isqrt(weight.shape[1] // channels)
            weight = weight.reshape(-1, side, side, channels).permute(0, 3, 1, 2).flatten(1)
        tensors[name] = weight.contiguous()
    return found


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Keras' names and layouts, in the order of the net."""
    found, (net, named) = {}, by_theirs(tensors, names)
    for there, t in named.items():
        if there == "fc1/kernel":
            t = as_kernel(t, net.map).permute(0, 2, 3, 1).flatten(1)
        t = t.permute(2, 3, 1, 0) if t.ndim == 4 else t.permute(*reversed(range(t.ndim)))
        found[there] = np.ascontiguousarray(t.numpy())
    return found


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """For Keras' load_weights: its version 3's where the path ends in .weights.h5, else `.h5`. Raises OSError."""
    found, h5py, modern = theirs(tensors), library(), path.name.endswith(".weights.h5")
    layers = list(dict.fromkeys(there.split("/")[0] for there in found))
    counts = Counter[str]()
    with h5py.File(path, "w") as file:
        for layer in layers:
            kind = "conv2d" if layer.startswith("block") else "dense"
            number = f"_{counts[kind]}" if counts[kind] else ""
            counts[kind] += 1
            for i, weight in enumerate((f"{layer}/kernel", f"{layer}/bias")):
                file[f"layers/{kind}{number}/vars/{i}" if modern else f"{layer}/{weight}:0"] = found[weight]
            if not modern:
                file[layer].attrs["weight_names"] = [f"{layer}/{p}:0".encode() for p in PARAMETERS.values()]
        if not modern:
            file.attrs["layer_names"] = [layer.encode() for layer in layers]
            file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"
