"""The order, the rates and the starts of the stages, and stages that are interrupted, moved and repeated."""

import json
import shutil
import signal
from dataclasses import replace

import pytest
import torch
import yaml

import verydeep
from tests.train import tiny
from verydeep.config import Config
from verydeep.errors import ConfigError, Interrupted, RunError
from verydeep.net import classifier
from verydeep.progress import Progress
from verydeep.recipes import recipe_file
from verydeep.study import plan
from verydeep.study.plan import Asked, run_stages, stages, trials
from verydeep.train import loop

PAPER = Config()
# Section 3.1 by hand: name, lr, parent.
TABLE_3 = [
    ("A-256-seed0", 1e-2, None),
    ("A-LRN-256-seed0", 1e-2, None),
    ("B-256-seed0", 1e-2, "A-256-seed0"),
    ("C-256-seed0", 1e-2, "A-256-seed0"),
    ("C-384-seed0", 1e-3, "C-256-seed0"),
    ("C-256-512-seed0", 1e-3, "C-384-seed0"),
    ("D-256-seed0", 1e-2, "A-256-seed0"),
    ("D-384-seed0", 1e-3, "D-256-seed0"),
    ("D-256-512-seed0", 1e-3, "D-384-seed0"),
    ("E-256-seed0", 1e-2, "A-256-seed0"),
    ("E-384-seed0", 1e-3, "E-256-seed0"),
    ("E-256-512-seed0", 1e-3, "E-384-seed0"),
]


def test_the_papers_stages_in_their_order():
    found = stages(Asked(["E", "D", "C", "B", "A-LRN", "A"]), PAPER)
    assert [(s.name, s.config.lr, s.parent) for s in found] == TABLE_3
    assert [s.config.scale for s in found if s.net == "D"] == [256, 384, (256, 512)]
    assert all(s.config == replace(PAPER, net=s.net, scale=s.config.scale, lr=s.config.lr) for s in found)


def test_other_sizes_keep_the_proportions():
    found = stages(Asked(["D"]), Config(crop=32, scale=36, epochs=16, drop_at=(12,)))
    scales = {"A-36-seed0": 36, "D-36-seed0": 36, "D-54-seed0": 54, "D-36-72-seed0": (36, 72)}
    assert {s.name: s.config.scale for s in found} == scales


def test_seeds_come_one_after_the_other_and_never_mix():
    found = stages(Asked(["A", "B", "shallow-B"], [3, 1]), PAPER)
    assert [s.config.seed for s in found] == [3, 3, 3, 1, 1, 1]
    assert [s.parent for s in found] == [None, "A-256-seed3", None, None, "A-256-seed1", None]


def test_an_argument_chooses_the_scales():
    assert [s.name for s in stages(Asked(["C", "A"], which="first"), PAPER)] == ["A-256-seed0", "C-256-seed0"]
    names = ["A-256-seed0", "B-256-seed0", "B-384-seed0", "B-256-512-seed0"]
    assert [s.name for s in stages(Asked(["B"], which="all"), PAPER)] == names


def test_fine_tuning_may_be_shorter_with_drops_in_proportion():
    found = stages(Asked(["D"], tuning_epochs=10), Config(epochs=40, drop_at=(20, 30)))
    assert [(s.config.epochs, s.config.drop_at) for s in found] == [(40, (20, 30))] * 2 + [(10, (5, 8))] * 2
    assert stages(Asked(["D"], tuning_epochs=2), Config(epochs=40, drop_at=(1, 20)))[-1].config.drop_at == (1,)
    found = stages(Asked(["D"], tuning_epochs=4), Config(epochs=12, steps=1900))
    assert [(s.config.epochs, s.config.steps) for s in found] == [(12, 1900)] * 2 + [(4, 633)] * 2


@pytest.mark.parametrize(
    ("which", "base", "message"),
    [
        (Asked([]), PAPER, "nets and seeds"),
        (Asked(["A"], []), PAPER, "nets and seeds"),
        (Asked(["A"], [1, 1]), PAPER, "nets and seeds"),
        (Asked(["A"]), Config(scale=(256, 512)), r"scale: \[256;512\] is jittered"),
        (Asked(["A"]), Config(init_from="x"), "init_from"),
    ],
)
def test_what_cannot_be_planned_is_refused(which, base, message):
    with pytest.raises(ConfigError, match=message):
        stages(which, base)


def asked(found):
    return [("+".join(s.name for s in t.stages), ",".join(t.protocols), t.scales, t.limit) for t in found]


def test_the_tests_of_a_plan():
    small = Config(crop=32, scale=36)
    everything, both = "centre,dense,crops,both", "centre,dense"
    sweeps = {"36": (54, 72), "54": (36, 72), "36-72": (36, 72)}
    swept = [(f"{net}-{s}-seed0", "dense", (q,), None) for net in "DE" for s, others in sweeps.items() for q in others]
    singles = [(f"{name}-seed0", both, "several", None) for name in ("A-36", "D-36", "D-54", "E-36", "E-54")]
    pair = "D-36-72-seed0+E-36-72-seed0"
    assert asked(trials(stages(Asked(["D", "E"]), small))) == [*singles, (pair, everything, "several", None), *swept]
    limited = asked(trials(stages(Asked(["D", "E"]), small), crops=100))
    assert limited == [*singles, (pair, both, "several", None), (pair, everything, "several", 100), *swept]
    few = asked(trials(stages(Asked(["D", "E"]), small), 500, 100))
    assert few == [(*test[:3], 100 if "crops" in test[1] else 500) for test in limited]
    alone = asked(trials(stages(Asked(["C", "E"], which="all"), small)))
    assert ("E-36-72-seed0", everything, "several", None) in alone
    assert ("C-36-72-seed0", both, "several", None) in alone


