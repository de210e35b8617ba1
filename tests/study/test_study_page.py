"""The page of a study made of records written by hand, read by a parser of its own."""

import re
from pathlib import Path

import pytest
from study_records import Record, result, stage, study, whole_study, wrong_first
from test_claims import answered

from tests.report.parsed import Page
from verydeep.report.page import rendered
from verydeep.study.claims import claims, judgements
from verydeep.study.page import study_facts, study_text, write_pages
from verydeep.study.tables import border_share, tables_of_paper

UNDRAWN = {"stages": ([], []), "own": "", "command": "", "charts": {}}  # figures would take most of the time


def markdown_of(results: list[Record], facts: dict[str, Record], **changes: object) -> str:
    return rendered("study/page.md.j2", study_facts(study(results, facts, **changes)) | UNDRAWN)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    out = tmp_path_factory.mktemp("study")
    write_pages(out, study(*whole_study()))
    first = (out / "study.html").read_bytes()
    write_pages(out, study(*whole_study()))
    assert (out / "study.html").read_bytes() == first
    return Page(out / "study.html"), (out / "study.md").read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_nobody_for_anything(pages: tuple[Page, str]) -> None:
    page, markdown = pages
    assert len(page.sources) == 2
    assert all(s.startswith("data:image/svg+xml") for s in page.sources)
    assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%", page.words + markdown)
    assert "photos <b>|" in page.words
    assert "photos &lt;b>&#124;" in markdown


def test_what_the_shared_words_show_is_escaped_in_html_alone(tmp_path: Path) -> None:
    results, facts = whole_study()
    shown = study_facts(study([r | {"split": "<i>test"} for r in results], facts)) | UNDRAWN
    (tmp_path / "study.html").write_text(rendered("study/page.html.j2", shown))
    assert "errors in percent on all 400 <i>test photos" in Page(tmp_path / "study.html").words
    assert "errors in percent on all 400 <i>test photos" in rendered("study/page.md.j2", shown)


Q = ("[36;72]", "36, 54, 72", "2 x 2, 3 x 3")


@pytest.mark.parametrize(
    "row",
    [  # A is wrong on 150 of 400 densely and on 170 by the centre crop; D at S = 36 on 110 and 130.
        ("A", "36", "36", "2 x 2", "42.50 / 42.50", "37.50 / 37.50", "256 | 256", "29.6 / 10.4"),
        ("D", "36", "36", "2 x 2", "32.50 / 32.50", "27.50 / 27.50", "256 | 256", "27.0 / 8.8"),
        ("D", *Q, "27.50 / 27.50", "22.50 / 22.50", "20.00 / 20.00", "256, 384, 512", "24.8 / 7.5"),
        ("D", *Q, "27.50 / 27.50", "20.00 / 20.00", "7.50 / 7.50", "5.00 / 5.00",
            "24.8 / 7.5", "24.6 / 7.5", "24.4 / 7.2"),
        ("D+E", *Q, "-", "7.50 / 7.50", "5.00 / 5.00", "2.50 / 2.50", "24.0 / 7.1", "23.9 / 7.2", "23.7 / 6.8"),
    ],
)  # fmt: skip
def test_tables_say_what_the_records_say_beside_the_papers(pages: tuple[Page, str], row: tuple[str, ...]) -> None:
    page, markdown = pages
    assert list(row) in page.rows
    assert "| " + " | ".join(c.replace("|", "&#124;") for c in row) + " |" in markdown


def test_comparisons_name_s_as_it_was_here_and_not_as_in_the_paper(pages: tuple[Page, str]) -> None:
    page, markdown = pages
    named = [row[:2] for row in page.rows if len(row) == 11]
    assert ["D at S = 36, dense, one Q", "D at S = [36;72], dense, one Q"] in named
    assert ["D at S = 54, dense, one Q", "D at S = 54, dense, several Q"] in named
    assert not re.search(r"S = (256|384|\[256)", markdown)


