"""The verb `check`: what is wrong with these photos, and what will be done about it."""

from __future__ import annotations

import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.config import Config
from verydeep.data.record import DataSet
from verydeep.data.source import open_data
from verydeep.data.split import divide, drawn
from verydeep.doctor.alike import Groups
from verydeep.doctor.census import class_findings, counts, folder_findings, sizes
from verydeep.doctor.findings import ORDER, Finding
from verydeep.doctor.look import BAD, Facts, copy_findings, duplicates, facts_of, photo_findings
from verydeep.doctor.page import write_page
from verydeep.errors import DataError
from verydeep.progress import Progress
from verydeep.words import aligned, several

NAMED = 5  # examples of a finding in the text
TITLES = {
    "error": "ERRORS: training would stop",
    "warning": "WARNINGS: numbers will suffer",
    "note": "NOTES: handled, nothing to do",
}


def check(
    data: str, download: bool = False, workers: int = -1, page: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The record that `check --json` prints; with `page` it is written there too. Raises DataError where DATA cannot be used at all."""
    opened, began = open_data(data, download=download), time.perf_counter()
    total = sum(map(len, opened.splits.values()))
    with (progress or Progress()).bar(total, "looking at photos") as advance:
        facts = facts_of(opened, advance, workers)
    looked = time.perf_counter() - began
    groups = duplicates(facts, workers)
    found = photo_findings(opened, facts) + class_findings(opened)
    found += [with_draw(f, opened, facts, groups) for f in copy_findings(opened, facts, groups)]
    if (root := Path(data).expanduser()).is_dir() and not data.startswith(("builtin:", "hub:")):
        found += folder_findings(root)
    by_split = counts(opened)
    record = {
        "data": opened.name,
        "photos": {split: len(photos) for split, photos in opened.splits.items()},
        "classes": [
            {"name": c, "photos": {s: n[i] for s, n in by_split.items()}} for i, c in enumerate(opened.classes)
        ],
        "findings": [f.as_dict() for f in sorted(found, key=lambda f: ORDER[f.id])],
        "sizes": sizes(facts),
        "verdict": verdict(opened, facts),
        "seconds": round(time.perf_counter() - began, 2),
        "photos_per_second": round(total / max(looked, 1e-9), 1),
    }
    if page:
        write_page(page, record, opened)
    return record


def shares() -> tuple[float, float]:
    return Config().val_share, Config().test_share


def with_draw(f: Finding, data: DataSet, facts: Facts, groups: Groups) -> Finding:
    """Says of copies how many the default split would tear apart, where DATA leaves the drawing to the program."""
    whole = "all" if "all" in data.splits else "train"
    if (
        "val" in data.splits
        or whole not in data.splits
        or not isinstance(data.splits[whole].labels, np.ndarray)
        or f.id == "leak"
    ):
        return f
    val, test = shares()
    photos = data.splits[whole]
    places = drawn(
        photos.keys, photos.targets(), len(data.classes), (val, test if whole == "all" else 0.0), Config().seed
    )
    start = int(facts.starts[list(data.splits).index(whole)])
    torn = 0
    for i in {e["group"] for e in f.examples}:
        inside = groups.members[i] - start
        inside = inside[(inside >= 0) & (inside < len(photos))]
        torn += len(np.unique(places[inside])) > 1
    return (
        replace(f, detail=f"{f.detail}; the split that train draws by default would put {torn} of them on both sides")
        if torn
        else f
    )


def verdict(data: DataSet, facts: Facts) -> dict[str, Any]:
    """Whether `verydeep train` would run, by the checks that it makes itself."""
    bad = facts.flags & BAD
    n = int((bad > 0).sum())
    try:
        if len(data.classes) < 2:
            raise DataError(f"{data.name} has {len(data.classes)} class; expected at least two")
        divided = divide(data, shares(), Config().seed)
        trained = np.bincount(divided.split("train").targets(), minlength=len(data.classes))
        for name in (c for c, some in zip(data.classes, trained.tolist(), strict=True) if not some):
            raise DataError(f"{data.name}: the class {name!r} has no training photo")
        if not len(divided.split("val")):
            raise DataError(f"{data.name} has no validation photos")
        if n == len(bad):
            raise DataError(f"{data.name}: none of its {n} photos can be read")
    except DataError as e:
        return {"trains": False, "with_skip": False, "words": f"'verydeep train' would stop: {e}"}
    if n:
        first, own = facts.place(int(np.flatnonzero(bad)[0]))
        name = first.keys[own]
        some = f"{name} cannot be read" if n == 1 else f"{n:,} photos cannot be read, {name} for one"
        words = f"'verydeep train' would stop: {some}; with --bad_photos skip it would run without {'it' if n == 1 else 'them'}"
        return {"trains": False, "with_skip": True, "words": words}
    return {"trains": True, "with_skip": True, "words": "'verydeep train' would run"}


def text(record: dict[str, Any]) -> str:
    """The record for a reader: errors first, the verdict last."""
    photos = ", ".join(f"{n:,} {'in ' * (split == 'all')}{split}" for split, n in record["photos"].items())
    lines = [f"{record['data']}: {several(len(record['classes']), 'classes')}, photos: {photos}"]
    for severity, title in TITLES.items():
        some = [f for f in record["findings"] if f["severity"] == severity]
        lines += ["", title] * bool(some)
        for f in some:
            lines += finding_lines(f)
    if not record["findings"]:
        lines += ["", "Nothing was found."]
    if size := record["sizes"]:
        rows = [(name, *(f"{v:g}" for v in size[name])) for name in ("width", "height", "smallest side", "aspect")]
        lines += ["", aligned(("size", "least", *(f"{p} %" for p in size["percentiles"][1:-1]), "most"), rows)]
        spread = ", ".join(f"{span}: {n:,}" for span, n in size["histograms"]["smallest side"].items() if n)
        lines += [f"photos by smallest side: {spread}"]
    return "\n".join([*lines, "", f"{record['verdict']['words']}."])


def finding_lines(f: dict[str, Any]) -> list[str]:
    head = f"  {f['id']:<20}{f['count']:,} {f['unit']}: {f['what']}" + (f" ({f['detail']})" if f["detail"] else "")
    more = f["count"] - min(len(f["examples"]), NAMED)
    named = [example_words(e) for e in f["examples"][:NAMED]]
    indent = " " * 22
    body = [f"{indent}- {n}" for n in named] + (
        [f"{indent}- and {more:,} more"] if more > 0 and f["id"] != "not-photos" else []
    )
    advice = " ".join(part for part in (f["will"], f["hint"]) if part)
    return [head, *body, textwrap.fill(advice, 118, initial_indent=indent, subsequent_indent=indent)]


def example_words(e: dict[str, Any]) -> str:
    """One named thing, on one line whatever its name holds."""
    name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in e["name"])
    place = f" [{'' if e['split'] == 'all' else e['split'] + ', '}{', '.join(e['labels'])}]" if "group" in e else ""
    group = f"group {e['group'] + 1}: " if "group" in e else ""
    return f"{group}{name}{place}" + (f" ({e['words']})" if e.get("words") else "")
