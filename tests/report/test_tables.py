import pytest

from verydeep.net.vgg import VGG
from verydeep.report.tables import epoch_table, map_side, markdown, rate, results_rows, results_text
from verydeep.words import aligned

RESULT = {
    "model": "runs/a", "data": "photos", "protocol": "dense", "scales": [256], "mirror": True, "crop": 224,
    "pooling": "up", "split": "test", "photos": 1200, "top1_errors": 30,
    "top5_errors": None, "top1_error": 2.5, "top5_error": None, "passes": 4.25, "seconds": 1.25, "skipped": [],
}  # fmt: skip


def test_a_rate_shows_what_it_was_divided_from() -> None:
    assert rate(2.5, 30) == "2.50 % (30)"
    assert rate(None, None) == "-"


def test_an_epoch_whose_speed_is_not_known_shows_none() -> None:
    epoch = {"epoch": 1, "lr": 0.01, "train_loss": 2.0, "train_error": 50.0, "val_error": 40.0}
    speeds = ((0.0, 0.0), (12.3, 0.25))
    titles, rows = epoch_table([epoch | {"photos_per_second": n, "waiting_share": share} for n, share in speeds])
    assert len(titles) == len(rows[0]) == len(rows[1])
    assert [row[-2:] for row in rows] == [["-", "-"], ["12", "25%"]]


def test_a_result_is_one_row() -> None:
    assert results_rows([RESULT]) == [
        ("dense", "256", "yes", "2 x 2", "test", "1,200", "2.50 % (30)", "1.8 to 3.5", "-", "-", "-", "4.2", "1.2")
    ]


def test_a_gain_is_against_the_step_before_of_the_same_test_and_of_a_fusion_against_its_best_model() -> None:
    centre = RESULT | {"protocol": "centre", "top1_error": 4.0, "top5_errors": 12, "top5_error": 1.0}
    dense, other = centre | {"protocol": "dense", "top1_error": 2.5, "top5_error": 1.25}, centre | {"limit": 100}
    fused = RESULT | {
        "protocol": "both",
        "top1_error": 2.0,
        "models": [{"top1_error": e, "top5_error": None} for e in (3.0, 2.25)],
    }
    fused |= {"crop": None, "mirror": None}
    rows = results_rows([centre, dense, other, fused])
    assert [(row[8], row[10]) for row in rows] == [("-", "-"), ("+1.50", "-0.25"), ("-", "-"), ("+0.25", "-")]
    assert rows[2][4] == "test, first 100"
    assert rows[3][:4] == ("both, fused", "256", "differs", "differs")


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
        return next(
            line for line in results_text([{**RESULT, "skipped": skipped}] * 2).splitlines() if "skipped" in line
        )

    assert said("cat/1.jpg") == "1 unreadable photo was skipped: cat/1.jpg"
    assert said("1.jpg", "2.jpg") == "2 unreadable photos were skipped: 1.jpg, 2.jpg"
    assert said(*"abcdefg") == "7 unreadable photos were skipped: a, b, c, d, e, ..."


def test_a_gain_on_the_same_photos_has_its_interval_on_the_page_alone() -> None:
    """Eight photos: three only the second test has right, one only the first. 0.2 -+ 1.96 sqrt(5 - 0.4) / 10."""
    bits = {"tested": "ff00", "right": {"top1": "8f00", "top5": None}}
    before = RESULT | bits | {"protocol": "centre"}
    after = before | {"protocol": "dense", "right": {"top1": "7f00", "top5": None}, "top1_error": 1.0}
    assert results_rows([before, after])[1][8] == "+1.50 (-22.0 to +62.0)"
    said = results_text([before, after])
    assert "+1.50" in said
    assert "to +62.0" not in said
