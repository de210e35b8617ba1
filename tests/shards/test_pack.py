"""The verb `pack`: the same bytes twice, nothing half done, and the same numbers from shards as from the folder."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.train.tiny import config, make_photos, metrics
from verydeep.cli import main
from verydeep.data.record import Photos
from verydeep.data.source import open_data
from verydeep.doctor.boxes import boxes_drawn
from verydeep.errors import ConfigError, DataError, PhotoError
from verydeep.evaluate.models import evaluate_models
from verydeep.progress import Progress
from verydeep.shards.index import read_index
from verydeep.shards.packing import Packing, pack, sample_of
from verydeep.shards.write import Writer
from verydeep.train.prepare import run_training


def packed(data: Path | str, out: Path, **changes: Any) -> dict[str, Any]:
    return pack(str(data), str(out), Packing()._replace(**changes), progress=Progress("none"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_packing_twice_gives_the_same_bytes(photo_folder: Path, tmp_path: Path) -> None:
    for name, workers in (("a", 0), ("b", 4)):
        packed(photo_folder, tmp_path / name / "f-%05d.tar", workers=workers)
    packed(photo_folder, tmp_path / "c" / "f-%05d.tar", seed=1)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys() == {"f-00000.tar", "f.index"}
    assert a["f-00000.tar"] != c["f-00000.tar"]
    first, third = (open_data(str(tmp_path / name / "f-*.tar")) for name in "ac")
    assert first.fingerprint() == third.fingerprint()
    assert (tmp_path / "a" / "f.index").stat().st_mode == (tmp_path / "a" / "f-00000.tar").stat().st_mode


def test_shards_are_of_the_size_asked_for_and_hold_all_classes(tmp_path: Path) -> None:
    record = packed("builtin:fashion-mini", tmp_path / "f-%03d.tar", shard_mb=2)
    assert len(record["shards"]) > 5
    assert record["photos"] == {"train": 6000, "val": 1000, "test": 1000}
    index = read_index(tmp_path / "f.index")
    assert [s.name for s in index.shards[:2]] == ["f-train-000.tar", "f-train-001.tar"]
    assert index.shards[-1].name.startswith("f-test-")
    assert all(2e6 <= s.bytes < 2.01e6 for s in index.shards[:2])
    for n in range(len(index.shards)):
        assert len(set(np.asarray(index.labels)[index.shard == n].tolist())) == 10
    given, found = open_data("builtin:fashion-mini"), open_data(str(tmp_path / "f-%03d.tar"))
    assert found.fingerprint() == given.fingerprint()
    for id in (0, 17, 999):
        assert found.split("test").open(id).tobytes() == given.split("test").open(id).tobytes()


def test_training_and_testing_on_shards_give_the_numbers_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_photos(tmp_path / "photos")
    shards = str(tmp_path / "shards" / "f-*.tar")
    packed(folder, tmp_path / "shards" / "f-%05d.tar", shard_mb=1)
    found = {}
    for name, data in (("folder", folder), ("shards", shards)):
        run = tmp_path / f"run-{name}"
        run_training(data, config(), run, progress=Progress("none"))
        capsys.readouterr()
        assert main(["evaluate", str(run), data, "--split", "val", "--json"]) == 0
        results = json.loads(capsys.readouterr().out)["results"]
        same = ("photos", "top1_errors", "top5_errors", "confusion", "mistakes", "sha256")
        found[name] = metrics(run), [{k: r[k] for k in same} for r in results]
    assert found["folder"] == found["shards"]
    assert len(found["shards"][1]) == 2


def test_training_on_undivided_shards_keeps_the_split_of_the_folder(photo_folder: Path, tmp_path: Path) -> None:
    packed(photo_folder, tmp_path / "f.tar")
    for name, data in (("folder", str(photo_folder)), ("shards", str(tmp_path / "f.tar"))):
        run_training(data, config(val_share=0.2, test_share=0.2), tmp_path / name, progress=Progress("none"))
    assert metrics(tmp_path / "folder") == metrics(tmp_path / "shards")
    assert (tmp_path / "folder" / "split.csv").read_text() == (tmp_path / "shards" / "split.csv").read_text()
    kept = open_data(str(tmp_path / "f.tar"), split=tmp_path / "shards" / "split.csv")
    assert kept.fingerprint() == open_data(str(photo_folder), (0.2, 0.2)).fingerprint()


def test_a_net_trained_on_a_folder_is_tested_on_the_photos_it_held_out_of_its_shards(
    photo_folder: Path, tmp_path: Path
) -> None:
    """Without them all photos would count, those that it was trained on too."""
    run = tmp_path / "run"
    run_training(str(photo_folder), config(epochs=1), run, progress=Progress("none"))
    packed(photo_folder, tmp_path / "f-%03d.tar")
    folder, shards = (evaluate_models([str(run)], data) for data in (str(photo_folder), str(tmp_path / "f-*.tar")))
    for name in ("split", "photos", "right", "confusion"):
        assert [result[name] for result in folder] == [result[name] for result in shards]
    assert folder[0]["split"] == "test"
    (photo_folder / "1" / "0.png").unlink()
    packed(photo_folder, tmp_path / "g-%03d.tar")
    assert evaluate_models([str(run)], str(tmp_path / "g-*.tar"))[0]["split"] == "all"


def test_rescaling_once(photo_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 300), "red").save(photo_folder / "1" / "long.png")
    Image.new("RGB", (31, 31), "red").save(photo_folder / "1" / "small.png")
    lines = [json.dumps({"path": f"1/{n}.png", "label": "1", "box": [16, 75, 32, 150]}) for n in ("long", "small")]
    (photo_folder / "m.jsonl").write_text("\n".join([*lines, '{"path": "2/0.png", "label": "2"}']))
    record = packed(photo_folder / "m.jsonl", tmp_path / "f-%05d.tar", smallest_side=32)
    assert (record["smallest_side"], record["rescaled"]) == (32, 2)
    assert read_index(tmp_path / "f.index").smallest_side == 32
    photos = open_data(str(tmp_path / "f-*.tar")).split("all")
    whole = open_data(str(photo_folder / "m.jsonl")).split("all")
    long, small = (list(photos.keys).index(f"1/{n}.png") for n in ("long", "small"))
    assert photos.open(long).size == (32, 150)
    assert photos.record(long).boxes == ((8.0, 37.5, 16.0, 75.0),)
    assert photos.record(small).boxes == ((16.0, 75.0, 32.0, 150.0),)
    assert photos.content(small) == whole.content(small)
    with Image.open(io.BytesIO(photos.content(long))) as jpeg:  # type: ignore[arg-type]
        assert jpeg.format == "JPEG"
        assert {layer[1:3] for layer in jpeg.layer} == {(1, 1)}  # type: ignore[attr-defined]


def test_a_broken_photo_is_packed_as_it_is_and_fails_when_read(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "1" / "0.png").write_bytes((photo_folder / "1" / "0.png").read_bytes()[:200])
    (photo_folder / "1" / "1.jpg").write_bytes(b"")
    packed(photo_folder, tmp_path / "f-%05d.tar")
    photos, folder = open_data(str(tmp_path / "f-*.tar")).split("all"), open_data(str(photo_folder)).split("all")
    reasons = []
    for where in (photos, folder):
        for id in (0, 1):
            with pytest.raises(PhotoError) as caught:
                where.open(id)
            reasons.append((id, caught.value.reason))
    assert reasons[:2] == reasons[2:]


def test_a_photo_that_cannot_be_decoded_is_handled_when_rescaling(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "1" / "0.png").write_bytes(b"broken")
    with pytest.raises(PhotoError, match=r"1/0.png: is not a .* photo; repair or remove it, or add --bad_photos skip"):
        packed(photo_folder, tmp_path / "s" / "f-%05d.tar", smallest_side=32)
    assert not list((tmp_path / "s").iterdir())
    record = packed(photo_folder, tmp_path / "s" / "f-%05d.tar", smallest_side=32, bad_photos="skip")
    assert [e["photo"].rpartition("photos/")[2] for e in record["skipped"]] == ["1/0.png"]
    found = open_data(str(tmp_path / "s" / "f-*.tar")).split("all")
    assert list(found.keys) == [k for k in open_data(str(photo_folder)).split("all").keys if k != "1/0.png"]
    assert all(found.open(i).size for i in range(35))
    for path in photo_folder.rglob("*.*"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="not one photo of the split 'all' could be read"):
        packed(photo_folder, tmp_path / "t" / "f-%05d.tar", smallest_side=32, bad_photos="skip")


WRONG_OUT = {
    "s3://b/f-%05d.tar": "pack into a folder here",
    "f-{00000..00003}.tar": "the number of shards follows from --shard_mb",
    "f.index": "the number of shards follows",
    "folder": "names no shards",
    "f-%05d.tar.gz": "plain tar",
}


@pytest.mark.parametrize("out", WRONG_OUT)
def test_an_out_that_cannot_be_is_explained(
    out: str, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, DataError), match=WRONG_OUT[out]):
        pack(str(photo_folder), out, Packing(), progress=Progress("none"))
    assert list(tmp_path.iterdir()) == [photo_folder]


@pytest.mark.parametrize("there", ["f-00000.tar", "f-train-00007.tar", "f.index", "f.tar"])
def test_nothing_is_overwritten(there: str, photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name in (there, "other-00000.tar", "f-notes.txt"):
        (tmp_path / "s" / name).write_bytes(b"precious")
    with pytest.raises(DataError, match=f"{there} exists; remove the shards of an earlier pack"):
        packed(photo_folder, tmp_path / "s" / "f-%05d.tar")
    (tmp_path / "s" / there).unlink()
    packed(photo_folder, tmp_path / "s" / "f-%05d.tar")
    assert (tmp_path / "s" / "other-00000.tar").read_bytes() == b"precious"


def test_a_full_disk_leaves_nothing(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, count = Writer.put, [0]

    def full(self: Writer, *blocks: bytes) -> None:
        count[0] += 1
        if count[0] == 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, *blocks)

    monkeypatch.setattr(Writer, "put", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); nothing was left behind"):
        packed(photo_folder, tmp_path / "s" / "f-%05d.tar")
    assert not list((tmp_path / "s").iterdir())
    packed(photo_folder, tmp_path / "s" / "f-%05d.tar")


def test_an_interrupted_pack_leaves_no_index_and_can_be_repeated(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(photo_folder, tmp_path / "good" / "f-%05d.tar")
    with monkeypatch.context() as m:
        m.setattr(Photos, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["pack", str(photo_folder), "--out", str(tmp_path / "s" / "f-%05d.tar")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list((tmp_path / "s").iterdir())
    (tmp_path / "s" / ".f.packing").mkdir()  # as a killed one leaves it
    (tmp_path / "s" / ".f.packing" / "f-00000.tar").write_bytes(b"half")
    packed(photo_folder, tmp_path / "s" / "f-%05d.tar")
    assert contents(tmp_path / "s") == contents(tmp_path / "good")


def test_a_pack_killed_while_shards_are_moved_can_be_repeated(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verydeep.shards.packing.MB", 50_000)
    packed(photo_folder, tmp_path / "good" / "f-%05d.tar", shard_mb=1)
    shutil.copytree(tmp_path / "good", tmp_path / "s" / ".f.packing")
    (tmp_path / "s" / ".f.packing" / "f-00000.tar").rename(tmp_path / "s" / "f-00000.tar")
    assert not (tmp_path / "s" / "f.index").exists()
    packed(photo_folder, tmp_path / "s" / "f-%05d.tar", shard_mb=1)
    assert contents(tmp_path / "s") == contents(tmp_path / "good")
    assert len(contents(tmp_path / "s")) > 3


def test_a_pack_killed_while_its_index_is_written_can_be_repeated(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(_: object, file: Path) -> None:
        file.write_bytes(b"\x10\0\0\0\0\0\0\0{")
        shutil.copytree(tmp_path / "s", tmp_path / "as it was left")
        raise Killed

    with monkeypatch.context() as m:
        m.setattr("verydeep.shards.packing.save_index", killed)
        with pytest.raises(Killed):
            packed(photo_folder, tmp_path / "s" / "f-%05d.tar")
    packed(photo_folder, tmp_path / "as it was left" / "f-%05d.tar")
    packed(photo_folder, tmp_path / "good" / "f-%05d.tar")
    assert contents(tmp_path / "as it was left") == contents(tmp_path / "good")


def test_two_packs_do_not_meet(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s" / ".f.packing").mkdir(parents=True)
    handle = os.open(tmp_path / "s" / ".f.packing", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another pack is writing these shards"):
        packed(photo_folder, tmp_path / "s" / "f-%05d.tar")
    os.close(handle)
    packed(photo_folder, tmp_path / "s" / "f-%05d.tar")


def test_a_killed_pack_leaves_no_index(tmp_path: Path) -> None:
    out = str(tmp_path / "s" / "f-%05d.tar")
    command = [sys.executable, "-m", "verydeep", "pack", "builtin:fashion-mini", "--out", out, "--shard_mb", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    folder = tmp_path / "s" / ".f.packing"
    while process.poll() is None and not (folder / "f-train-00002.tar").exists():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [p.name for p in (tmp_path / "s").iterdir()] == [".f.packing"]
    record = packed("builtin:fashion-mini", tmp_path / "s" / "f-%05d.tar", shard_mb=1)
    assert {p.name for p in (tmp_path / "s").iterdir()} == {*(Path(s).name for s in record["shards"]), "f.index"}


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for i in range(40):
        (tmp_path / "photos" / "a" / f"{i}.jpg").write_bytes(bytes([i]) * 500_000)
    tracemalloc.start()
    packed(tmp_path / "photos", tmp_path / "f-%05d.tar", workers=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


def test_shards_of_shards_are_the_same_photos(photo_folder: Path, tmp_path: Path) -> None:
    packed(photo_folder, tmp_path / "a" / "f-%05d.tar")
    packed(tmp_path / "a" / "f-*.tar", tmp_path / "b" / "f-%05d.tar")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_command_line(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a" / "f-%05d.tar")
    assert main(["pack", str(photo_folder), "--out", out]) == 0
    said = capsys.readouterr().out
    assert "1 shard, 0.3 MB, photos: 36 in all" in said
    assert f"the index: {tmp_path}/a/f.index" in said
    assert main(["pack", str(photo_folder), "--out", out]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["pack", str(photo_folder), "--out", out.replace("/a/", "/b/"), "--smallest-side", "40", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["smallest_side"] == 40
    assert record["rescaled"] > 0
    for words in (["--shard_mb", "0"], ["--smallest_side", "0"]):
        assert main(["pack", str(photo_folder), "--out", out.replace("/a/", "/c/"), *words]) == 2


def test_boxes_of_a_jpeg_that_is_decoded_smaller_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed at a side, and drawn on the page of `check`: of 800 x 600 pixels half come."""
    Image.new("RGB", (800, 600), "white").save(tmp_path / "a.jpg")
    (tmp_path / "list.csv").write_text("path,label,box\na.jpg,cat,400 300 800 600\na.jpg,dog,0 0 80 60\n")
    monkeypatch.setattr("verydeep.data.limits.MEMORY", 1_000_000)
    photos = open_data(str(tmp_path / "list.csv")).split("all")
    assert photos.open(0).size != (800, 600)
    sample = sample_of(photos, 0, 60)
    assert Image.open(io.BytesIO(sample.content)).size == (80, 60)
    assert np.array([box for box, _ in sample.boxes]) == pytest.approx(np.array([[40, 30, 80, 60], [0, 0, 8, 6]]))
    drawn = boxes_drawn(photos).open(0)
    assert drawn.getpixel((drawn.width // 2, drawn.height * 3 // 4)) == (255, 0, 0)
