"""Photos that belong together, of one patient, scene, plant or video: by a column of a list, or by their paths."""

import re
from collections.abc import Sequence
from dataclasses import replace

from verydeep.data.naming import natural
from verydeep.data.record import DataSet, Names
from verydeep.errors import DataError
from verydeep.words import several

COLUMNS = ("group", "group_id", "patient", "patient_id", "subject", "scene", "video")  # used without being asked
USED = frozenset({"path", "label", "labels", "split", "box", "boxes"})  # for something else
DOUBTFUL = re.compile("group|patient|subject|scene|video|fold|valid|split|subset", re.IGNORECASE)
LONGEST_PATTERN, LONGEST_PATH = 200, 1_000  # letters: a pattern may take long over a long path


def group_column(columns: Sequence[str], asked: str | None) -> str:
    """The column of a list that says the groups: the one that is asked for, else the first known one; '' for none."""
    wanted = COLUMNS if asked is None else (asked,)
    return next((name for name in wanted if name in columns and name not in USED), "")


def grouped(data: DataSet, asked: str | None) -> DataSet:
    """With the groups that a pattern finds in the paths, unless `asked` is the column they come from already.

    A photo's group is the text in the pattern's first brackets, or all that matches; one without is a group of its own.
    Raises DataError.
    """
    if asked is None or (asked and asked == data.grouped_by):
        return data
    given = f"groups: {asked[:60]!r} is no column" + f" of the list ({', '.join(data.columns)})" * bool(data.columns)
    expected = "expected a column, or a regular expression for paths with the group in brackets, such as '([^/_]+)_'"
    try:
        pattern = re.compile(asked)
    except (re.error, OverflowError, RecursionError) as e:
        raise DataError(f"{given} and no regular expression ({e}); {expected}") from e
    if len(asked) > LONGEST_PATTERN:
        raise DataError(f"{given} and has {len(asked):,} letters, more than {LONGEST_PATTERN}; {expected}")

    def group_of(key: str) -> str:
        found = pattern.search(key) if len(key) <= LONGEST_PATH else None
        return (found[min(1, pattern.groups)] or "") if found else ""

    splits = {split: replace(p, groups=Names.of(map(group_of, p.keys))) for split, p in data.splits.items()}
    if not any(any(photos.groups or ()) for photos in splits.values()):
        path = next((key for photos in data.splits.values() for key in photos.keys), "")
        raise DataError(f"{given} and matches no path, such as {path!r:.100}; {expected}")
    return replace(data, splits=splits, grouped_by=asked)


def torn_groups(data: DataSet) -> list[str]:
    """The groups that stand in several splits, in natural order."""
    places: dict[str, list[str]] = {}
    for split, photos in data.splits.items():
        for name in set(photos.groups or ()) - {""}:
            places.setdefault(name, []).append(split)
    return sorted((name for name, splits in places.items() if len(splits) > 1), key=natural)


def group_lines(data: DataSet) -> list[str]:
    """What there is to say of groups, and of columns that look like groups or splits and are not used."""
    lines, by = [], data.grouped_by
    names = [name for photos in data.splits.values() for name in photos.groups or ()]
    together, alone = several(len(set(names) - {""}), "groups"), names.count("")
    if torn := torn_groups(data):
        some = f"{len(torn):,} of {together} by {by!r} stand in several splits, {torn[0]!r:.60} for one"
        lines.append(f"warning: {some}: the net is tested on what it has learned, and the error comes out too low")
    elif by:
        rest = f"; {several(alone, 'photos')} without one, each a group of its own" if alone else ""
        lines.append(
            f"photos of one {by!r} stay together ({several(len(names) - alone, 'photos')} in {together}{rest})"
        )
    if by and data.held_out:
        present = [set(photos.targets().tolist()) for photos in data.splits.values()]
        lacking = [name for i, name in enumerate(data.classes) if any(i not in own for own in present)]
        if lacking:
            some = f"{several(len(lacking), 'classes')} with too few groups, {lacking[0]!r:.60} for one"
            lines.append(f"warning: {some}: not every split has a photo of each")
    if strange := [c for c in data.columns if c not in USED and c != by and DOUBTFUL.search(c)]:
        more = f"--groups {strange[0]} keeps photos together by it; a column called split may say train, val and test"
        lines.append(f"warning: the column {strange[0]!r:.60} of {data.name} is not used; {more}")
    return lines
