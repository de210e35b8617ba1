"""Figures: the curves of a run, and its net drawn layer by layer."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verydeep.net.sizes import Size

BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d9782d", "#4c9a5b", "#8a8f98"
COLOURS = {"conv": BLUE, "pool": GREY, "fc": ORANGE}


def curves(steps: Sequence[dict[str, Any]], epochs: Sequence[dict[str, Any]]) -> Figure:
    """Training loss, errors and learning rate over the epochs."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    loss, error, rate = figure.subplots(1, 3)
    per_epoch = epochs[-1]["step"] / epochs[-1]["epoch"]
    loss.plot([r["step"] / per_epoch for r in steps], [r["loss"] for r in steps], color=BLUE, linewidth=0.8, alpha=0.45)
    at = [r["epoch"] for r in epochs]
    loss.plot(at, [r["train_loss"] for r in epochs], color=BLUE, marker="o", markersize=3)
    for name, colour, words in (("train", BLUE, "train, with dropout"), ("val", ORANGE, "validation")):
        rates = [r[f"{name}_error"] for r in epochs]
        error.plot(at, rates, color=colour, marker="o", markersize=3, label=words)
    error.legend(frameon=False)
    rate.step([0, *at], [epochs[0]["lr"], *(r["lr"] for r in epochs)], color=GREEN, where="pre")
    rate.set_yscale("log")
    for axis, title in ((loss, "training loss"), (error, "error"), (rate, "learning rate")):
        framed(axis, title, "epoch")
    return figure


def framed(axis: Axes, title: str, below: str) -> None:
    """A title, the name of the lower axis, and no more lines than help to read."""
    axis.set_title(title)
    axis.set_xlabel(below)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def drawing(sizes: Sequence[Size]) -> Figure:
    """The net from left to right: height is the side of a map, width its channels."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axis = figure.subplots()
    largest, widest = max(s.output[1] for s in sizes), max(s.output[0] for s in sizes)
    x = 0.0
    for s in sizes:
        channels, side, _ = s.output
        height, width = 0.08 + 0.92 * side / largest, 0.12 + 0.5 * channels / widest
        colour, middle = COLOURS[s.name.rstrip("_0123456789")], x + width / 2
        axis.bar(x, height, width, align="edge", bottom=-height / 2, color=colour, edgecolor="white")
        size = f"{side}²·{channels}" if side > 1 else str(channels)
        upright: dict[str, Any] = {"rotation": 90, "ha": "center"}
        axis.text(middle, -height / 2 - 0.03, s.name, va="top", fontsize=8, **upright)
        axis.text(middle, height / 2 + 0.03, size, va="bottom", fontsize=7, color="#444", **upright)
        x += width + 0.1
    axis.set_xlim(-0.1, x)
    axis.set_ylim(-1.0, 0.95)
    axis.axis("off")
    return figure


def svg_uri(figure: Figure) -> str:
    """The figure as a data URI, the same bytes for the same figure."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "verydeep", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return uri(out.getvalue(), "image/svg+xml")


def uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
