"""The data doctor's page: what `verydeep check` found, with thumbnails, in one file."""

from pathlib import Path
from typing import Any

from verydeep.data.record import DataSet
from verydeep.data.source import location
from verydeep.doctor.boxes import DRAWN, boxes_drawn
from verydeep.doctor.census import percentile_table
from verydeep.files.disk import write_text
from verydeep.report.page import mending, rendered, thumbnail

SHOWN = 12  # examples of a finding
MOST_BARS = 60  # classes: of more the largest and the smallest


def write_page(path: Path, record: dict[str, Any], data: DataSet) -> None:
    """Writes the page at once and whole. Raises RunError where it cannot be written."""
    findings = [{**f, "pictures": with_thumbnails(f, data)} for f in record["findings"]]
    classes = sorted(record["classes"], key=lambda c: -sum(c["photos"].values()))
    if len(classes) > MOST_BARS:
        classes = classes[: MOST_BARS // 2] + classes[-MOST_BARS // 2 :]
    shown = {"record": record, "findings": findings, "classes": classes, "most": SHOWN}
    mended = next((Path(m.file) for m in data.corrections), None)
    shown["mending"] = mending(location(data.name), data.classes, mended)
    shown["sizes"] = percentile_table(record["sizes"])
    write_text(path, rendered("doctor/page.html.j2", shown))


def with_thumbnails(found: dict[str, Any], data: DataSet) -> list[list[dict[str, Any]]]:
    """The first examples, copies of one photo together."""
    groups: dict[int, list[dict[str, Any]]] = {}
    splits = {name: boxes_drawn(p) if found["id"] in DRAWN else p for name, p in data.splits.items()}
    for i, e in enumerate(found["examples"][:SHOWN]):
        source = thumbnail(splits[e["split"]], e["id"]) if "id" in e else ""
        groups.setdefault(e.get("group", -1 - i), []).append({**e, "source": source})
    return list(groups.values())
