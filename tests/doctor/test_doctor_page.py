from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from verydeep.doctor.examine import check
from verydeep.doctor.page import SHOWN
from verydeep.errors import RunError
from verydeep.progress import Progress


def test_the_page_stands_alone_and_shows_copies_side_by_side(photo_folder: Path, tmp_path: Path) -> None:
    shutil.copy(photo_folder / "1" / "0.png", photo_folder / "2" / "copy.png")
    record = check(str(photo_folder), page=tmp_path / "page.html", progress=Progress("none"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page)
    assert "<script" not in page
    section = page.split('id="contradiction"')[1].split("</section>")[0]
    assert section.count("<img") == 2
    assert "1/0.png" in section
    assert "2/copy.png" in section
    assert page.count('<img class="plot"') == 2
    small = page.split('id="small"')[1].split("</section>")[0]
    assert small.count("<img") == SHOWN < next(f["count"] for f in record["findings"] if f["id"] == "small")
    assert record["verdict"]["words"].replace("'", "&#39;") in page


def test_many_classes_make_a_page_of_bounded_height(tmp_path: Path) -> None:
    from verydeep.doctor.page import MOST_BARS, class_bars

    record = {"photos": {"all": 300}, "classes": [{"name": f"c $x${i}", "photos": {"all": 3}} for i in range(1000)]}
    assert class_bars(record).get_figheight() < 0.3 * MOST_BARS


def test_a_page_that_cannot_be_written_is_told(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be saved"):
        check(str(photo_folder), page=tmp_path / "nowhere" / "page.html", progress=Progress("none"))
