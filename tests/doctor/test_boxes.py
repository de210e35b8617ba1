"""What `verydeep check` says of boxes."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from verydeep.doctor import check, check_text
from verydeep.doctor.boxes import twice
from verydeep.progress import Progress


def photo(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((400, 300), Image.Resampling.BICUBIC).save(path)


def listed(root: Path, *rows: str, more: int = 0) -> Path:
    """A list of these lines, with photos for all, and more whose boxes have one size."""
    rows += tuple(f"more{i}.png,{'cat' if i % 2 else 'dog'},{i} {i} {i + 50} {i + 40}" for i in range(more))
    for i, name in enumerate(sorted({row.split(",")[0] for row in rows})):
        photo(root / name, i)
    (root / "photos.csv").write_text("path,label,box\n" + "\n".join(rows))
    return root / "photos.csv"


def checked(data: Path, **more: Any) -> dict[str, Any]:
    return check(str(data), workers=1, progress=Progress("none"), **more)


def boxes_found(record: dict[str, Any]) -> dict[str, list[str]]:
    """Finding -> examples with their words."""
    return {
        f["id"]: [f"{e['name']} {e.get('words', '')}".strip() for e in f["examples"]]
        for f in record["findings"] if "box" in f["id"]
    }  # fmt: skip


ROWS = (
    "a.png,cat,10 10 100 100", "b.png,dog,400 0 450 50", "c.png,cat,-20 5 60 60", "d.png,dog,", "e.png,owl,",
    "f.png,cat,10 10 110 110", "f.png,cat,10 10 112 112", "f.png,dog,10 10 110 110", "g.png,dog,5 5 5 70",
    "h.png,dog,-0.8 0 400.9 300",
)  # fmt: skip


def test_each_fault_of_a_box_is_found(tmp_path: Path) -> None:
    record = checked(listed(tmp_path, *ROWS))
    assert boxes_found(record) == {
        "box-outside": ["b.png dog 400 0 450 50"],
        "box-empty": ["g.png 5 5 5 70"],
        "photo-without-box": ["d.png", "g.png", "e.png"],
        "class-without-box": ["owl"],
        "box-twice": ["f.png cat 10 10 110 110", "f.png cat 10 10 112 112"],
        "box-partly-outside": ["c.png cat -20 5 60 60"],
    }
    text = check_text(record)
    assert "1 box: wholly outside of their photos" in text
    assert "- b.png (dog 400 0 450 50)" in text


def test_data_without_boxes_says_nothing_of_them(photo_folder: Path) -> None:
    assert boxes_found(checked(photo_folder)) == {}


@pytest.mark.parametrize(("more", "others", "found"), [(20, 19, True), (20, 20, False), (19, 0, False)])
def test_boxes_of_one_size(tmp_path: Path, more: int, others: int, found: bool) -> None:
    rows = [f"x{i}.png,cat,{i} 0 {2 * i + 10} 33" for i in range(others)]
    record = checked(listed(tmp_path, *rows, more=more))
    assert ("boxes-alike" in boxes_found(record)) == found
    if found:
        (alike,) = (f for f in record["findings"] if f["id"] == "boxes-alike")
        assert (alike["count"], alike["detail"]) == (20, "50 x 40 pixels, of 39 boxes")


def test_twice_finds_what_a_comparison_of_all_finds() -> None:
    random = np.random.default_rng(3)
    ids, labels = random.integers(0, 9, 300), random.integers(0, 3, 300)
    boxes = random.integers(0, 8, (300, 4)) + np.array([0, 0, 60, 60.0])

    def same(i: int, j: int) -> bool:
        (a, b, c, d), (e, f, g, h) = boxes[i], boxes[j]
        both = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
        return bool(
            ids[i] == ids[j] and labels[i] == labels[j] and both > 0.9 * ((c - a) * (d - b) + (g - e) * (h - f) - both)
        )

    wanted = [i for i in range(300) if any(same(i, j) for j in range(300) if j != i)]
    assert 0 < len(wanted) < 300
    assert twice(ids, labels, boxes).tolist() == wanted


def test_the_page_draws_the_boxes(tmp_path: Path) -> None:
    checked(listed(tmp_path, *ROWS), page=tmp_path / "page.html")
    section = re.search(r'id="box-partly-outside".*?</section>', (tmp_path / "page.html").read_text(), re.DOTALL)
    assert section
    (source,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', section[0])
    thumbnail = np.array(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB"), np.int16)
    scale = thumbnail.shape[0] / 300
    below, right = thumbnail[round(58 * scale), round(30 * scale)], thumbnail[round(30 * scale), round(58 * scale)]
    assert all(red > 150 and max(green, blue) < 120 for red, green, blue in (below, right))


def test_what_a_tool_left_out_is_a_finding(tmp_path: Path) -> None:
    for i, corners in enumerate(("10,10;90,90", "5,5;5,9", "900,5;950,9", "")):
        photo(tmp_path / f"{i}.png", i)
        x0, y0, x1, y1 = re.split("[,;]", corners) if corners else [""] * 4
        box = f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
        thing = f"<object><name>cat</name>{box}</object>" * bool(corners)
        size = "<size><width>400</width><height>300</height></size>"
        (tmp_path / f"{i}.xml").write_text(f"<annotation>{size}{thing}</annotation>")
    assert boxes_found(checked(tmp_path)) == {
        "box-outside": ["2.png 900 5 950 9"], "box-empty": ["1.png 5 5 5 9"],
        "photo-without-box": ["1.png", "2.png", "3.png"],
    }  # fmt: skip
