"""Folders that the `datasets` library reads: photos, parquet, saved tables, and the shards that we pack."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verydeep.data.source import open_data
from verydeep.errors import DataError, PhotoError
from verydeep.progress import Progress
from verydeep.shards.packing import Settings, pack

datasets = pytest.importorskip("datasets", reason="needs the extra `data`")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a folder must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def table(rows: int = 6, image: str = "image", **columns: Any) -> Any:
    """Photos of growing width, so that each tells its row."""
    import io

    from PIL import Image

    def photo(i: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (20 + i, 30)).save(out, "PNG")
        return out.getvalue()

    features = {image: datasets.Image()} | {name: feature for name, (feature, _) in columns.items()}
    given = {image: [{"bytes": photo(i), "path": f"{i}.png"} for i in range(rows)]} | {
        name: v for name, (_, v) in columns.items()
    }
    return datasets.Dataset.from_dict(given, datasets.Features(features))


def label(names: tuple[str, ...] = ("b", "a", "c"), values: Any = (0, 1, 2, 0, 1, 2)) -> tuple[Any, list[int]]:
    return datasets.ClassLabel(names=list(names)), list(values)


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
    gone = photos.keys.block.tobytes().decode().split("\0").index("1/0.png")
    with pytest.raises(PhotoError, match=r"hub:.*: 1/0.png: cannot be read \(No such file"):
        photos.open(gone)


def test_our_shards_are_read_by_the_library(photo_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / "split").mkdir(exist_ok=True)
        (tmp_path / "split" / split).symlink_to(photo_folder)
    pack(str(tmp_path / "split"), str(tmp_path / "shards" / "f-%05d.tar"), Settings(), progress=Progress("none"))
    found, ours = open_data(f"hub:{tmp_path / 'shards'}"), open_data(str(tmp_path / "shards" / "f-*.tar"))
    for split, photos in ours.splits.items():
        other = found.split(split)
        truth = {photos.content(i): ours.classes[photos.targets()[i]] for i in range(36)}
        assert {other.content(i): found.classes[other.targets()[i]] for i in range(36)} == truth
    raw = datasets.load_dataset(str(tmp_path / "shards"), split="validation")
    assert raw[0]["jpg"].size
    assert raw[0]["json"]["label"] in ("1", "2", "10")


def test_parquet(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / "p").mkdir(exist_ok=True)
        table(label=label()).to_parquet(str(tmp_path / "p" / f"{split}-00000-of-00001.parquet"))
    found = open_data(f"hub:{tmp_path / 'p'}")
    assert found.classes == ("b", "a", "c")
    assert list(found.splits) == ["train", "val"]
    assert list(found.split("val").keys) == [f"val/{i}.png" for i in range(6)]
    assert found.split("train").targets().tolist() == [0, 1, 2, 0, 1, 2]
    assert [found.split("train").open(i).width for i in range(6)] == list(range(20, 26))


COLUMNS = {
    "names": (
        {"label": (datasets.Value("string"), ["2", "10", "2", "x", "x", "10"])},
        ("2", "10", "x"),
        [0, 1, 0, 2, 2, 1],
    ),
    "numbers": ({"cls": (datasets.Value("int64"), [7, 12, 7, 7, 7, 7])}, ("7", "12"), [0, 1, 0, 0, 0, 0]),
    "one of two classes": ({"label": label(), "breed": label()}, ("b", "a", "c"), [0, 1, 2, 0, 1, 2]),
    "a class of any name": (
        {"breed": label(), "label": (datasets.Value("string"), ["x"] * 6)},
        ("b", "a", "c"),
        [0, 1, 2, 0, 1, 2],
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_column_of_classes_is_found(name: str, tmp_path: Path) -> None:
    columns, classes, targets = COLUMNS[name]
    found = open_data(saved(tmp_path, train=table(**columns)))
    assert (found.classes, found.split("train").targets().tolist()) == (classes, targets)


def test_a_test_without_labels_is_left_out(tmp_path: Path) -> None:
    found = open_data(saved(tmp_path, train=table(label=label()), test=table(label=label(values=[-1] * 6))))
    assert list(found.splits) == ["train"]


def test_one_split_of_another_name_is_all_photos(tmp_path: Path) -> None:
    found = open_data(saved(tmp_path, full=table(label=label())), (0.5, 0.0))
    assert {s: len(p) for s, p in found.splits.items()} == {"train": 3, "val": 3}


def test_selected_rows_are_those_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table may come with a list of chosen rows instead of a copy of them."""
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_: datasets.DatasetDict(train=table(label=label()).select([5, 1, 0]))
    )
    found = open_data(f"hub:{tmp_path}").split("train")
    assert [found.open(i).width for i in range(3)] == [25, 21, 20]
    assert found.targets().tolist() == [2, 1, 0]


def test_the_same_name_twice_gives_rows(tmp_path: Path) -> None:
    both = datasets.concatenate_datasets([table(label=label()), table(label=label())])
    keys = list(open_data(saved(tmp_path, train=both)).split("train").keys)
    assert (keys[0], keys[-1], len(set(keys))) == ("train/000000", "train/000011", 12)


WRONG = {
    "no image": ({"train": lambda: table(image="x", label=label()).remove_columns("x")}, "has 0 image columns"),
    "two images": (
        {"train": lambda: table(image="left", label=label(), right=(datasets.Image(), table()["image"]))},
        "has 2 image columns",
    ),
    "no label": (
        {"train": lambda: table(size=(datasets.Value("int64"), [1] * 6))},
        "has no column of classes; expected one ClassLabel",
    ),
    "two labels": ({"train": lambda: table(left=label(), right=label())}, r"has 2 columns of classes \(left, right\)"),
    "some labels missing": (
        {"train": lambda: table(label=label(values=[0, 1, -1, 0, 1, 2]))},
        "1 photo of the split 'train' has no label",
    ),
    "all labels missing": ({"train": lambda: table(label=label(values=[-1] * 6))}, "none of its photos has a label"),
    "another split": (
        {"train": lambda: table(label=label()), "extra": lambda: table(label=label())},
        "the split 'extra' beside train",
    ),
    "a split twice": (
        {"val": lambda: table(label=label()), "validation": lambda: table(label=label())},
        "two splits that mean val",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_explained(name: str, tmp_path: Path) -> None:
    splits, expected = WRONG[name]
    where = saved(tmp_path, **{split: make() for split, make in splits.items()})
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


def test_threads_read_what_one_reads(tmp_path: Path) -> None:
    photos = open_data(saved(tmp_path, train=table(label=label()))).split("train")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: photos.open(i % 6).width, range(300)))
    assert found == [20 + i % 6 for i in range(300)]
    assert photos.targets().dtype == np.int64


def test_the_library_speaks_as_before_and_says_nothing_itself(
    photo_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = datasets.logging.get_verbosity()
    open_data(f"hub:{photo_folder}")
    assert capfd.readouterr() == ("", "")
    assert datasets.logging.get_verbosity() == level
    assert not datasets.are_progress_bars_disabled()


def test_without_the_library_the_remedy_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['datasets'] = None\n"
        "from verydeep.data.source import open_data\n"
        "from verydeep.errors import DataError\n"
        "try: open_data('hub:x/y')\n"
        "except DataError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'verydeep[data]'" in done.stdout
