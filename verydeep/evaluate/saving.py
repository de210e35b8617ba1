"""Writing posteriors while a test runs: each rank a file of rows, which the first puts in order at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verydeep.contract import Contract, to_json
from verydeep.data.record import Names
from verydeep.errors import ModelError
from verydeep.evaluate.posteriors import BLOCK, FORMAT, KINDS, sealed, shapes_of
from verydeep.evaluate.views import Step
from verydeep.files.disk import saying, write_atomically
from verydeep.files.tensors import LONGEST_HEADER, Piece, write_pieces
from verydeep.ranks import Ranks


class Saving:
    """Rows of one rank in a temporary file beside `path`; `finish` makes the whole. A context: it leaves no litter.

    Rows come in the order in which photos are tested and are put in their places at the end. The ranks' files must be
    on a disk that the first rank sees.
    """

    def __init__(self, path: Path, contracts: Sequence[Contract], steps: Sequence[Step], ranks: Ranks) -> None:
        self.path, self.steps, self.ranks = path, steps, ranks
        self.contracts = [dict(json.loads(to_json(c))) for c in contracts]
        if len(json.dumps(self.contracts)) * (1 + len(steps)) > LONGEST_HEADER // 2:  # told before the work
            raise ModelError(
                f"the names of {len(contracts)} models' classes are too long for one file; save fewer models at once"
            )
        self.width = sum(len(c.classes) for c in contracts) * len(steps)
        self.kind = np.dtype([("id", "<i8"), ("row", "<f4", (self.width,))])
        self.part = path.with_name(f".{path.name}.rank{ranks.rank}.{os.getpid()}.tmp")
        with saying(f"{path} cannot be saved", "give --save a file in a folder that exists"):
            self.file = self.part.open("wb")

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, *ended: object) -> None:
        self.file.close()
        with suppress(OSError):
            self.part.unlink(missing_ok=True)

    def add(self, ids: list[int], found: Sequence[Mapping[Step, Tensor]]) -> None:
        """The posteriors of some photos, by model and step."""
        block = np.empty(len(ids), self.kind)
        block["id"], block["row"] = ids, torch.cat([own[s] for own in found for s in self.steps], 1).numpy()
        with saying(f"{self.path} cannot be saved"):
            self.file.write(block.tobytes())

    def finish(
        self, keys: Names, targets: npt.NDArray[np.int64], about: dict[str, Any], names: Sequence[str],
        how: Mapping[tuple[int, Step], dict[str, Any]],
    ) -> None:  # fmt: skip
        """Writes the file, old or new, never half. targets: class numbers of the first model; how: by model, step."""
        with saying(f"{self.path} cannot be saved"):
            self.file.close()
        parts = [Path(p) for p in self.ranks.gather(os.fspath(self.part.absolute()))]
        if self.ranks.first:
            models = [
                {"name": name, "contract": contract, "results": [
                    {"protocol": s.protocol, "several": s.several, "how": how[m, s]} for s in self.steps
                ]}
                for m, (name, contract) in enumerate(zip(names, self.contracts, strict=True))
            ]  # fmt: skip
            whole = sealed({**about, "models": models, "format": FORMAT})
            write_atomically(self.path, lambda file: write_pieces(file, self.pieces(parts, keys, targets), whole))
        self.ranks.gather(None)  # the others keep their parts so long

    def pieces(self, parts: Sequence[Path], keys: Names, targets: npt.NDArray[np.int64]) -> dict[str, Piece]:
        """All tensors, every row in its place, each hashed as it is written."""
        n, digest = len(keys), hashlib.sha256()
        blocks = [np.memmap(part, self.kind, "r") for part in parts if part.stat().st_size]
        which, place = np.full(n, -1), np.zeros(n, np.int64)
        for b, block in enumerate(blocks):
            which[block["id"]], place[block["id"]] = b, np.arange(len(block))

        def rows() -> Iterator[bytes]:
            step = max(1, BLOCK // (4 * self.width))
            for i in range(0, n, step):
                found = np.full((min(step, n - i), self.width), np.nan, "<f4")
                for b, block in enumerate(blocks):
                    own = np.flatnonzero(which[i : i + step] == b)
                    found[own] = block["row"][place[i : i + step][own]]
                yield found.tobytes()

        def hashed(data: Iterable[bytes]) -> Iterator[bytes]:
            for part in data:
                digest.update(part)
                yield part

        flat = {
            "ends": keys.ends.astype("<i8"), "targets": targets.astype("<i8"), "keys": keys.block,
            "tested": (which >= 0).astype(np.uint8),
        }  # fmt: skip
        data = {name: hashed([values.tobytes()]) for name, values in flat.items()}
        data |= {"rows": hashed(rows()), "sha256": (digest.digest() for _ in range(1))}
        shapes = shapes_of(n, self.width, len(keys.block))
        return {name: Piece(KINDS[name], shape, data[name]) for name, shape in shapes.items()}
