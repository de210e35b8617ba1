"""Tables as rows of text: for the terminal, for Markdown, for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from verydeep.contract import Contract
from verydeep.paper import STRIDE

RESULT_COLUMNS = ("protocol", "Q", "mirror", "class map", "split", "photos", "top-1 error", "top-5 error", "seconds")


def results_rows(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row a result under RESULT_COLUMNS; errors as a rate and the count it was divided from."""
    return [
        (
            r["protocol"], ", ".join(map(str, r["scales"])), "yes" if r["mirror"] else "no", class_map(r), r["split"], f"{r['photos']:,}",
            rate(r["top1_error"], r["top1_errors"]), rate(r["top5_error"], r["top5_errors"]), f"{r['seconds']:.1f}",
        )
        for r in results
    ]  # fmt: skip


def rate(percent: float | None, errors: int | None) -> str:
    return "-" if percent is None else f"{percent:.2f} % ({errors:,})"


def class_map(result: dict[str, Any]) -> str:
    """Size of the class score map of a square photo."""
    side = map_side(result["scales"][0], result["crop"], result["pooling"] == "up") if result["protocol"] == "dense" else 1
    return f"{side} x {side}"


def map_side(scale: int, crop: int, round_up: bool) -> int:
    """Cells along one side of the class score map at smallest side Q (section 3.2)."""
    for _ in range(int(math.log2(STRIDE))):
        scale = -(-scale // 2) if round_up else scale // 2
    return scale - crop // STRIDE + 1


def edge_note(contract: Contract, scale: int) -> str:
    """Why dense evaluation suffers where the last cells of the class map hang over the photo's border, or ''."""
    beyond = scale % STRIDE
    if contract.pooling == "down" or not beyond or scale >= 2 * contract.crop:
        return ""
    cells = map_side(scale, contract.crop, True)
    return (
        f"At Q = {scale} the class map is {cells} x {cells}, and the last row and column, which exist because pooling rounds up, see only "
        f"{beyond} of {STRIDE} new pixels; the rest is border. Dense evaluation pays when Q is well above the crop of {contract.crop}, "
        "as in the paper's 256 to 512 at a crop of 224."
    )


def results_text(results: Sequence[dict[str, Any]]) -> str:
    """The results for a terminal, one block a model."""
    blocks = []
    for model in dict.fromkeys(r["model"] for r in results):
        own = [r for r in results if r["model"] == model]
        blocks.append(f"{model} on {own[0]['data']}\n{aligned(RESULT_COLUMNS, results_rows(own))}")
        if skipped := max(len(r["skipped"]) for r in own):
            blocks.append(f"{skipped} unreadable photos were skipped")
    return "\n".join(blocks)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (header, *rows))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