BASE = tiny.config(scale=36, epochs=1, lr=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_photos(tmp_path_factory.mktemp("photos"), train=6, val=2)


def go(data, out, nets=("D",)):
    return run_stages(data, stages(Asked(nets), BASE), out, progress=Progress("none"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    done = go(data, out)
    assert list(done.values()) == ["training ends after epoch 1, the last"] * 4
    return out


def sums(out):
    return {folder.name: verydeep.load(folder).contract.sha256 for folder in sorted(out.iterdir())}


def test_each_stage_remembers_the_weights_it_started_from(whole):
    for child, parent in (("D-36-seed0", "A-36-seed0"), ("D-54-seed0", "D-36-seed0"), ("D-36-72-seed0", "D-54-seed0")):
        begun = json.loads((whole / child / "run.json").read_text())["started_from"]
        assert begun["path"] == str(whole / parent)
        assert begun["sha256"] == verydeep.load(whole / parent).contract.sha256
        assert begun["sha256"] in (whole / child / "log.txt").read_text()
    assert "started_from" not in json.loads((whole / "A-36-seed0" / "run.json").read_text())
    assert "all layers of net D" in (whole / "D-54-seed0" / "log.txt").read_text()
    assert "conv3_2 -> conv3_2" in (whole / "D-36-seed0" / "log.txt").read_text()


def test_a_finished_plan_is_not_trained_again(whole, data, monkeypatch):
    before = {f: f.stat().st_mtime_ns for f in whole.rglob("*") if f.is_file()}
    monkeypatch.setattr(plan, "run_training", lambda *_: pytest.fail("trained again"))
    assert len(go(data, whole)) == 4
    assert {f: f.stat().st_mtime_ns for f in whole.rglob("*") if f.is_file()} == before


def test_a_plan_stopped_again_and_again_ends_with_the_same_nets(whole, data, tmp_path, monkeypatch):
    """A signal in every second save: SIGINT saves, leaves, and the same call goes on."""
    true_save, saves = loop.save, []

    def save(*args):
        true_save(*args)
        saves.append(args)
        if len(saves) % 2 == 0:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "save", save)
    interrupted, done = 0, {}
    while not done:
        try:
            done = go(data, tmp_path / "out")
        except Interrupted:
            interrupted += 1
    assert interrupted >= 4
    assert len(done) == 4
    assert sums(tmp_path / "out") == sums(whole)


def test_a_moved_plan_goes_on(whole, data, tmp_path, monkeypatch):
    moved = shutil.copytree(whole, tmp_path / "moved")
    shutil.rmtree(moved / "D-36-72-seed0")
    go(data, moved)
    assert sums(moved) == sums(whole)


def test_other_fields_other_data_and_other_weights_are_refused_before_any_training(whole, data, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "run_training", lambda *_: pytest.fail("trained"))
    with pytest.raises(RunError, match=r"A-36-seed0 was begun with another configuration: momentum"):
        run_stages(data, stages(Asked(["D"]), replace(BASE, momentum=0.5)), whole)
    other = tiny.make_photos(tmp_path / "other", train=7, val=2)  # a copy of the same photos would do
    with pytest.raises(RunError, match="was begun on"):
        go(other, whole)
    out = shutil.copytree(whole, tmp_path / "out")
    net = verydeep.load(out / "D-36-seed0")
    with torch.no_grad():
        net.net.fc8.bias += 1
    net.save(out / "D-36-seed0" / "best.safetensors")
    with pytest.raises(RunError, match=r"D-54-seed0 was started from weights"):
        go(data, out)


@pytest.mark.parametrize(
    ("name", "scales"),
    [("fashion-mini", (36, 54, (36, 72))), ("fashion", (36, 54, (36, 72))), ("imagenet", (256, 384, (256, 512)))],
)
def test_the_recipes_of_the_experiment(name, scales):
    text = recipe_file(name).read_text()
    config = Config(**yaml.safe_load(text))
    assert tuple(s.config.scale for s in stages(Asked(["E"]), config)[1:]) == scales
    header = " ".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
    assert f"--recipe {name}" in header
    assert "Cost (" in header
    assert "Expect" in header


def test_the_recipe_of_the_paper_is_the_papers():
    assert Config(**yaml.safe_load(recipe_file("imagenet").read_text())) == PAPER


def test_a_begun_stage_takes_the_sum_of_its_parent_from_the_header(whole, data, monkeypatch):
    monkeypatch.setattr(classifier, "checksum", lambda *_: pytest.fail("hashed all tensors"))
    assert len(go(data, whole)) == 4