def test_much_worse_dense_evaluation_is_told_with_its_reason_and_only_then() -> None:
    results, facts = whole_study()
    assert "Do not read the dense columns" not in markdown_of(results, facts)
    facts["D-54-seed0"] = stage("D", "384")[1]
    wrong = {"centre": 40, "dense": 280}
    bad = [*results[:3], *(result(["D-54-seed0"], wrong_first(n), p, [54]) for p, n in wrong.items())]
    words = markdown_of(bad, facts)
    assert "in 1 of 2 tests" in words
    assert "70.0 against 10.0 % (D-54-seed0, Q = 54)" in words
    assert "2 x 2 in block 5, where 56 %" in words
    assert "'verydeep evaluate' with --pooling down leaves them out" in words
    assert "--pooling" not in markdown_of([r | {"pooling": "down"} for r in bad], facts)
    taps = [(i + a, j + b) for i in range(5) for j in range(5) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    assert border_share(5) == pytest.approx(sum(not (0 <= y < 5 and 0 <= x < 5) for y, x in taps) / len(taps))


def test_several_seeds_are_a_mean_and_a_deviation() -> None:
    """A is wrong on 150, 151 and 152 of 400."""
    words = markdown_of(*whole_study(seeds=3))
    assert "| A | 36 | 36 | 2 x 2 | 42.75 ± 0.25 / 42.75 ± 0.25 | 37.75 ± 0.25 / 37.75 ± 0.25 |" in words
    assert "mean and standard deviation of 3 seeds" in words


def test_crops_of_the_first_photos_are_compared_on_those_alone_and_said_so() -> None:
    results, facts = whole_study()
    for i, r in enumerate(results):
        if r["protocol"] in ("crops", "both"):
            results[i] = result(r["stages"], wrong_first(20)[:100], r["protocol"], r["scales"]) | {"limit": 100}
    third, fourth, table, _ = tables_of_paper(results, facts)
    assert (third.photos, fourth.photos, table.photos) == ("all 400", "all 400", "the first 100")
    # Densely the first 80 photos of all are wrong, so 80 of these 100; of the crops 20 of 100.
    assert table.rows[0][5:8] == ["80.00 / 80.00", "20.00 / 20.00", "20.00 / 20.00"]
    both = judgements(results, facts)[-2].outcomes["both"][0]
    assert (both.photos, both.second_better, both.first_better) == (100, 60, 0)


def test_top5_is_a_dash_where_it_cannot_fail() -> None:
    results, facts = whole_study()
    few = [{**r, "top5_error": None, "top5_errors": None, "right": {**r["right"], "top5": None}} for r in results]
    assert tables_of_paper(few, facts)[0].rows[0][5] == "37.50 / -"


@pytest.mark.parametrize(
    ("gain", "words"), [(20, ("held", "not held")), (0, ("undecided", "held")), (-20, ("not held", "held"))]
)
def test_each_claim_stands_on_the_page_with_its_verdict(tmp_path: Path, gain: int, words: tuple[str, str]) -> None:
    for index, claim in enumerate(claims()):
        shown = study_facts(study(*answered(index, gain))) | UNDRAWN
        (tmp_path / "study.html").write_text(rendered("study/page.html.j2", shown), encoding="utf-8")
        lines = rendered("study/page.md.j2", shown).splitlines()
        for said in (
            next(row[2] for row in Page(tmp_path / "study.html").rows if row[0] == claim.sentence),
            next(line for line in lines if line.startswith(f"| {claim.sentence}")).split(" | ")[2],
        ):
            protocols = {c.second.protocol for c in claim.comparisons}
            assert len(re.findall(rf"(?<!not ){words[claim.kind == 'not fewer']}\b", said)) == len(protocols), said
            assert "comparisons" not in said


def test_a_claim_without_its_nets_says_what_it_needs(tmp_path: Path) -> None:
    facts = dict([stage("A", "256"), stage("B", "256")])
    results = [result([f"{net}-256-seed0"], wrong_first(n), "dense", [36]) for net, n in (("A", 50), ("B", 10))]
    write_pages(tmp_path, study(results, facts))
    rows = {row[0]: row for row in Page(tmp_path / "study.html").rows}
    assert rows[claims()[1].sentence][2] == "dense, the paper's way: held (1 of 5 comparisons)"
    assert rows[claims()[-1].sentence][2] == "not tested: it needs D and E with jitter"


def test_a_net_that_learnt_nothing_is_said_so_of(tmp_path: Path) -> None:
    results, facts = whole_study()
    stage = results[0]["stages"][0]
    own = [r for r in results if r["stages"] == [stage]]
    assert len(own) > 1
    said = f"{stage} learnt nothing: the answers are no better than guessing. A comparison with it tells"
    for doubted, told in ((own[:1], False), (own, True)):
        for r in doubted:
            r["doubt"] = "the net gives one answer, 'a', to nearly every photo"
        assert (said in markdown_of(results, facts)) == told
        assert (said in study_text(study(results, facts), tmp_path)) == told
        write_pages(tmp_path, study(results, facts))
        assert (said in (tmp_path / "study.html").read_text()) == told


def test_one_seed_speaks_of_two_nets_and_several_of_signs(tmp_path: Path) -> None:
    one, two, three = (study_text(study(*whole_study(seeds)), tmp_path) for seeds in (1, 2, 3))
    assert "about the two nets that were compared, not about the method" in one
    assert "two cannot say much" in two
    assert "All of them must have the same sign" in three


def test_the_page_says_which_photos_steered_and_which_were_counted() -> None:
    results, facts = whole_study()
    config = study(results, facts)["config"] | {"drop_at": []}
    for said, changes in (
        ("1,000 validation photos", {}),
        ("400 photos of the split test, which no training looked at", {}),
        ("the first 100 of the 400 photos of the split test", {"test_photos": 100}),
        ("SAME validation photos", {"split": "val", "photos": {"train": 6000, "val": 1000}}),
        ("when the error stopped improving", {"config": config}),
    ):
        assert said in markdown_of(results, facts, **changes)
