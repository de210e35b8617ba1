"""Tensors in safetensors files, the one format in which numbers are kept."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from verydeep.errors import ModelError
from verydeep.files.disk import open_regular

LONGEST_HEADER = 3_000_000  # bytes: the names of 50,000 classes; read into Python they take up to thirty times as many
TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1}


class Piece(NamedTuple):
    """A tensor to be written: its type, its shape and its bytes, little-endian, in as many parts as is convenient."""

    kind: str
    shape: Sequence[int]
    data: Iterable[bytes | memoryview]


def write_pieces(path: Path, pieces: Mapping[str, Piece], metadata: dict[str, str] | None = None) -> str:
    """A safetensors file, the same bytes for the same tensors in the same order, the widest type first so that all are
    aligned; returns its SHA-256. Nothing is held but a part. Raises OSError.

    The library's own writer orders the metadata by chance, holds a second copy and hides the number of an OSError.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, piece in pieces.items():
        begin, end = end, end + WIDTHS[piece.kind] * int(np.prod(piece.shape, dtype=object))
        header[name] = {"dtype": piece.kind, "shape": list(piece.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as f:
        first = [len(text).to_bytes(8, "little") + text]
        for part in chain(first, *(piece.data for piece in pieces.values())):
            digest.update(part)
            f.write(part)
    return digest.hexdigest()


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> str:
    """A safetensors file of tensors; returns its SHA-256. Raises OSError."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    parts = {n: Piece(TYPES[tensors[n].dtype], tensors[n].shape, (bytes_of(t) for t in [tensors[n]])) for n in names}
    return write_pieces(path, parts, metadata)


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def check_header(path: Path) -> int:
    """The size of a file whose header may be parsed: it fits and is not too long. Raises OSError and ModelError."""
    with open_regular(path) as f:
        size, length = os.fstat(f.fileno()).st_size, int.from_bytes(f.read(8), "little")
    if size < 8 or length > size - 8:
        raise ModelError(
            f"{path} cannot be read as safetensors (it is shorter than its header); it is damaged or of another format"
        )
    if length > LONGEST_HEADER:
        raise ModelError(
            f"{path} has a header of {length:,} bytes, expected at most {LONGEST_HEADER:,}; it is no model of verydeep"
        )
    return size


def cut(error: Exception) -> str:
    """An error that may quote the file, in one line and not too long."""
    return repr(str(error))[1:-1][:160]
