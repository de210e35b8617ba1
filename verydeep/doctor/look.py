"""The data doctor's one pass over all photos: facts in a table of 37 bytes a photo, then findings."""

import hashlib
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data import photo
from verydeep.data.groups import torn_groups
from verydeep.data.kinds import is_deep_colour, open_image
from verydeep.data.profile import Unfit, to_srgb
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.data.turning import IN_PNG, TURNS, exif_orientation, upright_size
from verydeep.doctor.alike import FINE, Groups, Ids, Thumb, copies, look, thumb
from verydeep.doctor.findings import MOST_EXAMPLES, Finding, finding
from verydeep.errors import PhotoError
from verydeep.progress import Advance
from verydeep.words import several

TINY, SMALL, HUGE = 32, 256, 24_000_000
CAUSES = {  # of what cannot be read, by the words of its error
    "truncated": ("is damaged",),
    "empty-file": ("is empty",),
    "needs-extra": ("pip install",),
    "no-photo": ("not a JPEG",),
    "too-big": (
        "more than the", "more pixels than", "no side may be longer", "parts before its photo", "too many for its size",
        "progressive JPEG of", "is a PNG of more", "is a GIF of more", "is a TIFF of more", "TIFF with", "length BMP",
        "is a PPM of",
    ),
    "unreadable": ("",),
}  # fmt: skip
FLAGS = (
    *CAUSES, "dark-range", "bad-profile", "one-colour", "no-end", "profile", "cmyk", "16-bit", "alpha", "animated",
    "exif-rotated", "grey",
)  # fmt: skip
DARK = 64  # of 255: what is never brighter uses a quarter of its range, as 14 bits of 16 do
REASONED = (*CAUSES, "dark-range")  # findings that say of each photo why
BIT = {name: 1 << i for i, name in enumerate(FLAGS)}
BAD = sum(BIT[name] for name in CAUSES)
NO_RANGE = 1 << len(FLAGS)  # more than 8 bits in several colours, or floats
SIDES = [("width", "i4"), ("height", "i4")]
ROW = np.dtype([*SIDES, ("flags", "u4"), ("content", "u8", 2), ("look", "u8"), ("bits", "u1")])
GREY_TOLERANCE = 3


class Facts(NamedTuple):
    """Of all splits one after another; `starts` says where each begins."""

    table: npt.NDArray[np.void]  # N rows; content: a hash of the photo's bytes; bits: used by grey of more than 8
    splits: list[Photos]
    starts: Ids
    reasons: dict[int, str]  # of the first bad photos

    def place(self, id: int) -> tuple[Photos, int]:
        split = int(np.searchsorted(self.starts, id, "right")) - 1
        return self.splits[split], id - int(self.starts[split])

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        return np.asarray((self.table["flags"] & BAD) > 0)


def see(photos: Photos, id: int) -> tuple[tuple[Any, ...], str]:
    """One photo's row; where it cannot be used, why not."""
    try:
        content = photos.content(id)
        if isinstance(content, bytes):
            image, data = photo.decode(content, photos.name(id), FINE, photos.reading), content
            (width, height), flags = facts_in_header(content)
        else:
            image, data = content, repr(content.size).encode() + content.tobytes()
            width, height, flags = *content.size, 0
    except PhotoError as e:
        cause = next(name for name, words in CAUSES.items() if any(some in e.reason for some in words))
        return (0, 0, BIT[cause], 0, 0, 0), e.reason
    digest = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), np.uint64)
    ends, words, bits = np.reshape(image.getextrema(), (-1, 2)).tolist(), "", 0
    flags |= BIT["one-colour"] * all(low == high for low, high in ends)
    if flags & BIT["16-bit"] and photos.reading.range == "full":
        top = max(high for _, high in ends)
        bits = 0 if flags & NO_RANGE else max(257 * top - 128, 1).bit_length()
        if top <= DARK:
            flags |= BIT["dark-range"]
            how = f"as of {bits} bits" if bits else "in several colours or floats: save it with 8 bits"
            words = f"nothing brighter than {top} of 255, {how}"
    rgb = np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.int16)
    flags |= BIT["grey"] * bool((rgb.max(2) - rgb.min(2)).max() <= GREY_TOLERANCE)
    return (width, height, flags, digest, look(thumb(image, height, width).grey), bits), words


def range_advice(bits: npt.NDArray[np.uint8]) -> str:
    """What reads all grey photos of more than 8 bits, by the bits that each uses."""
    low, high = int(bits.min(initial=99)), int(bits.max(initial=0))
    if not high:
        return ""
    used = f"; of {low} to {high} bits in DATA" if low < high else ""
    if (257 * DARK).bit_length() < high:
        return f"{used}, so no one range serves all; `train --range auto` reads each by its own black and white"
    return f"{used}; `train --range 0,{(1 << high) - 1}` says what is black and what is white"


def facts_in_header(data: bytes) -> tuple[tuple[int, int], int]:
    """((width, height) upright, flags) of a photo that can be decoded; no pixel is."""
    with open_image(data) as image:
        size, png = image.size, image.format == "PNG"
        unlike = is_deep_colour(image, data) or image.mode == "F"
        deep = unlike or image.mode.startswith("I")
        clear = "A" in image.getbands() or "transparency" in image.info
        plain = png and not any(word in data for word in IN_PNG)  # asking would decode it again
        turns = 1 if plain else exif_orientation(image)
        size = size if image.format == "TIFF" else upright_size(size, turns)  # Pillow turns a TIFF's itself
        try:
            animated = bool(getattr(image, "is_animated", False))
        except Exception:  # a damaged second frame; the first is good
            animated = True
        found = {"cmyk": image.mode == "CMYK", "16-bit": deep, "alpha": clear, "animated": animated}
        found["exif-rotated"] = turns in TURNS
        found["no-end"] = photo.lacks_end(data)
        if profile := image.info.get("icc_profile"):
            try:
                found["profile"] = to_srgb(profile, image.mode) is not None
            except Unfit:
                found["bad-profile"] = True
    return size, sum(BIT[name] for name, so in found.items() if so) | NO_RANGE * unlike


