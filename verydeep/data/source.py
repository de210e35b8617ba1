"""Where photos, labels and boxes come from: DATA of the command line becomes a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from verydeep.data import manifest
from verydeep.data.builtin import open_builtin
from verydeep.data.folder import open_folder
from verydeep.data.manifest import open_manifest
from verydeep.data.record import DataSet, Shares
from verydeep.errors import DataError


def open_data(data: str, shares: Shares = None, seed: int = 0, download: bool = False, split: Path | None = None) -> DataSet:
    """The data set named by DATA: a folder, a manifest (.csv, .jsonl) or builtin:NAME.

    shares = (val, test) are held out of every class, drawn by the seed, where DATA has no such splits; without
    shares such photos are one split named `all`. `split` is a manifest of an earlier run that settles the splits
    instead. Raises DataError.
    """
    if data.startswith("builtin:"):
        return open_builtin(data.removeprefix("builtin:"), download)
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(f"{data} does not exist; expected a folder of class folders, a manifest (.csv, .jsonl) or builtin:fashion-mini")
    if split:
        return replace(open_manifest(split, shares, seed, root=path if path.is_dir() else path.parent), name=data)
    if path.is_dir():
        return open_folder(path, shares, seed)
    if path.suffix.lower() in manifest.SUFFIXES:
        return open_manifest(path, shares, seed)
    raise DataError(f"{data} is a file of another kind; expected a folder of class folders or a manifest (.csv, .jsonl)")


def location(data: str) -> str:
    """DATA in a form that means the same from any folder."""
    return data if data.startswith("builtin:") else str(Path(data).expanduser().resolve())
