"""The data doctor's page: what `verydeep check` found, with thumbnails, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from verydeep.data.record import DataSet
from verydeep.files.disk import write_text
from verydeep.report import figures
from verydeep.report.page import thumbnail

SHOWN = 12  # thumbnails of a finding
MOST_BARS = 60


def write_page(path: Path, record: dict[str, Any], data: DataSet) -> None:
    """Writes the page at once and whole. Raises RunError where it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("verydeep.doctor", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    findings = [{**f, "pictures": pictures(f, data)} for f in record["findings"]]
    charts = [figures.svg_uri(class_bars(record))] + (
        [figures.svg_uri(size_bars(record["sizes"]))] if record["sizes"] else []
    )
    write_text(
        path,
        environment.get_template("page.html.j2").render(
            record=record, findings=findings, charts=charts, most=MOST_BARS
        ),
    )


def pictures(found: dict[str, Any], data: DataSet) -> list[list[dict[str, Any]]]:
    """The first examples with thumbnails, copies of one photo together."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for i, e in enumerate(found["examples"][:SHOWN]):
        source = thumbnail(data.split(e["split"]), e["id"]) if "id" in e else ""
        groups.setdefault(e.get("group", -1 - i), []).append({**e, "source": source})
    return list(groups.values())


def class_bars(record: dict[str, Any]) -> Figure:
    """Photos of each class, the splits stacked; of many classes the largest and the smallest."""
    classes = sorted(record["classes"], key=lambda c: -sum(c["photos"].values()))
    if len(classes) > MOST_BARS:
        classes = classes[: MOST_BARS // 2] + classes[-MOST_BARS // 2 :]
    figure = Figure(figsize=(10, 0.8 + 0.24 * len(classes)), layout="constrained")
    axis, left = figure.subplots(), [0] * len(classes)
    for split, colour in zip(record["photos"], (figures.BLUE, figures.ORANGE, figures.GREEN), strict=False):
        values = [c["photos"][split] for c in classes]
        axis.barh(range(len(classes)), values, left=left, color=colour, label=split)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axis.set_yticks(range(len(classes)), [c["name"][:40].replace("$", r"\$") for c in classes], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("photos")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def size_bars(sizes: dict[str, Any]) -> Figure:
    """Histograms of the smallest side and of the aspect."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for axis, (title, bins) in zip(figure.subplots(1, 2), sizes["histograms"].items(), strict=True):
        axis.bar(range(len(bins)), list(bins.values()), color=figures.BLUE)
        axis.set_xticks(range(len(bins)), list(bins), rotation=45, ha="right", fontsize=7)
        axis.set_title({"smallest side": "smallest side, pixels", "aspect": "aspect, long side : short side"}[title])
        axis.spines[["top", "right"]].set_visible(False)
    return figure
