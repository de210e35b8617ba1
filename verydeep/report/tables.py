"""Tables as rows of text: for the terminal, for Markdown, for the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verydeep.evaluate.judge import interval, paired
from verydeep.evaluate.scores import known_of
from verydeep.evaluate.views import MEANS
from verydeep.paper import STRIDE
from verydeep.words import aligned, several

RESULT_COLUMNS = (
    "protocol", "Q", "mirror", "class map", "split", "photos", "top-1 error", "95 %", "gain", "top-5 error", "gain",
    "passes", "seconds",
)  # fmt: skip
ON_SCREEN = (0, 1, 6, 7, 8, 9)  # which of them fit 80 columns
LIKELY = "95 %: the interval that the photos tested leave to the true error (Wilson)."
GAIN = "Gain: points of error less than in the step before, of a fusion less than its best model alone."
PASSES = "Passes: what a photo costs, in forward passes of one crop."
MIRROR = {True: "yes", False: "no", None: "differs"}  # None: the models of a fusion differ
SAME_TEST = ("model", "data", "location", "split", "limit", "photos", "sha256", "average", "pooling", "precision")
NAMED = 5  # of the skipped photos
EPOCH = {
    "epoch": "{epoch}", "rate": "{lr:g}", "train loss": "{train_loss:.4f}", "train error": "{train_error:.2f} %",
    "val error": "{val_error:.2f} %", "photos/s": "{photos_per_second:.0f}",
    "waiting for photos": "{waiting_share:.0%}",
}  # fmt: skip
LAYER = {
    "layer": "{name}", "output": "{output[0]} x {output[1]} x {output[2]}", "parameters": "{parameters:,}",
    "multiply-adds": "{multiply_adds:,}", "sees": "{sees}",
}  # fmt: skip
MISTAKE = {"photo": "{photo}", "answer": "{answer}", "probability": "{probability:.0%}", "true class": "{truth}"}


def by_column(columns: Mapping[str, str], records: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of a table: `columns` says by title how str.format shows a record there."""
    return list(columns), [[form.format(**record) for form in columns.values()] for record in records]


def results_rows(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row a result under RESULT_COLUMNS; errors as a rate and the count it was divided from, and their gain."""
    return [
        (
            r["protocol"] + (", fused" if "models" in r else ""), ", ".join(map(str, r["scales"])), MIRROR[r["mirror"]],
            class_map(r), r["split"] + (f", first {r['limit']:,}" if r.get("limit") else ""), f"{r['photos']:,}",
            rate(r["top1_error"], r["top1_errors"]), likely(r["top1_errors"], r["photos"]),
            gain("top1_error", r, before) + surely(r, before),
            rate(r["top5_error"], r["top5_errors"]), gain("top5_error", r, before),
            f"{r['passes']:,.1f}" if "passes" in r else "-", f"{r['seconds']:.1f}",
        )
        for r, before in zip(results, [None, *results], strict=False)
    ]  # fmt: skip


def data_rows(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The same after the name of the data, and of the models that were fused."""
    names = (r["data"] + (f", {r['model']}" if "models" in r else "") for r in results)
    return [(name, *row) for name, row in zip(names, results_rows(results), strict=True)]


def gain(error: str, result: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Points of error less than in the step before of the same test; of a fusion, than its best model alone."""
    same = before is not None and all(before.get(name) == result.get(name) for name in SAME_TEST)
    rates = [r[error] for r in result.get("models", [before] if same else []) if r[error] is not None]
    return f"{min(rates) - result[error]:+.2f}" if rates else "-"


def surely(result: dict[str, Any], before: dict[str, Any] | None) -> str:
    """The interval of a gain in top-1 errors, behind it, where both tests know which photos they had right."""
    if before is None or gain("top1_error", result, before) == "-" or "models" in result:
        return ""
    if not all(isinstance(r.get("right"), dict) and r.get("tested") for r in (result, before)):
        return ""
    tested, *right = known_of([result["tested"], result["right"]["top1"], before["right"]["top1"]])
    second, first = (r[tested] for r in right)
    low, high = paired(int((second & ~first).sum()), int((first & ~second).sum()), int(tested.sum()))
    return f" ({low:+.1f} to {high:+.1f})"


def likely(errors: int, photos: int) -> str:
    """Where an error may well lie, in percent."""
    return "{:.1f} to {:.1f}".format(*interval(errors, photos)) if photos else "-"


def rate(percent: float | None, errors: int | None) -> str:
    return "-" if percent is None else f"{percent:.2f} % ({errors:,})"


def class_map(result: dict[str, Any]) -> str:
    """Size of the class score map of a square photo at each Q."""
    if not MEANS[result["protocol"]].maps:
        return "1 x 1"
    if None in (result["crop"], result["pooling"]):
        return "differs"
    sides = [map_side(q, result["crop"], result["pooling"] == "up") for q in result["scales"]]
    return ", ".join(f"{side} x {side}" for side in sides)


def map_side(scale: int, crop: int, round_up: bool) -> int:
    """Cells along one side of the class score map at smallest side Q (section 3.2)."""
    for _ in range(int(math.log2(STRIDE))):
        scale = -(-scale // 2) if round_up else scale // 2
    return scale - crop // STRIDE + 1


def epoch_table(epochs: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row an epoch; the speed is a dash where it is not known."""
    titles, rows = by_column(EPOCH, epochs)
    known = [bool(e["photos_per_second"]) for e in epochs]
    return titles, [row if k else [*row[:-2], "-", "-"] for row, k in zip(rows, known, strict=True)]


def class_table(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Photos, recall, precision and F1 of each class; a dash where there is nothing to divide by."""
    rates = ("recall", "precision", "f1")
    rows = [
        [c["class"], f"{c['photos']:,}", *("-" if c[name] is None else f"{c[name]:.1f} %" for name in rates)]
        for c in found
    ]
    return ["class", "photos", "recall", "precision", "F1"], rows


def results_text(results: Sequence[dict[str, Any]]) -> str:
    """The results for a terminal, one block a model."""
    blocks = []
    for model in dict.fromkeys(r["model"] for r in results):
        own = [r for r in results if r["model"] == model]
        rows = [[row[i].partition(" (+")[0].partition(" (-")[0] for i in ON_SCREEN] for row in results_rows(own)]
        on = f"{model} on {several(own[0]['photos'], 'photos')} ({own[0]['split']}) of {own[0]['data']}"
        blocks.append(f"{on}\n{aligned([RESULT_COLUMNS[i] for i in ON_SCREEN], rows)}")
        if skipped := list({e["photo"]: e for r in own for e in r["skipped"]}.values()):
            more = ", ..." if len(skipped) > NAMED else ""
            first, were = ", ".join(e["photo"] for e in skipped[:NAMED]), "s were" if len(skipped) > 1 else " was"
            blocks.append(f"{len(skipped):,} unreadable photo{were} skipped: {first}{more}")
    return "\n".join([*blocks, *([LIKELY, GAIN] if len(results) > 1 else [LIKELY])])


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell(str(value)) for value in line)} |" for line in lines)


def cell(text: str) -> str:
    """Text as it may stand in Markdown: no mark-up, no column of its own, one line."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").split())
