"""What the columns of a list mean, by the names that people give them; the first of a meaning that serves is taken."""

import re
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, NamedTuple

from verydeep.collections.commands import rekeyed, with_names
from verydeep.collections.table import COLUMNS, Table, meaning_of, named_as
from verydeep.data.record import SPLIT_WORDS
from verydeep.errors import DataError

FLAGS = {"is_val": "val", "is_test": "test", "is_train": "train"}
TRUE, FALSE = (
    frozenset({"true", "1", "1.0", "1,0", "yes", "t", "y"}),
    frozenset({"false", "0", "0.0", "0,0", "no", "f", "n", ""}),
)
WORDS = {flag: dict.fromkeys(TRUE, split) | dict.fromkeys(FALSE, "") for flag, split in FLAGS.items()}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
MOST_ALIKE, MOST_KEYS = 20, 100  # columns of one meaning; of JSON that may be one-hot
SURELY = ("label", "labels", "fine_label")  # beside others that say something else
FEW = 50  # rows, of which a look says which column names photos


class Chosen(NamedTuple):
    """The columns that are used, '' or none where there are none, and what there is to say of that."""

    path: str
    label: str
    group: str
    split: tuple[str, ...]
    one_hot: tuple[str, ...]
    notes: list[str]

    @property
    def used(self) -> set[str]:
        return {self.path, self.label, self.group, *self.split, *self.one_hot}


def choose(table: Table, is_there: Callable[[str], bool], group: str) -> Chosen:
    """The columns of a list with their meanings, the photos found by `is_there`. Raises DataError for doubtful ones."""
    columns = dict.fromkeys(filter(None, table.names))
    for meaning in COLUMNS:
        if len(many := named_as(columns, meaning)) > MOST_ALIKE:
            raise doubtful(table, meaning, many[:MOST_ALIKE])
    splits, notes = split_columns(table)
    path, hot = path_column(table, is_there), tuple[str, ...]()
    labels = [c for c in named_as(columns, "label") if c not in (path, group, *splits)]
    rest = [c for c in columns if not (meaning_of(c) or c in (group, *splits) or c.lower().startswith("unnamed:"))]
    if not path and len(rest) == (1 if labels else 2):
        path = rest.pop(0)
        if not labels and any(str(row[0]).strip() == rest[0] for _, row in table.rows(rest)):
            raise DataError(
                f"{table.path}: its first line is a photo and no header, as {rest[0]!r:.60} is a class too; "
                f"add one: {with_names(table.path, ['path', 'label'], table.separator, table.header, table.header)}"
            )
        labels = labels or rest
    if not path:
        raise lacking(table, "path", rest)
    if not labels and not (hot := one_hot_columns(table, rest)):
        values = [str(row[0]) for _, row in table.rows(rest)] if len(rest) == 1 else []
        various = not values or 2 * len(set(values)) > len(values) + 2
        if various and (table.header or "boxes" not in columns):  # of JSON, whose boxes may say the classes
            why = f"; {rest[0]!r} says something else of nearly every photo" if values else ""
            raise lacking(table, "label", rest, why)
        labels = [] if various else rest
    label, more = labels[0] if labels else "", list[str]()
    if len(labels) > 1 and (set(labels) != {"label", "labels"} or table.header):  # one as JSON, two as columns
        label, words = one_of(labels, {tuple(map(str, row)) for _, row in table.rows(labels)})
        if not label:
            raise doubtful(table, "label", labels)
        more = [words]
    return Chosen(path, label, group, splits, hot, said(path, label, splits, hot) + more + notes)


def said(path: str, label: str, splits: Sequence[str], hot: Sequence[str]) -> list[str]:
    """One line of columns that are not called as ours are; none where all are."""
    taken = {"path": [path], "label": [label], "split": splits, "label, one 1 a row": hot}
    strange = {what: names for what, names in taken.items() if any(names) and list(names) not in ([what], ["labels"])}
    words = (f"{what} is {' and '.join(map(repr, list(n)[:4]))}{', ...' * (len(n) > 4)}" for what, n in strange.items())
    return [f"columns: {', '.join(words)}"] if strange else []


