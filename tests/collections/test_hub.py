"""Folders that the `datasets` library reads: photos, parquet, saved tables, shards of ours and of others."""

from __future__ import annotations

import gc
import io
import json
import socket
import subprocess
import sys
import tarfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from verydeep.cli import main
from verydeep.data.naming import natural
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.errors import DataError, PhotoError

datasets = pytest.importorskip("datasets", reason="needs the extra `data`")
text, number = datasets.Value("string"), datasets.Value("int64")
ROWS = 6


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a folder must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def photo(i: int) -> bytes:
    """Photos of growing width, so that each tells its row."""
    out = io.BytesIO()
    Image.new("RGB", (20 + i, 30)).save(out, "PNG")
    return out.getvalue()


def table(image: str = "image", **columns: Any) -> Any:
    features = {image: datasets.Image()} | {name: feature for name, (feature, _) in columns.items()}
    given = {image: [{"bytes": photo(i), "path": f"{i}.png"} for i in range(ROWS)]}
    values = given | {name: v for name, (_, v) in columns.items()}
    return datasets.Dataset.from_dict(values, datasets.Features(features))


def label(values: Any = (0, 1, 2, 0, 1, 2)) -> tuple[Any, list[int]]:
    return datasets.ClassLabel(names=["b", "a", "c"]), list(values)


def saved(tmp_path: Path, **splits: Any) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    return f"hub:{tmp_path / 'saved'}"


def test_a_folder_of_photos(photo_folder: Path) -> None:
    found, folder = open_data(f"hub:{photo_folder}"), open_data(str(photo_folder)).split("all")
    assert sorted(found.classes) == ["1", "10", "2"]
    photos = found.split("train")
    truth = {folder.keys[i]: (folder.content(i), ("1", "2", "10")[folder.targets()[i]]) for i in range(36)}
    assert {photos.keys[i]: (photos.content(i), found.classes[photos.targets()[i]]) for i in range(36)} == truth
    divided = open_data(f"hub:{photo_folder}", (0.2, 0.2))
    assert {s: len(p) for s, p in divided.splits.items()} == {"train": 30, "val": 6}
    (photo_folder / "1" / "0.png").unlink()
    with pytest.raises(PhotoError, match=r"hub:.*: 1/0.png: cannot be read \(No such file"):
        photos.open(list(photos.keys).index("1/0.png"))


def test_our_shards_are_read_by_the_library(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "split" / split).symlink_to(photo_folder)
    assert main(["pack", str(tmp_path / "split"), "--out", str(tmp_path / "shards" / "f-%05d.tar")]) == 0
    found, ours = open_data(f"hub:{tmp_path / 'shards'}"), open_data(str(tmp_path / "shards" / "f-*.tar"))
    for split, photos in ours.splits.items():
        other = found.split(split)
        truth = {photos.content(i): ours.classes[photos.targets()[i]] for i in range(36)}
        assert {other.content(i): found.classes[other.targets()[i]] for i in range(36)} == truth
    raw = datasets.load_dataset(str(tmp_path / "shards"), split="validation")
    assert raw[0]["jpg"].size
    assert raw[0]["json"]["label"] in ("1", "2", "10")


