"""The page of a study made of records written by hand, read by a parser of its own."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from study_records import SCALES, SEVERAL, result, stage, study, wrong_first
from test_claims import answered

from verydeep.report.page import rendered
from verydeep.study import page
from verydeep.study.claims import JITTER, claims, judgements
from verydeep.study.page import study_facts, study_text, write_pages
from verydeep.study.tables import border_share, tables_of_paper


class Page(HTMLParser):
    """Text by table row; fails on tags that do not close as they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [str(v) for k, v in attrs if k in ("src", "href")]
        if tag == "br" and self.rows:
            self.rows[-1][-1] += " "
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def whole_study(seeds: int = 1) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Every stage of Table 3 by every protocol; errors fall by 10 photos from net to net and with every refinement."""
    facts, results = {}, []
    ways = {"A": ["256"], "A-LRN": ["256"], "B": ["256"], **{net: list(SCALES) for net in "CDE"}}
    for seed in range(seeds):
        for n, (net, own) in enumerate(ways.items()):
            for w, way in enumerate(own):
                name, values = stage(net, way, seed)
                facts[name] = values
                wrong = 150 - 10 * n - 10 * w + seed
                results.append(result([name], wrong_first(wrong + 20), "centre", [SCALES[way]]))
                results.append(result([name], wrong_first(wrong), "dense", [SCALES[way]]))
                results.append(result([name], wrong_first(wrong - 10), "dense", SEVERAL[way]))
                for q in {36, 54, 72} - {SCALES[way]} if net in "DE" else ():
                    results.append(result([name], wrong_first(wrong + abs(q - SCALES[way]) * 2), "dense", [q]))
        pair = [f"{net}-{JITTER}-seed{seed}" for net in "DE"]
        for names in ([pair[0]], [pair[1]], pair):
            for protocol, wrong in (("crops", 40), ("both", 30), ("dense", 50)):
                results.append(result(names, wrong_first(wrong - 10 * len(names)), protocol, SEVERAL[JITTER]))
    return results, facts


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    out = tmp_path_factory.mktemp("study")
    write_pages(out, study(*whole_study()))
    return Page((out / "study.html").read_text(encoding="utf-8")), (out / "study.md").read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_nobody_for_anything(pages: tuple[Page, str]) -> None:
    html, markdown = pages
    assert not html.open
    assert len(html.sources) == 2
    assert all(s.startswith("data:image/svg+xml") for s in html.sources)
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%", html.words + markdown)
    assert "photos <b>|" in html.words
    assert "photos &lt;b>&#124;" in markdown


def test_table_3_says_what_the_records_say_beside_the_papers(pages: tuple[Page, str]) -> None:
    html, markdown = pages
    # A is wrong on 150 of 400 densely and on 170 by the centre crop; D at S = 36 on 110 and 130.
    a = ["A", "36", "36", "2 x 2", "42.50 / 42.50", "37.50 / 37.50", "256 | 256", "29.6 / 10.4"]
    d = ["D", "36", "36", "2 x 2", "32.50 / 32.50", "27.50 / 27.50", "256 | 256", "27.0 / 8.8"]
    for row in (a, d):
        assert row in html.rows
        assert "| " + " | ".join(c.replace("|", "&#124;") for c in row) + " |" in markdown


def test_the_other_tables(pages: tuple[Page, str]) -> None:
    rows = pages[0].rows
    assert [
        "D",
        "[36;72]",
        "36, 54, 72",
        "2 x 2, 3 x 3",
        "27.50 / 27.50",
        "22.50 / 22.50",
        "20.00 / 20.00",
        "256, 384, 512",
        "24.8 / 7.5",
    ] in rows
    table_5 = [
        "D",
        "[36;72]",
        "36, 54, 72",
        "2 x 2, 3 x 3",
        "27.50 / 27.50",
        "20.00 / 20.00",
        "7.50 / 7.50",
        "5.00 / 5.00",
    ]
    assert [*table_5, "24.8 / 7.5", "24.6 / 7.5", "24.4 / 7.2"] in rows
    table_6 = ["D+E", "[36;72]", "36, 54, 72", "2 x 2, 3 x 3", "-", "7.50 / 7.50", "5.00 / 5.00", "2.50 / 2.50"]
    assert [*table_6, "24.0 / 7.1", "23.9 / 7.2", "23.7 / 6.8"] in rows


def page_of(results: list[dict[str, Any]], facts: dict[str, dict[str, Any]], **changes: Any) -> str:
    """The Markdown page without its figures, which take most of the time."""
    record = study(results, facts, **changes)
    shown = {"stages": ([], []), "own": "", "command": ""}
    return rendered("study/page.md.j2", study_facts(record) | shown)


def test_much_worse_dense_evaluation_is_told_with_its_reason_and_only_then() -> None:
    results, facts = whole_study()
    assert "Do not read the dense columns" not in page_of(results, facts)
    bad = [
        result(["D-54-seed0"], wrong_first(wrong), protocol, [54])
        for protocol, wrong in (("centre", 40), ("dense", 280))
    ]
    facts |= {"D-54-seed0": facts[f"D-{JITTER}-seed0"]}
    words = page_of([*results[:3], *bad], facts)
    assert "in 1 of 2 tests" in words
    assert "70.0 against 10.0 % (D-54-seed0, Q = 54)" in words
    assert "2 x 2 in block 5, where 56 %" in words
    assert "--pooling down leaves them out" in words
    assert "--pooling" not in page_of([r | {"pooling": "down"} for r in [*results[:3], *bad]], facts)
    taps = [(i + a, j + b) for i in range(5) for j in range(5) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    assert border_share(5) == pytest.approx(sum(not (0 <= y < 5 and 0 <= x < 5) for y, x in taps) / len(taps))


def test_several_seeds_are_a_mean_and_a_deviation() -> None:
    """A is wrong on 150, 151 and 152 of 400."""
    words = page_of(*whole_study(seeds=3))
    assert "| A | 36 | 36 | 2 x 2 | 42.75 ± 0.25 / 42.75 ± 0.25 | 37.75 ± 0.25 / 37.75 ± 0.25 |" in words
    assert "mean and standard deviation of 3 seeds" in words


def test_crops_of_the_first_photos_are_compared_on_those_alone_and_said_so() -> None:
    results, facts = whole_study()
    results = [
        {**result(r["stages"], wrong_first(20)[:100], r["protocol"], r["scales"]), "limit": 100}
        if r["protocol"] in ("crops", "both")
        else r
        for r in results
    ]
    third, fourth, table, _ = tables_of_paper(results, facts)
    assert third.photos == fourth.photos == "all 400"
    # Densely the first 80 photos of all are wrong, so 80 of these 100; of the crops 20 of 100.
    assert table.rows[0][5:8] == ["80.00 / 80.00", "20.00 / 20.00", "20.00 / 20.00"]
    assert table.photos == "the first 100"
    assert "on the first 100 test photos" in page_of(results, facts)
    both = judgements(results, facts)[-2].outcomes["both"][0]
    assert (both.photos, both.second_better, both.first_better) == (100, 60, 0)


def test_top5_is_a_dash_where_it_cannot_fail() -> None:
    results, facts = whole_study()
    few = [{**r, "top5_error": None, "top5_errors": None, "right": {**r["right"], "top5": None}} for r in results]
    assert tables_of_paper(few, facts)[0].rows[0][5] == "37.50 / -"


@pytest.mark.parametrize(
    ("gain", "words"), [(20, ("held", "not held")), (0, ("undecided", "held")), (-20, ("not held", "held"))]
)
def test_each_claim_stands_on_the_page_with_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: int, words: tuple[str, str]
) -> None:
    monkeypatch.setattr(page, "over_depth", lambda *_: None)  # which would take most of the time
    monkeypatch.setattr(page, "over_scales", lambda *_: None)
    for index, claim in enumerate(claims()):
        results, facts = answered(index, gain)
        write_pages(tmp_path, study(results, facts))
        for text in (
            Page((tmp_path / "study.html").read_text(encoding="utf-8")).rows,
            (tmp_path / "study.md").read_text(encoding="utf-8"),
        ):
            if isinstance(text, list):
                said = next(row[2] for row in text if row[0] == claim.sentence)
            else:
                said = next(line for line in text.splitlines() if line.startswith(f"| {claim.sentence}")).split(" | ")[
                    2
                ]
            expected = words[claim.kind == "not fewer"]
            protocols = {c.second.protocol for c in claim.comparisons}
            assert len(re.findall(rf"(?<!not ){expected}\b", said)) == len(protocols), said
            assert "comparisons" not in said


def test_a_claim_without_its_nets_says_what_it_needs(tmp_path: Path) -> None:
    facts = dict([stage("A", "256"), stage("B", "256")])
    results = [result([f"{net}-256-seed0"], wrong_first(n), "dense", [36]) for net, n in (("A", 50), ("B", 10))]
    write_pages(tmp_path, study(results, facts))
    rows = {row[0]: row for row in Page((tmp_path / "study.html").read_text(encoding="utf-8")).rows}
    assert rows[claims()[1].sentence][2] == "dense, the paper's way: held (1 of 5 comparisons)"
    assert rows[claims()[-1].sentence][2] == "not tested: it needs D and E with jitter"


def test_one_seed_speaks_of_two_nets_and_several_of_signs(tmp_path: Path) -> None:
    words = [study_text(study(*whole_study(seeds)), tmp_path) for seeds in (1, 2, 3)]
    assert "about the two nets that were compared, not about the method" in words[0]
    assert "Two cannot say much" in words[1]
    assert "All of them must have the same sign" in words[2]


def test_the_page_says_which_photos_steered_and_which_were_counted() -> None:
    results, facts = whole_study()
    clean = page_of(results, facts)
    assert "1,000 validation photos" in clean
    assert "400 photos of the split test, which no training looked at" in clean
    assert "the first 100 of the 400 photos of the split test" in page_of(results, facts, test_photos=100)
    assert "SAME validation photos" in page_of(results, facts, split="val", photos={"train": 6000, "val": 1000})
    config = study(results, facts)["config"] | {"drop_at": []}
    assert "when the error stopped improving" in page_of(results, facts, config=config)


def test_the_same_study_gives_the_same_page(tmp_path: Path) -> None:
    made = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_pages(tmp_path / folder, study(*whole_study()))
        made.append((tmp_path / folder / "study.html").read_bytes())
    assert made[0] == made[1]
