"""The page of one short run, read by a parser of its own."""

import base64
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import verydeep
from tests.report.parsed import Page
from tests.train import tiny
from verydeep.cli import main
from verydeep.config import Config
from verydeep.data.photo import encode
from verydeep.data.source import open_data
from verydeep.errors import RunError
from verydeep.evaluate.lists import LISTS
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.scores import MISTAKES
from verydeep.evaluate.views import PROTOCOLS
from verydeep.explain import seen_in
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.progress import Progress
from verydeep.report.page import MOST_MAPS, own_results, run_facts, write_report
from verydeep.run import Run
from verydeep.verbs.train import Train

TINY = Config(net="A", crop=32, fc_width=8, base_width=4, scale=36, batch=500, epochs=2, drop_at=(1,), workers=0)


def centre_of(run: Path) -> dict[str, Any]:
    return json.loads(next((run / "results").glob("*centre*.json")).read_text())["results"][0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    Train("builtin:fashion-mini", out=out, config=TINY).run()
    return out


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_the_page_is_whole_and_asks_nobody_for_anything(run: Path) -> None:
    page = Page(run / "report.html")
    assert page.sources
    assert all(r.startswith("data:") or r in LISTS for r in page.sources)


def test_the_page_shows_what_the_results_say(run: Path) -> None:
    words = Page(run / "report.html").words
    for file in (run / "results").glob("*.json"):
        result = json.loads(file.read_text())["results"][0]
        assert f"{result['top1_error']:.2f} % ({result['top1_errors']:,})" in words
        assert result["sha256"] in words
    assert "drop 1 of 1: rate 0.01 -> 0.001; epoch 1 is in drop_at" in words
    assert "conv5_2" in words
    assert "At Q = 36 the class map is 2 x 2" in words


def test_every_mistake_is_a_picture(run: Path) -> None:
    page = Page(run / "report.html")
    result = centre_of(run)
    photos = sum(i.startswith("data:image/jpeg") for i in page.sources)
    assert photos == len(result["mistakes"]) + MOST_MAPS == MISTAKES + MOST_MAPS
    assert "what the answer hangs on" in page.words


def test_what_the_first_mistakes_hang_on_is_what_explain_draws(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, photos = centre_of(run)["mistakes"][0], open_data("builtin:fashion-mini").split("test")
    net = verydeep.load(run)
    drawn = seen_in(net, net.contract.classes.index(first["answer"]), 96, photos.open(first["id"]))
    wanted = "data:image/jpeg;base64," + base64.b64encode(encode(drawn, "JPEG")).decode()
    assert wanted in Page(run / "report.html").sources
    monkeypatch.setattr("verydeep.report.page.MAPS_COST", 3)  # a net for which it would take long
    assert not any("seen" in m for m in run_facts(run)["pictures"])


def test_markdown_says_the_same(run: Path) -> None:
    text = (run / "report.md").read_text(encoding="utf-8")
    result = centre_of(run)
    assert f"{result['top1_error']:.2f} % ({result['top1_errors']:,})" in text
    assert "{{" not in text
    assert "None" not in text


def test_a_fusion_stands_behind_the_ladder_of_the_run(copy: Path) -> None:
    models = [str(copy), "builtin:fashion-a"]
    settings = Settings(workers=0)
    found = evaluate_models(
        models, "builtin:fashion-mini", PROTOCOLS, "several", settings=settings, limit=3, progress=Progress("none")
    )
    write_report(copy)
    kept = own_results(copy, found[0]["sha256"], found[0]["location"])
    assert [(r["protocol"], len(r["scales"]), "models" in r) for r in kept if r["limit"] == 3] == [
        *[(p, n, False) for p, n in (("centre", 1), ("dense", 1), ("dense", 3), ("crops", 3), ("both", 3))],
        *[(p, n, True) for p, n in (("centre", 1), ("dense", 1), ("dense", 3), ("crops", 3), ("both", 3))],
    ]
    for page in ("report.html", "report.md"):
        text = (copy / page).read_text(encoding="utf-8")
        assert "both, fused" in text
        assert "test, first 3" in text
        assert f"{copy} + builtin:fashion-a" in text
        assert "150.0" in text


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    write_report(run)
    assert (run / "report.html").read_bytes() == before


def test_own_results_other_weights_are_left_out(copy: Path) -> None:
    for file in (copy / "results").glob("*.json"):
        file.write_text(file.read_text().replace('"sha256": "', '"sha256": "0'))
    write_report(copy)
    assert "Not tested yet" in (copy / "report.html").read_text(encoding="utf-8")


def test_a_report_without_its_photos_keeps_the_words(copy: Path, run: Path) -> None:
    for file in (copy / "run.json", *(copy / "results").glob("*.json")):
        file.write_text(file.read_text().replace('"location": "builtin:fashion-mini"', '"location": "/gone"'))
    write_report(copy)
    page = Page(copy / "report.html")
    assert not any(i.startswith("data:image/jpeg") for i in page.sources)
    assert "true class" in page.words


def test_a_damaged_run_is_one_clear_line(copy: Path, run: Path) -> None:
    (copy / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json is not JSON"):
        write_report(copy)


def test_a_start_that_measures_nothing_is_reported(tmp_path: Path) -> None:
    """With a start's mean and no colour shift the photos are not measured, and there is no statistics.json."""
    data, words = tiny.make_photos(tmp_path / "photos"), ["--colour", "off", "--epochs", "1", "--drop_at", "[]"]
    words += ["--recipe", "finetune", "--batch", "10", "--workers", "0", "--out", str(tmp_path / "run")]
    assert main(["train", data, "--from", "builtin:fashion-a", *words]) == 0
    assert not (tmp_path / "run" / "statistics.json").exists()
    for page in ("report.html", "report.md"):
        text = (tmp_path / "run" / page).read_text(encoding="utf-8")
        assert "nothing was measured" in text
        assert "eigenvalue" not in text


def test_a_drop_is_told_once_by_a_run_killed_between_saying_it_and_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def say(run: Run, message: str) -> None:
        true_say(run, message)
        if message.startswith("drop "):
            monkeypatch.undo()
            raise Killed

    data, out, true_say = tiny.make_photos(tmp_path / "photos"), tmp_path / "run", Run.say
    monkeypatch.setattr(Run, "say", say)
    with pytest.raises(Killed):
        tiny.go(data, out, drop_at=(1,))
    tiny.go(data, out, drop_at=(1,))
    (out / "log.txt").write_text("2014-09-04 00:00:00 drop 9 of 9: the log is for people\n")
    write_report(out)
    for page in ("report.html", "report.md"):
        text = (out / page).read_text(encoding="utf-8")
        assert text.count("drop 1 of 1: rate 0.001 -") == 1
        assert text.count("is far from the paper") == 1
        assert "drop 9" not in text
    assert "signal" in Page(out / "report.html").words


def test_five_thousand_classes_are_tested_written_and_reported(copy: Path, run: Path, tmp_path: Path) -> None:
    contract = verydeep.load(run).contract
    many = build(dataclasses.replace(contract, classes=tuple(f"c{i}" for i in range(5000))))
    initialise(many.net, "he", 0)
    many.save(copy / "best.safetensors")
    data = tiny.make_photos(tmp_path / "photos")
    found = evaluate_models([str(copy)], data, ["centre"], settings=Settings(workers=0), progress=Progress("none"))
    assert sum(n for _, _, n in found[0]["confusion"]) == found[0]["photos"] == 9
    again = evaluate_models([str(copy)], data, ["centre"], settings=Settings(workers=0), again=False)
    assert again == json.loads(json.dumps(found))
    write_report(copy)
    truth, answer, n = max(found[0]["confusion"], key=lambda cell: cell[2])
    assert f"c{truth} taken for c{answer} ({n})" in (copy / "report.html").read_text(encoding="utf-8")


def test_a_damaged_state_is_told_in_words_that_report_takes(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "last" / "state.json").write_text("{}")
    assert main(["report", str(copy)]) == 1
    said = capsys.readouterr().err
    assert "state.json" in said
    assert "--" not in said
