"""What the data doctor says of classes, of sizes, and of what lies in a folder without being used."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.collections import LISTS, recognise
from verydeep.data import photo
from verydeep.data.folder import folders, split_folders
from verydeep.data.naming import is_hidden
from verydeep.data.record import DataSet
from verydeep.doctor.findings import MOST_EXAMPLES, Finding, finding
from verydeep.doctor.look import Facts

IMBALANCE = 10  # largest class : a class, from which on it is told
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
SIDES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096)
ASPECTS = (1.0, 1.1, 1.4, 1.6, 2.0, 4.0, 8.0)


def counts(data: DataSet) -> dict[str, list[int]]:
    """Photos of each class in each split."""
    found = {}
    for name, photos in data.splits.items():
        labels = photos.labels if isinstance(photos.labels, np.ndarray) else [c for some in photos.labels for c in some]
        found[name] = np.bincount(np.asarray(labels, np.int64), minlength=len(data.classes)).tolist()
    return found


def class_findings(data: DataSet) -> list[Finding]:
    by_split = counts(data)
    total = np.sum(list(by_split.values()), axis=0)
    trained = np.array(by_split.get("train", total))
    names = np.array(data.classes, object)
    few = trained if len(by_split) > 1 else total
    largest = int(few.max(initial=0))
    rare = (few > 0) & (few * IMBALANCE <= largest)
    found = finding("few-photos", [f"{names[i]} ({total[i]})" for i in np.flatnonzero((total > 0) & (total < 3))])
    if rare.any():
        ratio = largest / int(few[few > 0].min())
        words = f"the largest, {names[few.argmax()]}, has {largest:,}, {ratio:.0f} times as many as the smallest"
        found += finding("imbalance", [f"{names[i]} ({few[i]})" for i in np.flatnonzero(rare)], words)
    if "train" in by_split:
        found += finding("missing-from-train", list(names[trained == 0]))
        tested = {s: n for s, n in by_split.items() if s != "train"}
        without = [(c, [s for s, n in tested.items() if not n[i]]) for i, c in enumerate(data.classes)]
        found += finding(
            "missing-from-split", [f"{c} (no {' and no '.join(some)} photo)" for c, some in without if some]
        )
    spellings: dict[str, list[str]] = {}
    for name in data.classes:
        spellings.setdefault(plain_name(name), []).append(name)
    alike = [" / ".join(map(repr, some)) for some in spellings.values() if len(some) > 1]
    return (
        found + finding("label-typo", alike) + finding("spaced-name", [repr(c) for c in data.classes if c != c.strip()])
    )


def plain_name(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def sizes(facts: Facts) -> dict[str, Any]:
    """Percentiles and histograms of the photos that can be read."""
    width, height = facts.width[facts.good], facts.height[facts.good]
    if not len(width):
        return {}
    short, long = np.minimum(width, height), np.maximum(width, height)
    values = {"width": width, "height": height, "smallest side": short, "aspect": long / short}
    table = {name: [round(float(v), 2) for v in np.percentile(some, PERCENTILES)] for name, some in values.items()}
    histograms = {
        "smallest side": dict(zip(spans(SIDES), histogram(short, SIDES), strict=True)),
        "aspect": dict(zip(spans(ASPECTS), histogram(long / short, ASPECTS), strict=True)),
    }
    return {"percentiles": list(PERCENTILES), **table, "histograms": histograms}


def spans(edges: tuple[float, ...]) -> list[str]:
    return [*(f"{a:g} to {b:g}" for a, b in pairwise(edges)), f"{edges[-1]:g} and more"]


def histogram(values: np.ndarray, edges: tuple[float, ...]) -> list[int]:
    """Values in [a, b), the last without an end."""
    return np.bincount(np.searchsorted(edges, values, "right") - 1, minlength=len(edges)).tolist()  # type: ignore[no-any-return]


def folder_findings(root: Path) -> list[Finding]:
    """What lies in a folder of class folders and is passed over."""
    place = recognise(root)
    parts = {name: folder for name, folder in place._asdict().items() if folder} if place else split_folders(root)
    hidden, empty, loose, links = ([] for _ in range(4))  # type: list[str], list[str], list[str], list[str]
    others: Counter[str] = Counter()
    for level in parts.values() or [root]:
        for folder in folders(level):
            before = sum(others.values())
            photos = survey(folder, root, hidden, links, others)
            if not photos:
                rest = sum(others.values()) - before
                empty.append(f"{folder.relative_to(root)} ({f'{rest} other files' if rest else 'nothing in it'})")
    for level in {root, *parts.values()}:
        for kind, entry in entries(str(level)):
            if kind == "hidden":
                hidden.append(os.path.relpath(entry.path, root))
            elif kind == "photo" and place and level == place.val:
                continue  # of a flat folder, and used
            elif kind == "photo":
                loose.append(os.path.relpath(entry.path, root))
            elif kind == "file" and not (place and entry.name in LISTS):
                others[suffix(entry.name)] += 1
    found = finding("hidden", sorted(hidden)) + finding("empty-class", empty) + finding("loose-photos", sorted(loose))
    found += finding("links", sorted(links))
    if others:
        shown = [{"name": f"{s or 'no suffix'} ({n})"} for s, n in others.most_common(MOST_EXAMPLES)]
        found.append(Finding("not-photos", sum(others.values()), shown))
    return found


def survey(folder: Path, root: Path, hidden: list[str], links: list[str], others: Counter[str]) -> int:
    """Counts the photos at any depth below a class folder and notes what is not one."""
    photos, below = 0, [str(folder)]
    while below:
        for kind, entry in entries(below.pop()):
            if kind == "hidden":
                hidden.append(os.path.relpath(entry.path, root))
            elif kind == "photo":
                photos += 1
            elif kind == "link":
                links.append(os.path.relpath(entry.path, root))
            elif kind == "folder":
                below.append(entry.path)
            else:
                others[suffix(entry.name)] += 1
    return photos


def suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def entries(folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(hidden, folder, link, photo or file; entry), as data/folder.py sees them."""
    with os.scandir(folder) as found:
        for entry in found:
            if is_hidden(entry.name):
                yield "hidden", entry
            elif entry.is_dir(follow_symlinks=False):
                yield "folder", entry
            elif entry.is_symlink() and not entry.is_file():
                yield "link", entry
            else:
                yield "photo" if suffix(entry.name) in photo.SUFFIXES else "file", entry
