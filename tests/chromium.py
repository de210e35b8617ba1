"""A real browser for tests of pages. A test file takes the fixture by its name: `browser = chromium.browser`."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--use-fake-device-for-media-stream",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not (program := shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=QUIET)
        yield opened
        opened.close()
