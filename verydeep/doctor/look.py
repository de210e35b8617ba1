"""The data doctor's one pass over all photos: facts in arrays of 36 bytes a photo, then findings."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from verydeep.data import photo
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.doctor.alike import FINE, Groups, Thumb, copies, look, thumb
from verydeep.doctor.findings import MOST_EXAMPLES, Finding
from verydeep.errors import PhotoError

TINY, SMALL, HUGE = 32, 256, 24_000_000
FLAGS = (
    "truncated", "empty-file", "no-photo", "too-big", "unreadable", "cmyk", "16-bit", "alpha", "animated", "exif-rotated", "grey",
)  # fmt: skip
BIT = {name: 1 << i for i, name in enumerate(FLAGS)}
BAD = sum(BIT[name] for name in FLAGS[:5])
REASONS = (("is damaged", "truncated"), ("is empty", "empty-file"), ("is not a JPEG", "no-photo"))
LIMITS = (
    "more than the", "more pixels than", "no side may be longer", "parts before its photo", "too many for its size",
    "progressive JPEG of", "is a PNG of more", "is a GIF of more", "TIFF with", "is a TIFF of more", "run-length BMP",
)  # fmt: skip
ORIENTED_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # otherwise asking would decode the photo again
GREY_TOLERANCE = 3

Advance = Callable[[int, str], None]


class Facts(NamedTuple):
    """Of all splits one after another; `starts` says where each begins."""

    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint64]  # N x 2
    look: npt.NDArray[np.uint64]
    reasons: dict[int, str]  # of the first bad photos
    splits: list[Photos]
    starts: npt.NDArray[np.int64]

    def place(self, id: int) -> tuple[Photos, int]:
        split = int(np.searchsorted(self.starts, id, "right")) - 1
        return self.splits[split], id - int(self.starts[split])

    def has(self, name: str) -> npt.NDArray[np.bool_]:
        return (self.flags & BIT[name]) > 0

    @property
    def good(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero((self.flags & BAD) == 0)


class Seen(NamedTuple):
    width: int
    height: int
    flags: int
    content: bytes
    look: int


def see(photos: Photos, id: int) -> Seen:
    """One photo's facts. Raises PhotoError where it cannot be used."""
    content = photos.content(id)
    if isinstance(content, bytes):
        image = photo.decode(content, photos.name(id), FINE)
        (width, height), flags = header(content)
        digest = hashlib.blake2b(content, digest_size=16)
    else:
        image, (width, height), flags = content, content.size, 0
        digest = hashlib.blake2b(repr(content.size).encode() + content.tobytes(), digest_size=16)
    small = thumb(image, height, width)
    rgb = np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.int16)
    flags |= BIT["grey"] * bool((rgb.max(2) - rgb.min(2)).max() <= GREY_TOLERANCE)
    return Seen(width, height, flags, digest.digest(), look(small.grey))


def header(data: bytes) -> tuple[tuple[int, int], int]:
    """((width, height) upright, flags) of a photo that can be decoded; no pixel is."""
    flags = 0
    with Image.open(io.BytesIO(data), formats=photo.FORMATS) as image:
        size = image.size
        flags |= BIT["cmyk"] * (image.mode == "CMYK")
        flags |= BIT["16-bit"] * deep(image, data)
        flags |= BIT["alpha"] * ("A" in image.getbands() or "transparency" in image.info)
        turns = (
            1
            if image.format == "PNG" and not any(word in data for word in ORIENTED_PNG)
            else photo.exif_orientation(image)
        )
        if turns in photo.TURNS:
            flags |= BIT["exif-rotated"]
            size = size[::-1] if turns >= 5 and image.format != "TIFF" else size  # Pillow turns a TIFF's size itself
        try:
            flags |= BIT["animated"] * bool(getattr(image, "is_animated", False))
        except Exception:  # a damaged second frame; the first is good
            flags |= BIT["animated"]
    return size, flags


