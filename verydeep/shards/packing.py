"""The verb `pack`: photos from anywhere into tar shards of the WebDataset convention, with an index beside them.

A photo's bytes are copied as they are, undecoded, so that every number computed from the shards is that of DATA. Photos
are packed in an order shuffled by the seed, so that each shard holds all classes; the index keeps the order of DATA.
Everything is written into a hidden folder beside the shards and moved at the end, the index last.
"""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from verydeep.colours import PLAINLY, Reading
from verydeep.config import Level
from verydeep.data import photo
from verydeep.data.groups import group_lines
from verydeep.data.order import epoch_order
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.errors import ConfigError, DataError, PhotoError
from verydeep.files.disk import flush_folder, locked, saying
from verydeep.progress import Progress
from verydeep.shards.index import Shard, read_index, save_index
from verydeep.shards.read import Family, family
from verydeep.shards.write import Boxed, Writer, index_of
from verydeep.words import several

QUALITY = 95
AHEAD = 8
MB = 10**6
SPELLED_ALIKE = {".jpeg": ".jpg", ".tiff": ".tif"}


class Packing(NamedTuple):
    """smallest_side: bigger photos are rescaled to it, for speed; shard_mb: where the next shard begins."""

    smallest_side: int | None = None
    shard_mb: int = 256
    seed: int = 0
    bad_photos: Literal["stop", "skip"] = "stop"
    workers: int = -1


class PackedPhoto(NamedTuple):
    """A photo as it goes into a shard, with its boxes."""

    content: bytes
    boxes: tuple[Boxed, ...]
    rescaled: bool


def pack(
    data: str, out: str, settings: Packing, download: bool = False, progress: Progress | None = None,
    groups: str | None = None, classes: Level | None = None, reading: Reading = PLAINLY,
) -> dict[str, Any]:  # fmt: skip
    """Packs DATA into the shards that the pattern `out` names. Raises ConfigError, and DataError with nothing left."""
    if "://" in out:
        raise ConfigError(f"out: {out} is on a store; pack into a folder here and copy all files, the index last")
    target = family(out)
    if target.listed is not None or out.endswith(".index"):
        raise ConfigError(f"out: {out}: the number of shards follows from --shard_mb; give {target.stem}-%05d.tar")
    in_the_way(target)
    opened = open_data(data, download=download, groups=groups, classes=classes).read_as(reading)
    with saying(f"{out} cannot be written", "nothing was left behind", DataError), working_folder(target) as folder:
        return write_shards(opened, target, folder, settings, progress or Progress())


def summary(record: dict[str, Any]) -> str:
    """What was written, in lines."""
    counts = ", ".join(f"{n:,} {'in ' * (split == 'all')}{split}" for split, n in record["photos"].items())
    lines = [f"{several(len(record['shards']), 'shards')}, {record['bytes'] / MB:,.1f} MB, photos: {counts}"]
    if record["smallest_side"] is not None:
        lines.append(f"rescaled to smallest side {record['smallest_side']}: {several(record['rescaled'], 'photos')}")
    lines += record["notes"]
    lines += [f"skipped: {e['photo']}: {e['reason']}" for e in record["skipped"]]
    return "\n".join([*lines, f"the index: {record['index']}"])


def in_the_way(target: Family) -> list[Path]:
    """Shards that a killed pack had begun to move to their place. Raises DataError for others, or an index."""
    folder, begun = Path(target.folder), target.hidden / f"{target.stem}.index"
    own = {shard.name: shard.bytes for shard in read_index(begun).shards} if begun.exists() else {}
    pattern = re.compile(re.escape(target.stem) + r"(\.index|-?((train|val|test)-)?\d*\.tar)")
    found = sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name)) if folder.is_dir() else []
    if other := next((p for p in found if own.get(p.name) != p.stat().st_size), None):
        raise DataError(f"{other} exists; remove the shards of an earlier pack and their index, or give another --out")
    return found


