"""Tensors by name from a `.pth` or a safetensors file of PyTorch; torchvision.py has their names.

A `.pth` file holds a pickle, which may run anything. This is the one file that calls torch.load: with
weights_only=True, and only after every name that the pickle imports was found among ten that build tensors
(docs/decisions/0011-foreign-weights.md).
"""

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

from verydeep.files.disk import open_regular
from verydeep.files.tensors import check_header, write_tensors
from verydeep.net.classifier import METADATA

LONGEST_PICKLE = 250_000  # bytes; that of VGG-19 with batch norm and its optimizer has 40,000
LEGACY_PICKLES = 5  # magic number, version, system, state, names of the storages; then the numbers follow
ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
STORAGES = {f"torch {kind}Storage" for kind in ("Float", "Half", "Double", "BFloat16", "Long")}
ALLOWED = STORAGES | {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "collections OrderedDict"}
FORBIDDEN = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}  # other ways to call things
PREFIXES = {"module.features.": "features.", "features.module.": "features.", "module.": ""}  # DataParallel's
FLOATS = {torch.float32, torch.float16, torch.bfloat16, torch.float64}


def tensors_in(path: Path) -> dict[str, Tensor]:
    """Float32 copies of the float tensors of safetensors, or of what torch.save wrote, zipped or as before 2020."""
    with open_regular(path) as f:
        size, start = os.fstat(f.fileno()).st_size, f.read(9)
    if start[8:] == b"{":
        check_header(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return floats({name: file.get_tensor(name) for name in file.keys()}, size)  # noqa: SIM118  it is no dict
    for code, argument in opcodes(path):
        if (code == "GLOBAL" and argument not in ALLOWED) or code in FORBIDDEN:
            what = f"names {str(argument)[:60]}" if code == "GLOBAL" else f"says {code}"
            raise ValueError(f"its pickle {what}, which no state dict of tensors needs; nothing of it was run")
    state: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=start.startswith(ZIP))
    for key in ("state_dict", "model"):  # of a checkpoint
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError("it holds no state dict")
    return floats(state, size)


def opcodes(path: Path) -> list[tuple[str, object]]:
    """Code and argument of everything in the pickles of a file, without obeying them.

    In an archive the members lie as they are, so that none is larger than the file. Raises OSError and ValueError.
    """
    with open_regular(path) as f:
        data, count = f.read(LONGEST_PICKLE), LEGACY_PICKLES
        if data.startswith(ZIP):
            with zipfile.ZipFile(f) as archive:
                members, size = archive.infolist(), os.fstat(f.fileno()).st_size
                if any(m.compress_type for m in members) or sum(m.file_size for m in members) > size:
                    raise ValueError("its members are compressed")
                pickles = [m for m in members if m.filename.endswith("data.pkl")]
                if len(pickles) != 1 or pickles[0].file_size > LONGEST_PICKLE:
                    raise ValueError(f"it has not one pickle of at most {LONGEST_PICKLE:,} bytes")
                data, count = archive.read(pickles[0]), 1
    stream = io.BytesIO(data)
    return [(code.name, argument) for _ in range(count) for code, argument, _ in pickletools.genops(stream)]


def floats(state: Mapping[Any, Any], size: int) -> dict[str, Tensor]:
    """Float32 copies of the float tensors, which must not be larger than the file."""
    tensors = {n: t for n, t in state.items() if isinstance(n, str) and isinstance(t, Tensor) and t.dtype in FLOATS}
    if any(t.layout != torch.strided or t.numel() > t.untyped_storage().nbytes() for t in tensors.values()):
        raise ValueError("a tensor is larger than its numbers")
    if sum(t.nbytes for t in tensors.values()) > size:
        raise ValueError("its tensors are larger than the file")
    return {bare(name): t.detach().to(torch.float32, copy=True).contiguous() for name, t in tensors.items()}


def bare(name: str) -> str:
    """Without what DataParallel puts before the whole net or before its features."""
    for prefix, kept in PREFIXES.items():
        if name.startswith(prefix):
            return bare(kept + name.removeprefix(prefix))
    return name


def names_in(path: Path, pickled: bool) -> tuple[set[str], bool]:
    """The names in a file, in a pickle among all other text, and whether verydeep wrote it."""
    if pickled:
        return {bare(argument) for _, argument in opcodes(path) if isinstance(argument, str)}, False
    check_header(path)
    with safetensors.safe_open(path, framework="pt") as f:
        return set(map(bare, f.keys())), METADATA in (f.metadata() or {})


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict: of torch.save where the path ends in .pth or .pt, else safetensors. Raises OSError."""
    plain = {name: t.contiguous() for name, t in tensors.items()}
    if path.suffix not in (".pth", ".pt"):
        write_tensors(plain, path, {"format": "pt"})
        return
    with path.open("wb") as f:  # torch hides an OSError where it opens the file itself
        torch.save(plain, f)
