"""The page of a real server, and both pages under axe-core (VERYDEEP_NODE_MODULES, after `npm install axe-core`)."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import process

from tests import chromium
from verydeep.predict import predictions
from verydeep.weights import load

browser = chromium.browser
AXE = Path(os.environ.get("VERYDEEP_NODE_MODULES", ""), "axe-core", "axe.min.js")
LIVING = (Path(__file__).parents[2] / "docs" / "living.html").as_uri()
FAULTS = "async () => (await axe.run()).violations.map(v => [v.id, ...v.nodes.map(n => n.target.join(' '))])"


@pytest.fixture(scope="module")
def served(browser):
    with process("builtin:fashion-a") as (_, said):
        yield said["url"]


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def answered(page, photo):
    page.set_input_files("#file", str(photo))
    page.locator("#said").filter(has_text="%").wait_for()


def test_the_page_of_a_real_server_shows_what_predict_says(browser, served, photo):
    context = browser.new_context(locale="en-GB")
    page, said = context.new_page(), []
    page.on("console", lambda m: said.append(m.text))
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(served)
    answered(page, photo)
    (row,) = predictions(load("builtin:fashion-a"), [str(photo)], 5)
    shown = page.locator(".answers li").all_inner_texts()
    assert [text.split("\n")[0] for text in shown] == [name for name, _ in row.classes]
    assert f"{100 * row.classes[0][1]:.1f}%" in shown[0]
    page.click("#explain")
    page.wait_for_function("() => document.getElementById('strength').disabled === false")
    assert said == []
    context.close()


@pytest.mark.parametrize("width", [360, 560, 1280])
def test_nothing_of_the_living_page_is_cut_off(browser, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(LIVING)
    page.locator("#places-list li").first.wait_for()
    cut = """() => [...document.querySelectorAll("section *")].filter((e) =>
        e.clientHeight > 1 && getComputedStyle(e).overflowY === "hidden" && e.scrollHeight > e.clientHeight + 1)
        .map((e) => e.className || e.id)"""
    assert page.evaluate(cut) == []
    context.close()


@pytest.mark.skipif(not AXE.is_file(), reason="VERYDEEP_NODE_MODULES names no node_modules with axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("which", ["server", "living"])
def test_axe_finds_no_fault(browser, served, photo, which, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, locale="zh-CN"
    )
    page = context.new_page()
    page.goto({"server": served, "living": LIVING}[which])
    if which == "server":
        answered(page, photo)
        page.locator("details summary").click()
    else:
        page.locator("#answer-list li").first.wait_for()
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    assert page.evaluate(FAULTS) == []
    context.close()
