"""`evaluate` from end to end: runs and files, alone and fused, limits, what is kept, and what cannot be tested so."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from slow import evaluated, made, noise, noisy_folder

from verydeep.config import Config
from verydeep.data import builtin as fashion
from verydeep.data.record import Names, Photos
from verydeep.data.said import class_by_class
from verydeep.errors import ConfigError, DataError
from verydeep.evaluate import models
from verydeep.evaluate.classify import fused
from verydeep.evaluate.sample import check_fusible
from verydeep.evaluate.scores import unpack
from verydeep.evaluate.views import PROTOCOLS, Step
from verydeep.progress import Progress
from verydeep.train.prepare import run_training
from verydeep.verbs.evaluate import Evaluate

CLASSES = ("1", "2", "10", "x", "y", "z")
COUNTS = ("protocol", "scales", "photos", "top1_errors", "top5_errors", "confusion", "right", "tested")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """21 photos of three classes in one split."""
    return noisy_folder(tmp_path_factory.mktemp("data") / "photos", CLASSES[:3], 7)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two model files: other weights, other nets, other scales and another order of classes."""
    root = tmp_path_factory.mktemp("models")
    made(CLASSES, (36, 36), 0).save(root / "0.safetensors")
    made(CLASSES[::-1], (33, 45), 1, net="B").save(root / "1.safetensors")
    return [str(root / f"{n}.safetensors") for n in range(2)]


@pytest.fixture(scope="module")
def together(folder, files):
    return evaluated(files, folder, PROTOCOLS, "several")


def test_each_model_and_the_fusion_climb_the_ladder(together, files):
    found = together
    ladder, one, other = ("centre", "dense", *PROTOCOLS[1:]), [32, 36, 41], [33, 39, 45]
    scales = {files[0]: ([36], one), files[1]: ([39], other), " + ".join(files): ([36, 39], sorted(one + other))}
    assert [(r["model"], r["protocol"], r["scales"]) for r in found] == [
        (name, step, q) for name, (single, all) in scales.items()
        for step, q in zip(ladder, [single, single, all, all, all], strict=True)
    ]  # fmt: skip
    assert [r["passes"] for r in found[:1] + found[3:4]] == [1, 150]
    assert found[4]["passes"] == pytest.approx(found[2]["passes"] + 150, abs=0.002)
    assert found[-1]["passes"] == pytest.approx(found[4]["passes"] + found[9]["passes"], abs=0.002)
    assert [m["sha256"] for m in found[-1]["models"]] == [found[0]["sha256"], found[5]["sha256"]]
    assert all((r["average"], r["limit"], r["engine"], r["photos"]) == ("scores", None, "torch", 21) for r in found)
    assert found[-1]["classes"] == list(CLASSES)


def stubs(*orders):
    """Models of which nothing but the order of their classes is known."""
    return [
        SimpleNamespace(name=f"net {n}", contract=SimpleNamespace(classes=classes), steps={Step("dense"): ()})
        for n, classes in enumerate(orders)
    ]


def test_fusion_averages_by_hand_and_matches_classes_by_name_or_synset():
    synsets = ("n01440764 tench, Tinca tinca", "n01443537 goldfish"), ("n01443537", "n01440764")
    for orders, posteriors, expected in (
        (("abc", "cab"), ([0.7, 0.2, 0.1], [0.1, 0.3, 0.6]), [0.5, 0.4, 0.1]),
        (synsets, ([0.1, 0.9], [0.3, 0.7]), [0.4, 0.6]),
    ):
        check_fusible(nets := stubs(*orders))
        found = fused(nets, [{Step("dense"): torch.tensor([p])} for p in posteriors])
        assert found[Step("dense")].tolist()[0] == pytest.approx(expected)
    twice = ("dog", "crane", "crane")
    check_fusible(stubs(twice, twice))
    for orders in ((("crane", "dog"), twice), (twice, ("crane", "dog"))):
        with pytest.raises(DataError, match=r"net \d has 2 classes called 'crane'.*test them one at a time"):
            check_fusible(stubs(*orders))


