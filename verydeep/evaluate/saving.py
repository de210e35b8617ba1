"""Writing posteriors while a test runs: each rank a file of rows of its own, which the first puts in order at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from verydeep.contract import to_json
from verydeep.data.record import Names
from verydeep.errors import RunError
from verydeep.evaluate.evaluation import Entrant, Found
from verydeep.evaluate.posteriors import BLOCK, FORMAT, digest_after, layout, runs, sealed, tensor_name
from verydeep.evaluate.protocol import Step
from verydeep.files.disk import write_atomically
from verydeep.ranks import Ranks


class Saving:
    """Rows of one rank in a temporary file beside `path`; `finish` makes the whole of it. A context: it leaves no litter.

    The rows come in the order in which photos are tested, so they are put in their places at the end, and are never in memory
    together. The ranks' files must be on a disk that the first rank sees.
    """

    def __init__(self, path: Path, entrants: Sequence[Entrant], ranks: Ranks) -> None:
        self.path, self.entrants, self.ranks = path, entrants, ranks
        self.columns = [(m, step) for m, e in enumerate(entrants) for step in e.steps]
        layout(
            {}, sealed({"models": [contract_values(e) for e in entrants]})
        )  # too long a header is told before the work
        row = ("<f4", (len(self.columns), len(entrants[0].contract.classes)))
        self.kind = np.dtype([("id", "<i8"), ("rows", *row)])
        self.part = path.with_name(f".{path.name}.rank{ranks.rank}.{os.getpid()}.tmp")
        try:
            self.file = self.part.open("wb")
        except OSError as e:
            raise RunError(
                f"{path} cannot be saved ({e.strerror or e}); give --save a file in a folder that exists"
            ) from e

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, *ended: object) -> None:
        self.file.close()
        with suppress(OSError):
            self.part.unlink(missing_ok=True)

    def add(self, ids: list[int], found: Found) -> None:
        """The posteriors of some photos, as `tally` hands them over."""
        block = np.empty(len(ids), self.kind)
        block["id"] = ids
        for c, (m, step) in enumerate(self.columns):
            block["rows"][:, c] = found[m][step].numpy()
        try:
            self.file.write(block.tobytes())
        except OSError as e:
            raise RunError(f"{self.path} cannot be saved ({e.strerror or e})") from e

    def finish(
        self,
        keys: Names,
        targets: npt.NDArray[np.int64],
        about: dict[str, Any],
        facts: dict[tuple[int, Step], dict[str, Any]],
    ) -> None:
        """Writes the file, old or new, never half. targets as the first model numbers its classes; facts by model and step."""
        try:
            self.file.close()
        except OSError as e:
            raise RunError(f"{self.path} cannot be saved ({e.strerror or e})") from e
        parts = [Path(p) for p in self.ranks.gather(os.fspath(self.part.absolute()))]
        if self.ranks.first:
            models = [
                {
                    "name": e.name, "contract": contract_values(e),
                    "results": [{"protocol": s.protocol, "several": s.several, "facts": facts[m, s]} for s in e.steps],
                }
                for m, e in enumerate(self.entrants)
            ]  # fmt: skip
            whole = {"format": FORMAT, "sha256": "0" * 64, **about, "models": models}
            write_atomically(self.path, lambda temporary: self.fill(temporary, parts, keys, targets, whole))
        self.ranks.gather(None)  # the others keep their parts so long

    def fill(
        self, temporary: Path, parts: list[Path], keys: Names, targets: npt.NDArray[np.int64], about: dict[str, Any]
    ) -> None:
        """Lays the file out, puts every row in its place, and writes the header with the sum of all that."""
        n, k = len(keys), len(self.entrants[0].contract.classes)
        names = [tensor_name(*column) for column in self.columns]
        tensors: dict[str, tuple[str, list[int]]] = {
            "ends": ("I64", [n]), "targets": ("I64", [n]), "keys": ("U8", [len(keys.block)]), "tested": ("U8", [n]),
            **{name: ("F32", [n, k]) for name in names},
        }  # fmt: skip
        header, places = layout(tensors, sealed(about))
        tested = np.zeros(n, np.uint8)
        with temporary.open("wb+") as f:
            for part in parts:
                with part.open("rb") as own:
                    while len(
                        block := np.frombuffer(
                            own.read(max(1, BLOCK // self.kind.itemsize) * self.kind.itemsize), self.kind
                        )
                    ):
                        tested[block["id"]] = 1
                        for c, name in enumerate(names):
                            put(f, places[name][0], block["id"].tolist(), block["rows"][:, c])
            unknown = np.full((1, k), np.nan, "<f4")
            for id in np.flatnonzero(tested == 0).tolist():
                for name in names:
                    put(f, places[name][0], [id], unknown)
            small = {
                "ends": keys.ends.astype("<i8"),
                "targets": targets.astype("<i8"),
                "keys": keys.block,
                "tested": tested,
            }
            for name, values in small.items():
                f.seek(places[name][0])
                f.write(np.ascontiguousarray(values).data)
            about["sha256"] = digest_after(f, len(header))
            f.seek(0)
            f.write(layout(tensors, sealed(about))[0])


def put(file: BinaryIO, begin: int, ids: list[int], rows: npt.NDArray[np.float32]) -> None:
    """Writes rows of a tensor that begins there. Not through a map: a full disk would end the process without a word."""
    width = 4 * rows.shape[1]
    for first, last in runs(ids):
        file.seek(begin + width * ids[first])
        file.write(rows[first:last].tobytes())


def contract_values(entrant: Entrant) -> dict[str, Any]:
    """The contract as its own text holds it."""
    return dict(json.loads(to_json(entrant.contract)))
