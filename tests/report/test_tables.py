from __future__ import annotations

import pytest

from verydeep.net.vgg import VGG
from verydeep.report.tables import aligned, map_side, markdown, rate, results_rows, results_text

RESULT = {
    "model": "runs/a", "data": "photos", "protocol": "dense", "scales": [256], "mirror": True, "crop": 224, "pooling": "up",
    "split": "test", "photos": 1200, "top1_errors": 30, "top5_errors": None, "top1_error": 2.5, "top5_error": None,
    "seconds": 1.25, "skipped": [],
}  # fmt: skip


def test_a_rate_shows_what_it_was_divided_from() -> None:
    assert rate(2.5, 30) == "2.50 % (30)"
    assert rate(None, None) == "-"


def test_a_result_is_one_row() -> None:
    assert results_rows([RESULT]) == [("dense", "256", "yes", "2 x 2", "test", "1,200", "2.50 % (30)", "-", "1.2")]


@pytest.mark.parametrize("pooling", ["up", "down"])
@pytest.mark.parametrize("scale", [32, 36, 54, 64, 72, 100])
def test_the_class_map_has_the_size_the_net_gives_it(scale: int, pooling: str) -> None:
    import torch

    net = VGG("A", classes=2, crop=32, fc_width=2, base_width=1, pooling=pooling)
    found = net.dense(torch.zeros(1, 3, scale, scale))
    assert found.shape[-1] == map_side(scale, 32, pooling == "up")


def test_markdown_keeps_bars_out_of_the_cells() -> None:
    assert markdown(("a", "b"), [("x|y", "1")]).splitlines() == ["| a | b |", "| --- | --- |", "| x&#124;y | 1 |"]


def test_columns_are_aligned() -> None:
    assert aligned(("a", "long"), [("wide cell", "1")]) == "a          long\nwide cell  1"


def test_skipped_photos_are_named_once_and_the_first_of_many() -> None:
    def said(*names: str) -> str:
        skipped = [{"photo": name, "reason": "is empty"} for name in names]
        return results_text([{**RESULT, "skipped": skipped}] * 2).splitlines()[-1]

    assert said("cat/1.jpg") == "1 unreadable photo was skipped: cat/1.jpg"
    assert said("1.jpg", "2.jpg") == "2 unreadable photos were skipped: 1.jpg, 2.jpg"
    assert said(*"abcdefg") == "7 unreadable photos were skipped: a, b, c, d, e, ..."
