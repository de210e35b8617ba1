import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from verydeep.data.builtin import open_builtin
from verydeep.data.photo import decode
from verydeep.data.record import DataSet, Names, Photos
from verydeep.doctor import alike
from verydeep.doctor.census import plain_name
from verydeep.doctor.look import BIT, NO_RANGE, copy_findings, duplicates, facts_in_header, facts_of, photo_findings


def scene(seed: int, height: int = 240, width: int = 320) -> Image.Image:
    """Smooth noise with a few discs: as much low frequency as a photo has."""
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width
    radius = np.maximum(np.hypot(rows, columns), 1) ** 1.4
    waves = [random.normal(size=radius.shape) + 1j * random.normal(size=radius.shape) for _ in range(3)]
    noise = [np.fft.irfft2(wave / radius) for wave in waves]
    pixels = np.stack([(n - n.mean()) / n.std() for n in noise], 2) * 40 + random.uniform(90, 160, 3)
    y, x = np.mgrid[:height, :width]
    for _ in range(4):
        inside = np.hypot(y - random.uniform(0, height), x - random.uniform(0, width)) < random.uniform(20, 70)
        pixels[inside] = 0.4 * pixels[inside] + 0.6 * random.uniform(0, 255, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def jpeg(photo: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def in_memory(photos: dict[str, list[Image.Image]], classes: int = 1) -> DataSet:
    splits = {}
    for split, images in photos.items():
        keys = Names.of(f"{split}{i}" for i in range(len(images)))
        labels = np.arange(len(images)) % classes
        splits[split] = Photos(split, keys, labels, images.__getitem__, in_memory=True)
    return DataSet("made", tuple(map(str, range(classes))), splits)


def groups_of(data: DataSet) -> list[list[int]]:
    return [g.tolist() for g in duplicates(facts_of(data, lambda n, words: None)).members]


COPIES = {
    "half the size": lambda p: p.resize((160, 120)),
    "quality 30": lambda p: jpeg(p, 30),
    "quality 95": lambda p: jpeg(p, 95),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.8),
    "trimmed": lambda p: p.crop((2, 2, 318, 238)),
    "smaller and recompressed": lambda p: jpeg(p.resize((200, 150)), 60),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_found_and_nothing_else(how: str) -> None:
    photos = [scene(i) for i in range(12)]
    found = groups_of(in_memory({"all": photos + [COPIES[how](p) for p in photos]}))
    expected = [[i, i + 12] for i in range(12)]
    assert all(g in expected for g in found)
    assert len(found) >= (8 if how == "trimmed" else 11)


def test_garments_that_look_alike_are_no_copies() -> None:
    fashion = open_builtin("fashion-mini")
    assert groups_of(DataSet("some", fashion.classes, {"test": fashion.split("test")})) == []
    hardest = np.array([910, 3567, 5779, 225, 3869, 715])  # two hoodies 0.075 apart
    assert groups_of(DataSet("some", fashion.classes, {"train": fashion.split("train").take(hardest, "train")})) == []


def test_black_and_white_and_red_are_not_the_same() -> None:
    blank = [Image.new("RGB", (80, 80), c) for c in ("black", "white", "red", "blue")]
    assert groups_of(in_memory({"all": blank})) == []


def test_a_thousand_blank_photos_are_one_group_and_quick() -> None:
    blank = [Image.new("RGB", (80, 80 + i % 40), "black") for i in range(1000)]
    assert groups_of(in_memory({"all": blank})) == [list(range(1000))]


@pytest.mark.parametrize("seed", range(3))
def test_the_banded_search_finds_what_brute_force_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(0, 1 << 63, 40, dtype=np.uint64)
    bits = [random.choice(64, k, replace=False).tolist() for k in random.integers(0, 11, 400)]
    flips = [np.uint64(sum(1 << bit for bit in some)) for some in bits]
    looks = np.concatenate([base, base[random.integers(0, 40, 400)] ^ np.array(flips)])
    distances = np.bitwise_count(looks[:, None] ^ looks)
    expected = {tuple(pair) for pair in np.argwhere(np.triu(distances <= alike.REACH, 1)).tolist()}
    crowds = max(np.unique(looks, return_counts=True)[1])
    pairs, complete = alike.candidates(looks)
    found = [tuple(sorted(p)) for p in pairs.tolist()]
    assert crowds <= alike.CROWD
    assert complete
    assert set(found) == expected
    assert len(found) == len(expected)
    assert len(expected) > 500


def test_a_search_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MOST_COMPARED", 3)
    assert not alike.candidates(np.arange(64, dtype=np.uint64))[1]


def test_leaks_and_contradictions_are_told_apart() -> None:
    a, b, c, d = (scene(i) for i in range(4))
    data = in_memory({"train": [a, b, c, c, d, d.copy()], "test": [a, jpeg(b, 80)]}, classes=2)
    facts = facts_of(data, lambda n, words: None)
    findings = copy_findings(data, facts, duplicates(facts), np.full(8, -1, np.int8))
    found = {f["id"]: [(e["name"], e["group"]) for e in f["examples"]] for f in findings}
    assert found == {
        "leak": [("train0", 0), ("test0", 0), ("train1", 1), ("test1", 1)],
        "contradiction": [("train2", 2), ("train3", 2), ("train4", 3), ("train5", 3)],
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_sixteen_bits_of_colour_are_seen_where_pillow_hides_them() -> None:
    head = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 3 * (1 + 4 * 6))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert Image.open(io.BytesIO(png)).mode == "RGB"
    assert facts_in_header(png) == ((4, 3), BIT["16-bit"] | NO_RANGE)
    photos = replace(in_memory({"all": [scene(0)]}).split("all"), content=lambda id: png, in_memory=False)
    data = DataSet("x", ("0",), {"all": photos})
    found = {f["id"]: f for f in photo_findings(data, facts_of(data, lambda n, words: None))}
    dark = found["dark-range"]  # which --range would refuse
    assert ("--range" in dark["detail"], "save it with 8 bits" in dark["examples"][0]["words"]) == (False, True)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_photo(format: str, orientation: int) -> None:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(out, format, exif=exif)
    size, flags = facts_in_header(out.getvalue())
    assert size == decode(out.getvalue(), "x").size == ((30, 40) if orientation >= 5 else (40, 30))
    assert flags == (BIT["exif-rotated"] if orientation > 1 else 0)


def test_one_pass_opens_each_photo_once_and_keeps_little(tmp_path: Path) -> None:
    opened, images = [], [scene(i, 60, 80) for i in range(6)]

    def content(id: int) -> Image.Image:
        opened.append(id)
        return images[id]

    photos = replace(in_memory({"all": images}).split("all"), content=content, in_memory=False)
    facts = facts_of(DataSet("x", ("0",), {"all": photos}), lambda n, words: None)
    assert duplicates(facts).members == []
    assert sorted(opened) == list(range(6))
    assert facts.table.nbytes == 6 * 37
    assert not facts.reasons


@pytest.mark.parametrize(
    ("a", "b"), [("Cat", "cat"), ("cat ", "cat"), ("ice-cream", "ice_cream"), ("Ice Cream", "ice-cream"), ("é", "é")]
)
def test_names_that_mean_the_same(a: str, b: str) -> None:
    assert plain_name(a) == plain_name(b)
    assert plain_name(a) != plain_name("cats")
