"""A list: one photo a line, as CSV, TSV, JSON lines or JSON.

Columns: path, label, and optionally split, box ("x0 y0 x1 y1") and group, or other names that mean these (COLUMNS in
table.py; columns.py takes the unambiguous). JSON: {"path", "label" or "labels", "split", "box" or "boxes": [{"label",
"box"}], "group"}. Paths are relative to the list's folder; locate.py finds what lies elsewhere in it. Several lines of
one path, however it is spelled, are one photo with several labels or boxes; lines without a label are left out.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from verydeep.collections.classes import classes_by_label
from verydeep.collections.columns import Chosen, as_flag, choose, split_said
from verydeep.collections.locate import located
from verydeep.collections.table import Table, meaning_of, open_table
from verydeep.data.groups import group_column
from verydeep.data.manifest import Line, box_of, data_of_lines, photos_by_path, text_of
from verydeep.data.record import DataSet
from verydeep.errors import DataError
from verydeep.words import several

NO_LABEL = frozenset({"", "nan", "null", "<na>", "\\n"})  # as empty cells are written by other programs


def open_list(path: Path, least: int, groups: str | None = None) -> DataSet:
    """The data set of a list with at least so many classes, undivided. Raises DataError naming the line.

    groups: the column that says them, instead of a known one.
    """
    table, root, unlabelled = open_table(path), path.parent, list[int]()
    group = group_column(table.names, groups)
    chosen = choose(table, lambda name: os.path.isfile(root / key_of(name.strip(), root)), group)
    found = photos_by_path(path, lines_of(table, chosen, unlabelled))
    notes = [*table.notes, *chosen.notes]
    if not found:
        what = "no photo with a label" if unlabelled else "no photos"
        raise DataError(f"{path} names {what}; expected a header 'path,label' and one photo a line")
    if n := len(unlabelled):
        notes.append(f"warning: {several(n, 'photos')} without a label left out, line {unlabelled[0]} for one")
    as_class, said_of = classes_by_label({label for said in found.values() for label in said.labels})
    notes += said_of
    several_of = ((key, said.labels, {c for _, c in said.boxes}) for key, said in found.items())
    if torn := [(key, own) for key, own, boxed in several_of if len(own) > 1 and boxed != set(own)]:
        some = f"{several(len(torn), 'photos')} with several labels, {torn[0][0]} for one {torn[0][1][:3]}"
        notes.append(f"warning: {some}; a net of classes learns one: keep the right line of each")
    moved, more = located(path, list(found), root)
    if moved:
        found = {moved.get(key, key): said for key, said in found.items()}
    data = data_of_lines(path, found, root, least, group, as_class)
    columns = tuple(filter(None, table.names))
    used = tuple(c for c in columns if c in chosen.used or meaning_of(c) not in ("", "group"))
    return replace(data, columns=columns, notes=(*notes, *data.notes, *more), used=used)


def lines_of(table: Table, chosen: Chosen, unlabelled: list[int]) -> Iterator[Line]:
    """What the rows say, without those that have no label. Blanks around names do not count, nor a path's form."""
    many = len(chosen.split)
    more = (name if name in table.names else "" for name in ("labels", "box", "boxes"))
    columns = (chosen.path, chosen.label, chosen.group, *more, *chosen.split, *chosen.one_hot)
    for number, (key, label, group, labels, box, boxes, *rest) in table.rows(columns):
        where = f"{table.path} line {number}"
        key = key_of(text_of(key, "path", where), table.path.parent)
        split = split_said(chosen.split, rest[:many], where)
        group = "" if group is None or str(group).strip().lower() in NO_LABEL else text_of(group, chosen.group, where)
        if chosen.one_hot:
            label = chosen.one_hot[[as_flag(value) for value in rest[many:]].index(True)]
        given = labels if isinstance(labels, list) and labels else label
        taken = [c for v in (given if isinstance(given, list) else (given,)) if (c := label_of(v, table, where))]
        placed = []
        if isinstance(boxes, str) and boxes.strip():
            raise DataError(f"{where}: boxes is for JSON; in a table each box has a line and stands in the column box")
        for around in boxes if isinstance(boxes, list) else ({"box": box},):
            if not isinstance(around, dict):
                raise DataError(f"{where}: boxes expects a list of {{label, box}}")
            if around.get("box") not in (None, ""):
                own = around.get("label")
                taken.append(text_of(next(iter(taken), None) if own in (None, "") else own, "label", where))
                placed.append((box_of(around["box"], where), taken[-1]))
        if taken:
            yield Line(number, key, split, group, tuple(dict.fromkeys(taken)), tuple(placed))
        else:
            unlabelled.append(number)


def key_of(path: str, root: Path) -> str:
    """A listed path in its simplest form, backslashes of Windows turned unless a file is called so."""
    turned = "\\" in path and not os.path.isfile(root / path)
    return os.path.normpath(path.replace("\\", "/") if turned else path)


def label_of(value: Any, table: Table, where: str) -> str:
    """A label, or '' where a list says that there is none: an empty cell, null, nan."""
    if (value is None and not table.header) or str(value).strip().lower() in NO_LABEL:
        return ""
    return sys.intern(text_of(value, "label", where))