def lacking(table: Table, what: str, rest: Sequence[str], why: str = "") -> DataError:
    some = ", ".join(filter(None, table.names))[:300]
    if rest:
        which = f"if that is {rest[0]!r:.60}, " if len(rest) > 1 else ""
        why += f"; {which}give it that name in the first line: {renamed(table, rest[0], what)}"
    expected = "expected path,label[,split][,box] or names that mean these"
    return DataError(f"{table.path}: the header lacks {what}; {expected}, not {some}{why}")


def renamed(table: Table, column: str, name: str) -> str:
    """A command that writes the list again with another name of a column."""
    if not table.header:
        return rekeyed(table.path, column, name)
    names = [name if n == column else n for n in table.names]
    return with_names(table.path, names, table.separator, table.header, table.header + 1)


def doubtful(table: Table, what: str, names: Sequence[str]) -> DataError:
    which = f"call the right one {what}: {renamed(table, names[0], what)}"
    return DataError(f"{table.path}: several columns may say the {what}: {', '.join(names)}; {which}")


def path_column(table: Table, is_there: Callable[[str], bool]) -> str:
    """Of several the one called path, else the only one that names photos as they lie."""
    found = named_as(table.names, "path") or named_as(table.names, "id")
    if len(found) < 2 or found[0] == "path":
        return next(iter(found), "")
    rows = [row for _, row in islice(table.rows(found), FEW)]
    good = [c for i, c in enumerate(found) if any(isinstance(row[i], str) and is_there(row[i]) for row in rows)]
    if len(good) > 1:
        raise doubtful(table, "path", good)
    return (good or found)[0]


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


def one_hot_columns(table: Table, rest: Sequence[str]) -> tuple[str, ...]:
    """The columns of nothing but 0 and 1, if there are several with exactly one 1 a row. Raises DataError."""
    good = set(rest) if table.header or len(rest) <= MOST_KEYS else set()
    for _, row in table.rows(rest) if len(good) > 1 else ():
        if table.header and None in row:  # a row that is cut short
            return ()
        good &= {c for c, value in zip(rest, row, strict=True) if as_flag(value) is not None}
        if len(good) < 2:
            break
    if len(good) < 2:
        return ()
    columns = tuple(c for c in rest if c in good)
    for line, row in table.rows(columns):
        if (ones := sum(map(bool, map(as_flag, row)))) != 1:
            raise DataError(
                f"{table.path} line {line}: {ones} of the columns {', '.join(columns):.300} are 1; "
                "expected a column of labels, or exactly one 1 a row"
            )
    return columns


def as_flag(value: Any) -> bool | None:
    return True if (word := str(value).strip().lower()) in TRUE else False if word in FALSE else None


def word_of(value: Any) -> str:
    return "" if value is None else str(value).strip().lower()


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
                own.add(word_of(value))
    worded = [c for c in found if values[c] & SPLIT_WORDS.keys()]
    for c in worded:
        if strange := sorted(values[c] - SPLIT_WORDS.keys() - {""}):
            raise DataError(f"{table.path}: the column {c!r} says {strange[0]!r:.60}, expected train, val or test")
    if len(worded) > 1:
        raise doubtful(table, "split", worded)
    taken = tuple(worded or (c for c in flags if values[c] <= TRUE | FALSE))
    lines = [f"{c!r} true is {FLAGS[meaning_of(c)]}" for c in taken if c in flags]
    for c in values:
        if c not in taken and (words := sorted(values[c] - {""})):
            lines.append(
                f"warning: the column {c!r} is not used ({', '.join(words[:3]):.60}); folds or splits of your own are "
                "written as train, val and test in a column called split"
            )
    return taken, lines


def split_said(columns: Sequence[str], values: Sequence[Any], where: str) -> str:
    """The split that a row's columns say, '' for none. Raises DataError for what says none or two."""
    flags, found = [FLAGS[meaning_of(c)] for c in columns if meaning_of(c) in FLAGS], set[str]()
    for column, word in zip(columns, map(word_of, values), strict=True):
        words = WORDS.get(meaning_of(column), SPLIT_WORDS)
        if word and word not in words:
            raise DataError(f"{where}: the split is {word!r:.100}, expected train, val or test")
        found.add(words.get(word, ""))
    if len(found - {""}) > 1:
        raise DataError(f"{where}: {' and '.join(columns)} are both true, expected one")
    otherwise = "test" if flags == ["train"] else "train" if flags else ""
    return max(found, default="") or otherwise
