"""Where photos, labels and boxes come from: DATA of the command line becomes a data set."""

from dataclasses import replace
from pathlib import Path

from verydeep.config import Level
from verydeep.data.builtin import open_builtin
from verydeep.data.groups import grouped
from verydeep.data.manifest import open_split, split_rows
from verydeep.data.packed import check_packed
from verydeep.data.record import SPLIT_NAMES, DataSet, Photos, Shares
from verydeep.data.split import divide, divide_again
from verydeep.data.tree import listed
from verydeep.errors import DataError
from verydeep.words import several

SHARDS = (".tar", ".index", ".tar.gz", ".tgz")
EXPECTED = (
    "expected a folder of class folders, a manifest (.csv, .tsv, .json, .jsonl), boxes of Pascal VOC, COCO, YOLO, "
    "LabelMe, CVAT or Label Studio, shards (photos-*.tar, here or on an object store), builtin:fashion-mini or hub:NAME"
)


def open_data(
    data: str, shares: Shares = None, seed: int = 0, download: bool = False, split: Path | None = None,
    groups: str | None = None, classes: Level | None = None, least: int = 2,
    corrections: str | Path | None = None, remembered: Path | None = None,
) -> DataSet:  # fmt: skip
    """The data set named by DATA: a folder, a manifest (.csv, .jsonl), shards (.tar), builtin:NAME or hub:NAME.

    shares = (val, test) are held out of every class, drawn by the seed, where DATA has no such splits; without shares
    such photos are one split named `all`. `groups` is a column, or a pattern for paths, by which photos stay together.
    `classes` says where a folder has its classes, `least` how many there must be to train. `split` is a manifest of an
    earlier run that settles the splits instead; photos that it does not know are left out. `corrections` is a list
    that mends labels, after the one that a run remembers. What was understood stands in `notes`. Raises DataError.
    """
    from verydeep.collections import changed_by_name, corrected

    if not data.strip():
        raise DataError(f"DATA is empty; {EXPECTED}")
    path, least = Path(data).expanduser(), least if shares else 1
    mending = Path(corrections).expanduser() if corrections else None, remembered
    files_here = path.exists() and not data.startswith(("builtin:", "hub:")) and not is_pattern(data)
    if not split or not files_here:
        whole, changes = corrected(undivided(data, path, least, download, groups, classes), *mending)
        if split and not data.startswith("builtin:"):
            places = {key: part for key, part in read_places(split).items() if changes.get(key) != ""}
            return with_news(divide_again(whole, places), whole)
        return whole if split else divide(grouped(whole, groups), shares, seed)
    kept = replace(open_split(split, least, path if path.is_dir() else path.parent), name=data)
    try:
        whole = undivided(data, path, 1, download, groups, classes)
    except DataError as e:
        if corrections:
            raise
        return replace(kept, notes=(f"warning: only the photos of the run are taken, as the rest is not clear: {e}",))
    whole, changes = corrected(whole, *mending)
    return with_news(changed_by_name(kept, changes), whole)


def undivided(data: str, path: Path, least: int, download: bool, groups: str | None, classes: Level | None) -> DataSet:
    """DATA with its own splits only. Raises DataError."""
    from verydeep import collections, shards  # other people's layouts: they make data sets of this room's parts

    if data.startswith("builtin:"):
        return open_builtin(data.removeprefix("builtin:"), download)
    if data.startswith("hub:"):
        return collections.open_hub(data.removeprefix("hub:"), groups)
    check_packed(data, path)
    if is_pattern(data):
        return shards.open_shards(data)
    if not path.exists():
        raise DataError(f"{data} does not exist; {EXPECTED}")
    if path.is_dir():
        parts = collections.ilsvrc_folders(path)
        return collections.open_ilsvrc(path, parts) if parts else collections.open_folder(path, least, classes, groups)
    if boxed := collections.open_annotated(path, least):
        return boxed
    if path.suffix.lower() in collections.LIST_SUFFIXES:
        return collections.open_list(path, least, groups)
    raise DataError(f"{data} is a file of another kind; {EXPECTED}")


def with_news(kept: DataSet, now: DataSet) -> DataSet:
    """The data set as a run keeps it, with a note of what DATA has now beside it, or has no longer."""
    known = {key for photos in kept.splits.values() for key in photos.keys}
    there = {key for photos in now.splits.values() for key in photos.keys}
    new, gone, notes = there - known, sorted(known - there), list(now.notes)
    if gone:
        notes.append(f"warning: {several(len(gone), 'photos')} of the run are no longer in {now.name} ({listed(gone)})")
    if new:
        strange = sorted(set(now.classes) - set(kept.classes))
        more = f", with {several(len(strange), 'classes')} that it does not know ({listed(strange)})" if strange else ""
        notes.append(
            f"note: {several(len(new), 'photos')} of {now.name} are not in the split of the run{more}: new, or left "
            "out when it began, so neither trained nor tested on; a run with another --out takes all"
        )
    own = with_boxes_of(kept, now)
    return replace(kept, notes=tuple(notes), passed=now.passed, splits=own, corrections=now.corrections)


def with_boxes_of(kept: DataSet, now: DataSet) -> dict[str, Photos]:
    """The splits of a run with the boxes that DATA has, classes numbered as the run does."""
    number = {name: i for i, name in enumerate(kept.classes)}
    boxed = {
        photos.keys[id]: tuple((box, number[now.classes[c]]) for box, c in own if now.classes[c] in number)
        for photos in now.splits.values() for id, own in photos.boxes.items()
    }  # fmt: skip
    if not boxed:
        return dict(kept.splits)
    own = {name: {i: boxed[key] for i, key in enumerate(p.keys) if boxed.get(key)} for name, p in kept.splits.items()}
    return {name: replace(photos, boxes=own[name]) for name, photos in kept.splits.items()}


def is_pattern(data: str) -> bool:
    """Whether DATA means shards: by its ending, unless a folder is called so; and any URL."""
    return "://" in data or (data.lower().endswith(SHARDS) and not Path(data).expanduser().is_dir())


def read_places(split: Path) -> dict[str, str]:
    """Key -> split, from the split.csv of a run. Raises DataError."""
    places = {row["path"]: str(row.get("split")) for _, row in split_rows(split)}
    if not places or not set(places.values()) <= set(SPLIT_NAMES.values()):
        raise DataError(f"{split} names no splits; the run folder is damaged")
    return places


def location(data: str) -> str:
    """DATA in a form that means the same from any folder."""
    kind = "hub:" if data.startswith("hub:") else ""
    path = Path(data.removeprefix(kind)).expanduser()
    named = data.startswith("builtin:") or "://" in data or (kind and not path.exists())
    return data if named else f"{kind}{path.resolve()}"
