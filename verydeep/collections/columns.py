"""What the columns of a list mean, by the names that people give them; the first of a meaning that serves is taken."""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from verydeep.collections.table import COLUMNS, Table, meaning_of, named_as
from verydeep.data.record import SPLIT_WORDS
from verydeep.errors import DataError
from verydeep.words import several

FLAGS = {"is_val": "val", "is_test": "test", "is_train": "train"}
TRUE, FALSE = (
    frozenset({"true", "1", "1.0", "1,0", "yes", "t", "y"}),
    frozenset({"false", "0", "0.0", "0,0", "no", "f", "n", ""}),
)
NO_LABEL = frozenset({"", "nan", "null", "<na>", "\\n"})  # as empty cells are written by other programs
PERHAPS_NONE = frozenset({"na", "n/a", "none", "#n/a"})
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
MOST_ALIKE, MOST_KEYS = 20, 100  # columns of one meaning; of JSON that may be one-hot
SURELY = ("label", "labels", "fine_label")  # beside others that say something else
FEW = 50  # rows, of which a look says which column names photos


@dataclass(frozen=True)
class Chosen:
    """The columns that are used, '' or none where there are none, and what there is to say of that."""

    path: str
    label: str
    split: tuple[str, ...] = ()
    group: str = ""
    one_hot: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        return *filter(None, (self.path, self.label, self.group)), *self.split, *self.one_hot


def choose(table: Table, is_there: Callable[[str], bool], group: str) -> Chosen:
    """The columns of a list with their meanings, the photos found by `is_there`. Raises DataError for doubtful ones."""
    columns = dict.fromkeys(filter(None, table.names))
    for meaning in COLUMNS:
        if len(many := named_as(columns, meaning)) > MOST_ALIKE:
            raise doubtful(table, meaning, many[:MOST_ALIKE])
    splits, notes = split_columns(table)
    known = {c for c in columns if meaning_of(c) in ("split", "box", "boxes", *FLAGS) or c in (group, *splits)}
    path = path_column(table, is_there)
    labels = [c for c in named_as(columns, "label") if c not in (path, group, *splits)]
    rest = [c for c in columns if not meaning_of(c) and c not in known and not c.lower().startswith("unnamed:")]
    if not path and len(rest) == 1 and labels:
        path = rest[0]
    elif not path and not labels and len(rest) == 2:
        path, labels = rest[0], rest[1:]
        if any(str(row[0]).strip() == labels[0] for _, row in table.rows(labels)):
            raise DataError(
                f"{table.path}: its first line is a photo and no header, as {labels[0]!r:.60} is a class too; "
                f"add one: {shlex.join(['sed', '-i', '1i path,label', str(table.path)])}"
            )
    if not path:
        raise lacking(table, "path", rest)
    rest = [c for c in rest if c != path]
    hot = () if labels else one_hot_columns(table, rest)
    if not labels and not hot and len(rest) == 1:
        values = [str(row[0]) for _, row in table.rows(rest)]
        if 2 * len(set(values)) > len(values) + 2:
            raise lacking(table, "label", rest, f"; {rest[0]!r} says something else of nearly every photo")
        labels = rest
    if not labels and not hot:
        raise lacking(table, "label", rest)
    label, more = label_column(table, labels) if labels else ("", [])
    return Chosen(path, label, splits, group, hot, (*said(path, label, splits, hot), *more, *notes))


def said(path: str, label: str, splits: Sequence[str], hot: Sequence[str]) -> list[str]:
    """One line of columns that are not called as ours are; none where all are."""
    taken = {"path": [path], "label": [label], "split": splits, "label, one 1 a row": hot}
    strange = {what: names for what, names in taken.items() if any(names) and list(names) not in ([what], ["labels"])}
    words = (f"{what} is {' and '.join(map(repr, list(n)[:4]))}{', ...' * (len(n) > 4)}" for what, n in strange.items())
    return [f"columns: {', '.join(words)}"] if strange else []


