"""What `transfer` found, for people: one line that answers, the table beside the paper's, and where it comes from."""

from typing import Any

from verydeep.paper import TABLE_11, TABLE_12
from verydeep.words import aligned, duration, several

MEASURES = {
    "accuracy": "right", "recall": "class recall", "map_eleven": "mAP 11-point", "map_every": "mAP all points"
}  # fmt: skip
WAYS = {"average": "averaged", "stack": "stacked"}


def transfer_text(record: dict[str, Any]) -> str:
    best, measures = record["rows"][record["best"]], [m for m in MEASURES if m in record["rows"][0]]
    first = "accuracy" if "accuracy" in best else "map_every"
    what = "right" if first == "accuracy" else "mean average precision"
    by = f"{what} by a linear SVM on {' and '.join(best['models'])}, Q = {q_of(best)}"
    header = ["net", "shown", "Q", *(f"{MEASURES[m]}, %" for m in measures), "validation", "constant"]
    body = [
        [" and ".join(row["models"]), " and ".join(row["shown"]), q_of(row), *(value(row, m, "") for m in measures),
         f"{row['validation']:.1f}", " ".join(dict.fromkeys(f"{c:.3g}" for c in row["constants"]))]
        for row in record["rows"]
    ]  # fmt: skip
    actions = body[0][1] != body[-1][1]
    paper = TABLE_12 if actions else TABLE_11.get(record["kit"], {})
    beside = ", ".join(f"{name} {number}" for name, number in paper.items())
    mirror, seconds = ", with mirror images" * record["mirror"], record["seconds"]
    photos = f"{several(record['photos'], 'photos')} of {several(len(record['classes']), 'classes')}{mirror}"
    lines = [
        f"{value(best, first, ' %')} {by}; guessing {record['guessing']:.0f} %", "", aligned(header, body),
        *[f"the paper, Table {'12, D and E' if actions else '11'}: {beside}"] * bool(beside), "",
        f"{photos}; {record['protocol']}; the first line is of the row that is best by validation", *record["notes"],
        f"described in {duration(seconds['describing'])}, held in {record['bytes'] / 1e6:.1f} MB; SVMs trained in "
        f"{duration(seconds['svm'])}",
    ]  # fmt: skip
    if saved := record.get("saved"):
        lines.append(f"{saved} is the net with this SVM, to be asked by --protocol dense; it answers with margins")
    return "\n".join(lines)


def q_of(row: dict[str, Any]) -> str:
    return ", ".join(map(str, row["scales"])) + f" {WAYS[row['several']]}" * (len(row["scales"]) > 1)


def value(row: dict[str, Any], measure: str, unit: str) -> str:
    deviation = row[f"{measure}_deviation"]
    return f"{row[measure]:.1f}{unit}" + (f" +- {deviation:.1f}" if deviation is not None else "")


def class_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """class, and its recall or average precision in percent in the best row; '' where there was none to test."""
    found = record["rows"][record["best"]]["by_class"]
    return [(c, "" if v is None else f"{100 * v:.2f}") for c, v in found.items()]
