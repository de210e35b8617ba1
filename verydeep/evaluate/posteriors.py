"""Posteriors in one safetensors file, so that models can be fused later without a second pass over the photos.

Tensors: F32 N x K for each model and step, I64 ends and U8 keys (the photos' names one after another), I64 targets as the first
model numbers its classes, U8 tested. The rows of a photo that was not tested are NaN. The header holds the facts of each result,
the contract of each model, and the SHA-256 of all bytes after it. Neither writing nor reading holds more than a few rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from torch import Tensor

from verydeep.contract import Contract, from_values, without_doubles
from verydeep.data.record import Names
from verydeep.errors import ModelError
from verydeep.evaluate.protocol import MOST_SCALES, PROTOCOLS, Step
from verydeep.files.disk import open_regular
from verydeep.files.tensors import LONGEST_HEADER, check_header, cut
from verydeep.hardware import free_memory

METADATA, SEAL, FORMAT = "verydeep_posteriors", "verydeep_posteriors_sha256", 1
BLOCK = 1 << 22  # bytes read at once
LONGEST_NAME, LONGEST_WORD = 4096, 100  # characters of a model's name, which may be a path, and of a fact
MOST_SPENT = 1e12  # seconds, or passes a photo
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # may stand in a path, and should reach no terminal
WIDTH = {"I64": 8, "F32": 4, "U8": 1}
FACTS: dict[str, tuple[type, ...]] = {
    "scales": (list,), "mirror": (bool,), "average": (str,), "pooling": (str,), "long_photos": (str,), "precision": (str,),
    "engine": (str,), "device": (str,), "version": (str,), "passes": (int, float), "seconds": (int, float),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class SavedFile:
    """An open file of posteriors. `keys` name its N photos; `targets` int64 N are numbers of `classes`; `tested` bool N."""

    path: Path
    handle: int = field(
        repr=False
    )  # of the open file, closed with this object; whoever replaces the file changes nothing here
    about: dict[str, Any] = field(repr=False)  # data, location, split, limit
    classes: tuple[str, ...]
    keys: Names
    targets: npt.NDArray[np.int64]
    tested: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SavedModel:
    """One model of such a file: the facts of its results, and where their rows begin."""

    file: SavedFile
    name: str
    contract: Contract
    facts: dict[Step, dict[str, Any]]
    places: dict[Step, int] = field(repr=False)

    def rows(self, step: Step, ids: Sequence[int]) -> Tensor:
        """Posteriors float32 N x K of these photos. Raises ModelError for what is no posterior."""
        k = len(self.contract.classes)
        found = np.empty((len(ids), k), "<f4")
        for first, last in runs(ids):
            data = os.pread(self.file.handle, 4 * k * (last - first), self.places[step] + 4 * k * ids[first])
            if len(data) < 4 * k * (last - first):
                raise ModelError(f"{self.file.path} became shorter while it was read")
            found[first:last] = np.frombuffer(data, "<f4").reshape(-1, k)
        if not ((found >= 0) & (found <= 1 + 1e-5)).all() or (np.abs(found.sum(1, dtype=np.float64) - 1) > 1e-3).any():
            raise ModelError(f"{self.file.path}: what it holds for {step} are no posteriors; the file is damaged")
        return torch.from_numpy(found)


def runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, end) positions of stretches in which the ids are neighbours."""
    start = 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or ids[i] != ids[i - 1] + 1:
            yield start, i
            start = i