@contextmanager
def working_folder(target: Family) -> Iterator[Path]:
    """An empty folder for this pack alone, which goes when the pack ends. What a killed one left goes at the start."""
    folder = target.hidden
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, os.O_RDONLY) as ours:
        if not ours:
            raise DataError(f"{folder}: another pack is writing these shards; wait, or give another --out")
        for left in [*in_the_way(target), *folder.iterdir()]:
            left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_shards(data: DataSet, target: Family, folder: Path, settings: Packing, progress: Progress) -> dict[str, Any]:
    """All shards and the index, then moved to their place; returns what was written."""
    n, first, rescaled = sum(map(len, data.splits.values())), 0, 0
    places = np.full((n, 3), -1)  # of each photo that was packed: its shard, offset and size
    shards, boxes, skipped = list[Shard](), list[tuple[int, Boxed]](), list[PhotoError]()
    ending = ending_of(data, settings)

    def bad(id: int, e: PhotoError) -> None:
        if settings.bad_photos == "stop":
            raise PhotoError(e.photo, f"{e.reason}; repair or remove it, or add --bad_photos skip")
        skipped.append(e)

    with progress.bar(n, "packing") as advance:
        for split, photos in data.splits.items():
            order = epoch_order(settings.seed, 0, photos).ids
            photos.expect(order)
            prepared = partial(sample_of, photos, smallest_side=settings.smallest_side)
            workers = workers_for(settings.workers, photos.in_memory)
            with closing(Writer(target, split, folder, settings.shard_mb * MB, shards)) as writer:
                for id, sample in in_order(prepared, map(int, order), workers, bad, AHEAD):
                    files = {ending: sample.content, **small_files(data.classes, photos, id, sample)}
                    places[first + id] = writer.add(f"{first + id:09d}", files)
                    boxes += [(first + id, box) for box in sample.boxes]
                    rescaled += sample.rescaled
                    advance(1, f"{writer.written / 1e9:.1f} GB")
            first += len(photos)
    index = index_of(data, places, boxes, tuple(shards), settings.smallest_side)
    names, final = [*(shard.name for shard in shards), f"{target.stem}.index"], Path(target.folder)
    save_index(index, whole := folder / "unfinished")
    whole.chmod((folder / names[0]).stat().st_mode)  # safetensors keeps it from others
    for name in (*names[:-1], whole.name):
        flush_folder(folder / name)
    whole.replace(folder / names[-1])  # from here on it says which shards may be at their place
    for name in names:
        (folder / name).replace(final / name)
    flush_folder(final)
    return {
        "data": data.name, "index": target.index_path, "shards": [str(final / shard.name) for shard in shards],
        "bytes": sum(shard.bytes for shard in shards), "photos": dict(index.splits), "classes": len(data.classes),
        "smallest_side": settings.smallest_side, "rescaled": rescaled, "groups": group_lines(data),
        "notes": data_lines(data), "skipped": [{"photo": e.photo, "reason": e.reason} for e in skipped],
    }  # fmt: skip


def sample_of(photos: Photos, id: int, smallest_side: int | None) -> PackedPhoto:
    """A photo's bytes as they are; with `smallest_side` a bigger one rescaled, as JPEG. Raises PhotoError."""
    boxes = photos.boxes.get(id, ())
    if smallest_side is not None:
        image = photos.open(id)
        if min(image.size) > smallest_side:
            pixels, out = photo.rescale(image, smallest_side), io.BytesIO()
            height, width = photo.PixelSize.of(image).in_file
            across, down = pixels.shape[1] / width, pixels.shape[0] / height
            # All colours at full resolution, because they will be rescaled once more.
            Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY, subsampling="4:4:4")
            scaled = (((x0 * across, y0 * down, x1 * across, y1 * down), c) for (x0, y0, x1, y1), c in boxes)
            return PackedPhoto(out.getvalue(), tuple(scaled), True)
    content = photos.content(id)
    return PackedPhoto(photo.encode(np.asarray(content)) if isinstance(content, Image.Image) else content, boxes, False)


def small_files(classes: tuple[str, ...], photos: Photos, id: int, sample: PackedPhoto) -> dict[str, bytes]:
    """The files beside a photo: its class as a number, and all that is known of it as JSON."""
    record, one_each = photos.record(id), isinstance(photos.labels, np.ndarray)
    names = [classes[label] for label in record.labels]
    said: dict[str, object] = {"path": record.key, "split": record.split}
    said |= {"label": names[0]} if one_each else {"labels": names}
    if photos.boxes:
        said["boxes"] = [{"label": classes[label], "box": box} for box, label in sample.boxes]
    if photos.groups and photos.groups[id]:
        said["group"] = photos.groups[id]
    return ({"cls": str(record.labels[0]).encode()} if one_each else {}) | {"json": json.dumps(said).encode()}


def ending_of(data: DataSet, settings: Packing) -> str:
    """The photos' ending, one for all, because `datasets` reads only shards whose photos are called alike: that of
    their names, else jpg. Readers look at the content, not at the name."""
    if settings.smallest_side is not None:
        return "jpg"
    if all(photos.in_memory for photos in data.splits.values()):
        return "png"
    endings = {os.path.splitext(key)[1].lower() for photos in data.splits.values() for key in photos.keys}
    endings = {SPELLED_ALIKE.get(e, e) for e in endings}
    return endings.pop()[1:] if len(endings) == 1 and endings <= photo.SUFFIXES else "jpg"
