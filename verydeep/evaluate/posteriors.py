"""Posteriors in one safetensors file, so that models can be fused later without a second pass over the photos.

One row a photo: F32 N x W, the posteriors of each model and step side by side, NaN where it was not tested. Beside it
I64 targets as the first model numbers its classes, U8 tested, the photos' names (I64 ends, U8 keys), and last the
SHA-256 of all that. The header holds how each result was made and the contracts. Nobody holds more than a few rows.
"""

import hashlib
import json
import os
import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from torch import Tensor

from verydeep.contract import Contract, from_values, without_doubles
from verydeep.data.record import Names
from verydeep.errors import ModelError
from verydeep.evaluate.views import MOST_SCALES, Protocol, Step
from verydeep.files.disk import open_regular, saying
from verydeep.files.records import Within, record_of
from verydeep.files.tensors import LONGEST_HEADER, check_header, cut
from verydeep.hardware import free_memory

METADATA, SEAL, FORMAT = "verydeep_posteriors", "verydeep_posteriors_sha256", 2
BLOCK = 1 << 22  # bytes at once
KINDS = {"ends": "I64", "targets": "I64", "rows": "F32", "keys": "U8", "tested": "U8", "sha256": "U8"}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # may stand in a path, and should reach no terminal

Word = Annotated[str, Within(high=100)]
Spending = Annotated[float, Within(0, 1e12)]  # seconds, or passes a photo


class How(NamedTuple):
    """How the posteriors of a step were made and what they cost: a part of every result's record."""

    scales: tuple[Annotated[int, Within(1, 1 << 16)], ...]
    mirror: bool
    average: Word
    pooling: Word
    long_photos: Word
    precision: Word
    engine: Word
    device: Word
    version: Word
    passes: Spending
    seconds: Spending


class Kept(NamedTuple):
    """One result of a model."""

    protocol: Protocol
    several: bool
    how: How


class KeptModel(NamedTuple):
    name: Annotated[str, Within(1, 4096)]
    contract: dict[str, Any]
    results: tuple[Kept, ...]


class About(NamedTuple):
    """What the header says: the photos that were tested, and by whom."""

    data: str
    location: str
    split: Word
    limit: Annotated[int, Within(1)] | None
    models: tuple[KeptModel, ...]
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class SavedFile:
    """An open file of posteriors. `keys` name its N photos; targets int64 N are numbers of `classes`; tested bool N."""

    path: Path
    handle: int = field(repr=False)  # closed with this object; whoever replaces the file changes nothing here
    start: int = field(repr=False)  # of the first row
    width: int = field(repr=False)  # W
    about: About = field(repr=False)
    classes: tuple[str, ...]
    keys: Names
    targets: npt.NDArray[np.int64]
    tested: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SavedModel:
    """One model of such a file: how its results were made, and in which columns they stand."""

    file: SavedFile
    name: str
    contract: Contract
    how: dict[Step, How]
    columns: dict[Step, int] = field(repr=False)

    def rows(self, step: Step, ids: Sequence[int]) -> Tensor:
        """Posteriors float32 N x K of these photos. Raises ModelError for what is no posterior."""
        k, file = len(self.contract.classes), self.file
        data = b"".join(
            os.pread(file.handle, 4 * k, file.start + 4 * (file.width * id + self.columns[step])) for id in ids
        )
        if len(data) < 4 * k * len(ids):
            raise ModelError(f"{file.path} became shorter while it was read")
        found = np.frombuffer(bytearray(data), "<f4").reshape(-1, k)
        wrong = np.abs(found.sum(1, dtype=np.float64) - 1) > 1e-3
        if not ((found >= 0) & (found <= 1 + 1e-5)).all() or wrong.any():
            raise ModelError(f"{file.path}: what it holds for {step} are no posteriors; the file is damaged")
        return torch.from_numpy(found)


def shapes_of(photos: int, width: int, letters: int) -> dict[str, list[int]]:
    """The tensors of a file, in their order."""
    of_photos = {"ends": [photos], "targets": [photos], "rows": [photos, width], "keys": [letters], "tested": [photos]}
    return of_photos | {"sha256": [hashlib.sha256().digest_size]}


