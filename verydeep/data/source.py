"""Where photos, labels and boxes come from: DATA of the command line becomes a data set."""

from dataclasses import replace
from pathlib import Path

from verydeep.data import manifest
from verydeep.data.builtin import open_builtin
from verydeep.data.folder import open_folder, split_folders
from verydeep.data.groups import grouped
from verydeep.data.manifest import open_manifest
from verydeep.data.record import SPLIT_NAMES, DataSet, Shares
from verydeep.data.split import divide, divide_again
from verydeep.errors import DataError

SHARDS = (".tar", ".index", ".tar.gz", ".tgz")
EXPECTED = (
    "expected a folder of class folders, a manifest (.csv, .jsonl), shards (photos-*.tar, here or on an object store), "
    "builtin:fashion-mini or hub:NAME"
)


def open_data(
    data: str, shares: Shares = None, seed: int = 0, download: bool = False, split: Path | None = None,
    groups: str | None = None,
) -> DataSet:  # fmt: skip
    """The data set named by DATA: a folder, a manifest (.csv, .jsonl), shards (.tar), builtin:NAME or hub:NAME.

    shares = (val, test) are held out of every class, drawn by the seed, where DATA has no such splits; without shares
    such photos are one split named `all`. `groups` is a column, or a pattern for paths, by which photos stay together.
    `split` is a manifest of an earlier run that settles the splits instead. Raises DataError.
    """
    from verydeep import collections, shards  # other people's layouts: they make data sets of this room's parts

    path, hub, least = Path(data).expanduser(), data.startswith("hub:"), 2 if shares else 1
    if not data.strip():
        raise DataError(f"DATA is empty; {EXPECTED}")
    if data.startswith("builtin:"):
        whole = open_builtin(data.removeprefix("builtin:"), download)
    elif hub or is_pattern(data):
        whole = collections.open_hub(data.removeprefix("hub:"), groups) if hub else shards.open_shards(data)
        whole = divide_again(whole, read_places(split)) if split else whole
    elif not path.exists():
        raise DataError(f"{data} does not exist; {EXPECTED}")
    elif split:
        whole = replace(open_manifest(split, least, root=path if path.is_dir() else path.parent), name=data)
    elif path.is_dir():
        parts = collections.ilsvrc_folders(path)
        whole = collections.open_ilsvrc(path, parts) if parts else open_folder(path, least)
    elif path.suffix.lower() in manifest.SUFFIXES:
        whole = open_manifest(path, least, groups)
    else:
        raise DataError(f"{data} is a file of another kind; {EXPECTED}")
    return whole if split else divide(grouped(whole, groups), shares, seed)


def is_pattern(data: str) -> bool:
    """Whether DATA means shards: by its ending, unless a folder is called so; and any URL."""
    return "://" in data or (data.lower().endswith(SHARDS) and not Path(data).expanduser().is_dir())


def photo_folders(root: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Split -> its folder, none where the folders are classes; and how other people's lists beside them are called."""
    from verydeep import collections

    parts = collections.ilsvrc_folders(root)
    return (parts, collections.LISTS) if parts else (split_folders(root), ())


def read_places(split: Path) -> dict[str, str]:
    """Key -> split, from the split.csv of a run. Raises DataError."""
    places = {row["path"]: str(row.get("split")) for _, row in manifest.rows(split)}
    if not places or not set(places.values()) <= set(SPLIT_NAMES.values()):
        raise DataError(f"{split} names no splits; the run folder is damaged")
    return places


def location(data: str) -> str:
    """DATA in a form that means the same from any folder."""
    kind = "hub:" if data.startswith("hub:") else ""
    path = Path(data.removeprefix(kind)).expanduser()
    named = data.startswith("builtin:") or "://" in data or (kind and not path.exists())
    return data if named else f"{kind}{path.resolve()}"