def facts_of(data: DataSet, advance: Advance, workers: int = -1) -> Facts:
    """One pass over all photos of all splits, in threads. A bad photo is a fact."""
    splits = list(data.splits.values())
    ends = np.cumsum([len(photos) for photos in splits])
    facts = Facts(np.zeros(ends[-1], ROW), splits, np.r_[0, ends[:-1]], {})
    for photos, start in zip(splits, facts.starts.tolist(), strict=True):
        order = photos.in_turn()
        photos.expect(order)
        for id, (row, bad) in in_order(partial(see, photos), order.tolist(), workers_for(workers, photos.in_memory)):
            facts.table[start + id] = row
            if bad and len(facts.reasons) < len(FLAGS) * MOST_EXAMPLES:
                facts.reasons[start + id] = bad
            advance(1, "")
    return facts


def example(data: DataSet, facts: Facts, id: int, **more: Any) -> dict[str, Any]:
    photos, own = facts.place(id)
    labels = [data.classes[c] for c in photos.record(own).labels]
    told = {name: value for name, value in more.items() if value != ""}
    return {"name": photos.keys[own], "split": photos.split, "labels": labels, "id": own, **told}


def photo_findings(data: DataSet, facts: Facts) -> list[Finding]:
    """What single photos show."""
    width, height, flags, bits = (facts.table[name] for name in ("width", "height", "flags", "bits"))
    short, long, ok = np.minimum(width, height), np.maximum(width, height), ~facts.bad
    by_size = {
        "tiny": ok & (short < TINY), "small": ok & (short >= TINY) & (short < SMALL),
        "huge": ok & (width.astype(np.int64) * height > HUGE), "long": ok & (long > photo.MAX_ASPECT * short),
    }  # fmt: skip
    found = []
    for name, mask in ({name: (flags & BIT[name]) > 0 for name in FLAGS} | by_size).items():
        ids = np.flatnonzero(mask)
        first = ids[:MOST_EXAMPLES].tolist()
        words = facts.reasons if name in REASONED else {}
        words = {i: f"{width[i]} x {height[i]}" for i in first} if name in by_size else words
        advice = range_advice(bits[bits > 0]) if name == "dark-range" else ""
        if first:
            shown = [example(data, facts, i, words=words.get(i, "")) for i in first]
            found.append(finding(name, len(ids), shown, f"{len(ids) / len(mask):.1%} of the photos{advice}"))
    return found


def duplicates(facts: Facts, workers: int = -1) -> Groups:
    """Groups of copies among the photos that can be read."""

    def read(id: int) -> Thumb:
        photos, own = facts.place(id)
        return thumb(photos.open(own, FINE), int(facts.table["height"][id]), int(facts.table["width"][id]))

    workers, good = workers_for(workers, all(p.in_memory for p in facts.splits)), np.flatnonzero(~facts.bad)
    thumbs = partial(in_order, read, workers=workers, on_bad=lambda id, e: None)
    return copies(facts.table["content"], facts.table["look"], good, thumbs)


def copy_findings(data: DataSet, facts: Facts, groups: Groups, drawn: npt.NDArray[np.int8]) -> list[Finding]:
    """Copies in several splits and of several classes apart, the rest as exact or near; a group may be in both.

    `drawn`: where the default split would put each photo, -1 for those of a split that stays.
    """
    sorted_out: dict[str, list[int]] = {"leak": [], "contradiction": [], "exact-duplicates": [], "near-duplicates": []}
    for i, members in enumerate(groups.members):
        seen = [facts.place(id) for id in members.tolist()]
        leaks = len({split.split for split, _ in seen}) > 1
        contradicts = len({split.record(own).labels for split, own in seen}) > 1
        ids = ["leak"] * leaks + ["contradiction"] * contradicts
        for id in ids or ["exact-duplicates" if groups.exact[i] else "near-duplicates"]:
            sorted_out[id].append(i)
    found = []
    for name, which in sorted_out.items():
        photos = [(i, id) for i in which for id in groups.members[i].tolist()]
        shown = [example(data, facts, id, group=i, same_bytes=groups.exact[i]) for i, id in photos[:MOST_EXAMPLES]]
        detail = f"in {several(len(which), 'groups')}" + ("; more alike than were compared" * (not groups.complete))
        torn = sum(len(set(drawn[groups.members[i]].tolist()) - {-1}) > 1 for i in which)
        if torn and name != "leak":
            detail += f"; the split that train draws by default would put {torn:,} of them on both sides"
        if which:
            found.append(finding(name, len(photos), shown, detail, len(which)))
    return found


def group_findings(data: DataSet, facts: Facts) -> list[Finding]:
    """Groups with photos in several of the splits that are given."""
    torn = {name: i for i, name in enumerate(torn_groups(data))}
    names = [name for photos in facts.splits for name in photos.groups or [""] * len(photos)] if torn else []
    ids = sorted((id for id, name in enumerate(names) if name in torn), key=lambda id: (torn[names[id]], id))
    shown = [example(data, facts, id, group=torn[names[id]], words=names[id]) for id in ids[:MOST_EXAMPLES]]
    detail = f"in {several(len(torn), 'groups')} by {data.grouped_by}"
    return [finding("torn-groups", len(ids), shown, detail, len(torn))] if torn else []
