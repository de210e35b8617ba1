"""Runs remember which labels were mended: in training, in tests, in the report, and when they go on."""

import hashlib
import json
import shutil

import pytest
import tiny

from verydeep.cli import main
from verydeep.data.source import open_data
from verydeep.errors import RunError
from verydeep.evaluate.models import evaluate_models
from verydeep.report.page import run_facts, write_report
from verydeep.run import corrections_of

WORDS = ["--recipe", "small", "--crop", "32", "--scale", "36", "--base_width", "4", "--fc_width", "8", "--epochs", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """30 photos of three classes, undivided."""
    data = tiny.make_photos(tmp_path_factory.mktemp("photos"))
    root = tmp_path_factory.mktemp("whole") / "flowers"
    shutil.copytree(f"{data}/train", root)
    return root


@pytest.fixture(scope="module")
def begun(photos, tmp_path_factory):
    """A run, and the list that it was begun with: one label mended, one photo left out."""
    out = tmp_path_factory.mktemp("mended")
    first, *_, last = sorted(p.relative_to(photos).as_posix() for p in (photos / "c0").iterdir())
    (out / "fix.csv").write_text(f"photo,label,correct,split\n{first},c0,c2,all\n{last},c0,,all\n")
    assert main(["train", str(photos), "--out", str(out / "run"), *WORDS, "--corrections", str(out / "fix.csv")]) == 0
    return out / "run", out / "fix.csv", first, last


def test_the_run_keeps_a_copy_and_its_sum_and_trains_on_what_it_says(begun, photos):
    run, fix, first, last = begun
    about = json.loads((run / "run.json").read_text())
    assert corrections_of(run).read_bytes() == fix.read_bytes()
    assert about["corrections"]["sha256"] == hashlib.sha256(fix.read_bytes()).hexdigest()
    assert (about["corrections"]["labels"], about["corrections"]["left_out"]) == (1, 1)
    rows = (run / "split.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows if row.startswith(first)] == ["c2"]
    assert not [row for row in rows if row.startswith(last)]
    assert sum(about["photos"].values()) == len(list(photos.rglob("*.png"))) - 1


def test_a_test_on_its_own_data_uses_them_by_itself_and_says_so(begun, photos, capsys):
    run, fix, *_ = begun
    found = evaluate_models([str(run)], str(photos))
    assert f"{run / 'corrections.csv'}: 1 label mended, 1 photo left out" in capsys.readouterr().err
    (by,) = found[0]["corrections"]
    assert (by["sha256"], by["remembered"]) == (hashlib.sha256(fix.read_bytes()).hexdigest(), True)
    assert "not in the split of the run" not in capsys.readouterr().err


def test_it_goes_on_with_its_own_copy_and_refuses_another(begun, photos, tmp_path, capsys):
    run, fix, first, _ = begun
    words = ["train", str(photos), "--out", str(run), *WORDS]
    assert main(words) == 0
    assert main([*words, "--corrections", str(fix)]) == 0
    other = tmp_path / "other.csv"
    other.write_text(f"photo,label,correct\n{first},c0,c1\n")
    assert main([*words, "--corrections", str(other)]) == 1
    assert f"was begun with other corrections, not with {other}" in capsys.readouterr().err


def test_a_run_begun_without_refuses_them(photos, tmp_path, begun, capsys):
    run = tmp_path / "run"
    tiny.go(str(photos), run, epochs=1)
    with pytest.raises(RunError, match="was begun without corrections"):
        tiny.go(str(photos), run, epochs=1, corrections=str(begun[1]))


def test_a_damaged_copy_is_refused(begun, photos, tmp_path):
    run = shutil.copytree(begun[0], tmp_path / "run")
    (run / "corrections.csv").write_text("photo,label,correct\n")
    with pytest.raises(RunError, match=r"corrections\.csv is not what the run was begun with"):
        evaluate_models([str(run)], str(photos))


def test_more_corrections_come_after_those_of_the_run_and_their_test_stands_apart(begun, photos, tmp_path):
    run, *_ = begun = shutil.copytree(begun[0], tmp_path / "run"), *begun[1:]
    own = evaluate_models([str(run)], str(photos), ["centre"])[0]
    test = open_data(str(photos), split=run / "split.csv", remembered=corrections_of(run)).split("test")
    key, label = test.keys[0], own["classes"][int(test.targets()[0])]
    raw, other = key.split("/")[0], next(c for c in own["classes"] if c != label)
    more = tmp_path / "more.csv"
    more.write_text(f"photo,label,correct\n{key},{raw},{other}\n")
    found = evaluate_models([str(run)], str(photos), ["centre"], corrections=more)[0]
    assert [by["remembered"] for by in found["corrections"]] == [True, False]
    truths = [{c: sum(n for t, _, n in r["confusion"] if t == c) for c in range(3)} for r in (own, found)]
    a, b = own["classes"].index(label), own["classes"].index(other)
    assert {c: truths[1][c] - truths[0][c] for c in range(3) if truths[1][c] != truths[0][c]} == {a: -1, b: 1}
    results = run_facts(run)["results"]
    assert {r["data"] for r in results} == {str(photos), f"{photos}, corrected"}
    assert run_facts(run)["main"]["corrections"] == own["corrections"]


def test_the_report_says_how_many_and_repeats_them(begun):
    page = write_report(begun[0])
    assert "fix.csv, of which the run keeps a copy: 1 label, and 1 photo left out" in page.read_text()
    assert (
        "fix.csv, of which the run keeps a copy: 1 label, and 1 photo left out" in page.with_suffix(".md").read_text()
    )
    assert run_facts(begun[0])["command"].endswith(f"--corrections {begun[0] / 'corrections.csv'}")


def test_photos_that_went_since_do_not_stop_a_test(begun, photos, tmp_path, capsys):
    run, _, _, last = begun
    moved = shutil.copytree(photos, tmp_path / "flowers")
    (moved / last).unlink()
    evaluate_models([str(run)], str(moved))
    said = capsys.readouterr().err
    assert "1 label mended, 0 photos left out, 1 line without effect" in said
    assert "no longer in" not in said


def test_data_with_splits_of_its_own(tmp_path, capsys):
    data = tiny.make_photos(tmp_path / "photos")
    key = next(p.relative_to(data).as_posix() for p in (tmp_path / "photos" / "val" / "c1").iterdir())
    (tmp_path / "fix.csv").write_text(f"photo,label,correct\n{key},c1,\n")
    run = tmp_path / "run"
    tiny.go(data, run, epochs=1, corrections=str(tmp_path / "fix.csv"))
    assert evaluate_models([str(run)], data)[0]["photos"] == 8
    assert "0 labels mended, 1 photo left out" in capsys.readouterr().err
    tiny.go(data, run, epochs=1)


def test_folds_are_drawn_of_mended_data(photos, begun, tmp_path):
    words = [
        "train",
        str(photos),
        "--out",
        str(tmp_path / "cv"),
        *WORDS,
        "--folds",
        "2",
        "--corrections",
        str(begun[1]),
    ]
    assert main(words) == 0
    rows = (tmp_path / "cv" / "fold-1.csv").read_text()
    assert f"{begun[2]},c2," in rows
    assert begun[3] not in rows
