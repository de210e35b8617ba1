"""Every answer of a run's test in lists, and a warning where a net has seen the photos that it is tested on."""

import csv
import json
from collections import Counter

import pytest

import verydeep
from verydeep.cli import main

TINY = ["--recipe", "small", "--crop", "32", "--scale", "36", "--base_width", "4", "--fc_width", "8", "--epochs", "1"]


@pytest.fixture
def run(photo_folder, tmp_path, capsys):
    assert main(["train", str(photo_folder), "--out", str(tmp_path / "run"), *TINY]) == 0
    capsys.readouterr()
    return tmp_path / "run"


def rows(run, name):
    with (run / f"{name}.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def test_the_lists_say_what_the_net_says(run, photo_folder):
    said, wrong, cells = (rows(run, name) for name in ("predictions", "mistakes", "confusion"))
    classifier = verydeep.load(run)
    results = [json.loads(file.read_text())["results"][0] for file in (run / "results").glob("*centre*")]
    assert len(said) == results[0]["photos"] == 3
    assert sorted(row["photo"] for row in said if row["right"] == "no") == sorted(row["photo"] for row in wrong)
    assert len(wrong) == results[0]["top1_errors"]
    for row in said:
        assert row["photo"].startswith(f"{row['true class']}/")
        assert (row["answer"] == row["true class"]) == (row["right"] == "yes")
        assert row["answer"] in classifier.contract.classes
    counted = Counter((row["true class"], row["answer"]) for row in said)
    assert {(c["true class"], c["answer"]): int(c["photos"]) for c in cells} == counted
    assert [row["probability"] for row in wrong] == sorted((row["probability"] for row in wrong), reverse=True)


def test_only_the_photos_that_a_run_is_judged_by_are_listed(run, photo_folder):
    before = (run / "predictions.csv").read_bytes()
    assert main(["evaluate", str(run), str(photo_folder), "--split", "train"]) == 0
    assert main(["evaluate", str(run), str(photo_folder), "--limit", "1"]) == 0
    assert (run / "predictions.csv").read_bytes() == before


def test_a_net_that_saw_the_photos_of_a_test_is_warned_of(run, photo_folder, tmp_path, capsys):
    lines = [f"{p.relative_to(tmp_path)},{p.parent.name}\n" for p in sorted(photo_folder.rglob("*.*"))]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(lines))
    assert main(["train", str(tmp_path / "all.csv"), "--out", str(tmp_path / "other"), *TINY, "--seed", "3"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), str(tmp_path / "other"), str(photo_folder)]) == 0
    said = capsys.readouterr().err
    assert "other was trained on " in said
    assert "run was trained on " not in said
    assert main(["evaluate", str(run), str(photo_folder)]) == 0
    assert "was trained on" not in capsys.readouterr().err
