"""What the data doctor says of classes and of sizes."""

import re
import unicodedata
from itertools import pairwise
from typing import Any

import numpy as np

from verydeep.data.record import DataSet
from verydeep.doctor.findings import Finding, of_names
from verydeep.doctor.look import Facts

IMBALANCE = 10  # largest class : a class, from which on it is told
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
MEASURED = ("width", "height", "smallest side", "aspect")
EDGES = {"smallest side": (0, 32, 64, 128, 256, 512, 1024, 2048, 4096), "aspect": (1.0, 1.1, 1.4, 1.6, 2.0, 4.0, 8.0)}


def photos_by_class(data: DataSet) -> dict[str, list[int]]:
    """Photos of each class in each split."""
    found = {}
    for name, photos in data.splits.items():
        labels = photos.labels if isinstance(photos.labels, np.ndarray) else [c for some in photos.labels for c in some]
        found[name] = np.bincount(np.asarray(labels, np.int64), minlength=len(data.classes)).tolist()
    return found


def class_findings(data: DataSet) -> list[Finding]:
    by_split = photos_by_class(data)
    total = np.sum(list(by_split.values()), axis=0)
    trained = np.array(by_split.get("train", total))
    largest, smallest = trained.max(initial=0), trained[trained > 0].min(initial=trained.max(initial=1))
    times = f"{largest / smallest:.0f} times as many as the smallest"
    ratio = f"the largest, {data.classes[trained.argmax()]}, has {largest:,}, {times}"
    rare = (trained > 0) & (trained * IMBALANCE <= largest)

    def of_classes(mask: Any, numbers: Any) -> list[str]:
        return [f"{data.classes[i]} ({numbers[i]})" for i in np.flatnonzero(mask)]

    found = of_names("few-photos", of_classes((total > 0) & (total < 3), total))
    found += of_names("imbalance", of_classes(rare, trained), ratio)
    lacking = [(c, [s for s, n in by_split.items() if not n[i]]) for i, c in enumerate(data.classes)]
    found += of_names("missing-from-train", [c for c, no in lacking if "train" in no])
    untested = [(c, [f"no {s}" for s in no if s in ("val", "test")]) for c, no in lacking]
    found += of_names("missing-from-split", [f"{c} ({' and '.join(no)} photo)" for c, no in untested if no])
    spellings: dict[str, list[str]] = {}
    for name in data.classes:
        spellings.setdefault(plain_name(name), []).append(name)
    alike = [" / ".join(map(repr, some)) for some in spellings.values() if len(some) > 1]
    spaced = [repr(name) for name in data.classes if name != name.strip()]
    return found + of_names("label-typo", alike) + of_names("spaced-name", spaced)


def plain_name(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def size_table(facts: Facts) -> dict[str, Any]:
    """Percentiles and histograms of the photos that can be read."""
    good = facts.table[~facts.bad]
    if not len(good):
        return {}
    width, height = good["width"], good["height"]
    short, long = np.minimum(width, height), np.maximum(width, height)
    values = dict(zip(MEASURED, (width, height, short, long / short), strict=True))
    table = {name: [round(float(v), 2) for v in np.percentile(some, PERCENTILES)] for name, some in values.items()}
    bins = {}
    for name, edges in EDGES.items():  # [a, b), the last without an end
        spans = [*(f"{a:g} to {b:g}" for a, b in pairwise(edges)), f"{edges[-1]:g} and more"]
        counts, _ = np.histogram(values[name], [*edges, np.inf])
        bins[name] = dict(zip(spans, counts.tolist(), strict=True))
    return {"percentiles": list(PERCENTILES), **table, "histograms": bins}


def percentile_table(sizes: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the percentiles in a size table."""
    titles = ["size", "least", *(f"{p} %" for p in PERCENTILES[1:-1]), "most"]
    return titles, [[name, *(f"{v:g}" for v in sizes[name])] for name in MEASURED if sizes]