def deep(image: Image.Image, data: bytes) -> bool:
    """Whether a channel has more than 8 bits, which Pillow's modes do not always tell."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return bool(max(image.tag_v2.get(258) or (1,)) > 8)
    return image.mode.startswith("I") or (data[:4] == b"\x89PNG" and data[24] == 16)


def cause(reason: str) -> str:
    found = next((id for start, id in REASONS if reason.startswith(start)), None)
    return found or ("too-big" if any(words in reason for words in LIMITS) else "unreadable")


def facts_of(data: DataSet, advance: Advance, workers: int = -1) -> Facts:
    """One pass over all photos of all splits, in threads. A bad photo is a fact."""
    splits = list(data.splits.values())
    n = sum(map(len, splits))
    facts = Facts(
        np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.uint32), np.zeros((n, 2), np.uint64), np.zeros(n, np.uint64), {},
        splits, np.cumsum([0, *map(len, splits)])[:-1],
    )  # fmt: skip
    for photos, start in zip(splits, facts.starts.tolist(), strict=True):

        def on_bad(id: int, e: PhotoError, start: int = start) -> None:
            facts.flags[start + id] = BIT[cause(e.reason)]
            if len(facts.reasons) < len(FLAGS) * MOST_EXAMPLES:
                facts.reasons[start + id] = e.reason
            advance(1, "")

        order = photos.in_turn()
        photos.expect(order)
        work = in_order(
            lambda id, photos=photos: see(photos, id), map(int, order), workers_for(workers, photos.in_memory), on_bad
        )  # type: ignore[misc]
        for id, seen in work:
            at = start + id
            facts.width[at], facts.height[at], facts.flags[at], facts.look[at] = (
                seen.width,
                seen.height,
                seen.flags,
                seen.look,
            )
            facts.content[at] = np.frombuffer(seen.content, np.uint64)
            advance(1, "")
    return facts


def example(data: DataSet, facts: Facts, id: int, words: str = "") -> dict[str, Any]:
    photos, own = facts.place(id)
    labels = [data.classes[c] for c in photos.record(own).labels]
    return {"name": photos.keys[own], "split": photos.split, "labels": labels, "id": own} | (
        {"words": words} if words else {}
    )


def photo_findings(data: DataSet, facts: Facts) -> list[Finding]:
    """What single photos show."""
    size = np.stack([facts.width, facts.height])
    short, long = size.min(0), size.max(0)
    ok = (facts.flags & BAD) == 0
    masks = {name: facts.has(name) for name in FLAGS} | {
        "tiny": ok & (short < TINY), "small": ok & (short >= TINY) & (short < SMALL),
        "huge": ok & (size.astype(np.int64).prod(0) > HUGE), "long": ok & (long > photo.MAX_ASPECT * short),
    }  # fmt: skip
    sized = {"tiny", "small", "huge", "long"}
    found = []
    for name, mask in masks.items():
        if n := int(mask.sum()):
            ids = np.flatnonzero(mask)[:MOST_EXAMPLES].tolist()
            words = [
                f"{facts.width[i]} x {facts.height[i]}" if name in sized else facts.reasons.get(i, "") for i in ids
            ]
            shown = [example(data, facts, i, w) for i, w in zip(ids, words, strict=True)]
            found.append(Finding(name, n, shown, f"{n / max(len(mask), 1):.1%} of the photos"))
    return found


def duplicates(facts: Facts, workers: int = -1) -> Groups:
    """Groups of copies among the photos that can be read."""

    def read(id: int) -> Thumb:
        photos, own = facts.place(id)
        return thumb(photos.open(own, FINE), int(facts.height[id]), int(facts.width[id]))

    def thumbs(ids: list[int]) -> Iterator[tuple[int, Thumb]]:
        in_memory = all(p.in_memory for p in facts.splits)
        return in_order(read, ids, workers_for(workers, in_memory), lambda id, e: None)

    return copies(facts.content, facts.look, facts.good, thumbs)


def copy_findings(data: DataSet, facts: Facts, groups: Groups) -> list[Finding]:
    """Copies in several splits and with several labels apart; the rest as exact or near. A group may leak and contradict."""
    sorted_out: dict[str, list[int]] = {"leak": [], "contradiction": [], "exact-duplicates": [], "near-duplicates": []}
    for i, members in enumerate(groups.members):
        seen = [facts.place(int(id)) for id in members[:MOST_EXAMPLES]]
        leaks = len(np.unique(np.searchsorted(facts.starts, members, "right"))) > 1
        contradicts = len({photos.record(own).labels for photos, own in seen}) > 1
        ids = ["leak"] * leaks + ["contradiction"] * contradicts
        for id in ids or ["exact-duplicates" if groups.exact[i] else "near-duplicates"]:
            sorted_out[id].append(i)
    found = []
    for id, which in sorted_out.items():
        if which:
            shown: list[dict[str, Any]] = []
            for i in which:
                room = MOST_EXAMPLES - len(shown)
                shown += [
                    example(data, facts, int(m)) | {"group": i, "same_bytes": groups.exact[i]}
                    for m in groups.members[i][:room]
                ]
            count = sum(len(groups.members[i]) for i in which)
            detail = f"in {len(which):,} group{'s' * (len(which) > 1)}" + (
                "" if groups.complete else "; more alike than were compared"
            )
            found.append(Finding(id, count, shown, detail, len(which)))
    return found
