"""What every verb that opens DATA says of it: how it was understood, what is passed over, classes that tell little;
and of the first photos of a split what they hold."""

import numpy as np

from verydeep.data.groups import group_lines
from verydeep.data.record import DataSet, Photos
from verydeep.data.tree import listed
from verydeep.words import several


def data_lines(data: DataSet) -> list[str]:
    told = [passed.line for passed in data.passed if passed.line]
    return [*data.notes, *told, *class_lines(data), *group_lines(data)]


def class_lines(data: DataSet) -> list[str]:
    """Classes of a single photo, and those that a test does not know."""
    n = len(data.classes)
    given = {s: p.labels for s, p in data.splits.items() if isinstance(p.labels, np.ndarray)}
    counts = {s: np.bincount(own[own >= 0], minlength=n)[:n] for s, own in given.items()}
    lines, total = list[str](), sum(counts.values(), np.zeros(n, np.int64))
    if few := [data.classes[i] for i in np.flatnonzero(total == 1)]:
        some = f"{several(len(few), 'classes')} of a single photo ({listed(few)})"
        lines.append(f"warning: {some}, which is trained on or tested, never both")
    for split, own in counts.items():
        if split not in ("val", "test"):
            continue
        there = np.flatnonzero(own)
        if len(there) == 1 < n:
            some = f"the {split} photos are all of one class, {data.classes[there[0]]!r:.60}"
            lines.append(f"warning: {some}, which tells nothing of others")
        elif lacking := [data.classes[i] for i in np.flatnonzero(own == 0)]:
            some = f"{len(lacking)} of {several(n, 'classes')} have no {split} photo"
            lines.append(f"warning: {some} ({listed(lacking)})")
    return lines


def class_by_class(photos: Photos, limit: int | None) -> str:
    """What is to be said of the first photos of a split that stands class by class and of which they hold at most half
    of the classes that they could, or ''."""
    if limit is None:
        return ""
    targets = photos.targets()
    held, classes = (len(np.unique(t)) for t in (targets[:limit], targets))
    if 2 * held > min(limit, classes) or 1 + np.count_nonzero(np.diff(targets)) > classes:
        return ""
    return (
        f"the first {limit:,} of the {len(photos):,} {photos.split} photos are of {several(held, 'classes')} "
        f"of {classes}, because they stand class by class"
    )