def webdataset(folder: Path, small: list[dict[str, object]], endings: tuple[str, ...], form: int) -> None:
    """Shards for training and validation as others pack them, each with a photo for every line of small files."""
    folder.mkdir()
    for split in ("train", "val"):
        with tarfile.open(folder / f"web-{split}-000.tar", "w", format=form) as archive:
            for i, texts in enumerate(small):
                files = {endings[i % len(endings)]: photo(i)}
                files |= {e: (json.dumps(said) if e == "json" else str(said)).encode() for e, said in texts.items()}
                for ending, content in files.items():
                    info = tarfile.TarInfo(f"part/{'ö' * 90}{i}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


WEB: dict[str, tuple[list[dict[str, object]], str, list[str]]] = {
    "numbers": ([{"cls": 12}, {"cls": 7}, {"cls": 12}], "JPG", ["12", "7", "12"]),
    "names": ([{"cls": i, "json": {"label": c, "size": i}} for i, c in enumerate("bab")], "png", ["b", "a", "b"]),
    "numbers in JSON": ([{"json": {"class": c}, "txt": "a cat"} for c in (11, 3, 3)], "jpeg", ["11", "3", "3"]),
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", WEB)
def test_shards_of_others_are_read_and_packed(name: str, form: int, tmp_path: Path) -> None:
    small, ending, labels = WEB[name]
    webdataset(tmp_path / "web", small, (ending,), form)
    assert main(["pack", f"hub:{tmp_path / 'web'}", "--out", str(tmp_path / "ours" / "f-%05d.tar")]) == 0
    for data in (f"hub:{tmp_path / 'web'}", str(tmp_path / "ours" / "f-*.tar")):
        found = open_data(data)
        assert list(found.splits) == ["train", "val"]
        assert list(found.classes) == sorted(set(labels), key=natural)
        for photos in found.splits.values():
            assert [photos.content(i) for i in range(3)] == [photo(i) for i in range(3)]
            assert [found.classes[c] for c in photos.targets()] == labels


@pytest.mark.parametrize(
    ("small", "endings", "expected"),
    [
        ([{"cls": "cat"}] * 3, ("png",), "cannot be opened .*'cat'"),
        ([{"txt": "cat"}] * 3, ("png",), "has no column of classes"),
        ([{"json": {"labels": ["a", "b"]}}] * 3, ("png",), "has no column of classes"),
        ([{"cls": 1}] * 3, ("png", "jpg"), "cannot be opened .*the same types"),
        ([{"cls": 1}] * 6 + [{}], ("png",), "1 photo of the split 'train' has no label"),
    ],
)
def test_shards_of_others_that_cannot_be_used_are_explained(
    small: list[dict[str, object]], endings: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    webdataset(tmp_path / "web", small, endings, tarfile.PAX_FORMAT)
    with pytest.raises(DataError, match=expected):
        open_data(f"hub:{tmp_path / 'web'}")


def test_a_photo_that_claims_to_be_huge_is_not_unpacked(tmp_path: Path) -> None:
    """A sparse file of half a kilobyte may say that it has terabytes, which the library would allocate."""
    webdataset(tmp_path / "web", [{"cls": 1}] * 6, ("png",), tarfile.PAX_FORMAT)
    claim = {"GNU.sparse.name": "x.png", "GNU.sparse.size": str(1 << 28), "GNU.sparse.map": f"0,0,{1 << 28},0"}
    with tarfile.open(tmp_path / "web" / "web-val-001.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("x.png")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", **claim}
        archive.addfile(info)
    with pytest.raises(DataError, match=r"web-val-001.tar holds a sparse file, .x.png"):
        open_data(f"hub:{tmp_path / 'web'}")


def test_parquet(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for split in ("train", "validation"):
        table(label=label()).to_parquet(str(tmp_path / "p" / f"{split}-00000-of-00001.parquet"))
    found = open_data(f"hub:{tmp_path / 'p'}")
    assert (found.classes, list(found.splits)) == (("b", "a", "c"), ["train", "val"])
    assert list(found.split("val").keys) == [f"val/{i}.png" for i in range(ROWS)]
    train = found.split("train")
    assert train.targets().tolist() == [0, 1, 2, 0, 1, 2]
    with ThreadPoolExecutor(8) as pool:  # the table is read by many threads at once
        assert list(pool.map(lambda i: train.open(i % ROWS).width, range(300))) == [20 + i % ROWS for i in range(300)]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata(name: str, tmp_path: Path) -> None:
    """Texts have a newer type there; a class with its number beside it is one class; splits are told of."""

    def opened(*columns: str, **words: str) -> Any:
        rows = [{"file_name": f"{i}.png", **{c: words.get(c, "{c}").format(c="bac"[i % 3], n=i % 3) for c in columns}}
                for i in range(ROWS)]  # fmt: skip
        text = "\n".join(map(json.dumps, rows))
        if name == "metadata.csv":
            text = "\n".join(",".join(row) for row in (rows[0], *(row.values() for row in rows)))
        folder = tmp_path / "_".join(columns)
        folder.mkdir()
        (folder / name).write_text(text + "\n")
        for i in range(ROWS):
            (folder / f"{i}.png").write_bytes(photo(i))
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            found = open_data(f"hub:{folder}")
            gc.collect()  # the library leaves the list open
        return found

    for columns in (("label",), ("breed",), ("Species",), ("class_id", "class"), ("label", "split")):
        found = opened(*columns, class_id="{n}", split="train")
        assert [found.classes[t] for t in found.split("train").targets()] == list("bacbac")
        said = "\n".join(data_lines(found))
        assert ("the classes are those of 'class'; 'class_id' says the same" in said) == ("class" in columns)
        assert ("the column 'split' of hub:" in said) == ("split" in columns)
    assert opened("target", target="{n}.0").classes == ("0", "1", "2")
    with pytest.raises(DataError, match=r"2 columns of classes \(category, breed\); expected"):
        opened("category", "breed", category="x{n}", breed="y")


COLUMNS = {
    "names": ({"label": (text, ["2", "10", "2", "x", "x", "10"])}, ("2", "10", "x"), [0, 1, 0, 2, 2, 1]),
    "numbers": ({"cls": (number, [7, 12, 7, 7, 7, 7])}, ("7", "12"), [0, 1, 0, 0, 0, 0]),
    "one of two classes": ({"label": label(), "breed": label()}, ("b", "a", "c"), [0, 1, 2, 0, 1, 2]),
    "a class of any name": ({"breed": label(), "label": (text, ["x"] * 6)}, ("b", "a", "c"), [0, 1, 2, 0, 1, 2]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_column_of_classes_is_found(name: str, tmp_path: Path) -> None:
    columns, classes, targets = COLUMNS[name]
    found = open_data(saved(tmp_path, train=table(**columns)))
    assert (found.classes, found.split("train").targets().tolist()) == (classes, targets)


def test_a_test_without_labels_is_left_out(tmp_path: Path) -> None:
    found = open_data(saved(tmp_path, train=table(label=label()), test=table(label=label([-1] * 6))))
    assert list(found.splits) == ["train"]


def test_one_split_of_another_name_is_all_photos(tmp_path: Path) -> None:
    found = open_data(saved(tmp_path, full=table(label=label())), (0.5, 0.0))
    assert {s: len(p) for s, p in found.splits.items()} == {"train": 3, "val": 3}


def test_selected_rows_are_those_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table may come with a list of chosen rows instead of a copy of them."""
    chosen = datasets.DatasetDict(train=table(label=label()).select([5, 1, 0]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: chosen)
    found = open_data(f"hub:{tmp_path}").split("train")
    assert [found.open(i).width for i in range(3)] == [25, 21, 20]
    assert found.targets().tolist() == [2, 1, 0]


def test_the_same_name_twice_gives_rows(tmp_path: Path) -> None:
    both = datasets.concatenate_datasets([table(label=label()), table(label=label())])
    keys = list(open_data(saved(tmp_path, train=both)).split("train").keys)
    assert (keys[0], keys[-1], len(set(keys))) == ("train/000000", "train/000011", 12)


labelled = {"label": label()}
WRONG: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "no image": ({"train": {"right": (number, [1] * 6), **labelled}}, "has 0 image columns"),
    "two images": ({"train": {"left": (datasets.Image(), [None] * 6), **labelled}}, "has 2 image columns"),
    "no label": ({"train": {"size": (number, [1] * 6)}}, "has no column of classes; expected one ClassLabel"),
    "two labels": (
        {"train": {"kind": label(), "breed": label([0, 1, 2, 2, 1, 0])}},
        r"has 2 columns of classes \(kind, breed\)",
    ),
    "a label missing": ({"train": {"label": label([0, 1, -1, 0, 1, 2])}}, "1 photo of the split 'train' has no label"),
    "no label at all": ({"train": {"label": label([-1] * 6)}}, "none of its photos has a label"),
    "another split": ({"train": labelled, "extra": labelled}, "the split 'extra' beside train"),
    "a split twice": ({"val": labelled, "valid": labelled}, "two splits that mean the same: val, valid"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_explained(name: str, tmp_path: Path) -> None:
    splits, expected = WRONG[name]
    where = saved(tmp_path, **{split: table("right", **columns) for split, columns in splits.items()})
    with pytest.raises(DataError, match=expected):
        open_data(where)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_folder_that_is_missing_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(DataError, match="does not exist; expected a folder, or OWNER/NAME from the hub"):
        open_data(f"hub:{name}")


def test_a_folder_without_photos_is_explained(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be opened"):
        open_data(f"hub:{tmp_path / 'empty'}")


def test_the_library_speaks_as_before_and_says_nothing_itself(
    photo_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = datasets.logging.get_verbosity()
    open_data(f"hub:{photo_folder}")
    assert capfd.readouterr() == ("", "")
    assert datasets.logging.get_verbosity() == level
    assert not datasets.are_progress_bars_disabled()


def test_without_the_library_the_remedy_is_named() -> None:
    script = "import sys; sys.modules['datasets'] = None; from verydeep.cli import main; main(['check', 'hub:x/y'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'verydeep[data]'" in done.stderr
