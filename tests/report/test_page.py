"""The page of one short run, read by a parser of its own."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from verydeep.config import Config
from verydeep.errors import RunError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.views import PROTOCOLS
from verydeep.progress import Progress
from verydeep.report.page import results_of, write_report
from verydeep.verbs.train import Train

TINY = Config(net="A", crop=32, fc_width=8, base_width=4, scale=36, batch=500, epochs=2, drop_at=(1,), workers=0)


class Page(HTMLParser):
    VOID = {"meta", "img", "br", "link", "hr", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [str(values[a]) for a in ("src", "href") if a in values]
        if tag == "img":
            self.images.append(str(values["src"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    Train("builtin:fashion-mini", out=out, config=TINY).run()
    return out


def test_the_page_is_whole_and_asks_nobody_for_anything(run: Path) -> None:
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert not page.open
    assert page.images
    assert all(r.startswith("data:") for r in page.references)


def test_the_page_shows_what_the_results_say(run: Path) -> None:
    words = "".join(Page((run / "report.html").read_text(encoding="utf-8")).words)
    for file in (run / "results").glob("*.json"):
        result = json.loads(file.read_text())["results"][0]
        assert f"{result['top1_error']:.2f} % ({result['top1_errors']:,})" in words
        assert result["sha256"] in words
    assert "drop 1 of 1: rate 0.01 -> 0.001; epoch 1 is in drop_at" in words
    assert "conv5_2" in words
    assert "At Q = 36 the class map is 2 x 2" in words


def test_every_mistake_is_a_picture(run: Path) -> None:
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    result = json.loads(next((run / "results").glob("*centre*.json")).read_text())["results"][0]
    assert sum(i.startswith("data:image/jpeg") for i in page.images) == len(result["mistakes"]) == 24


def test_markdown_says_the_same(run: Path) -> None:
    text = (run / "report.md").read_text(encoding="utf-8")
    result = json.loads(next((run / "results").glob("*centre*.json")).read_text())["results"][0]
    assert f"{result['top1_error']:.2f} % ({result['top1_errors']:,})" in text
    assert "{{" not in text
    assert "None" not in text


def test_a_fusion_stands_behind_the_ladder_of_the_run(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    models = [str(copy), "builtin:fashion-a"]
    settings = Settings(workers=0)
    found = evaluate_models(
        models, "builtin:fashion-mini", PROTOCOLS, "several", settings=settings, limit=3, progress=Progress("none")
    )
    write_report(copy)
    kept = results_of(copy, found[0]["sha256"], found[0]["location"])
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


def test_results_of_other_weights_are_left_out(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for file in (copy / "results").glob("*.json"):
        file.write_text(file.read_text().replace('"sha256": "', '"sha256": "0'))
    write_report(copy)
    assert "Not tested yet" in (copy / "report.html").read_text(encoding="utf-8")


def test_a_report_without_its_photos_keeps_the_words(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for file in (copy / "run.json", *(copy / "results").glob("*.json")):
        file.write_text(file.read_text().replace('"location": "builtin:fashion-mini"', '"location": "/gone"'))
    write_report(copy)
    page = Page((copy / "report.html").read_text(encoding="utf-8"))
    assert not any(i.startswith("data:image/jpeg") for i in page.images)
    assert "in truth" in "".join(page.words)


def test_a_damaged_run_is_one_clear_line(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json is not JSON"):
        write_report(copy)
