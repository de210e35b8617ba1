from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from verydeep.cli import main
from verydeep.config import Config
from verydeep.data.source import open_data
from verydeep.doctor.examine import check, text
from verydeep.errors import DataError, PhotoError
from verydeep.progress import Progress
from verydeep.train.prepare import run_training

QUIET = Progress("none")


def picture(seed: int, size: tuple[int, int] = (300, 280)) -> Image.Image:
    """Big coloured blocks, another for every seed."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def defects(tmp_path: Path) -> Path:
    """One of each."""
    root = tmp_path / "defects"
    for split, n in (("train", 24), ("val", 4)):
        for c, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                picture(1000 * c + 100 * (split == "val") + i).save(root / split / name / f"{i}.png")
    cat, dog, val = root / "train" / "cat", root / "train" / "dog", root / "val" / "cat"
    whole = (cat / "0.png").read_bytes()
    (cat / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "words.jpg").write_text("not a photo at all, but some words")
    Image.fromarray(np.zeros((40, 40), np.float32)).save(cat / "float.tif")
    picture(1).save(cat / "wide.bmp")
    header = bytearray((cat / "wide.bmp").read_bytes())
    header[18:26] = np.array([60_000, 60_000], "<i4").tobytes()
    (cat / "wide.bmp").write_bytes(header)
    picture(2001).convert("CMYK").save(cat / "cmyk.jpg", quality=95)
    ramp = np.linspace(0, 65535, 300 * 280).reshape(280, 300).astype(np.uint16)
    Image.fromarray(ramp).save(cat / "deep.png")
    clear = picture(2002).convert("RGBA")
    clear.putalpha(128)
    clear.save(cat / "clear.png")
    picture(2003).save(cat / "moving.gif", save_all=True, append_images=[picture(2004)])
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(2005).save(cat / "turned.jpg", exif=turned, quality=95)
    picture(2006, (20, 24)).save(cat / "tiny.png")
    picture(2007, (100, 120)).save(cat / "small.png")
    picture(2008, (6000, 4100)).save(cat / "huge.jpg", quality=60)
    picture(2009, (2600, 300)).save(cat / "long.png")
    shutil.copy(dog / "1.png", dog / "same.png")
    picture(1002).resize((150, 140)).save(dog / "resized.jpg", quality=85)
    shutil.copy(dog / "3.png", root / "val" / "dog" / "leak.png")
    shutil.copy(dog / "4.png", cat / "contradiction.png")
    for name in ("Cat", " bird", "wolf"):
        (root / "train" / name).mkdir()
        picture(3000 + len(name)).save(root / "train" / name / "one.png")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    shutil.copy(dog / "5.png", root / "train" / ".ipynb_checkpoints" / "5.png")
    (root / "train" / "fox").mkdir()
    (root / "train" / "hare").mkdir()
    (root / "train" / "hare" / "notes.txt").write_text("none yet")
    (root / "train" / "owl").mkdir()
    shutil.copy(dog / "6.png", root / "train" / "loose.png")
    (dog / "elsewhere").symlink_to(val, target_is_directory=True)
    (val / "read.me").write_text("words")
    return root


WANTED = {
    "truncated": "train/cat/truncated.png", "empty-file": "train/cat/empty.jpg", "no-photo": "train/cat/words.jpg",
    "unreadable": "train/cat/float.tif", "too-big": "train/cat/wide.bmp", "cmyk": "train/cat/cmyk.jpg", "16-bit": "train/cat/deep.png",
    "alpha": "train/cat/clear.png", "animated": "train/cat/moving.gif", "exif-rotated": "train/cat/turned.jpg",
    "tiny": "train/cat/tiny.png", "small": "train/cat/small.png", "huge": "train/cat/huge.jpg", "long": "train/cat/long.png",
    "exact-duplicates": "train/dog/same.png", "near-duplicates": "train/dog/resized.jpg", "leak": "val/dog/leak.png",
    "contradiction": "train/cat/contradiction.png", "label-typo": "'Cat' / 'cat'", "spaced-name": "' bird'",
    "hidden": "train/.ipynb_checkpoints", "empty-class": "train/fox (nothing in it)", "loose-photos": "train/loose.png",
    "links": "train/dog/elsewhere", "not-photos": ".txt (1)", "imbalance": "wolf (1)", "few-photos": "wolf (1)",
    "missing-from-split": "wolf (no val photo)", "grey": "train/cat/deep.png",
}  # fmt: skip
ALONE = {"truncated", "empty-file", "no-photo", "unreadable", "too-big", "cmyk", "16-bit", "alpha", "animated", "exif-rotated", "tiny",
         "huge", "long", "hidden", "links", "loose-photos", "label-typo", "spaced-name"}  # fmt: skip


def by_id(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["id"]: f for f in record["findings"]}


def test_one_of_each_defect_is_found_by_name_and_in_every_form(
    defects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["check", str(defects), "--json", "--page", str(page)]) == 0
    record = json.loads(capsys.readouterr().out)
    found = by_id(record)
    assert set(found) == set(WANTED)
    for id, name in WANTED.items():
        assert name in [e["name"] for e in found[id]["examples"]], id
    assert {id: found[id]["count"] for id in ALONE} == dict.fromkeys(ALONE, 1)
    assert {found[id]["count"] for id in ("exact-duplicates", "near-duplicates", "leak", "contradiction")} == {2}
    assert [e["name"] for e in found["empty-class"]["examples"]] == [
        "train/fox (nothing in it)", "train/hare (1 other files)", "train/owl (nothing in it)"
    ]  # fmt: skip
    said, shown = text(record), page.read_text(encoding="utf-8")
    for f in record["findings"]:
        assert re.search(rf"^  {f['id']} +{f['count']:,} ", said, re.MULTILINE), f["id"]
        assert f'id="{f["id"]}"' in shown
        assert f["will"]
    assert said.splitlines()[-1] == f"{record['verdict']['words']}."
    severities = [f["severity"] for f in record["findings"]]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert not record["verdict"]["trains"]
    assert record["verdict"]["with_skip"]


TINY = {
    "net": "A", "crop": 32, "scale": 36, "fc_width": 8, "base_width": 4, "batch": 16, "epochs": 1, "precision": "fp32", "device": "cpu",
}  # fmt: skip


def test_train_does_what_check_says(defects: Path, tmp_path: Path) -> None:
    record = check(str(defects), progress=QUIET)
    bad = {e["name"] for f in record["findings"] if f["severity"] == "error" for e in f["examples"]}
    assert len(bad) == 5
    with pytest.raises(PhotoError) as stopped:
        run_training(str(defects), Config(**TINY), tmp_path / "stops", progress=QUIET)
    assert any(name in str(stopped.value) for name in bad)
    run_training(str(defects), Config(**TINY, bad_photos="skip"), tmp_path / "skips", progress=QUIET)
    with (tmp_path / "skips" / "skipped.csv").open(encoding="utf-8", newline="") as lines:
        assert {row[0] for row in csv.reader(lines)} == bad
    classes = json.loads((tmp_path / "skips" / "run.json").read_text())["classes"]
    assert classes == [c["name"] for c in record["classes"]]
    assert {"Cat", "cat", " bird"} <= set(classes)
    assert not {".ipynb_checkpoints", "fox", "hare"} & set(classes)
    photos = open_data(str(defects)).split("train")
    named = {key: i for i, key in enumerate(photos.keys)}
    assert "train/loose.png" not in named
    for name, size in (
        ("cmyk.jpg", (300, 280)),
        ("clear.png", (300, 280)),
        ("turned.jpg", (280, 300)),
        ("moving.gif", (300, 280)),
    ):
        assert (photos.open(named[f"train/cat/{name}"]).mode, photos.open(named[f"train/cat/{name}"]).size) == (
            "RGB",
            size,
        )
    assert photos.open(named["train/cat/deep.png"]).getextrema()[0] == (0, 255)


def test_clean_photos_train(photo_folder: Path, tmp_path: Path) -> None:
    record = check(str(photo_folder), progress=QUIET)
    assert record["verdict"] == {"trains": True, "with_skip": True, "words": "'verydeep train' would run"}
    assert record["photos"] == {"all": 36}
    assert not [f for f in record["findings"] if f["severity"] == "error"]
    run_training(str(photo_folder), Config(**TINY), tmp_path / "run", progress=QUIET)


def test_copies_that_the_drawn_split_would_tear_apart_are_told(photo_folder: Path) -> None:
    for i in range(12):
        shutil.copy(photo_folder / "1" / f"{i}.{'jpg' if i % 2 else 'png'}", photo_folder / "1" / f"copy{i}.png")
    found = by_id(check(str(photo_folder), progress=QUIET))["exact-duplicates"]
    told = int(re.search(r"would put (\d+) of them on both sides", found["detail"])[1])  # type: ignore[index]
    drawn = open_data(str(photo_folder), (0.1, 0.1), 0)
    where = {key: split for split, photos in drawn.splits.items() for key in photos.keys}
    pairs = [(f"1/{i}.{'jpg' if i % 2 else 'png'}", f"1/copy{i}.png") for i in range(12)]
    assert told == sum(where[a] != where[b] for a, b in pairs) > 0


def test_a_class_with_photos_only_in_a_manifest_s_val_stops_training(photo_folder: Path, tmp_path: Path) -> None:
    lines = [f"1/{2 * i}.png,a,train" for i in range(6)] + [
        f"2/{2 * i}.png,{'b' if i else 'c'},{'val' if i < 2 else 'train'}" for i in range(6)
    ]
    (photo_folder / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    record = check(str(photo_folder / "list.csv"), progress=QUIET)
    assert by_id(record)["missing-from-train"]["examples"] == [{"name": "c"}]
    with pytest.raises(DataError, match="'c' has no training photo"):
        run_training(str(photo_folder / "list.csv"), Config(**TINY), tmp_path / "run", progress=QUIET)
    assert "the class 'c' has no training photo" in record["verdict"]["words"]


def test_photos_with_several_labels_are_checked_and_said_not_to_train(photo_folder: Path) -> None:
    lines = [f"1/{2 * i}.png,{label}" for i in range(6) for label in ("a", "b")]
    (photo_folder / "list.csv").write_text("\n".join(["path,label", *lines]))
    record = check(str(photo_folder / "list.csv"), progress=QUIET)
    assert record["classes"] == [{"name": "a", "photos": {"all": 6}}, {"name": "b", "photos": {"all": 6}}]
    assert "several labels" in record["verdict"]["words"]


def test_data_that_cannot_be_used_is_its_own_diagnosis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(1).save(tmp_path / "alone.png")
    assert main(["check", str(tmp_path)]) == 1
    assert "holds 1 photo but no class folders" in capsys.readouterr().err


def test_names_cannot_break_the_text_or_the_page(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "1" / "<b>two\nlines.png").write_bytes(b"")
    record = check(str(photo_folder), page=tmp_path / "page.html", progress=QUIET)
    assert "<b>two\\nlines.png" in text(record)
    assert "<b>two" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_mark_on_a_photo_is_enough_to_be_another(tmp_path: Path) -> None:
    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(3):
            photo = picture(ord(c) * 10)
            ImageDraw.Draw(photo).rectangle((80 * i, 40 * i, 80 * i + 90, 40 * i + 90), fill="white")
            photo.save(tmp_path / c / f"{i}.png")
    assert not {"exact-duplicates", "near-duplicates", "leak", "contradiction"} & set(
        by_id(check(str(tmp_path), progress=QUIET))
    )
