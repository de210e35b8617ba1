"""Photos that belong together, of one patient, scene, plant or video: by a column of a list, or by their paths."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from verydeep.data.naming import bare_column, natural
from verydeep.data.record import DataSet, Names
from verydeep.errors import DataError
from verydeep.words import several

COLUMNS = (  # used unasked
    "group", "group_id", "patient", "patient_id", "subject", "subject_id", "participant_id", "person_id", "animal_id",
    "plant_id", "case_id", "study_id", "lesion_id", "series", "series_id", "series_instance_uid", "scene", "scene_id",
    "video", "video_id", "clip_id", "sequence_id", "seq_id", "session_id",
)  # fmt: skip
USED = ("path", "label", "labels", "split", "box", "boxes")
DOUBTFUL = re.compile("group|patient|subject|lesion|scene|video|fold|valid|split|subset", re.IGNORECASE)
LONGEST_PATTERN, LONGEST_PATH = 200, 1_000  # letters, for a pattern may take long over a long path


def group_column(columns: Collection[str], asked: str | None) -> str:
    """The column of a list that says the groups: the one that is asked for, else the first known one; '' for none."""
    if asked is None:
        return next((name for known in COLUMNS for name in columns if bare_column(name) == known), "")
    return asked if asked in columns and asked not in USED else ""


def grouped(data: DataSet, asked: str | None) -> DataSet:
    """With the groups that a pattern finds in the paths, unless `asked` is the column they come from already.

    A photo's group is the text in the pattern's first brackets, or all that matches. Raises DataError.
    """
    if asked is None or (asked and asked == data.grouped_by):
        return data
    try:
        pattern = re.compile(asked[: LONGEST_PATTERN + 1])
        wrong = "" if len(asked) <= LONGEST_PATTERN else f"is no pattern of at most {LONGEST_PATTERN} letters"
    except (re.error, OverflowError, RecursionError) as e:
        wrong = f"no regular expression ({e})"
    splits = {}
    for split, photos in data.splits.items() if not wrong else ():
        found = (pattern.search(key) if len(key) <= LONGEST_PATH else None for key in photos.keys)
        splits[split] = replace(photos, groups=Names.of((m[min(1, pattern.groups)] or "") if m else "" for m in found))
    if not any(any(photos.groups or ()) for photos in splits.values()):
        wrong = wrong or f"matches no path, such as {next(iter(data.splits.values())).keys[0]!r:.100}"
        columns = f" of the list ({', '.join(data.columns)})" if data.columns else ""
        raise DataError(
            f"groups: {asked[:60]!r} is no column{columns} and {wrong}; expected a column, or a regular expression for "
            "paths with the group in brackets, such as '([^/_]+)_'"
        )
    return replace(data, splits=splits, grouped_by=asked)


def torn_groups(data: DataSet) -> list[str]:
    """The groups that stand in several splits, in natural order."""
    splits = Counter(name for photos in data.splits.values() for name in set(photos.groups or ()))
    return sorted((name for name, n in splits.items() if n > 1 and name), key=natural)


def group_lines(data: DataSet) -> list[str]:
    """What there is to say of groups, and of columns that look like groups or splits and are not used."""
    lines, by = list[str](), data.grouped_by
    called = repr(by).replace(r"\\", "\\")  # patterns as they were typed
    names = [name for photos in data.splits.values() for name in photos.groups or () if name]
    together, alone = several(len(set(names)), "groups"), sum(map(len, data.splits.values())) - len(names)
    if torn := torn_groups(data):
        some = f"{len(torn):,} of {together} by {called} stand in several splits, {torn[0]!r:.60} for one"
        lines.append(f"warning: {some}: the net is tested on what it has learned, and the error comes out too low")
    elif by:
        rest = f"; {several(alone, 'photos')} without one, each a group of its own" if alone else ""
        lines.append(f"photos of one {called} stay together ({several(len(names), 'photos')} in {together}{rest})")
    if strange := [c for c in data.columns if c not in (*data.used, by) and DOUBTFUL.search(c)]:
        more = f"--groups {strange[0]} keeps photos together by it; a column called split may say train, val and test"
        lines.append(f"warning: the column {strange[0]!r:.60} of {data.name} is not used; {more}")
    return lines
