"""`evaluate` from end to end: runs and files, alone and fused, limits, what is kept, and what cannot be tested together."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from slow import made, noise

from verydeep.config import Config
from verydeep.data import builtin as fashion
from verydeep.errors import ConfigError, DataError, PhotoError
from verydeep.evaluate import models
from verydeep.evaluate.classify import fused
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import check_fusible
from verydeep.evaluate.scores import unpack
from verydeep.evaluate.views import PROTOCOLS, Step
from verydeep.progress import Progress
from verydeep.train.prepare import run_training

QUIET = {"progress": Progress("none"), "settings": Settings(workers=0)}
CLASSES = ("1", "2", "10", "x", "y", "z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """21 photos of three classes in one split."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for label, name in enumerate(CLASSES[:3]):
        (root / name).mkdir(parents=True)
        for i in range(7):
            noise(36 + i, 50 - 2 * i, 10 * label + i).save(root / name / f"{i}.png")
    return str(root)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three model files: other weights, other scales and another order of classes."""
    root = tmp_path_factory.mktemp("models")
    orders = (CLASSES, CLASSES[::-1], CLASSES)
    for n, (classes, scales) in enumerate(zip(orders, ((36, 36), (33, 45), (40, 40)), strict=True)):
        made(classes, scales, n, net="AB"[n % 2]).save(root / f"{n}.safetensors")
    return [str(root / f"{n}.safetensors") for n in range(3)]


def counts(record):
    return [
        record[name]
        for name in ("protocol", "scales", "photos", "top1_errors", "top5_errors", "confusion", "right", "tested")
    ]


def test_each_model_and_the_fusion_climb_the_ladder(folder, files):
    found = evaluate_models(files[:2], folder, PROTOCOLS, "several", **QUIET)
    ladder = ("centre", "dense", *PROTOCOLS[1:])
    assert [(r["model"], r["protocol"], r["scales"]) for r in found] == [
        *((files[0], p, q) for p, q in zip(ladder, ([36], [36], *[[32, 36, 41]] * 3), strict=True)),
        *((files[1], p, q) for p, q in zip(ladder, ([39], [39], *[[33, 39, 45]] * 3), strict=True)),
        *((f"{files[0]} + {files[1]}", p, q) for p, q in zip(ladder, ([36, 39], [36, 39], *[[32, 33, 36, 39, 41, 45]] * 3), strict=True)),
    ]  # fmt: skip
    assert [r["passes"] for r in found[:1] + found[3:4]] == [1, 150]
    assert found[4]["passes"] == pytest.approx(found[2]["passes"] + 150, abs=0.002)
    assert found[-1]["passes"] == pytest.approx(found[4]["passes"] + found[9]["passes"], abs=0.002)
    assert [m["sha256"] for m in found[-1]["models"]] == [found[0]["sha256"], found[5]["sha256"]]
    assert all((r["average"], r["limit"], r["engine"], r["photos"]) == ("scores", None, "torch", 21) for r in found)
    assert found[-1]["classes"] == list(CLASSES)


def test_a_model_alone_counts_what_it_counts_among_others(folder, files):
    together = evaluate_models(files[:2], folder, PROTOCOLS, "several", **QUIET)
    alone = [r for f in files[:2] for r in evaluate_models([f], folder, PROTOCOLS, "several", **QUIET)]
    assert [counts(r) for r in alone] == [counts(r) for r in together[: len(alone)]]


def test_fusion_matches_classes_by_name_and_averages_by_hand():
    class Stub:
        def __init__(self, classes):
            self.contract = type("C", (), {"classes": classes})
            self.steps = {Step("dense"): ()}

    one, other = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.1, 0.3, 0.6]])
    found = fused([Stub(("a", "b", "c")), Stub(("c", "a", "b"))], [{Step("dense"): one}, {Step("dense"): other}])
    assert found[Step("dense")].tolist()[0] == pytest.approx([(0.7 + 0.3) / 2, (0.2 + 0.6) / 2, (0.1 + 0.1) / 2])


def test_fusion_matches_imagenets_classes_by_their_synsets():
    class Stub:
        def __init__(self, classes, name="net"):
            self.contract, self.steps, self.name = type("C", (), {"classes": classes}), {Step("dense"): ()}, name

    one, other = torch.tensor([[0.1, 0.9]]), torch.tensor([[0.3, 0.7]])
    nets = [Stub(("n01440764 tench, Tinca tinca", "n01443537 goldfish")), Stub(("n01443537", "n01440764"))]
    check_fusible(nets)
    assert torch.allclose(
        fused(nets, [{Step("dense"): one}, {Step("dense"): other}])[Step("dense")], torch.tensor([[0.4, 0.6]])
    )
    with pytest.raises(DataError, match="second has two classes of one name"):
        check_fusible([Stub(("crane", "dog")), Stub(("dog", "crane", "crane"), "second")])


def test_a_model_fused_with_itself_in_another_order_of_classes_is_itself(folder, tmp_path):
    net = made(CLASSES)
    net.save(tmp_path / "a.safetensors")
    order = [3, 1, 5, 0, 2, 4]
    with torch.no_grad():
        net.net.fc8.weight.copy_(net.net.fc8.weight[order])
        net.net.fc8.bias.copy_(net.net.fc8.bias[order])
    other = made([CLASSES[i] for i in order])
    other.load_state_dict(net.state_dict())
    other.save(tmp_path / "b.safetensors")
    settings = Settings(workers=0, precision="fp64")
    found = evaluate_models(
        [str(tmp_path / f"{n}.safetensors") for n in "ab"], folder, settings=settings, progress=Progress("none")
    )
    assert counts(found[0]) == counts(found[4])
    assert counts(found[1]) == counts(found[5])


def test_bits_say_which_photos_were_right(folder, files):
    for record in evaluate_models(files[:1], folder, **QUIET):
        right = unpack(record["right"]["top1"], 21)
        assert right.sum() == 21 - record["top1_errors"]
        assert unpack(record["right"]["top5"], 21).sum() == 21 - record["top5_errors"]
        assert unpack(record["tested"], 21).all()
        wrong = {m["id"] for m in record["mistakes"]}
        assert wrong == set(np.flatnonzero(~right).tolist())


def test_a_limit_takes_the_first_photos_and_is_told(folder, files):
    whole, first = (evaluate_models(files[:1], folder, ["centre"], limit=n, **QUIET)[0] for n in (None, 9))
    assert (first["limit"], first["photos"], whole["limit"]) == (9, 9, None)
    assert unpack(first["right"]["top1"], 9).tolist() == unpack(whole["right"]["top1"], 21)[:9].tolist()
    assert evaluate_models(files[:1], folder, ["centre"], limit=99, **QUIET)[0]["photos"] == 21


def test_skipped_photos_are_marked(folder, files, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "1" / "3.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"3\.png"):
        evaluate_models(files[:1], str(copy), **QUIET)
    found = evaluate_models(
        files[:2], str(copy), settings=Settings(workers=0, bad_photos="skip"), progress=QUIET["progress"]
    )
    for record in found:
        assert [s["photo"] for s in record["skipped"]] == ["1/3.png"]
        assert record["photos"] == 20
        assert np.flatnonzero(~unpack(record["tested"], 21)).tolist() == [3]
        assert not unpack(record["right"]["top1"], 21)[3]


TINY = {
    "net": "A",
    "crop": 32,
    "fc_width": 8,
    "base_width": 4,
    "scale": 36,
    "batch": 8,
    "epochs": 1,
    "workers": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """Two runs that held out the same photos, and one that held out others."""
    root = tmp_path_factory.mktemp("runs")
    for name, changes in {"a": {}, "b": {"scale": (33, 41)}, "c": {"seed": 5}}.items():
        run_training(
            folder,
            Config(**(TINY | {"val_share": 0.3, "test_share": 0.3} | changes)),
            root / name,
            progress=Progress("none"),
        )
    return root


def test_runs_are_tested_on_what_they_held_out_and_keep_their_results(runs, folder):
    names = [str(runs / n) for n in "ab"]
    found = evaluate_models(names, folder, ["centre", "dense"], "several", again=False, **QUIET)
    assert {r["split"] for r in found} == {"test"}
    assert {r["photos"] for r in found} == {6}
    files = {p.name for p in (runs / "a" / "results").iterdir()}
    assert len(files) == 6  # three steps alone and three fused
    assert sum("fused" in f for f in files) == 3
    kept = [json.loads(p.read_text())["results"][0] for n in "ab" for p in sorted((runs / n / "results").iterdir())]
    assert sorted(json.dumps(r) for r in found) == sorted({json.dumps(r) for r in kept})


def test_what_is_kept_is_used_until_weights_photos_or_settings_change(runs, folder, monkeypatch):
    passes = []
    real = models.run_through
    monkeypatch.setattr(models, "run_through", lambda *given: passes.append(1) or real(*given))
    run = str(runs / "a")

    def go(**changes):
        given = {
            "protocols": ["dense"],
            "scales": "single",
            "again": False,
            "limit": None,
            "settings": Settings(workers=0),
        } | changes
        passes.clear()
        found = evaluate_models([run], folder, progress=Progress("none"), **given)
        return [{k: v for k, v in r.items() if k != "seconds"} for r in found], len(passes)

    first, _ = go(again=True)
    assert go() == (first, 0)
    for changes in (
        {"protocols": ["both"]}, {"scales": (36, 40)}, {"limit": 3}, {"settings": Settings(average="posteriors")},
        {"settings": Settings(pooling="down")}, {"settings": Settings(mirror=False)}, {"settings": Settings(precision="fp64")},
    ):  # fmt: skip
        assert go(**changes)[1] == 1, changes
        assert go(**changes)[1] == 0, changes
    assert go() == (first, 0)
    file = next(
        p
        for p in (runs / "a" / "results").iterdir()
        if {**json.loads(p.read_text())["results"][0], "seconds": 0} == {**first[0], "seconds": 0}
    )
    file.write_text(file.read_text().replace('"photos_sha256": "', '"photos_sha256": "0'))
    assert go()[1] == 1
    file.write_text(file.read_text().replace('"sha256": "', '"sha256": "0', 1))
    assert go()[1] == 1
    file.write_text("{")
    assert go()[1] == 1


def test_a_kept_fusion_is_used_for_the_same_order_of_models_only(runs, folder, monkeypatch):
    names = [str(runs / n) for n in "ab"]
    first = evaluate_models(names, folder, ["both"], (36, 41), **QUIET)
    monkeypatch.setattr(models, "run_through", lambda *given: 1 / 0)
    assert evaluate_models(names, folder, ["both"], (36, 41), again=False, **QUIET) == first
    with pytest.raises(ZeroDivisionError):
        evaluate_models(names[::-1], folder, ["both"], (36, 41), again=False, **QUIET)


def test_runs_that_held_out_different_photos_are_refused(runs, folder):
    with pytest.raises(
        DataError,
        match=r"runs\d*/a and .*/c held out different photos of .*, so their results cannot be compared",
    ):
        evaluate_models([str(runs / "a"), str(runs / "c")], folder, **QUIET)


def test_a_file_beside_a_run_is_tested_on_what_the_run_held_out(runs, folder, tmp_path):
    alone = shutil.copy(runs / "b" / "best.safetensors", tmp_path / "alone.safetensors")
    found = evaluate_models([str(alone), str(runs / "a")], folder, ["centre"], **QUIET)
    assert [(r["split"], r["photos"]) for r in found] == [("test", 6)] * 3


def test_models_of_different_classes_are_refused(folder, files, tmp_path):
    made([*CLASSES, "more"]).save(tmp_path / "more.safetensors")
    with pytest.raises(DataError, match=r"more\.safetensors knows the class 'more' and .*0\.safetensors does not"):
        evaluate_models([files[0], str(tmp_path / "more.safetensors")], folder, **QUIET)
    made("abc").save(tmp_path / "abc.safetensors")
    with pytest.raises(
        DataError, match=r"abc\.safetensors: .*has the class '1', which the model does not know; it knows a, b, c"
    ):
        evaluate_models([str(tmp_path / "abc.safetensors")], folder, **QUIET)


@pytest.mark.parametrize("limit", [0, -3])
def test_no_photos_cannot_be_asked_for(folder, files, limit):
    with pytest.raises(ConfigError, match=f"limit: {limit} is too small"):
        evaluate_models(files[:1], folder, limit=limit, **QUIET)


def test_a_scale_below_the_crop_is_refused_before_any_photo_is_opened(folder, files):
    with pytest.raises(ConfigError, match="Q = 31 is smaller than the crop of 32"):
        evaluate_models(files[:1], folder, ["centre"], (40, 31), **QUIET)


def test_the_note_says_that_photos_may_have_been_trained_on(folder, files, capsys):
    evaluate_models(files[:1], folder, ["centre"], **QUIET)
    assert "has no splits, so all its photos are tested" in capsys.readouterr().err


def test_a_name_takes_no_split_of_the_folder_in_which_it_is_typed(tmp_path, monkeypatch):
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
    [record] = evaluate_models(["builtin:fashion-a"], str(manifest), ["centre"], progress=Progress("none"))
    assert (record["split"], record["photos"]) == ("all", 20)