def sealed(about: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(about)  # in ASCII, since names of files need not be text
    return {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest()}


def is_posteriors(path: Path) -> bool:
    """Whether a file says that it holds posteriors; anything that cannot be read does not."""
    try:
        check_header(path)
        with safetensors.safe_open(path, framework="np") as f:
            return METADATA in (f.metadata() or {})
    except (OSError, ValueError, ModelError, safetensors.SafetensorError):
        return False


def read_posteriors(path: Path) -> list[SavedModel]:
    """The models whose posteriors a file holds. Header, types, shapes and the SHA-256 of every byte are checked before
    use, small things first: a header can promise more bytes than anyone would wait for. Raises ModelError.
    """
    try:
        with saying(f"{path} cannot be read", kind=ModelError):
            check_header(path)
            with safetensors.safe_open(path, framework="np"):  # checks that the tensors fill the file, side by side
                pass
            with open_regular(path) as file:
                return models_in(path, file)
    except (safetensors.SafetensorError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        raise ModelError(f"{path} cannot be read as posteriors ({cut(e)}); it is damaged or of another format") from e


def models_in(path: Path, file: BinaryIO) -> list[SavedModel]:
    """Raises ModelError, and ValueError and the like for what is not as `Saving` writes it."""
    length = min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER)  # again, as the file may have changed
    header = json.loads(file.read(length))
    metadata = header["__metadata__"]
    text = metadata.pop(METADATA)
    if metadata != {SEAL: hashlib.sha256(text.encode()).hexdigest()}:
        raise ModelError(f"{path}: its facts do not match their SHA-256; the file is damaged, save it again")
    values = json.loads(text, object_pairs_hook=without_doubles)
    if (found := values.get("format")) != FORMAT:
        raise ModelError(f"{path} has format {found!r:.20}, this version reads {FORMAT}; save the posteriors again")
    about = record_of(About, values)
    contracts = [from_values(model.contract, str(path)) for model in about.models]
    width = sum(len(c.classes) * len(m.results) for c, m in zip(contracts, about.models, strict=True))
    n, letters = (int(header[name]["shape"][0]) for name in ("targets", "keys"))
    check_facts(about)
    if not width or not n:
        raise ValueError("it holds no model or no photo")
    if 17 * n + letters > (memory := free_memory()) // 2:
        said = f"promises more photos than {memory / 1e9:.1f} GB of memory can name"
        raise ModelError(f"{path} {said}; test fewer at once")
    shapes = shapes_of(n, width, letters)
    if other := next((k for k, s in shapes.items() if (header[k]["dtype"], header[k]["shape"]) != (KINDS[k], s)), None):
        raise ValueError(f"{other} has another shape or type")
    starts = {name: 8 + length + int(header[name]["data_offsets"][0]) for name in shapes}

    def flat(name: str) -> npt.NDArray[Any]:
        """A small tensor, which has a few bytes for each photo."""
        kind = np.dtype({"I64": "<i8", "U8": "u1"}[KINDS[name]])
        file.seek(starts[name])
        return np.frombuffer(file.read(shapes[name][0] * kind.itemsize), kind, shapes[name][0])

    keys, classes = Names(flat("keys"), flat("ends")), contracts[0].classes
    targets, tested = flat("targets"), flat("tested")
    check_photos(keys, targets, tested, len(classes))
    handle = os.dup(file.fileno())
    saved = SavedFile(path, handle, starts["rows"], width, about, classes, keys, targets, tested.astype(bool))
    weakref.finalize(saved, os.close, handle)
    models, column = [], 0
    for model, contract in zip(about.models, contracts, strict=True):
        how = {Step(r.protocol, r.several): r.how for r in model.results}
        places = {step: column + i * len(contract.classes) for i, step in enumerate(how)}
        column += len(how) * len(contract.classes)
        models.append(SavedModel(saved, CONTROL.sub("?", model.name), contract, how, places))
    if digest_of(file, 8 + length, starts["sha256"]) != flat("sha256").tobytes():
        raise ModelError(f"{path}: its posteriors do not match their SHA-256; the file is damaged, save it again")
    return models


def digest_of(file: BinaryIO, start: int, end: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(start)
    for left in range(end - start, 0, -BLOCK):
        digest.update(file.read(min(left, BLOCK)))
    return digest.digest()


def check_photos(keys: Names, targets: npt.NDArray[Any], tested: npt.NDArray[Any], classes: int) -> None:
    """Raises ValueError."""
    ends, block = keys.ends, keys.block
    if ends[0] < 0 or (ends[1:] <= ends[:-1]).any() or ends[-1] != len(block) - 1:
        raise ValueError("the ends of the keys do not fit them")
    if block[ends].any() or np.count_nonzero(block) != len(block) - len(ends):
        raise ValueError("the keys are damaged")
    if targets.min() < 0 or targets.max() >= classes or tested.max() > 1:
        raise ValueError("its targets or what was tested are out of range")
    for _ in keys:  # not all bytes are text
        pass


def check_facts(about: About) -> None:
    """Raises ValueError for what should not stand in a message, and for results that are none or stand there twice."""
    hows = [r.how for m in about.models for r in m.results]
    if not all(v.isprintable() for how in [(about.split,), *hows] for v in how if isinstance(v, str)):
        raise ValueError("its split, or how a result was made, is no text")
    alone = all(m.results and len({r[:2] for r in m.results}) == len(m.results) for m in about.models)
    if not alone or not all(0 < len(how.scales) <= MOST_SCALES for how in hows):
        raise ValueError("a model has no result, or one twice, or a result has no scales, or too many")