def layout(
    tensors: Mapping[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The header of a safetensors file and each tensor's (begin, end) in it; the widest types first, so that all are aligned."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end, places = 0, {}
    for name in sorted(tensors, key=lambda n: (-WIDTH[tensors[n][0]], n)):
        kind, shape = tensors[name]
        begin, end = end, end + WIDTH[kind] * int(np.prod(shape, dtype=object))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
        places[name] = (begin, end)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ModelError(
            f"the names of {len(tensors)} results and their models' classes are too long for one file; save fewer models at once"
        )
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {name: (start + b, start + e) for name, (b, e) in places.items()}


def sealed(about: dict[str, Any]) -> dict[str, str]:
    text = json.dumps(about)  # in ASCII, since names of files need not be text
    return {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest()}


def digest_after(file: BinaryIO, start: int) -> str:
    """SHA-256 of the bytes from `start` to the end."""
    digest = hashlib.sha256()
    file.seek(start)
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def is_posteriors(path: Path) -> bool:
    """Whether a file says that it holds posteriors; anything that cannot be read does not."""
    try:
        check_header(path)
        with safetensors.safe_open(path, framework="np") as f:
            return METADATA in (f.metadata() or {})
    except (OSError, ValueError, ModelError, safetensors.SafetensorError):
        return False


def read_posteriors(path: Path) -> list[SavedModel]:
    """The models whose posteriors a file holds. Header, types, shapes and the SHA-256 of every byte are checked before use.

    Raises ModelError.
    """
    try:
        check_header(path)
        with safetensors.safe_open(
            path, framework="np"
        ):  # its library has checked that the tensors fill the file, side by side
            pass
        with open_regular(path) as file:
            return parse(path, file)
    except FileNotFoundError as e:
        raise ModelError(f"{path} does not exist") from e
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror or e})") from e
    except (
        safetensors.SafetensorError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as e:
        raise ModelError(f"{path} cannot be read as posteriors ({cut(e)}); it is damaged or of another format") from e


def parse(path: Path, file: BinaryIO) -> list[SavedModel]:
    """Raises ModelError, and ValueError, TypeError, KeyError and the like for what is not as `save` writes it.

    Small things are checked first and the sum of all bytes last: a header can promise more bytes than anyone would wait for.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:  # again, as the file may have changed
        raise ValueError("the header is too long")
    header = json.loads(file.read(length))
    metadata = header.pop("__metadata__")
    if set(metadata) != {METADATA, SEAL} or hashlib.sha256(metadata[METADATA].encode()).hexdigest() != metadata[SEAL]:
        raise ModelError(f"{path}: its facts do not match their SHA-256; the file is damaged, save it again")
    about = json.loads(metadata[METADATA], object_pairs_hook=without_doubles)
    if about["format"] != FORMAT:
        raise ModelError(
            f"{path} has format {about['format']!r:.20}, this version reads {FORMAT}; try a newer verydeep"
        )
    if not all(isinstance(about[name], str) for name in ("data", "location")) or not is_word(about["split"]):
        raise TypeError("data, location or split is of another kind")
    if about["limit"] is not None and (type(about["limit"]) is not int or not 0 < about["limit"] < 1 << 63):
        raise ValueError("limit is out of range")
    contracts = [from_values(model["contract"], str(path)) for model in about["models"]]
    keys, targets, tested = photos_of(path, file, header, length)
    if not contracts or targets.min() < 0 or targets.max() >= len(contracts[0].classes):
        raise ValueError("it holds no model, or its targets are out of range")
    saved = SavedFile(path, os.dup(file.fileno()), about, contracts[0].classes, keys, targets, tested.astype(bool))
    weakref.finalize(saved, os.close, saved.handle)
    models = []
    for m, (model, contract) in enumerate(zip(about["models"], contracts, strict=True)):
        facts = {step_of(r): checked(r["facts"]) for r in model["results"]}
        if (
            len(facts) != len(model["results"])
            or not facts
            or not isinstance(model["name"], str)
            or len(model["name"]) > LONGEST_NAME
        ):
            raise ValueError("a result stands in it twice, or none, or its model has no name")
        shape = [len(keys), len(contract.classes)]
        places = {step: place(header, length, tensor_name(m, step), "F32", shape) for step in facts}
        models.append(SavedModel(saved, CONTROL.sub("?", model["name"]), contract, facts, places))
    if digest_after(file, 8 + length) != about["sha256"]:
        raise ModelError(f"{path}: its posteriors do not match their SHA-256; the file is damaged, save it again")
    return models


def photos_of(
    path: Path, file: BinaryIO, header: dict[str, Any], length: int
) -> tuple[Names, npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """The photos' names, their targets and which were tested. Raises ModelError and what `parse` does."""
    kinds = {"ends": "I64", "keys": "U8", "targets": "I64", "tested": "U8"}
    if (
        sum(WIDTH[kind] * int(header[name]["shape"][0]) for name, kind in kinds.items())
        > (memory := free_memory()) // 2
    ):
        raise ModelError(
            f"{path} promises more photos than the {memory / 1e9:.1f} GB of free memory can name; test fewer at once"
        )
    ends, block, targets, tested = (read(file, header, length, name, kind) for name, kind in kinds.items())
    if (
        not len(ends) == len(targets) == len(tested) > 0
        or ends[0] < 0
        or (ends[1:] <= ends[:-1]).any()
        or ends[-1] != len(block) - 1
    ):
        raise ValueError("keys, targets and tested do not fit each other")
    if tested.max() > 1 or block[ends].any() or np.count_nonzero(block) != len(block) - len(ends):
        raise ValueError("tested or the ends of the keys are damaged")
    keys = Names(block, ends)
    for _ in keys:  # not all bytes are text
        pass
    return keys, targets, tested


def step_of(result: Mapping[str, Any]) -> Step:
    if result["protocol"] not in PROTOCOLS or not isinstance(result["several"], bool):
        raise ValueError(f"{result['protocol']!r:.20} is no protocol")
    return Step(result["protocol"], result["several"])


def checked(facts: dict[str, Any]) -> dict[str, Any]:
    if set(facts) != set(FACTS) or not all(type(facts[name]) in kinds for name, kinds in FACTS.items()):
        raise TypeError("the facts of a result are of another kind")
    if not 0 < len(facts["scales"]) <= MOST_SCALES or not all(
        type(q) is int and 0 < q <= 1 << 16 for q in facts["scales"]
    ):
        raise ValueError("scales are out of range")
    if not all(0 <= facts[name] < MOST_SPENT for name in ("passes", "seconds")):  # not a number is neither
        raise ValueError("passes or seconds are out of range")
    if not all(is_word(value) for value in facts.values() if isinstance(value, str)):
        raise ValueError("a fact is no word")
    return facts


def is_word(value: object) -> bool:
    """What may stand in a message as it is."""
    return isinstance(value, str) and len(value) <= LONGEST_WORD and value.isprintable()


def tensor_name(model: int, step: Step) -> str:
    return f"{model} {step.protocol} {'several' if step.several else 'single'}"


def place(header: dict[str, Any], length: int, name: str, kind: str, shape: list[int]) -> int:
    """Where a tensor begins in the file. Raises ValueError where it is not of this type and shape."""
    found = header[name]
    if found["dtype"] != kind or found["shape"] != shape:
        raise ValueError(f"{name} has another shape or type")
    return 8 + length + int(found["data_offsets"][0])


def read(file: BinaryIO, header: dict[str, Any], length: int, name: str, kind: str) -> npt.NDArray[Any]:
    """A small tensor, which has a few bytes for each photo."""
    count = int(header[name]["shape"][0])
    file.seek(place(header, length, name, kind, [count]))
    return np.frombuffer(
        file.read(count * WIDTH[kind]), np.dtype("<i8") if kind == "I64" else np.dtype(np.uint8), count
    )