def lacking(table: Table, what: str, rest: Sequence[str], why: str = "") -> DataError:
    some = ", ".join(filter(None, table.names))[:300]
    which = f"if that is {rest[0]!r:.60}, " if len(rest) > 1 else ""
    one = f"; {which}give it that name in the first line: {table.rename(rest[0], what)}" if rest else ""
    return DataError(
        f"{table.path}: the header lacks {what}; expected path,label[,split][,box] or names that mean these, not {some}"
        f"{why}{one}"
    )


def doubtful(table: Table, what: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"{table.path}: several columns may say the {what}: {', '.join(names)}; "
        f"call the right one {what}: {table.rename(names[0], what)}"
    )


def path_column(table: Table, is_there: Callable[[str], bool]) -> str:
    """Of several the one called path, else the only one that names photos as they lie."""
    found = named_as(table.names, "path") or named_as(table.names, "id")
    if len(found) < 2 or found[0] == "path":
        return next(iter(found), "")
    rows = [row for _, row in zip(range(FEW), (row for _, row in table.rows(found)), strict=False)]
    good = [c for i, c in enumerate(found) if any(isinstance(row[i], str) and is_there(row[i]) for row in rows)]
    if len(good) > 1:
        raise doubtful(table, "path", good)
    return (good or found)[0]


def label_column(table: Table, found: Sequence[str]) -> tuple[str, list[str]]:
    if len(found) == 1 or (set(found) == {"label", "labels"} and not table.cells):
        return found[0], []
    label, words = one_of(found, {tuple(map(str, row)) for _, row in table.rows(found)})
    if not label:
        raise doubtful(table, "label", found)
    return label, [words]


def one_of(found: Sequence[str], pairs: Collection[tuple[str, ...]]) -> tuple[str, str]:
    """Of columns that say the same classes the one with names instead of numbers; else `label`, or ''. And a line.

    pairs: the different rows of these columns.
    """
    same = all(len({row[i] for row in pairs}) == len(pairs) for i in range(len(found)))
    worded = (c for i, c in enumerate(found) if not all(NUMBER.fullmatch(row[i]) for row in pairs))
    label = next(worded, found[0]) if same else next((c for c in SURELY if c in found), "")
    others = ", ".join(repr(c) for c in found if c != label)
    how = "says the same" if same else "says something else and is not used"
    return label, f"{'' if same else 'warning: '}the classes are those of {label!r}; {others} {how}"


def whole_numbers(labels: set[str]) -> dict[str, str]:
    """Label -> class: where all are numbers, and some are written as 1.0, that is 1."""
    if not all(NUMBER.fullmatch(label) for label in labels):
        return {label: label for label in labels}
    return {label: label.partition(".")[0] if not label.partition(".")[2].strip("0") else label for label in labels}


def classes_of(labels: set[str]) -> tuple[dict[str, str], list[str]]:
    """Label -> class, and what there is to say of labels that are written in two ways, or may be none or several."""
    as_class, notes = whole_numbers(labels), list[str]()
    if any(label != name for label, name in as_class.items()):
        notes.append("classes are whole numbers: 1.0 is 1")
    composed = {label: unicodedata.normalize("NFC", name) for label, name in as_class.items()}
    if two := [name for name, n in Counter(map(composed.get, set(as_class.values()))).items() if n > 1]:
        notes.append(
            f"{several(len(two), 'classes')}, such as {min(two)!r}, written in two Unicode forms: taken as one"
        )
        as_class = composed
    if odd := sorted(label for label in labels if label.lower() in PERHAPS_NONE):
        notes.append(f"warning: {odd[0]!r} is taken as a class; leave the label empty where there is none")
    words = {label: set(re.split(r"[\s|;,]+", label)) for label in labels}
    if many := sorted(label for label, own in words.items() if len(own) > 1 and own <= labels):
        some = f"{several(len(many), 'classes')} of the words of others, such as {many[0]!r:.100}"
        notes.append(f"warning: {some}: labels of several things are classes of their own")
    return as_class, notes


