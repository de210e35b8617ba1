"""A study of A and B with tiny nets and few photos, from the command line: interrupted, continued, and grown."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import draw_photo

import verydeep.evaluate.models as models
from verydeep.cli import main
from verydeep.evaluate.scores import known_of
from verydeep.study import plan
from verydeep.study import run as study_run
from verydeep.train import loop

FIELDS = {
    "crop": "32", "scale": "36", "base_width": "4", "fc_width": "8", "epochs": "2", "batch": "8", "lr": "0.001",
    "drop_at": "[1]", "workers": "0", "device": "cpu", "precision": "fp32",
}  # fmt: skip
WORDS = [word for name, value in FIELDS.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 photos in three class folders without splits, so that the study draws one."""
    import numpy as np

    random, root = np.random.default_rng(3), tmp_path_factory.mktemp("data") / "photos"
    for label in range(3):
        (root / f"c{label}").mkdir(parents=True)
        for i in range(20):
            draw_photo(label, 40, 44, random).save(root / f"c{label}" / f"{i}.png")
    return str(root)


def go(photos: str, out: Path, *more: str) -> int:
    return main(["study", photos, "--out", str(out), *WORDS, *more])


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "study.json").read_text())


def answers_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(photos: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "ab"
    assert go(photos, out, "--nets", "A,B") == 0
    return out


def test_a_study_trains_tests_and_reports(whole: Path) -> None:
    record = record_of(whole)
    assert list(record["stages"]) == ["A-36-seed0", "B-36-seed0"]
    assert [f["weight_layers"] for f in record["stages"].values()] == [11, 13]
    tests = [(r["stages"], r["protocol"], r["scales"]) for r in record["results"]]
    each = [("centre", [36]), ("dense", [36]), ("dense", [32, 36, 41])]
    assert tests == [([name], *test) for name in record["stages"] for test in each]
    for r, known in zip(record["results"], answers_of(whole), strict=True):
        assert r["split"] == "test"
        seen, right = known_of([known["tested"], known["top1"]])
        assert seen.sum() == r["photos"] == record["photos"]["test"]
        assert (seen & ~right).sum() == r["top1_errors"]
        assert "confusion" not in r
    page, text = (whole / "study.html").read_text(), (whole / "study.md").read_text()
    assert "it needs A and A-LRN" in page
    assert "Table 3: one test scale" in text
    assert "which no training looked at" in text
    assert all((whole / name / "report.html").exists() for name in record["stages"])


def test_the_same_command_does_nothing_again(whole: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, pages = record_of(whole), (whole / "A-36-seed0" / "report.html").stat().st_mtime_ns
    monkeypatch.setattr(plan, "run_training", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(models, "tally", lambda *_: pytest.fail("tested again"))
    assert go(photos, whole, "--nets", "A,B") == 0
    assert record_of(whole) == before
    assert (whole / "A-36-seed0" / "report.html").stat().st_mtime_ns == pages


def test_an_interrupted_study_goes_on_to_the_same_numbers(
    whole: Path, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGINT once in each stage, then once in the tests."""
    out, true_save, true_tally, saves = tmp_path / "out", loop.save, models.tally, []

    def save(*args: Any) -> None:
        true_save(*args)
        saves.append(args)
        if len(saves) in (2, 7):
            signal.raise_signal(signal.SIGINT)

    def tally(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(models, "tally", true_tally)
        raise KeyboardInterrupt  # what SIGINT does outside training

    monkeypatch.setattr(loop, "save", save)
    monkeypatch.setattr(models, "tally", tally)
    statuses = [go(photos, out, "--nets", "A,B") for _ in range(4)]
    assert statuses == [130, 130, 130, 0]
    assert "interrupted by SIGINT: saved" in capsys.readouterr().err
    assert [plain(r) for r in record_of(out)["results"]] == [plain(r) for r in record_of(whole)["results"]]


def plain(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("seconds", "model")}


def test_seeds_and_nets_are_added_and_earlier_ones_stay(
    whole: Path, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "grown"))
    trained, true_training = [], plan.run_training
    monkeypatch.setattr(plan, "run_training", lambda *args: trained.append(args[2].name) or true_training(*args))
    assert go(photos, out, "--nets", "A", "--seeds", "1") == 0
    assert go(photos, out, "--nets", "shallow-B") == 0
    assert trained == ["A-36-seed1", "shallow-B-36-seed0"]
    record = record_of(out)
    assert (record["nets"], record["seeds"]) == (["A", "B", "shallow-B"], [0, 1])
    both = zip(record["results"], answers_of(out), strict=True)
    tested = {r["stages"][0]: (r["photos_sha256"], a["tested"]) for r, a in both}
    assert len(tested) == 4
    assert len(set(tested.values())) == 1, "all seeds share one split"
    text = capsys.readouterr().out
    assert "B is better than shallow-B. Dense: " in text
    assert "2 seeds were trained" in text


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--momentum", "0.5"], 1, "is another study: momentum (0.9 then, 0.5 now)"),
        (["--tuning_epochs", "1"], 1, "is another study: tuning_epochs (None then, 1 now)"),
        (["--nets", "A,Z"], 2, "nets: 'A,Z' is not a list of values, each one of A, A-LRN,"),
        (["--net", "D"], 2, "net: a study trains several"),
        (["--seeds", "one"], 2, "seeds: 'one' is not a list of whole numbers"),
        (
            ["--crops_photos", "2"],
            1,
            "the first 2 of the 6 test photos are of 1 class of 3, because they stand class by",
        ),
        (["--crops_photos", "0"], 2, "crops_photos: '0' is not a whole number, 1 or more"),
        (["--test_photos", "0"], 2, "test_photos: '0' is not a whole number, 1 or more"),
        (["--scale", "[36,72]"], 2, "scale: [36;72] is jittered"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    whole: Path, photos: str, capsys: pytest.CaptureFixture[str], more: list[str], status: int, message: str
) -> None:
    before = {f: f.stat().st_mtime_ns for f in whole.rglob("*") if f.is_file()}
    assert go(photos, whole, "--nets", "A,B", *more) == status
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert {f: f.stat().st_mtime_ns for f in whole.rglob("*") if f.is_file()} == before


def test_a_folder_of_something_else_and_other_photos_are_refused(
    whole: Path, photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go(photos, whole / "A-36-seed0", "--nets", "A") == 1
    assert "and is not a study" in capsys.readouterr().err
    other = shutil.copytree(photos, tmp_path / "other")
    assert go(str(other), whole, "--nets", "A") == 1
    assert "is another study: location (" in capsys.readouterr().err


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--nets", "D,E", "--crops_photos", "4", "--dry-run"]
    assert go(photos, tmp_path / "out", *words, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert [(s["name"], s["lr"], s["parent"], s["state"]) for s in record["stages"][:3]] == [
        ("A-36-seed0", 0.001, None, "new"),
        ("D-36-seed0", 0.001, "A-36-seed0", "new"),
        ("D-54-seed0", 0.0001, "D-36-seed0", "new"),
    ]
    fused = next(t for t in record["tests"] if t["photos"] == 4)
    # Of each net and Q: 25 crops twice, and 4/3 of the photo's pixels twice for the dense test; once the centre.
    by_hand = 2 * (1 + sum(50 + 2 * 4 / 3 * q**2 / 32**2 for q in (36, 54, 72)))
    assert fused["passes"] == pytest.approx(by_hand, abs=0.06)
    assert go(photos, tmp_path / "out", *words) == 0
    text = capsys.readouterr().out
    assert re.search(r"E-36-72-seed0 +[\d,]+ +[\d,]+ +E-54-seed0 +0\.0001 +2 ", text)
    assert "val steers the training, the tables count test" in text


def test_a_study_in_steps_by_one_cycle_says_what_it_does(
    photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """48 training photos are 6 batches: 40 steps are 2 epochs of 3 times all photos, 20 one epoch."""
    words = ["--nets", "D", "--tuning_epochs", "1", "--steps", "40", "--schedule", "one-cycle", "--drop_at", "[]"]
    assert go(photos, tmp_path / "out", *words, "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)["stages"]
    assert [s["epochs"] for s in planned] == [2, 2, 1, 1]
    assert planned[1]["seconds"] / planned[2]["seconds"] == pytest.approx(2)
    assert go(photos, tmp_path / "out", *words) == 0
    record = record_of(tmp_path / "out")
    for name, stage in record["stages"].items():
        course = [json.loads(line) for line in (tmp_path / "out" / name / "metrics.jsonl").read_text().splitlines()]
        epochs = [r for r in course if "val_error" in r]
        assert (stage["epochs_done"], stage["epochs"]) == (len(epochs), len(epochs))
        assert stage["val_error"] == epochs[-1]["val_error"]
        assert epochs[-1]["step"] == 18 * len(epochs)
    assert "its last epoch was kept" in (tmp_path / "out" / "study.md").read_text()
    assert go(photos, tmp_path / "out", *words, "--epochs", "3") == 1
    assert "is another study: epochs (2 then, 3 now)" in capsys.readouterr().err


def test_a_dry_run_knows_what_is_done(whole: Path, photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert go(photos, whole, "--nets", "A,B", "--seeds", "0,1", "--dry_run", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    states = [(s["state"], s["seconds_left"] == 0) for s in record["stages"]]
    assert states == [("done", True)] * 2 + [("new", False)] * 2


def test_crops_and_fusion_of_the_jittered_nets(photos: str, tmp_path: Path) -> None:
    """All stages of D and E, one epoch, few photos in crops: the fused posteriors of Tables 5 and 6 are there."""
    fields = {"epochs": "1", "drop_at": "[]", "base_width": "2", "fc_width": "4", "crops_photos": "3", "batch": "24"}
    words = [word for name, value in fields.items() for word in (f"--{name}", value)]
    assert go(photos, tmp_path / "out", "--nets", "D,E", *words) == 0
    record = record_of(tmp_path / "out")
    pair = ["D-36-72-seed0", "E-36-72-seed0"]
    fused = [(r["protocol"], r["photos"]) for r in record["results"] if r["stages"] == pair]
    n, ladder = record["photos"]["test"], ("centre", "dense", "dense", "crops", "both")
    assert fused == [*((p, n) for p in ladder[:3]), *((p, 3) for p in ladder)]
    text = (tmp_path / "out" / "study.md").read_text()
    assert "| D+E | [36;72] | 36, 54, 72 |" in text
    assert "on the first 3 test photos" in text


@pytest.mark.slow
def test_a_study_of_fashion_learns(tmp_path: Path) -> None:
    import torch

    torch.set_num_threads(2)
    words = ["--recipe", "fashion-mini", "--nets", "A,B", "--epochs", "4", "--drop_at", "[3]"]
    assert main(["study", "builtin:fashion-mini", "--out", str(tmp_path / "out"), *words]) == 0
    results = record_of(tmp_path / "out")["results"]
    assert max(r["top1_error"] for r in results if r["protocol"] == "centre") <= 35


def test_a_study_of_fifty_thousand_photos_goes_on(
    whole: Path, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many results as three seeds of twelve stages have, each with its bits by photo."""
    out, evaluate = Path(shutil.copytree(whole, tmp_path / "large")), study_run.evaluate_models

    def larger(*args: Any, **more: Any) -> list[dict[str, Any]]:
        known = "a5" * 6250
        found = [r | {"right": {"top1": known, "top5": None}, "tested": known} for r in evaluate(*args, **more)]
        return found * 30

    monkeypatch.setattr(study_run, "evaluate_models", larger)
    for _ in range(2):
        assert go(photos, out, "--nets", "A,B") == 0
    assert len(record_of(out)["results"]) == 180
    answers = answers_of(out)
    assert [a["stages"] for a in answers] == [r["stages"] for r in record_of(out)["results"]]
    assert answers[-1]["tested"] == "a5" * 6250


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_split_half_written_is_no_split(
    whole: Path, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    def half(data: Any, path: Path) -> None:
        path.write_text("photo,label,split\nc0/0.png,c0,tra")
        raise stop

    out = tmp_path / "out"
    monkeypatch.setattr(study_run, "write_split", half)
    assert go(photos, out, "--nets", "A", "--epochs", "1", "--drop_at", "[]") in (1, 130)
    monkeypatch.undo()
    assert not (out / "split.csv").exists()
    assert go(photos, out, "--nets", "A", "--epochs", "1", "--drop_at", "[]") == 0
    assert (out / "split.csv").read_bytes() == (whole / "split.csv").read_bytes()
    assert (out / "study.yaml").exists()


@pytest.fixture(scope="module")
def other(photos: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of another seed."""
    out = tmp_path_factory.mktemp("study") / "other"
    assert go(photos, out, "--nets", "A,B", "--seeds", "1") == 0
    return out


def test_studies_of_two_seeds_joined_are_the_study_of_both(
    whole: Path, other: Path, photos: str, tmp_path: Path
) -> None:
    """Their weights are not needed; the page written again from its record is the same to the byte."""
    both, parts = tmp_path / "both", [tmp_path / "0", tmp_path / "1"]
    assert go(photos, shutil.copytree(whole, both), "--nets", "A,B", "--seeds", "0,1") == 0
    for source, part in zip((whole, other), parts, strict=True):
        part.mkdir()
        for name in ("study.json", "answers.jsonl"):
            shutil.copy(source / name, part)
    assert main(["report", *map(str, parts), "--out", str(tmp_path / "joined")]) == 0
    assert (tmp_path / "joined" / "study.md").read_bytes() == (both / "study.md").read_bytes()
    assert (tmp_path / "joined" / "study.yaml").read_bytes() == (both / "study.yaml").read_bytes()
    page = (both / "study.html").read_bytes()
    record = (both / "study.json").read_bytes()
    assert main(["report", str(both)]) == 0
    assert (both / "study.json").read_bytes() == record
    assert (both / "study.html").read_bytes() == page


def test_studies_that_do_not_fit_are_not_joined(
    whole: Path, other: Path, photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*folders: Path, out: str = "new") -> str:
        capsys.readouterr()
        assert main(["report", *map(str, folders), "--out", str(tmp_path / out)]) in (1, 2)
        assert not (tmp_path / "new").exists()
        return capsys.readouterr().err

    changed = Path(shutil.copytree(other, tmp_path / "changed"))
    record = record_of(changed)
    (changed / "study.json").write_text(json.dumps(record | {"config": record["config"] | {"lr": 0.5}}))
    assert "differ in lr; studies of one plan can be joined" in refused(whole, changed)
    (changed / "study.json").write_text(json.dumps(record | {"config": record["config"] | {"device": "auto"}}))
    assert main(["report", str(whole), str(changed), "--out", str(tmp_path / "devices")]) == 0
    capsys.readouterr()
    assert go(photos, tmp_path / "devices", "--nets", "A,B") == 1
    assert "holds joined studies, whose stages are elsewhere" in capsys.readouterr().err
    (changed / "study.json").write_text(json.dumps(record | {"fingerprint": "x"}))
    assert "differ in fingerprint" in refused(whole, changed)
    assert f"{whole} holds A-36-seed0 as well" in refused(whole, whole)
    assert "is not the folder of a study; a run's report" in refused(whole, whole / "A-36-seed0")
    shutil.copytree(other, tmp_path / "taken")
    assert "is not empty; give a new folder" in refused(whole, other, out="taken")
    assert "is not empty; give a new folder" in refused(whole, other, out=str(whole))
    for text, words in (("[1]\n", "is damaged"), ("", "is damaged"), ("{", "is damaged")):
        (changed / "answers.jsonl").write_text(text)
        (changed / "study.json").write_text(json.dumps(record))
        assert words in refused(whole, changed)
    (changed / "study.json").write_text(json.dumps(record | {"results": []}))
    assert "is not a finished study of this version" in refused(whole, changed)
