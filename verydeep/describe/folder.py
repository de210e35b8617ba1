"""A folder of descriptors: a memory-mapped TAP.npy for each tap, photos.csv, contract.json, and how far it has come.

Photos are described block by block, each rank its own. Rows are flushed before state.json says that they are there, so
what was killed goes on with the block it was at.
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from verydeep.describe.describer import Describer, Manner
from verydeep.describe.descriptor import Rows
from verydeep.describe.gram import FITTED, basis_of, write_array
from verydeep.engines import Engine
from verydeep.errors import ConfigError, RunError
from verydeep.files import disk
from verydeep.files.records import SHORT, record_of
from verydeep.progress import Progress
from verydeep.ranks import Ranks
from verydeep.train.signals import Signals

CONTRACT, STATE, PHOTOS, BASIS = "contract.json", "state.json", "photos.csv", "basis"
FREE = ("models", "contracts", "scales")  # other words for the same: sha256 and `at` say whether they are
OWN = (".lock", ".DS_Store", f".{CONTRACT}.")  # what a folder may hold that is still to begin
SAVE_SECONDS = 5.0


def describe_into(
    path: Path, describer: Describer, photos: Sequence[str], ranks: Ranks, progress: Progress, label: str = "describing"
) -> dict[str, str]:
    """Fills a folder, or what lacks in it; the errors of bad photos, whose rows are NaN, by row.

    Raises RunError for a folder of something else, ConfigError, and Interrupted once all is saved.
    """
    contract = describer.contract(photos)
    n, together = len(photos), contract["together"]
    with opened_folder(path, contract, ranks) as files:
        bases, state = bases_in(path, describer, photos, ranks, progress), ranks.gather(state_of(path))[0]
        left, errors = range(-(-state["rows"] // together), -(-n // together)), dict[int, str]()
        own = [range(i * together, min(n, (i + 1) * together)) for i in left[ranks.rank :: ranks.size]]
        ids, saved = [id for block in own for id in block], time.monotonic()
        with progress.bar(n, label, state["rows"]) as advance, Signals(ranks) as signals:
            tell = lambda more: advance(more * ranks.size, "")  # noqa: E731
            found = chain(describer.rows(photos, ids, bases, errors, progress=tell), [([n], [])])
            chunk, rows = next(found)
            for turn in range(0, len(left), ranks.size):
                for block in own[turn // ranks.size :][:1]:
                    made = [np.full((len(block), width), np.nan, "<f4") for width in contract["widths"]]
                    while chunk[0] < block.stop:  # else of a later block, as all other photos of this one are bad
                        for values, part in zip(made, rows, strict=True):
                            values[np.array(chunk) - block.start] = part
                        chunk, rows = next(found)
                    for file, values in zip(files, made, strict=True):
                        file.seek((block.start - n) * values[0].nbytes, os.SEEK_END)
                        file.write(values.data)
                done = min(n, (left.start + turn + ranks.size) * together)
                if signals.agree(time.monotonic() - saved > SAVE_SECONDS) or signals.stop or done == n:
                    for file in files:
                        file.flush()
                        os.fsync(file.fileno())
                    for told in ranks.gather({str(id): errors.pop(id) for id in sorted(errors) if id < done}):
                        state["errors"].update(told)
                    state["rows"], saved = done, time.monotonic()
                    if ranks.first:
                        disk.write_text(path / STATE, json.dumps(state))
                signals.leave(f"{done:,} of {n:,} photos are described in {path}; repeat the command to go on")
        if ranks.first:
            disk.write_atomically(path / PHOTOS, partial(write_list, photos, state["errors"]))
    return dict(state["errors"])


def write_list(photos: Sequence[str], errors: Mapping[str, str], file: Path) -> None:
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        csv.writer(out).writerows([("row", "photo", "error")])
        csv.writer(out).writerows((i, photo, errors.get(str(i), "")) for i, photo in enumerate(photos))


def bases_in(path: Path, describer: Describer, photos: Sequence[str], ranks: Ranks, progress: Progress) -> list[Rows]:
    """Those of a folder, fitted on the first photos where they are not there yet."""
    taps = describer.way.taps if describer.way.components else ()
    files, fits = [path / f"{tap}.{BASIS}.npy" for tap in taps], path / BASIS
    if not ranks.gather(all(file.exists() for file in files))[0]:
        describe_into(fits, describer.with_pool("none"), photos[:FITTED], ranks, progress, "fitting components")
        for tap, file in zip(taps, files, strict=True) if ranks.first else ():
            basis = basis_of(np.load(fits / f"{tap}.npy", mmap_mode="r"), describer.way.components, tap)
            disk.write_atomically(file, partial(write_array, basis))
        ranks.gather(None)
    if ranks.first:
        shutil.rmtree(fits, ignore_errors=True)
    return [np.load(file, mmap_mode="r") for file in files]


def state_of(path: Path) -> dict[str, Any]:
    """rows: how many photos were described; errors: by row those that could not be."""
    with disk.saying(f"{path / STATE} cannot be read"):
        return dict(json.loads((path / STATE).read_text()))


@contextmanager
def opened_folder(path: Path, contract: Mapping[str, Any], ranks: Ranks) -> Iterator[list[BinaryIO]]:
    """The .npy of each tap to write into. Raises RunError for a folder of something else, or in use."""
    full = "make room and repeat the command, which goes on"
    with ExitStack() as held, disk.saying(f"{path} cannot be written", full):
        if ranks.first:
            begun(path, contract)  # before a folder of something else gets a lock file
            disk.make_folder(path)
            if not held.enter_context(disk.locked(path / ".lock")):
                raise RunError(f"{path} is in use by another describe; wait for it or give another --out")
            disk.remove_temporary(path)
            if not begun(path, contract):
                lay_out(path, contract)
        ranks.gather(None)
        yield [held.enter_context((path / f"{tap}.npy").open("r+b")) for tap in contract["taps"]]


def engine_in(path: Path, asked: Engine) -> Engine:
    """For `auto` the engine that a folder was begun with, whatever has been installed since."""
    begun_by = disk.read_json(path / CONTRACT).get("engine", "torch") if (path / CONTRACT).is_file() else asked
    return begun_by if asked == "auto" else asked


def begun(path: Path, contract: Mapping[str, Any]) -> bool:
    """Whether a folder was begun so. Raises RunError for one of something else, or with rows of another contract."""
    names = os.listdir(path) if path.is_dir() else []
    if CONTRACT not in names:
        if strangers := [name for name in names if not name.startswith(OWN)]:
            raise RunError(f"{path} already holds {strangers[0]} and no descriptors; give an empty or new --out")
        return False
    old = disk.read_json(path / CONTRACT)
    old = {"engine": "torch"} | old  # which folders did not name before there were others
    other = [key for key in contract if key not in FREE and old.get(key) != contract[key]]
    if other and STATE in names and state_of(path)["rows"]:
        said = ", ".join(f"{key} ({SHORT.repr(old.get(key))} then, {SHORT.repr(contract[key])} now)" for key in other)
        raise RunError(f"{path} was begun otherwise: {said}; repeat the first command to go on, or give another --out")
    return STATE in names and not other


def lay_out(path: Path, contract: Mapping[str, Any]) -> None:
    """Files of their full size, which take no space until rows are written. Raises RunError where there is no room."""
    whole, free = sum(prod(shape) for own in contract["shapes"] for shape in own), shutil.disk_usage(path).free
    components = Manner(*(contract[name] for name in Manner._fields)).components
    need = 4 * (contract["photos"] * sum(contract["widths"]) + (components + bool(components)) * whole)
    if free < need:
        more = f"the rows take {need / 1e9:.1f} GB and the disk has {free / 1e9:.1f}"
        raise RunError(f"{path}: {more}; name fewer --taps, or take --pool mean")
    shutil.rmtree(path / BASIS, ignore_errors=True)  # of what was begun otherwise, and made no row
    for tap, width in zip(contract["taps"], contract["widths"], strict=True):
        np.lib.format.open_memmap(path / f"{tap}.npy", "w+", "<f4", (contract["photos"], width))
        (path / f"{tap}.{BASIS}.npy").unlink(missing_ok=True)
    disk.write_json(path / CONTRACT, dict(contract))
    disk.write_text(path / STATE, json.dumps({"rows": 0, "errors": {}}))


def read_folder(path: Path) -> tuple[dict[str, Any], Manner]:
    """The contract of a finished folder, and how it was made. Raises RunError."""
    if not (path / PHOTOS).is_file() or not (path / CONTRACT).is_file():
        raise RunError(f"{path} is no folder of descriptors, or not finished; 'verydeep describe' makes it and goes on")
    contract = disk.read_json(path / CONTRACT)
    try:
        return contract, record_of(Manner, {name: contract[name] for name in Manner._fields if name in contract})
    except (ValueError, KeyError) as e:
        raise RunError(f"{path / CONTRACT} cannot be read ({e}); it is damaged or of a newer verydeep") from e


def mapped_rows(path: Path, tap: str) -> Rows:
    """The rows of a tap, N x D, paged in as they are read. Raises RunError, and ConfigError for an unknown tap."""
    if tap not in (taps := disk.read_json(path / CONTRACT)["taps"]):
        raise ConfigError(f"tap: {path} has no {tap!r:.60}; it has {', '.join(taps)}")
    try:
        return np.load(path / f"{tap}.npy", mmap_mode="c")  # type: ignore[no-any-return]
    except (OSError, ValueError) as e:
        raise RunError(f"{path / tap}.npy cannot be read ({e}); it is damaged, describe the photos again") from e
