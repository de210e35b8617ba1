"""The development kit of 2012 alone: its ground truth, and its meta.mat as SciPy writes it."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from verydeep.contract import class_key
from verydeep.data.naming import imagenet_classes
from verydeep.data.source import open_data
from verydeep.errors import DataError

scipy_io = pytest.importorskip("scipy.io")

FIELDS = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")
KIT_FOX, SETTER, TISSUE = "n02119789", "n02100735", "n15075141"  # the kit's 1, 2 and 1000
TRUTH = (1000, 1, 2, 1)
GROUND = "ILSVRC2012_validation_ground_truth.txt"
NAMES = [f"ILSVRC2012_val_{i:08d}" for i in range(1, 5)]


def numbers() -> dict[str, int]:
    """Synset -> number of all 1,860, the classes' in no order of their synsets."""
    others = [s for s in imagenet_classes() if s not in (KIT_FOX, SETTER, TISSUE)]
    random.Random(5).shuffle(others)
    above = [f"n00{i:06d}" for i in range(860)]
    return {s: i for i, s in enumerate([KIT_FOX, SETTER, *others, TISSUE, *above], 1)}


def rows(kind: type[np.number[Any]] = np.float64) -> list[list[Any]]:
    """A struct's values, in an order of their own: an ID counts, not its place."""
    chance, found = random.Random(6), []
    for synset, number in numbers().items():
        children = [] if number <= 1000 else chance.sample(range(1, 1861), 3)
        counts = (number, len(children), chance.randrange(19), 1300 if number <= 1000 else 0)
        own, many, *others = (np.array([[n]], kind) for n in counts)
        gloss = "" if chance.random() < 0.1 else "small gray fox of the plains; café " * chance.randrange(1, 6)
        found.append([own, synset, "kit fox, Vulpes macrotis", gloss, many, np.array([children], kind), *others])
    chance.shuffle(found)
    return found


def mat(found: Any, fields: Sequence[str] = FIELDS, name: str = "synsets", compressed: bool = True) -> bytes:
    structs = np.empty((len(found), 1), [(field, object) for field in fields])
    for i, row in enumerate(found):
        structs[i, 0] = tuple(row)
    scipy_io.savemat(file := io.BytesIO(), {name: structs}, do_compression=compressed)
    return file.getvalue()


@functools.cache
def honest(compressed: bool) -> bytes:
    return mat(rows(), compressed=compressed)


def changed(column: int, change: dict[int, Any]) -> bytes:
    """The IDs and synsets alone, with other values in a column by the ID of the row."""
    found = rows()
    for row in found:
        if (number := int(row[0].item())) in change:
            row[column] = change[number]
    return mat([row[:2] for row in found], FIELDS[:2])


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """The kit's folder beside four photos, without meta.mat."""
    for name in NAMES:
        (tmp_path / "ILSVRC2012_img_val").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(tmp_path / "ILSVRC2012_img_val" / f"{name}.JPEG")
    folder = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    (folder / GROUND).write_text("".join(f"{n}\n" for n in TRUTH))
    return folder


def synsets_of(kit: Path) -> list[str]:
    data = open_data(str(kit.parent.parent))
    return [class_key(data.classes[t]) for t in data.split("val").targets()]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [np.float64, np.uint16, np.int32])
def test_the_kit_needs_nothing_beside_it(kit: Path, kind: type[np.number[Any]], compressed: bool) -> None:
    (kit / "meta.mat").write_bytes(mat(rows(kind), compressed=compressed))
    data = open_data(str(kit.parent.parent))
    assert [class_key(data.classes[t]) for t in data.split("val").targets()] == [TISSUE, KIT_FOX, SETTER, KIT_FOX]
    assert list(data.split("val").keys) == [f"ILSVRC2012_img_val/{n}.JPEG" for n in NAMES]
    assert list(data.classes) == [f"{s} {name}" for s, name in imagenet_classes().items()]


def test_every_number_is_its_synset(kit: Path) -> None:
    """All 1,000, and more than are there; with Windows' line ends."""
    (kit / "meta.mat").write_bytes(honest(True))
    place = {number: synset for synset, number in numbers().items()}
    for first in range(1, 1000, 333):
        (kit / GROUND).write_bytes(b"".join(b"%d\r\n" % n for n in range(first, 1001)))
        assert synsets_of(kit) == [place[first + i] for i in range(4)]


def test_the_map_of_a_later_kit_comes_first(kit: Path) -> None:
    (kit / "meta.mat").write_bytes(b"damaged")
    (kit.parent.parent / "devkit" / "data").mkdir(parents=True)
    lines = f"{TISSUE} 1000 tissue\n{KIT_FOX} 1 kit_fox\n{SETTER} 2 setter\n"
    (kit.parent.parent / "devkit" / "data" / "map_clsloc.txt").write_text(lines)
    assert synsets_of(kit) == [TISSUE, KIT_FOX, SETTER, KIT_FOX]


def said(kit: Path) -> str:
    with pytest.raises(DataError) as error:
        open_data(str(kit.parent.parent))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700 + 3 * len(str(kit))
    return str(error.value)


