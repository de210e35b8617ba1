"""What `transfer` found, for people: one line that answers, the table beside the paper's, and where it comes from."""

from typing import Any

from verydeep.paper import TABLE_11, TABLE_12
from verydeep.words import aligned, several

MEASURES = {"accuracy": "right", "recall": "class recall", "map_eleven": "11-point mAP", "map_every": "mAP"}


def transfer_text(record: dict[str, Any]) -> str:
    best, measures = record["rows"][record["best"]], [m for m in MEASURES if m in record["rows"][0]]
    first = "accuracy" if "accuracy" in best else "map_every"
    what = "right" if first == "accuracy" else "mean average precision"
    header = ["net", "shown", "Q", *(f"{MEASURES[m]}, %" for m in measures), "validation", "constant"]
    body = [
        [" and ".join(r["models"]), " and ".join(r["shown"]), q_of(r), *(in_percent(r, m) for m in measures),
         f"{r['validation']:.1f}", " ".join(dict.fromkeys(f"{c:.3g}" for c in r["constants"]))] for r in record["rows"]
    ]  # fmt: skip
    actions = body[0][1] != body[-1][1]
    paper = TABLE_12 if actions else TABLE_11.get(record["kit"], {})
    beside = ", ".join(f"{name} {number}" for name, number in paper.items())
    photos = f"{several(record['photos'], 'photos')} of {several(len(record['classes']), 'classes')}"
    return "\n".join([
        f"{in_percent(best, first, ' %')} {what} by a linear SVM on {' and '.join(best['models'])}, Q = {q_of(best)}; "
        f"guessing {record['guessing']:.0f} %", "", aligned(header, body),
        *[f"the paper, Table {'12, D and E' if actions else '11'}: {beside}"] * bool(beside), "",
        f"{photos}; {record['protocol']}; the first line is of the row that is best by validation", *record["notes"],
        f"descriptors{', with mirror images,' * record['mirror']} took {record['bytes'] / 1e6:.1f} MB of memory",
    ])  # fmt: skip


def q_of(row: dict[str, Any]) -> str:
    how = {"average": " averaged", "stack": " stacked"}[row["several"]]
    return ", ".join(map(str, row["scales"])) + how * (len(row["scales"]) > 1)


def in_percent(row: dict[str, Any], measure: str, unit: str = "") -> str:
    deviation = row[f"{measure}_deviation"]
    return f"{row[measure]:.1f}{unit}" + (f" +- {deviation:.1f}" if deviation is not None else "")
