"""What PyTorch's files hold, of which checkpoint.py chooses: the values of a `.pth` of any kind, or safetensors.

The pickle of a `.pth` is walked through, never loaded; the numbers of its tensors are read where they lie.
"""

import io
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from torch import Tensor, from_numpy

from verydeep.files.disk import mapped, open_regular
from verydeep.files.tensors import check_header, write_tensors
from verydeep.weights.pickles import MOST_STEPS, SAVE, called, walked
from verydeep.weights.shapes import Unlike, reading

LONGEST_PICKLE = 16_000_000  # bytes; that of VGG-19 with batch norm and its optimizer has 40,000
LEGACY_PICKLES = 5  # magic number, version, system, state, keys of the storages; then their numbers follow
ZIP, MAGIC = b"PK\x03\x04", b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of archives; of torch.save before 2020
FLOATS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<i2"}  # BF16 by its bits
STORAGES = {"Float": "F32", "Half": "F16", "Double": "F64", "BFloat16": "BF16"}
WIDTHS = {"F32": 4, "F16": 2, "F64": 8, "BF16": 2, "Long": 8, "Int": 4, "Short": 2}  # bytes; of all others 1


class Piece(NamedTuple):
    """A float tensor that lies in a file: where, so that one that comes twice is known, and how to read it."""

    shape: tuple[int, ...]
    where: Any
    load: Callable[[], Tensor]  # float32, in memory of its own


class Storage(NamedTuple):
    """Numbers in a row, as ("storage", torch FloatStorage, "3", "cpu", 36) says; `data` is filled once it is known."""

    kind: str
    size: int
    data: list[memoryview]


def contents_of(path: Path) -> Any:
    """The values of a file, its float tensors as Pieces. Raises OSError, ValueError, and what damage brings about."""
    if bytes((data := mapped(path))[8:9]) != b"{":
        return pickled(path, data)
    check_header(path)
    with safetensors.safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        shapes = {name: tuple(s.get_shape()) for name, s in slices.items() if s.get_dtype() in FLOATS}
        return {name: Piece(shape, name, partial(loaded, path, name)) for name, shape in shapes.items()}


def tensors_in(path: Path, what: str) -> dict[str, Tensor]:
    """The float tensors, as float32, of a file that holds nothing else, by name. Raises ModelError."""
    with reading(path, what):
        found = contents_of(path)
        if not isinstance(found, dict) or not all(isinstance(one, Piece) for one in found.values()):
            raise Unlike("it holds other things than tensors by name")
        return {str(name): one.load() for name, one in found.items()}


def loaded(path: Path, name: str) -> Tensor:
    with safetensors.safe_open(path, framework="pt") as file:
        found: Tensor = file.get_tensor(name)
        return found.to(torch.float32, copy=True).contiguous()


def pickled(path: Path, data: memoryview) -> Any:
    """Of an archive, or of pickles one behind the other as before 2020."""
    storages, steps = dict[str, Storage](), iter(range(MOST_STEPS))

    def stored(given: Any) -> Storage:
        _, kind, key, _, count, *view = given
        if not isinstance(key, str) or type(count) is not int or any(part is not None for part in view):
            raise Unlike(f"its storages are views; {SAVE}")
        name = re.split("[ .]", kind.name)[-1].removesuffix("Storage")
        return storages.setdefault(key, Storage(STORAGES.get(name, name), count, []))

    if bytes(data[:4]) == ZIP:
        members = members_of(path, data)
        pickles = [name for name in members if name.endswith("data.pkl")]
        if len(pickles) != 1 or len(members[pickles[0]]) > LONGEST_PICKLE:
            raise Unlike(f"it has not one pickle of at most {LONGEST_PICKLE:,} bytes; {SAVE}")
        folder = pickles[0].removesuffix("data.pkl")
        if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
            raise Unlike("its numbers are big-endian")
        found = walked(io.BytesIO(members[pickles[0]]), MAKERS, stored, steps)
        for key, storage in storages.items():
            storage.data[:] = [members[f"{folder}data/{key}"]]
        return found
    stream = io.BytesIO(data[:LONGEST_PICKLE])
    *_, found, keys = (walked(stream, MAKERS, stored, steps) for _ in range(LEGACY_PICKLES))
    at = stream.tell()
    for storage in (storages[key] for key in keys):  # a count of eight bytes, then as many numbers
        end = at + 8 + storage.size * WIDTHS.get(storage.kind, 1)
        if int.from_bytes(data[at : at + 8], "little") != storage.size:
            raise ValueError("its numbers are not where they should be")
        storage.data[:], at = [data[at + 8 : end]], end
    return found


def members_of(path: Path, data: memoryview) -> dict[str, memoryview]:
    """The members of an archive as they lie in it, so that none is larger than the file."""
    found = dict[str, memoryview]()
    with open_regular(path) as f, zipfile.ZipFile(f) as archive:
        for m in archive.infolist():
            head = data[m.header_offset : m.header_offset + 30]
            begin = m.header_offset + 30 + sum(int.from_bytes(head[i : i + 2], "little") for i in (26, 28))
            if m.compress_type or begin + m.file_size > len(data):
                compressed = Unlike("its members are compressed; save the weights anew, as the toolkit writes them")
                raise compressed if m.compress_type else ValueError("it is cut off")
            found[m.filename] = data[begin : begin + m.file_size]
    return found


def piece(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Piece | None:
    """A tensor of float numbers; others are none."""
    if storage.kind not in FLOATS:
        return None
    if len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 48 for n in (offset, *shape, *stride[:9])):
        raise ValueError("its tensors have no shape")
    count = sum((side - 1) * step for side, step in zip(shape, stride, strict=True)) + 1 if math.prod(shape) else 0
    if max(offset + count, math.prod(shape)) > storage.size:
        raise ValueError("a tensor is larger than its numbers")

    def load() -> Tensor:
        row = np.frombuffer(storage.data[0], FLOATS[storage.kind], count, offset * WIDTHS[storage.kind])
        numbers = from_numpy(row.copy())
        floats = numbers.view(torch.bfloat16) if storage.kind == "BF16" else numbers
        return floats.as_strided(shape, stride).to(torch.float32, copy=True).contiguous()

    return Piece(tuple(shape), (id(storage), offset, tuple(shape), tuple(stride)), load)


# What a pickle calls, and what is made instead
MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor_v2": piece,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils _rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._tensor _rebuild_from_type_v2": lambda function, _, args, *__: called(function, args, MAKERS),
}


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict: of torch.save where the path ends in .pth or .pt, else safetensors. Raises OSError."""
    plain = {name: t.contiguous() for name, t in tensors.items()}
    if path.suffix in (".pth", ".pt"):
        with path.open("wb") as f:  # torch hides an OSError where it opens the file itself
            torch.save(plain, f)
    else:
        write_tensors(plain, path, {"format": "pt"})
