"""Labels mended in the pages of a run and of `check`, in a real browser, and the file that it saves, read again."""

import csv
import io
import json
import shutil

import pytest

from tests import chromium
from tests.train import tiny
from verydeep.cli import main
from verydeep.doctor import check
from verydeep.progress import Progress

browser = chromium.browser
QUIET = Progress("none")
WORDS = ["--recipe", "small", "--crop", "32", "--scale", "36", "--base_width", "4", "--fc_width", "8", "--epochs", "1"]


@pytest.fixture
def page(browser):
    with browser.new_context(accept_downloads=True, viewport={"width": 360, "height": 700}) as context:
        page, wrong = context.new_page(), []
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        yield page
        assert wrong == []


@pytest.fixture
def photos(tmp_path):
    """Two classes, one with a hostile name, and a copy of a photo in the other: a contradiction."""
    shutil.copytree(tiny.make_photos(tmp_path / "made", classes=2) + "/train", root := tmp_path / "photos")
    (root / "c1").rename(root / "<img src=x>\"猫'")
    first = min((root / "c0").iterdir())
    shutil.copy(first, root / "<img src=x>\"猫'" / "copy, of it.png")
    return root


def saved(page, path):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrections.csv").click()
    download.value.save_as(path)
    assert download.value.suggested_filename == "corrections.csv"
    text = path.read_bytes().decode("utf-8")
    assert text[0] == "\ufeff"  # for Excel
    return list(csv.DictReader(io.StringIO(text[1:])))


def figure_of(page, photo):
    return page.locator("figure[data-photo]").filter(has_text=photo).first


def test_marks_of_check_are_saved_survive_a_reload_and_mend_what_check_finds(page, photos, tmp_path):
    before = check(str(photos), page=tmp_path / "check.html", progress=QUIET)
    assert "contradiction" in {f["id"] for f in before["findings"]}
    strange, first = "<img src=x>\"猫'", min((photos / "c0").iterdir()).name
    page.goto(f"file://{tmp_path / 'check.html'}")
    assert not page.locator("#mended").is_visible()
    copy = page.locator("#contradiction figure").filter(has_text="copy, of it.png")
    copy.get_by_role("button", name="wrong label").click()
    save = page.get_by_role("button", name="Save corrections.csv")
    assert save.is_disabled()  # no class is chosen
    assert "1 without a class yet" in page.get_by_role("status").inner_text()
    copy.get_by_role("combobox").select_option("c0")
    original = page.locator("#contradiction figure").filter(has_text=f"c0/{first}")
    original.get_by_role("button", name="remove").press("Enter")
    assert page.get_by_role("status").inner_text().startswith("1 label to mend, 1 photo to leave out.")
    page.reload()
    assert page.get_by_role("status").inner_text().startswith("1 label to mend, 1 photo to leave out.")
    rows = saved(page, tmp_path / "corrections.csv")
    assert rows == [
        {"photo": f"{strange}/copy, of it.png", "label": strange, "correct": "c0", "split": "all"},
        {"photo": f"c0/{first}", "label": "c0", "correct": "", "split": "all"},
    ]
    after = check(str(photos), page=tmp_path / "after.html", progress=QUIET, corrections=tmp_path / "corrections.csv")
    assert "contradiction" not in {f["id"] for f in after["findings"]}
    assert main(["check", str(photos), "--corrections", str(tmp_path / "corrections.csv")]) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.goto(f"file://{tmp_path / 'after.html'}")  # what applies already goes into the next file, with its own label
    again = page.locator("figure[data-photo]").filter(has_text="copy, of it.png").first
    again.get_by_role("button", name="remove").click()
    assert "2 made earlier are saved with them" in page.get_by_role("status").inner_text()
    assert saved(page, tmp_path / "next.csv") == [rows[0] | {"correct": ""}, rows[1]]
    check(str(photos), progress=QUIET, corrections=tmp_path / "next.csv")


def test_a_mark_is_taken_back(page, photos, tmp_path):
    check(str(photos), page=tmp_path / "check.html", progress=QUIET)
    page.goto(f"file://{tmp_path / 'check.html'}")
    copy = page.locator("#contradiction figure").filter(has_text="copy, of it.png")
    remove = copy.get_by_role("button", name="remove")
    remove.click()
    assert remove.get_attribute("aria-pressed") == "true"
    same = page.locator("figure.out").filter(has_text="copy, of it.png")
    assert same.count() == page.locator("figure").filter(has_text="copy, of it.png").count() > 1  # in every finding
    remove.click()
    assert not page.locator("#mended").is_visible()
    copy.get_by_role("button", name="wrong label").click()
    page.get_by_role("button", name="Clear").click()
    assert not copy.get_by_role("combobox").is_visible()
    page.reload()
    assert not page.locator("#mended").is_visible()


def test_mistakes_of_a_run_offer_the_answer_and_the_file_is_taken(page, photos, tmp_path):
    run = tmp_path / "run"
    assert main(["train", str(photos), "--out", str(run), *WORDS, "--val_share", "0.3", "--test_share", "0.4"]) == 0
    page.goto(f"file://{run / 'report.html'}")
    figures = page.locator(".mistakes figure")
    assert figures.count() > 1
    wanted = []
    for i in range(2):
        figure = figures.nth(i)
        figure.get_by_role("button", name="wrong label").click()
        photo, label, answer = (figure.get_attribute(f"data-{name}") for name in ("photo", "label", "answer"))
        assert figure.locator("option:checked").inner_text() == answer
        wanted.append({"photo": photo, "label": label, "correct": answer, "split": "test"})
    assert saved(page, tmp_path / "corrections.csv") == wanted
    assert main(["evaluate", str(run), str(photos), "--corrections", str(tmp_path / "corrections.csv")]) == 0
    (result,) = (json.loads(f.read_text())["results"][0] for f in (run / "results").glob("*centre*corrected-*.json"))
    own = next(json.loads(f.read_text()) for f in (run / "results").glob("*centre-*.json") if "corrected" not in f.name)
    assert result["top1_errors"] == own["results"][0]["top1_errors"] - 2
