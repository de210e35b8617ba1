"""Tensors by name from a `.pth` or a safetensors file of PyTorch; their names belong to torchvision.py and timm.py.

A `.pth` file holds a pickle, which may run anything. This is the one file that calls torch.load: with weights_only=True, and only after
every name that the pickle imports was found among ten that build tensors (docs/decisions/0011-foreign-weights.md).
"""

from __future__ import annotations

import io
import os
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from verydeep.files.disk import open_regular, write_atomically
from verydeep.files.tensors import check_header, write_tensors
from verydeep.net.classifier import METADATA

LONGEST_PICKLE = 250_000  # bytes; that of VGG-19 with batch norm and its optimizer has 40,000
LEGACY_PICKLES = 5  # magic number, version, system, state, names of the storages; then the numbers follow
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
STORAGES = {f"torch {kind}Storage" for kind in ("Float", "Half", "Double", "BFloat16", "Long")}
ALLOWED = STORAGES | {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "collections OrderedDict"}
PREFIXES = ("module.features.", "features.module.", "module.")
FLOATS = {torch.float32, torch.float16, torch.bfloat16, torch.float64}


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The float tensors of a state dict that torch.save wrote, zipped or as before 2020. Raises OSError, ValueError, RuntimeError."""
    with open_regular(path) as f:
        size, zipped = os.fstat(f.fileno()).st_size, f.read(4) == b"PK\x03\x04"
        f.seek(0)
        if zipped:
            check_zip(f, size)
        else:
            check_pickles(f.read(LONGEST_PICKLE), LEGACY_PICKLES)
    return own(torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped), size)


def check_zip(f: io.BufferedReader, size: int) -> None:
    """Members lie in the archive as they are, so that none is larger than the file, and the pickle builds tensors only."""
    with zipfile.ZipFile(f) as archive:
        members = archive.infolist()
        pickles = [m for m in members if m.filename.endswith("data.pkl")]
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
            raise ValueError("its members are compressed")
        if len(pickles) != 1 or pickles[0].file_size > LONGEST_PICKLE:
            raise ValueError(f"it has not one pickle of at most {LONGEST_PICKLE:,} bytes")
        check_pickles(archive.read(pickles[0]), 1)


def check_pickles(data: bytes, count: int) -> None:
    """Goes through the opcodes of the first pickles without obeying them. Raises ValueError."""
    stream = io.BytesIO(data)
    for _ in range(count):
        for code, argument, _ in pickletools.genops(stream):
            if code.name == "GLOBAL" and argument not in ALLOWED:
                raise ValueError(
                    f"its pickle names {str(argument)[:60]}, which builds no tensor; nothing of it was run"
                )
            if code.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
                raise ValueError(
                    f"its pickle says {code.name}, which no state dict of tensors needs; nothing of it was run"
                )


def text_in(f: io.BufferedReader) -> set[str]:
    """Every text in the pickles of a file, among them the names of its tensors. Raises ValueError."""
    if f.read(4) == b"PK\x03\x04":
        with zipfile.ZipFile(f) as archive:
            pickled = next(m for m in archive.infolist() if m.filename.endswith("data.pkl"))
            if pickled.file_size > LONGEST_PICKLE or pickled.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its pickle is longer than {LONGEST_PICKLE:,} bytes")
            data, count = archive.read(pickled), 1
    else:
        f.seek(0)
        data, count = f.read(LONGEST_PICKLE), LEGACY_PICKLES
    stream = io.BytesIO(data)
    return {bare(a) for _ in range(count) for _, a, _ in pickletools.genops(stream) if isinstance(a, str)}


def own(loaded: object, size: int) -> dict[str, Tensor]:
    """Float32 copies of the tensors of a state dict, or of the one in a checkpoint under state_dict or model."""
    state: Any = loaded
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError("it holds no state dict")
    tensors = {
        name: t for name, t in state.items() if isinstance(name, str) and isinstance(t, Tensor) and t.dtype in FLOATS
    }
    if any(t.layout != torch.strided or t.numel() > t.untyped_storage().nbytes() for t in tensors.values()):
        raise ValueError("a tensor is larger than its numbers")
    if sum(t.nbytes for t in tensors.values()) > size:
        raise ValueError("its tensors are larger than the file")
    return {bare(name): t.detach().to(torch.float32, copy=True).contiguous() for name, t in tensors.items()}


def bare(name: str) -> str:
    """Without what DataParallel puts before the whole net (`module.`) or before its features (`features.module.`)."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return bare(("features." if "features" in prefix else "") + name.removeprefix(prefix))
    return name


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Float32 copies of the float tensors of a safetensors file. Raises OSError, ValueError and SafetensorError."""
    check_header(path)
    with safetensors.safe_open(path, framework="pt") as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118  it is no dict
        return {bare(name): t.to(torch.float32, copy=True) for name, t in tensors.items() if t.dtype in FLOATS}


def names_in(path: Path) -> tuple[set[str], bool]:
    """The names in a safetensors file, and whether verydeep wrote it."""
    check_header(path)
    with safetensors.safe_open(path, framework="pt") as f:
        return {bare(name) for name in f.keys()}, METADATA in (f.metadata() or {})  # noqa: SIM118


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict: of torch.save where the path ends in .pth or .pt, else safetensors. Raises RunError."""
    plain = {name: t.contiguous() for name, t in tensors.items()}
    if path.suffix in (".pth", ".pt"):
        write_atomically(path, lambda temporary: save(plain, temporary))
    else:
        write_atomically(path, lambda temporary: write_tensors(plain, temporary, {"format": "pt"}))


def save(plain: dict[str, Tensor], path: Path) -> None:
    """Raises OSError, which torch hides where it opens the file itself."""
    with path.open("wb") as f:
        torch.save(plain, f)
