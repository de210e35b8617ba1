"""A folder of descriptors: what it holds, how it goes on, and what it refuses.

What one rank does, or a process that is killed: ... test_folder.py ROOT OUT [KILLED_AT].
"""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from seen import noisy_photos, small

import verydeep
from verydeep.cli import main
from verydeep.describe import describer, folder
from verydeep.errors import ConfigError, DataError, Interrupted, ModelError, RunError
from verydeep.files import disk

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
TAPS = ("conv1_1", "pool3", "fc7")
WAYS = {
    "the descriptor": {},
    "maps": {"taps": TAPS, "pool": "none"},
    "components": {"taps": TAPS, "pool": "pca:3"},
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A model, eleven photos of which two are bad, and blocks of two of them."""
    monkeypatch.setattr(describer, "BATCHES", 1)
    monkeypatch.setattr(describer, "BATCH", 2)
    monkeypatch.setattr(folder, "SAVE_SECONDS", 0.0)
    small().save(tmp_path / "a.safetensors")
    return tmp_path, noisy_photos(tmp_path / "photos", 11, bad=[2, 3])


def describe(root, photos, out="out", **how):
    return verydeep.describe(
        str(root / "a.safetensors"), photos, out=root / out, **{"workers": 0, "device": "cpu"} | how
    )


def content(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.name != ".lock"}


def test_a_folder_holds_a_row_for_each_photo_and_says_how_they_were_made(made):
    root, photos = made
    record = describe(root, [str(root / "photos")], taps=TAPS, pool="none", scales="32,36", several="stack")
    assert record == {
        "folder": str(root / "out"), "photos": 11, "errors": 2, "files": [str(root / "out" / f"{t}.npy") for t in TAPS],
    }  # fmt: skip
    rows = {tap: np.load(root / "out" / f"{tap}.npy", mmap_mode="r") for tap in TAPS}
    assert {tap: r.shape for tap, r in rows.items()} == {
        "conv1_1": (11, 2 * 4 * 32 * 32), "pool3": (11, 2 * 16 * 4 * 4), "fc7": (11, 24),
    }  # fmt: skip
    for r in rows.values():
        assert r.dtype == np.float32
        assert np.isnan(r).all(1).tolist() == np.isnan(r).any(1).tolist() == [i in (2, 3) for i in range(11)]
    with (root / "out" / "photos.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [r["photo"] for r in listed] == photos
    assert [int(r["row"]) for r in listed if "is not a JPEG" in r["error"]] == [2, 3]
    said = json.loads((root / "out" / "contract.json").read_text())
    assert said["models"] == [str(root / "a.safetensors")]
    assert (said["taps"], said["pool"], said["at"], said["photos"]) == (list(TAPS), "none", [[32, 36]], 11)
    assert said["contracts"][0]["crop"] == 32
    assert not said["mirror"]
    assert not said["normalise"]
    assert len(said["sha256"][0]) == 64


def test_a_photo_has_the_same_row_whatever_stands_beside_it(made):
    """Of the same block or another; so that a bad photo changes no other row."""
    root, photos = made
    describe(root, photos)
    describe(root, [*photos[4:6], photos[3], *photos[9:]], "some")
    rows, some = np.load(root / "out" / "descriptor.npy"), np.load(root / "some" / "descriptor.npy")
    assert np.isnan(some[2]).all()
    assert np.allclose(np.delete(some, 2, 0), rows[[4, 5, 9, 10]], rtol=1e-5)
    assert np.linalg.norm(rows[[0, 10]], axis=1) == pytest.approx(1, rel=1e-6)


def test_the_descriptors_of_two_nets_stand_one_behind_the_other(made):
    root, photos = made
    small("B", seed=1, fc_width=9).save(root / "b.safetensors")
    describe(root, photos, "both", second=str(root / "b.safetensors"))
    describe(root, photos, "one")
    verydeep.describe(str(root / "b.safetensors"), photos, out=root / "two", device="cpu")
    both, one, two = (np.load(root / name / "descriptor.npy") for name in ("both", "one", "two"))
    assert both == pytest.approx(np.concatenate([one, two], 1) / np.sqrt(2), rel=1e-5, abs=1e-6, nan_ok=True)
    assert len(verydeep.similar(root / "both", photos[:1], device="cpu")[0]["similar"]) == 5


@pytest.mark.parametrize("way", WAYS)
def test_what_is_interrupted_goes_on_to_the_same_bytes(made, monkeypatch, way):
    root, photos = made
    describe(root, photos, "whole", **WAYS[way])
    opened, real = [], describer.opened

    def interrupted(name, reading):
        opened.append(name)
        if len(opened) in (3, 8, 14):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(name, reading)

    monkeypatch.setattr(describer, "opened", interrupted)
    for _ in range(3):
        with pytest.raises(Interrupted, match="repeat the command to go on") as e:
            describe(root, photos, **WAYS[way])
        assert e.value.exit_code == 143
    describe(root, photos, **WAYS[way])
    fits = 11 if way == "components" else 0
    assert len(opened) < 11 + fits + 3 * 5  # a few photos of a block are opened again
    assert content(root / "out") == content(root / "whole")
    assert {p.name for p in (root / "out").iterdir()} - {".lock"} == set(content(root / "whole"))
    before = len(opened)
    assert describe(root, photos, **WAYS[way])["errors"] == 2
    assert len(opened) == before  # finished


def test_what_is_killed_goes_on_to_the_same_bytes(made):
    root, photos = made
    describe(root, photos[:9], "whole", taps=TAPS)
    command = [sys.executable, __file__, root, root / "out", "4"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert json.loads((root / "out" / "state.json").read_text())["rows"] == 6
    assert not (root / "out" / "photos.csv").exists()
    with pytest.raises(RunError, match="not finished; 'verydeep describe' makes it and goes on"):
        verydeep.similar(root / "out", photos[:1])
    describe(root, photos[:9], taps=TAPS)
    assert content(root / "out") == content(root / "whole")


def test_several_ranks_write_what_one_writes(made):
    root, photos = made
    describe(root, photos[:9], "whole", taps=TAPS)  # five blocks
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, __file__, root, root / "out"], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["errors"] == 2  # one rank speaks
    assert content(root / "out") == content(root / "whole")


def test_a_folder_of_something_else_is_refused_with_what_differs(made):
    root, photos = made
    describe(root, photos)
    small(seed=1).save(root / "b.safetensors")
    other = {
        "sha256": lambda: verydeep.describe(str(root / "b.safetensors"), photos, out=root / "out", device="cpu"),
        "photos (11 then, 10 now)": lambda: describe(root, photos[:10]),
        "photos_sha256": lambda: describe(root, [*photos[1:], photos[0]]),
        "pool ('mean' then, 'max' now)": lambda: describe(root, photos, pool="max"),
        "at ([[32]] then, [[40]] now)": lambda: describe(root, photos, scales="40"),
        "mirror (True then, False now)": lambda: describe(root, photos, mirror=False),
        "taps (['descriptor'] then, ['fc7'] now)": lambda: describe(root, photos, taps=("fc7",)),
    }
    before = content(root / "out")
    for words, begin in other.items():
        with pytest.raises(RunError, match="was begun otherwise: ") as e:
            begin()
        assert words in str(e.value)
    (root / "a.safetensors").rename(root / "moved.safetensors")  # the same model
    assert verydeep.describe(str(root / "moved.safetensors"), photos, out=root / "out", device="cpu")["photos"] == 11
    assert content(root / "out") == before
    with pytest.raises(RunError, match=r"already holds \d\d.png and no descriptors"):
        verydeep.describe(str(root / "moved.safetensors"), photos, out=root / "photos")
    with pytest.raises(RunError, match="cannot be created"):
        verydeep.describe(str(root / "moved.safetensors"), photos, out=root / "moved.safetensors")
    with disk.locked(root / "out" / ".lock"), pytest.raises(RunError, match="in use by another describe"):
        verydeep.describe(str(root / "moved.safetensors"), photos, out=root / "out", device="cpu")


def test_what_made_no_row_yet_may_begin_otherwise(made):
    root, photos = made
    with pytest.raises(ConfigError, match=r"pca:9 of pool5 needs more than 9 photos .* try pca:8"):
        describe(root, photos, taps=("pool5",), pool="pca:9")
    describe(root, photos, taps=("pool5",), pool="pca:8")
    assert np.load(root / "out" / "pool5.npy").shape == (11, 8)
    assert np.load(root / "out" / "pool5.basis.npy").shape == (9, 32)


def test_wrong_words_are_explained(made, monkeypatch):
    root, photos = made
    wrong = {
        "no layer 'conv31'; did you mean conv3_1?": {"taps": ("conv31",)},
        "pool: 'median' is not one of none, mean, max, pca:256": {"pool": "median"},
        "pool: 'pca:0' is not": {"pool": "pca:0"},
        "maps of a mirror image run the other way": {"pool": "none", "mirror": True},
        "Q = 20 is smaller than the crop of 32": {"scales": "20"},
        "standard input cannot be read again": {"photos": ["-"]},
    }
    for words, how in wrong.items():
        with pytest.raises(ConfigError) as e:
            describe(root, how.pop("photos", photos), **how)
        assert words in str(e.value)
        assert not (root / "out").exists()
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: Disk(1000))
    with pytest.raises(RunError, match=r"the rows take 0.0 GB and the disk has 0.0; name fewer --taps"):
        describe(root, photos, taps=("conv1_1",), pool="none")
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: Disk(1_000_000))
    with pytest.raises(RunError, match=r"the rows take 0.0 GB"):  # a few numbers a row, and the components
        describe(root, photos, taps=("conv1_1",), pool="pca:200")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photos"):
        describe(root, [str(root / "empty")])
    with pytest.raises(ModelError, match="nowhere does not exist"):
        verydeep.describe("nowhere", photos, out=root / "out")


@pytest.mark.parametrize("first", ["torch", "openvino", "onnxruntime"])
def test_a_folder_goes_on_with_the_engine_that_began_it(made, first, monkeypatch):
    pytest.importorskip(first)
    root, photos = made
    describe(root, photos, "whole", engine=first)
    with monkeypatch.context() as patched:
        patched.setattr(folder.Signals, "stop", signal.SIGTERM)
        with pytest.raises(Interrupted):
            describe(root, photos, engine=first)
    describe(root, photos)
    assert (root / "out" / "descriptor.npy").read_bytes() == (root / "whole" / "descriptor.npy").read_bytes()
    other = "torch" if first == "onnxruntime" else "onnxruntime"
    with pytest.raises(RunError, match="repeat the first command"):
        describe(root, photos, engine=other)


class Disk:
    def __init__(self, free):
        self.free = free


def test_a_net_that_is_not_what_it_seems_is_named(made, capsys):
    root, photos = made
    small(task="SCR").save(root / "boxes.safetensors")
    origin = "a toolkit; FC layers random"
    net = small(origin=origin)
    with torch.no_grad():
        net.net.conv3_1.weight += 1e3 * net.net.conv3_1.weight[:, :, 1:2, 1:2]  # as if photos had taught it
    net.save(root / "half.safetensors")
    with torch.no_grad():
        net.net.fc6.weight[0, 0] = np.inf
    net.save(root / "inf.safetensors")
    heard = {}
    for name in ("a", "boxes", "half", "inf"):
        out, status = root / name, main(
            ["describe", str(root / f"{name}.safetensors"), *photos[:1], "--out", str(root / name), "--engine", "torch"]
        )  # fmt: skip
        assert status == (name == "inf")
        heard[name] = capsys.readouterr().err
        assert np.isnan(np.load(out / "descriptor.npy")).all() == (name == "inf")
    assert "does not look as if it had learnt: like random weights" in heard["a"]
    assert "says where things are, not what" in heard["boxes"]
    assert "the FC layers of" in heard["half"]
    assert "has weights that are not finite" in heard["inf"]
    assert "1 of the photos could not be described" in heard["inf"]
    assert "some of its features are no finite numbers" in (root / "inf" / "photos.csv").read_text()


def alone(root, out, writes=0):
    """As one rank does; killed before the state is written for this time."""
    describer.BATCHES, describer.BATCH, folder.SAVE_SECONDS = 1, 2, 0.0
    real, left = disk.write_text, [writes]

    def write_text(path, text):
        if path.name == "state.json":
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), signal.SIGKILL)
        real(path, text)

    disk.write_text = write_text if writes else real
    photos = [str(path) for path in sorted((root / "photos").iterdir())[:9]]
    words = ["--taps", ",".join(TAPS), "--workers", "0", "--device", "cpu", "--json"]
    main(["describe", str(root / "a.safetensors"), *photos, "--out", str(out), *words])


if __name__ == "__main__":
    torch.set_num_threads(1)
    alone(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
