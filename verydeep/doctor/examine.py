"""The verb `check`: what is wrong with these photos, and what will be done about it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verydeep.colours import PLAINLY, Reading
from verydeep.config import Config, Level
from verydeep.data.groups import group_lines, torn_groups
from verydeep.data.record import DataSet
from verydeep.data.source import open_data
from verydeep.data.split import divide, drawn
from verydeep.doctor.boxes import box_findings
from verydeep.doctor.census import class_findings, percentile_table, photos_by_class, size_table
from verydeep.doctor.findings import KINDS, finding
from verydeep.doctor.look import Facts, copy_findings, duplicates, facts_of, group_findings, photo_findings
from verydeep.doctor.page import write_page
from verydeep.errors import DataError
from verydeep.files.disk import check_place
from verydeep.progress import Progress
from verydeep.report.page import rendered
from verydeep.run import Run
from verydeep.train.advice import say_data


def check(
    data: str, download: bool = False, workers: int = -1, page: Path | None = None, progress: Progress | None = None,
    groups: str | None = None, classes: Level | None = None, reading: Reading = PLAINLY,
    corrections: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What `check --json` prints and `page` shows. Raises DataError where DATA cannot be used at all, and RunError."""
    check_place(page)
    opened = open_data(data, download=download, groups=groups, classes=classes, corrections=corrections)
    opened = opened.read_as(reading)
    began = time.perf_counter()
    total = sum(map(len, opened.splits.values()))
    with (progress or Progress()).bar(total, "looking at photos") as advance:
        facts = facts_of(opened, advance, workers)
    looked = time.perf_counter() - began
    found = photo_findings(opened, facts) + class_findings(opened)
    found += copy_findings(opened, facts, duplicates(facts, workers), drawn_by_default(opened))
    found += group_findings(opened, facts) + box_findings(opened, facts)
    found += [finding(p.kind, p.count, [{"name": name} for name in p.names]) for p in opened.passed]
    lines = group_lines(opened)
    notes = [*opened.notes, *lines[bool(torn_groups(opened)) :]]  # groups that are torn are a finding
    by_split = photos_by_class(opened).items()
    rows = [{"name": c, "photos": {split: n[i] for split, n in by_split}} for i, c in enumerate(opened.classes)]
    record = {
        "data": opened.name, "photos": {split: len(photos) for split, photos in opened.splits.items()},
        "classes": rows, "groups": lines, "notes": notes,
        "findings": sorted(found, key=lambda f: list(KINDS).index(f["id"])),
        "sizes": size_table(facts), "verdict": would_train(opened, facts),
        "seconds": round(time.perf_counter() - began, 2), "photos_per_second": round(total / max(looked, 1e-9), 1),
    }  # fmt: skip
    if page:
        write_page(page, record, opened)
    return record


def drawn_by_default(data: DataSet) -> npt.NDArray[np.int8]:
    """Where train would put each photo of all splits by default, -1 where it stays."""
    places = {split: np.full(len(photos), -1, np.int8) for split, photos in data.splits.items()}
    whole = "all" if "all" in data.splits else "train"
    photos = data.splits.get(whole)
    if photos is not None and "val" not in data.splits and isinstance(photos.labels, np.ndarray):
        shares = (Config().val_share, Config().test_share if whole == "all" else 0.0)
        places[whole] = drawn(photos, len(data.classes), shares, Config().seed)
    return np.concatenate(list(places.values()))


def would_train(data: DataSet, facts: Facts) -> dict[str, Any]:
    """Whether `verydeep train` would run, by the checks that it makes itself."""
    bad = np.flatnonzero(facts.bad).tolist()
    try:
        if len(data.classes) < 2:
            raise DataError(f"{data.name} has {len(data.classes)} class; expected at least two")
        divided = divide(data, (Config().val_share, Config().test_share), Config().seed)
        say_data(Run(Path(), writes=False), divided)
        if len(bad) == len(facts.bad):
            raise DataError(f"{data.name}: none of its {len(bad)} photos can be read")
    except DataError as e:
        return {"trains": False, "with_skip": False, "words": f"'verydeep train' would stop: {e}"}
    if not bad:
        return {"trains": True, "with_skip": True, "words": "'verydeep train' would run"}
    photos, own = facts.place(bad[0])
    name, them = photos.keys[own], "them" if len(bad) > 1 else "it"
    some = f"{len(bad):,} photos cannot be read, {name} for one" if len(bad) > 1 else f"{name} cannot be read"
    words = f"'verydeep train' would stop: {some}; 'verydeep train --bad_photos skip' would run without {them}"
    return {"trains": False, "with_skip": True, "words": words}


def check_text(record: dict[str, Any]) -> str:
    """The record for a reader: errors first, the verdict last."""
    shown = {"record": record, "words_of": example_words, "sizes": percentile_table(record["sizes"])}
    return rendered("doctor/summary.txt.j2", shown).rstrip()


def example_words(e: dict[str, Any]) -> str:
    """One named thing, on one line whatever its name holds."""
    name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in e["name"])
    words = f" ({e['words']})" if e.get("words") else ""
    if "group" not in e:
        return name + words
    split = "" if e["split"] == "all" else f"{e['split']}, "
    return f"group {e['group'] + 1}: {name} [{split}{', '.join(e['labels'])}]{words}"