def test_a_model_fused_with_itself_in_another_order_of_classes_is_itself(folder, tmp_path):
    net, order = made(CLASSES), [3, 1, 5, 0, 2, 4]
    net.save(tmp_path / "a.safetensors")
    with torch.no_grad():
        net.net.fc8.weight.copy_(net.net.fc8.weight[order])
        net.net.fc8.bias.copy_(net.net.fc8.bias[order])
    other = made([CLASSES[i] for i in order])
    other.load_state_dict(net.state_dict())
    other.save(tmp_path / "b.safetensors")
    found = evaluated([tmp_path / f"{n}.safetensors" for n in "ab"], folder, precision="fp64")
    assert [[r[name] for name in COUNTS] for r in found[:2]] == [[r[name] for name in COUNTS] for r in found[4:]]


def test_bits_say_which_photos_were_right(together):
    for record in together:
        right = unpack(record["right"]["top1"], 21)
        assert right.sum() == 21 - record["top1_errors"]
        assert unpack(record["right"]["top5"], 21).sum() == 21 - record["top5_errors"]
        assert unpack(record["tested"], 21).all()
        assert {m["id"] for m in record["mistakes"]} == set(np.flatnonzero(~right).tolist())


def test_first_photos_of_few_classes_are_told_of(folder, files, capsys):
    for limit, told in ((9, False), (3, True), (99, False), (None, False)):
        evaluated(files[:1], folder, ["centre"], limit=limit)
        said = capsys.readouterr().err
        assert ("note: the first 3 of the 21 " in said) == told
        assert ("are of 1 class of 3, because they stand class by class" in said) == told


def test_a_split_that_is_shuffled_is_not_said_to_stand_class_by_class():
    targets = np.repeat(np.arange(3), 7)
    for order, told in ((np.arange(21), True), (np.r_[0:2, 20, 2:20], False)):
        photos = Photos("test", Names.of(map(str, range(21))), targets[order], lambda id: b"")
        assert bool(class_by_class(photos, 2)) == told
    assert not class_by_class(photos, None)


def test_a_limit_takes_the_first_photos_and_is_told(folder, files):
    whole, first = (evaluated(files[:1], folder, ["centre"], limit=n)[0] for n in (None, 9))
    assert (first["limit"], first["photos"], whole["limit"]) == (9, 9, None)
    assert unpack(first["right"]["top1"], 9).tolist() == unpack(whole["right"]["top1"], 21)[:9].tolist()
    assert evaluated(files[:1], folder, ["centre"], limit=99)[0]["photos"] == 21


TINY = {"net": "A", "crop": 32, "fc_width": 8, "base_width": 4, "scale": 36, "batch": 8, "epochs": 1, "workers": 0,
        "device": "cpu", "val_share": 0.3, "test_share": 0.3}  # fmt: skip


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """Two runs that held out the same photos, and one that held out others."""
    root = tmp_path_factory.mktemp("runs")
    for name, changes in {"a": {}, "b": {"scale": (33, 41)}, "c": {"seed": 5}}.items():
        run_training(str(folder), Config(**(TINY | changes)), root / name, progress=Progress("none"))
    return root


def kept_in(run):
    return {path: json.loads(path.read_text())["results"][0] for path in sorted((run / "results").iterdir())}


def test_runs_are_tested_on_what_they_held_out_and_keep_their_results(runs, folder):
    found = evaluated([runs / "a", runs / "b"], folder, ["centre", "dense"], "several", again=False)
    assert {(r["split"], r["photos"]) for r in found} == {("test", 6)}
    a, b = kept_in(runs / "a"), kept_in(runs / "b")
    assert sum("fused" in path.name for path in a) == 3  # of three steps, as many as alone
    assert len(a) == 6
    assert sorted(map(json.dumps, found)) == sorted(set(map(json.dumps, [*a.values(), *b.values()])))