def one_hot_columns(table: Table, rest: Sequence[str]) -> tuple[str, ...]:
    """The columns of nothing but 0 and 1, if there are several with exactly one 1 a row. Raises DataError."""
    good = [True] * len(rest)
    if len(rest) < 2 or (len(rest) > MOST_KEYS and not table.cells):
        return ()
    for _, row in table.rows(rest):
        if table.cells and None in row:  # a row that is cut short
            return ()
        good = [ok and as_flag(value) is not None for ok, value in zip(good, row, strict=True)]
        if not any(good):
            return ()
    columns = tuple(c for c, ok in zip(rest, good, strict=True) if ok)
    if len(columns) < 2:
        return ()
    for line, row in table.rows(columns):
        if (ones := sum(map(as_flag, row))) != 1:  # type: ignore[arg-type]
            raise DataError(
                f"{table.path} line {line}: {ones} of the columns {', '.join(columns):.300} are 1; "
                "expected a column of labels, or exactly one 1 a row"
            )
    return columns


def as_flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def split_columns(table: Table) -> tuple[tuple[str, ...], list[str]]:
    """The columns that say the split: the one called so, or with words for it, or true and false; and what to say."""
    found = named_as(table.names, "split")
    flags = [c for c in table.names if meaning_of(c) in FLAGS]
    if "split" in table.names or not (found or flags):
        unused = [c for c in (*found, *flags) if c != "split"]
        more = [f"warning: {', '.join(map(repr, unused))} not used, as 'split' says the splits"] if unused else []
        return ("split",) * ("split" in table.names), more
    values: dict[str, set[str]] = {c: set() for c in (*found, *flags)}
    for _, row in table.rows(list(values)):
        for own, value in zip(values.values(), row, strict=True):
            if len(own) <= FEW:
                own.add("" if value is None else str(value).strip().lower())
    worded = [c for c in found if values[c] & SPLIT_WORDS.keys()]
    for c in worded:
        if strange := sorted(values[c] - SPLIT_WORDS.keys() - {""}):
            raise DataError(f"{table.path}: the column {c!r} says {strange[0]!r:.60}, expected train, val or test")
    if len(worded) > 1:
        raise doubtful(table, "split", worded)
    true_or_false = [c for c in flags if all(as_flag(v) is not None for v in values[c])]
    taken = tuple(worded or true_or_false)
    lines = [f"{c!r} true is {FLAGS[meaning_of(c)]}" for c in taken if c in flags]
    lines += [unused_split(c, values[c] - {""}) for c in values if c not in taken and values[c] != {""}]
    return taken, lines


def unused_split(column: str, values: Iterable[str]) -> str:
    some = ", ".join(sorted(values)[:3])
    if all(NUMBER.fullmatch(v) for v in values):
        return f"warning: the column {column!r} says numbers ({some}), which are no splits, and is not used; folds or \
splits of your own are written as train, val and test in a column called split"
    return f"warning: the column {column!r} is not used ({some:.60}); a column called split may say train, val and test"


def split_said(columns: Sequence[str], values: Sequence[Any]) -> str:
    """The split that a row's columns say, '' for none. Raises ValueError for what says none or two."""
    if not columns:
        return ""
    words = ["" if v is None else str(v).strip().lower() for v in values]
    if len(columns) == 1 and meaning_of(columns[0]) not in FLAGS:
        if words[0] and words[0] not in SPLIT_WORDS:
            raise ValueError(f"the split is {words[0]!r:.100}, expected train, val or test")
        return SPLIT_WORDS.get(words[0], "")
    kinds = [FLAGS[meaning_of(c)] for c in columns]
    true = {kind for kind, word in zip(kinds, words, strict=True) if word in TRUE}
    if len(true) > 1:
        raise ValueError(f"{' and '.join(columns)} are both true, expected one")
    return true.pop() if true else "test" if kinds == ["train"] else "train"