NOT_ALL = "it has other classes"
HDF5 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n"
DAMAGED = {
    "empty": (lambda: b"", "empty"),
    "7.3": (lambda: HDF5, "it is no MATLAB 5 file of a little-endian machine; save it again with -v7"),
    "text": (lambda: b"<html>404</html>" * 99, "it is no MATLAB 5 file"),
    "header alone": (lambda: honest(True)[:128], "KeyError('synsets')"),
    "other variable": (lambda: mat(rows()[:9], name="sets"), "KeyError('synsets')"),
    "other fields": (lambda: mat(rows()[:9], ("ILSVRC2010_ID", *FIELDS[1:])), "KeyError('ILSVRC2012_ID')"),
    "no synsets": (lambda: mat([row[:1] for row in rows()[:9]], FIELDS[:1]), "KeyError('WNID')"),
    "one struct": (lambda: mat(rows()[:1]), "TypeError"),
    "a number as text": (lambda: changed(0, {7: "7"}), "AttributeError"),
    "two numbers": (lambda: changed(0, {7: np.array([[7.0, 8.0]])}), "array of size 1"),
    "a synset as number": (lambda: changed(1, {7: 7.0}), NOT_ALL),
    "no number": (lambda: changed(0, {7: np.array([[np.nan]])}), NOT_ALL),
    "no end": (lambda: changed(0, {7: np.array([[np.inf]])}), NOT_ALL),
    "a fraction": (lambda: changed(0, {7: np.array([[7.5]])}), NOT_ALL),
    "from 0": (lambda: changed(0, {i: np.array([[i - 1]]) for i in range(1, 1861)}), NOT_ALL),
    "twice": (lambda: changed(1, {7: KIT_FOX}), NOT_ALL),
    "none of them": (lambda: changed(1, {7: "n09999999"}), NOT_ALL),
    "999": (lambda: mat([row[:2] for row in rows() if row[0] != 1000], FIELDS[:2]), NOT_ALL),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_wrong_with_meta_mat_is_said_in_one_line(kit: Path, case: str) -> None:
    write, expected = DAMAGED[case]
    (kit / "meta.mat").write_bytes(write())
    error = said(kit)
    assert f"{kit / 'meta.mat'}: " in error
    assert expected in error
    assert "; expected structs `synsets` with ILSVRC2012_ID and WNID of all classes; unpack the kit again" in error


@pytest.mark.parametrize("compressed", [True, False])
def test_a_cut_file_is_refused_wherever_it_ends(kit: Path, compressed: bool) -> None:
    data, chance = honest(compressed), random.Random(1)
    for length in (1, 127, 128, 132, 136, 150, 400, len(data) - 1, *(chance.randrange(len(data)) for _ in range(12))):
        (kit / "meta.mat").write_bytes(data[:length])
        assert "meta.mat: " in said(kit)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_byte_is_refused_or_changes_no_class(kit: Path, compressed: bool) -> None:
    chance = random.Random(2)
    for _ in range(12):
        data = bytearray(honest(compressed))
        data[chance.choice((chance.randrange(128, len(data)), chance.randrange(128, 1500)))] ^= chance.randrange(1, 256)
        (kit / "meta.mat").write_bytes(data)
        try:
            assert synsets_of(kit) == [TISSUE, KIT_FOX, SETTER, KIT_FOX]
        except DataError:
            said(kit)


WRONG = {
    "1\n1001\n2\n1\n": f"line 2 of {GROUND} says '1001'; expected a class from 1 to 1000 for each",
    "1\n2\n0\n1\n": f"line 3 of {GROUND} says '0'; expected a class from 1 to 1000",
    "1\n-2\n2\n1\n": f"line 2 of {GROUND} says '-2'",
    "1\n\n2\n1\n1\n": f"line 2 of {GROUND} says ''",
    "1 2\n2\n1\n1\n": f"line 1 of {GROUND} says '1 2'",
    "1\n" * 50_001: f"line 50001 of {GROUND} says '1'; expected a class from 1 to 1000 for each of 50,000 photos",
    "": f"line 1 of {GROUND} says ''",
    "1\n2\n1\n": "ILSVRC2012_val_00000004 is not in the list of validation photos",
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items())
def test_a_wrong_ground_truth_is_named(kit: Path, text: str, expected: str) -> None:
    (kit / "meta.mat").write_bytes(honest(True))
    (kit / GROUND).write_text(text)
    assert expected in said(kit)


def test_a_ground_truth_of_all_photos_serves_some(kit: Path) -> None:
    (kit / "meta.mat").write_bytes(honest(True))
    (kit / GROUND).write_text("".join(f"{n}\n" for n in TRUTH) + "3\n" * 49_996 + "\n\n")
    assert synsets_of(kit) == [TISSUE, KIT_FOX, SETTER, KIT_FOX]


@pytest.mark.parametrize("line", ["n02119789", "1 n02119789 kit_fox"])
def test_a_line_of_the_map_that_is_none_is_named(kit: Path, line: str) -> None:
    (kit / "map_clsloc.txt").write_text(f"{TISSUE} 1000 tissue\n{line}\n")
    assert f"map_clsloc.txt has '{line}'; expected lines such as 'n02119789 1'" in said(kit)