def test_what_is_kept_is_used_until_weights_photos_or_settings_change(runs, folder, monkeypatch):
    passes, real = [], models.run_through
    monkeypatch.setattr(models, "run_through", lambda *given: passes.append(1) or real(*given))

    def go(**changes):
        passes.clear()
        found = evaluated([runs / "a"], folder, **{"protocols": ["dense"], "again": False} | changes)
        return [r | {"seconds": 0} for r in found], len(passes)

    first, _ = go(again=True)
    assert go() == (first, 0)
    for changes in (
        {"protocols": ["both"]}, {"scales": (36, 40)}, {"limit": 3}, {"average": "posteriors"}, {"pooling": "down"},
        {"mirror": False}, {"precision": "fp64"},
    ):  # fmt: skip
        assert [go(**changes)[1], go(**changes)[1]] == [1, 0], changes
    assert go() == (first, 0)
    file = next(path for path, record in kept_in(runs / "a").items() if record | {"seconds": 0} == first[0])
    for old, new in (('"photos_sha256": "', '"photos_sha256": "0'), ('"sha256": "', '"sha256": "0'), ("{", "")):
        file.write_text(file.read_text().replace(old, new, 1))
        assert go()[1] == 1


def test_a_kept_fusion_is_used_for_the_same_order_of_models_only(runs, folder, monkeypatch):
    names = [runs / n for n in "ab"]
    first = evaluated(names, folder, ["both"], (36, 41))
    monkeypatch.setattr(models, "run_through", lambda *given: 1 / 0)
    assert evaluated(names, folder, ["both"], (36, 41), again=False) == first
    with pytest.raises(ZeroDivisionError):
        evaluated(names[::-1], folder, ["both"], (36, 41), again=False)


def test_a_file_beside_a_run_is_tested_on_what_the_run_held_out(runs, folder, tmp_path):
    alone = shutil.copy(runs / "b" / "best.safetensors", tmp_path / "alone.safetensors")
    found = evaluated([alone, runs / "a"], folder, ["centre"])
    assert [(r["split"], r["photos"]) for r in found] == [("test", 6)] * 3


def test_models_of_other_classes_and_runs_that_held_out_other_photos_are_refused(runs, folder, files, tmp_path):
    more, less = tmp_path / "more.safetensors", tmp_path / "less.safetensors"
    made([*CLASSES, "more"]).save(more)
    made("abc").save(less)
    for names, said in (
        ([files[0], more], r"0\.safetensors: .*more\.safetensors has the class 'more', which .* one at a time"),
        ([less], r"less\.safetensors: .*has the class '1', which the model does not know; it knows a, b, c"),
        ([runs / "a", runs / "c"], r"runs\d*/a and .*/c held out different photos of .* cannot be compared"),
    ):
        with pytest.raises(DataError, match=said):
            evaluated(names, folder)


REFUSED = [({"limit": 0}, "limit: 0 is not"), ({"limit": -3}, "limit: -3 is not"), ({"batch": 0}, "batch: 0 is not"),
           ({"scales": "40,31"}, "Q = 31 is smaller than the crop of 32")]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_asked_for_is_told_before_any_photo_is_looked_at(files, options, said):
    with pytest.raises(ConfigError, match=said):
        Evaluate(files[:1], "nowhere", device="cpu", **options).run()


def test_a_name_takes_no_split_of_the_folder_in_which_it_is_typed(tmp_path, monkeypatch, capsys):
    """Its parent is ".", which may be a run: a figure may not depend on the working directory."""
    lines = ["path,label,split"]
    for i, name in enumerate(fashion.CLASSES):
        for j, split in enumerate(("train", "test")):
            noise(30, 30, 2 * i + j).save(tmp_path / f"{i}-{j}.png")
            lines.append(f"{i}-{j}.png,{name},{split}")
    manifest, run = tmp_path / "photos.csv", tmp_path / "run"
    manifest.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"location": str(manifest)}))
    (run / "split.csv").write_text("\n".join(lines))
    monkeypatch.chdir(run)
    [record] = evaluated(["builtin:fashion-a"], manifest, ["centre"])
    assert (record["split"], record["photos"]) == ("all", 20)
    assert "has no splits, so all its photos are tested" in capsys.readouterr().err
