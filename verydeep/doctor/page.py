"""The data doctor's page: what `verydeep check` found, with thumbnails, in one file."""

from pathlib import Path
from typing import Any

import jinja2

from verydeep.data.record import DataSet
from verydeep.files.disk import write_text
from verydeep.report.page import thumbnail

SHOWN = 12  # examples of a finding
MOST_BARS = 60  # classes: of more the largest and the smallest
TEMPLATES = jinja2.PackageLoader("verydeep.doctor", ".")


def write_page(path: Path, record: dict[str, Any], data: DataSet) -> None:
    """Writes the page at once and whole. Raises RunError where it cannot be written."""
    environment = jinja2.Environment(loader=TEMPLATES, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    findings = [{**f, "pictures": with_thumbnails(f, data)} for f in record["findings"]]
    classes = sorted(record["classes"], key=lambda c: -sum(c["photos"].values()))
    if len(classes) > MOST_BARS:
        classes = classes[: MOST_BARS // 2] + classes[-MOST_BARS // 2 :]
    page = environment.get_template("page.html.j2").render(
        record=record, findings=findings, classes=classes, most=SHOWN
    )
    write_text(path, page)


def with_thumbnails(found: dict[str, Any], data: DataSet) -> list[list[dict[str, Any]]]:
    """The first examples, copies of one photo together."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for i, e in enumerate(found["examples"][:SHOWN]):
        source = thumbnail(data.split(e["split"]), e["id"]) if "id" in e else ""
        groups.setdefault(e.get("group", -1 - i), []).append({**e, "source": source})
    return list(groups.values())
