import csv
import io
import json
import re
import shutil
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from verydeep.cli import main, verb_names
from verydeep.config import Config
from verydeep.data.source import open_data
from verydeep.doctor import check, check_text
from verydeep.doctor.findings import KINDS, MOST_EXAMPLES
from verydeep.doctor.page import MOST_BARS, SHOWN
from verydeep.errors import DataError, PhotoError, RunError
from verydeep.progress import Progress
from verydeep.train.prepare import run_training

QUIET = Progress("none")


@cache
def verb_help(verb: str) -> str:
    with redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
        main([verb, "--help"])
    return shown.getvalue()


def picture(seed: int, size: tuple[int, int] = (300, 280)) -> Image.Image:
    """Big coloured blocks, another for every seed."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def defects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of each, where HEIC cannot be read."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
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
    Image.fromarray(np.full((40, 40), 7, np.float32)).save(cat / "float.tif")
    dark = np.linspace(0, 4095, 300 * 280).reshape(280, 300).astype(np.uint16)
    Image.fromarray(dark).save(cat / "dark.png")
    Image.new("RGBA", (300, 280), (255, 255, 255, 0)).save(cat / "drawing.png")
    srgb, whole_jpeg = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), io.BytesIO()
    other = srgb.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")  # red for green
    picture(2010).save(whole_jpeg, "JPEG", quality=90, icc_profile=other)
    (cat / "endless.jpg").write_bytes(whole_jpeg.getvalue()[:-2])
    picture(2011).save(cat / "badprofile.png", icc_profile=b"rubbish")
    (cat / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
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
    for name in ("fox", "hare", "owl"):
        (root / "train" / name).mkdir()
    (root / "train" / "hare" / "notes.txt").write_text("none yet")
    shutil.copy(dog / "6.png", root / "train" / "loose.png")
    (dog / "elsewhere").symlink_to(val, target_is_directory=True)
    (val / "read.me").write_text("words")
    return root


IN_CAT = {
    "truncated": "truncated.png", "empty-file": "empty.jpg", "no-photo": "words.jpg", "unreadable": "float.tif",
    "too-big": "wide.bmp", "cmyk": "cmyk.jpg", "16-bit": "deep.png", "alpha": "clear.png", "animated": "moving.gif",
    "exif-rotated": "turned.jpg", "tiny": "tiny.png", "small": "small.png", "huge": "huge.jpg", "long": "long.png",
    "contradiction": "contradiction.png", "grey": "deep.png", "dark-range": "dark.png", "one-colour": "drawing.png",
    "no-end": "endless.jpg", "profile": "endless.jpg", "bad-profile": "badprofile.png", "needs-extra": "phone.heic",
}  # fmt: skip
WANTED = {id: f"train/cat/{name}" for id, name in IN_CAT.items()} | {
    "exact-duplicates": "train/dog/same.png", "near-duplicates": "train/dog/resized.jpg", "leak": "val/dog/leak.png",
    "label-typo": "'Cat' / 'cat'", "spaced-name": "' bird'", "hidden": "train/.ipynb_checkpoints",
    "empty-class": "train/fox", "loose-photos": "train/loose.png", "links": "train/dog/elsewhere",
    "not-photos": "1 .me", "imbalance": "wolf (1)", "few-photos": "wolf (1)",
    "missing-from-split": "wolf (no val photo)",
}  # fmt: skip
ALONE = {*IN_CAT, "hidden", "links", "loose-photos", "label-typo", "spaced-name"} - {
    "small",
    "grey",
    "contradiction",
    "16-bit",
    "alpha",
}


def by_id(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["id"]: f for f in record["findings"]}


def test_one_of_each_defect_is_found_by_name_and_in_every_form(defects: Path, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    assert main(["check", str(defects), "--json", "--page", str(page)]) == 1  # training would stop
    record = json.loads(capsys.readouterr().out)
    found = by_id(record)
    assert set(found) == set(WANTED)
    for id, name in WANTED.items():
        assert name in [e["name"] for e in found[id]["examples"]], id
    assert {id: found[id]["count"] for id in ALONE} == dict.fromkeys(ALONE, 1)
    assert {found[id]["count"] for id in ("exact-duplicates", "near-duplicates", "leak", "contradiction")} == {2}
    empty = ["train/fox", "train/hare with 1 other file", "train/owl"]
    assert [e["name"] for e in found["empty-class"]["examples"]] == empty
    said, shown = check_text(record), page.read_text(encoding="utf-8")
    for f in record["findings"]:
        assert re.search(rf"^  {f['id']} +{f['count']:,} ", said, re.MULTILINE), f["id"]
        assert f'id="{f["id"]}"' in shown
        assert f["will"]
    assert said.splitlines()[-1] == f"{record['verdict']['words']}."
    severities = [f["severity"] for f in record["findings"]]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert not record["verdict"]["trains"]
    assert record["verdict"]["with_skip"]


TINY: Any = {"net": "A", "crop": 32, "scale": 36, "fc_width": 8, "base_width": 4, "batch": 16, "epochs": 1}
TINY |= {"precision": "fp32", "device": "cpu"}


def test_train_does_what_check_says(defects: Path, tmp_path: Path) -> None:
    record = check(str(defects), progress=QUIET)
    bad = {e["name"] for f in record["findings"] if f["severity"] == "error" for e in f["examples"]}
    assert len(bad) == 6
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
    for name, size in (("cmyk.jpg", (300, 280)), ("clear.png", (300, 280)), ("turned.jpg", (280, 300))):
        photo = photos.open(named[f"train/cat/{name}"])
        assert (photo.mode, photo.size) == ("RGB", size)
    assert photos.open(named["train/cat/deep.png"]).getextrema()[0] == (0, 255)


def test_clean_photos_train(photo_folder: Path, tmp_path: Path) -> None:
    record = check(str(photo_folder), progress=QUIET)
    assert record["verdict"] == {"trains": True, "with_skip": True, "words": "'verydeep train' would run"}
    assert record["photos"] == {"all": 36}
    assert not [f for f in record["findings"] if f["severity"] == "error"]
    run_training(str(photo_folder), Config(**TINY), tmp_path / "run", progress=QUIET)


def test_torn_copies_are_counted_among_all_groups_not_only_those_that_are_named(tmp_path: Path) -> None:
    for name, numbers in (("a", range(700)), ("b", range(800, 803))):
        (tmp_path / name).mkdir()
        for i in numbers:
            picture(i, (16, 16)).save(tmp_path / name / f"{i}.png")
    for i in range(700):
        shutil.copy(tmp_path / "a" / f"{i}.png", tmp_path / "a" / f"{i}-copy.png")
    found = by_id(check(str(tmp_path), progress=QUIET))["exact-duplicates"]
    assert (found["groups"], found["count"], len(found["examples"])) == (700, 1400, MOST_EXAMPLES)
    where = {key: split for split, photos in open_data(str(tmp_path), (0.1, 0.1)).splits.items() for key in photos.keys}
    torn = sum(where[f"a/{i}.png"] != where[f"a/{i}-copy.png"] for i in range(700))
    assert f"would put {torn} of them on both sides" in found["detail"]


def test_every_option_that_is_named_is_one_of_the_verb_named_with_it(defects: Path) -> None:
    record = check(str(defects), progress=QUIET)
    said = [record["verdict"]["words"], *(words for k in KINDS.values() for words in k.values())]
    named = [option for words in said for option in re.findall(r"(?:(\w+) )?--(\w+)", words)]
    assert len(named) >= 5
    for verb, option in named:
        assert verb in verb_names(), f"--{option} of no verb"
        assert f"--{option} " in verb_help(verb), f"{verb} has no --{option}"


def test_a_class_with_photos_only_in_a_manifest_s_val_stops_training(photo_folder: Path, tmp_path: Path) -> None:
    lines = [f"1/{2 * i}.png,a,train" for i in range(6)]
    lines += [f"2/{2 * i}.png,{'b' if i else 'c'},{'val' if i < 2 else 'train'}" for i in range(6)]
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
    assert "<b>two\\nlines.png" in check_text(record)
    assert "<b>two" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_mark_on_a_photo_is_enough_to_be_another(tmp_path: Path) -> None:
    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(3):
            photo = picture(ord(c) * 10)
            ImageDraw.Draw(photo).rectangle((80 * i, 40 * i, 80 * i + 90, 40 * i + 90), fill="white")
            photo.save(tmp_path / c / f"{i}.png")
    found = by_id(check(str(tmp_path), progress=QUIET))
    assert not {"exact-duplicates", "near-duplicates", "leak", "contradiction"} & set(found)


def test_the_page_stands_alone_and_shows_copies_side_by_side(photo_folder: Path, tmp_path: Path) -> None:
    shutil.copy(photo_folder / "1" / "0.png", photo_folder / "2" / "copy.png")
    record = check(str(photo_folder), page=tmp_path / "page.html", progress=QUIET)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page)
    assert re.findall("<script.*?>", page) == ['<script type="application/json" id="mending">', "<script>"]
    section = page.split('id="contradiction"')[1].split("</section>")[0]
    assert [section.count(some) for some in ("<img", "1/0.png", "2/copy.png")] == [2, 3, 3]
    assert page.count('<table class="bars">') == 3
    small = page.split('id="small"')[1].split("</section>")[0]
    assert small.count("<img") == SHOWN < by_id(record)["small"]["count"]
    assert record["verdict"]["words"].replace("'", "&#39;") in page
    with pytest.raises(RunError, match="cannot be saved"):
        check(str(photo_folder), page=tmp_path / "nowhere" / "page.html", progress=QUIET)


def test_many_classes_make_a_page_of_bounded_height(tmp_path: Path) -> None:
    for i in range(MOST_BARS + 10):
        (tmp_path / f"c{i}").mkdir()
        picture(i, (8, 8)).save(tmp_path / f"c{i}" / "0.png")
    check(str(tmp_path), page=tmp_path / "page.html", progress=QUIET)
    bars = (tmp_path / "page.html").read_text(encoding="utf-8").split('<table class="bars">')[1].split("</table>")[0]
    assert bars.count("<tr>") == MOST_BARS


def plant(root: Path, *names: str) -> Path:
    """Photos under these names, all different, and other files where they are called otherwise."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            picture(crc32(name.encode()), (64, 64)).save(root / name)
        else:
            (root / name).write_text("x")
    return root


