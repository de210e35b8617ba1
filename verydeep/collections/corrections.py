"""Labels mended by people: a list that changes what DATA says of its photos, and nothing on disk.

Columns: photo, its name in DATA; label, its class there, so that changed data are noticed; correct, the class it shall
have, '' to leave it out; split, which tells photos of one name apart. The pages write it last, because Excel drops
empty cells at the ends of lines.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.collections.table import open_table
from verydeep.data.record import DataSet, Mended, compact
from verydeep.data.tree import listed
from verydeep.errors import DataError
from verydeep.near import meant
from verydeep.words import several

COLUMNS = ("photo", "label", "correct", "split")
Changes = dict[tuple[str, int], str]  # split and position of a photo -> its class, '' to leave it out


def corrected(data: DataSet, given: Path | None, kept: Path | None) -> tuple[DataSet, dict[str, str]]:
    """DATA as a list mends it, after the one that a run keeps; and all changes by name. Raises DataError.

    What a run keeps was right when it began; of its lines those that fit no longer are counted, and no error.
    """
    found, mended, notes = Changes(), list[Mended](), list[str]()
    for file in filter(None, (kept, given)):
        own, lines = changes_in(file, data, file is kept)
        found |= own
        out, idle = sum(not name for name in own.values()), lines - len(own)
        some = f"{several(len(own) - out, 'labels')} mended, {several(out, 'photos')} left out"
        notes.append(f"{file}: {some}" + (f", {several(idle, 'lines')} without effect" if idle else ""))
        mended.append(Mended(str(file), sha256(file.read_bytes()).hexdigest(), len(own) - out, out, file is kept))
    made = changed(data, found)
    by_name = {data.splits[split].keys[i]: name for (split, i), name in found.items()}
    return replace(made, notes=(*made.notes, *notes), corrections=tuple(mended)), by_name


def correction_rows(file: Path) -> list[tuple[int, list[Any]]]:
    """(line, the cells of COLUMNS). Raises DataError."""
    if not file.is_file():
        raise DataError(f"{file} is not there; expected corrections.csv as the pages of runs and of 'check' save it")
    table = open_table(file)
    if missing := set(COLUMNS[:3]) - set(table.names):
        raise DataError(f"{file}: the header lacks {', '.join(sorted(missing))}; expected photo,label,correct[,split]")
    return list(table.rows([c if c in table.names else "" for c in COLUMNS]))


def changes_in(file: Path, data: DataSet, kept: bool) -> tuple[Changes, int]:
    """What a list changes, and how many lines it has."""
    rows = correction_rows(file)
    places, wanted = defaultdict[str, list[tuple[str, int]]](list), {row[0] for _, row in rows}
    for part, photos in data.splits.items():
        for i in (i for i, name in enumerate(photos.keys) if name in wanted):
            places[photos.keys[i]].append((part, i))
    said = dict[tuple[str, int], tuple[str, str]]()  # the class it has, the class it shall have
    for line, (key, label, correct, split) in rows:
        there = places[key]
        here = [place for place in there if len(there) == 1 or place[0] == split]
        has = [", ".join(data.classes[c] for c in data.splits[s].record(i).labels) for s, i in here]
        if not there:
            wrong = f"{data.name} has no photo {key!r:.200}; was the list made for other data?"
        elif len(here) != 1:
            wrong = (
                f"photos of {listed([s for s, _ in there])} are called {key!r:.200}; the column split must say which"
            )
        elif has[0] not in (label, correct):
            wrong = f"{key} is {has[0]!r:.60} in {data.name}, not {label!r:.60}; it has changed since, so mark it again"
        elif correct is None or correct not in ("", *data.classes):
            near = meant(correct or "", data.classes)
            wrong = f"correct is {correct!r:.60}{near}, or an empty cell to leave the photo out"
        elif said.setdefault(here[0], (has[0], correct))[1] != correct:
            wrong = f"{key} is marked as {correct!r:.60}, and as {said[here[0]][1]!r:.60} before; keep one line of it"
        else:
            continue
        if not kept:
            raise DataError(f"{file} line {line}: {wrong}")
    return {place: new for place, (old, new) in said.items() if new != old}, len(rows)


def changed_by_name(data: DataSet, changes: Mapping[str, str]) -> DataSet:
    """The data set as a run keeps it, with the changes that are not in it yet."""
    places = ((split, *one) for split, photos in data.splits.items() for one in enumerate(photos.keys))
    found = {(split, i): changes[key] for split, i, key in places if key in changes}
    if strange := set(found.values()) - {"", *data.classes}:
        raise DataError(f"{data.name}: the corrections name {min(strange)!r:.60}, a class that the run does not know")
    return changed(data, found)


def changed(data: DataSet, found: Changes) -> DataSet:
    """The data set with these changes; a class whose last photo went is gone. Raises DataError if too few stay."""
    number, made, lost, used = {name: i for i, name in enumerate(data.classes)}, {}, set[int](), set[int]()
    for split, photos in data.splits.items() if found else ():
        old: list[tuple[int, ...]] = [own if isinstance(own, tuple) else (int(own),) for own in photos.labels]
        new = {i: tuple(number[name] for name in [name] if name) for (s, i), name in found.items() if s == split}
        stay = [i for i in range(len(photos)) if new.get(i) != ()]
        boxes = {
            n: tuple((box, new[i][0] if i in new and c in old[i] else c) for box, c in photos.boxes[i])
            for n, i in enumerate(stay) if i in photos.boxes
        }  # fmt: skip
        made[split] = photos.take(np.array(stay, np.int64), split), [new.get(i, old[i]) for i in stay], boxes
        lost.update(*(old[i] for i in new))
        used.update(*made[split][1], (c for own in boxes.values() for _, c in own))
    left = [i for i in range(len(data.classes)) if i in used or i not in lost]
    if len(left) < min(2, len(data.classes)) or not all(labels for _, labels, _ in made.values()):
        raise DataError(f"{data.name}: the corrections leave one class, or a split without photos")
    at, splits = {c: n for n, c in enumerate(left)}, dict(data.splits)
    for split, (photos, labels, boxes) in made.items():
        boxed = {i: tuple((box, at[c]) for box, c in own) for i, own in boxes.items()}
        splits[split] = replace(photos, labels=compact(tuple(at[c] for c in own) for own in labels), boxes=boxed)
    return replace(data, splits=splits, classes=tuple(data.classes[i] for i in left))