PETS = [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(8)]
SPLITS = [f"{split}/{name}" for split in ("train", "val") for name in PETS]


@pytest.mark.parametrize("around", ["", "train/"])
def test_what_is_passed_over_is_said_once(tmp_path: Path, around: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = plant(tmp_path / "pets", *(SPLITS if around else PETS), f"{around}loose.png", "elsewhere/9.png")
    (tmp_path / "pets" / "elsewhere").rename(tmp_path / "elsewhere")
    plant(root / around, "cat/1.psd", "cat/2.pdf", ".secret/1.png", "dog/.apart", "wolf/1.png", "hare/notes.txt")
    (root / around / "owl").mkdir()
    (root / around / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / around / "dog" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    once = ("loose.png", ".psd", ".pdf", ".secret", ".apart", "wolf (1)", "hare", "owl", "linked", "gone.jpg")
    assert {name: said.count(name) for name in once} == dict.fromkeys(once, 1)
    assert main(["check", str(root), "--json"]) == 0
    assert "passed over" not in "".join(json.loads(capsys.readouterr().out)["notes"])


def test_what_a_list_tells_of_classes_and_groups_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path, *PETS, "wolf/1.png", "wolf/2.png", "wolf/3.png")
    rows = [f"{name},{name[:3]},{'test' if '7' in name else 'train'},patient-{name[4]}" for name in PETS]
    rows += [f"wolf/{i}.png,wolf,train,patient-{1 if i == 1 else 7}" for i in (1, 2, 3)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split,patient", *rows]))
    main(["check", str(tmp_path / "list.csv")])
    said = capsys.readouterr().out
    once = {"wolf (no test photo)", "stand in several splits"}
    assert {words: said.count(words) for words in once} == dict.fromkeys(once, 1)
    assert "have no test photo" not in said


def test_one_range_is_advised_for_photos_of_different_depths(tmp_path: Path) -> None:
    """12 bits as a dim photo and as a bright one; beside one of 16 bits no single range serves."""
    for i, top in enumerate((1023, 4095, 900, 4000)):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        ramp = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(np.uint16)
        Image.fromarray(ramp).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    found = by_id(check(str(tmp_path), progress=QUIET))["dark-range"]
    assert found["count"] == 4
    assert re.findall(r"--range \S+", json.dumps(found)) == ["--range 0,4095`"]
    Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)).save(tmp_path / "a" / "deep.png")
    found = by_id(check(str(tmp_path), progress=QUIET))["dark-range"]
    assert re.findall(r"--range \S+", json.dumps(found)) == ["--range auto`"]
    assert "10 to 16 bits" in found["detail"]
