"""A list as a table: its text, in whatever encoding and with whatever separator, and its columns by their names."""

import codecs
import csv
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from verydeep.collections.commands import beside, with_names
from verydeep.data import photo
from verydeep.data.groups import COLUMNS as GROUPS
from verydeep.data.naming import bare_column
from verydeep.errors import DataError
from verydeep.words import several

COLUMNS = {  # meaning -> names, the first before the others; `id` serves where nothing better names photos
    "path": (
        "path", "file_path", "filepath", "image_path", "img_path", "photo_path", "file_name", "filename", "image_name",
        "img_name", "photo_name", "image_file", "image_filename", "file", "image", "img", "photo", "picture",
    ),
    "id": ("image_id", "img_id", "photo_id", "file_id", "id", "url", "image_url", "img_url"),
    "label": (
        "label", "labels", "label_name", "label_text", "class", "class_name", "classname", "category", "category_name",
        "target", "target_name", "cls", "breed", "species", "variety", "diagnosis", "dx", "fine_label", "label_id",
        "class_id", "classid", "category_id", "target_id", "label_idx", "class_idx", "label_index", "class_index",
    ),
    "split": ("split", "splits", "subset", "partition", "set", "data_set", "dataset", "phase", "fold", "usage"),
    "is_val": ("is_val", "is_valid", "is_validation"),
    "is_test": ("is_test", "is_testing"),
    "is_train": ("is_train", "is_training", "is_training_image"),
    "group": GROUPS,
    "box": ("box",),
    "boxes": ("boxes",),
}  # fmt: skip
PLACE = {name: (meaning, i) for meaning, names in COLUMNS.items() for i, name in enumerate(names)}
SEPARATORS = ",;\t|"
BLANK = ' \r\n"' + SEPARATORS
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
CALLED = {"gb18030": "GB 18030 (Chinese)", "cp1252": "Windows-1252 (western Europe)"}
MOST_COLUMNS = 10_000
OF_CELLS = (".csv", ".tsv", ".txt")
LIST_SUFFIXES = frozenset({*OF_CELLS, ".json", ".jsonl", ".ndjson"})


def meaning_of(name: str) -> str:
    return PLACE.get(bare_column(name), ("", 0))[0]


def known(names: Iterable[str]) -> int:
    """How many of these have a meaning."""
    return sum(map(bool, map(meaning_of, names)))


def named_as(names: Iterable[str], meaning: str) -> list[str]:
    """The names with a meaning, in the order of COLUMNS; a name as it stands there before other spellings of it."""
    found = [name for name in dict.fromkeys(names) if meaning_of(name) == meaning]
    return sorted(found, key=lambda name: (PLACE[bare_column(name)], name != bare_column(name)))


@dataclass(frozen=True)
class Table:
    """`rows(columns)` reads the list once: (line, values), None where a row has no such column or it is ''."""

    path: Path
    names: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[tuple[int, list[Any]]]]
    notes: tuple[str, ...] = ()
    header: int = 0  # its line; 0 for JSON
    separator: str = ","

    def __post_init__(self) -> None:
        if len(self.names) > MOST_COLUMNS:
            raise DataError(f"{self.path} has {len(self.names):,} columns; expected at most {MOST_COLUMNS:,}")


@contextmanager
def as_list(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, csv.Error, RecursionError) as e:
        raise DataError(f"{path}: is not a text manifest ({e})") from e


def open_table(path: Path) -> Table:
    """A list by its suffix. Raises DataError.

    A CSV without a header has two columns, the first of which names photos.
    """
    with as_list(path):
        text, notes = text_of_list(path)
        if path.suffix.lower() not in OF_CELLS:
            return json_table(path, text, notes)
        told, comments, first, before = "", list[tuple[int, str]](), "", 0
        for before, line in enumerate(io.StringIO(text, newline=""), 1):
            if said := re.fullmatch(r'"?sep=(.)"?', line.strip()):  # Excel's own
                told = said[1]
            elif line.startswith("#"):
                comments = [*comments[:1], (before, line)]
            elif line.strip(BLANK):
                first = line
                break
        separator = told or separator_of(first)
        rows_of = partial(csv.reader, delimiter=separator, skipinitialspace=True)
        header = next(rows_of([first]), [])
        if comments:
            notes = (*notes, f"lines with # before the header are passed over: {comments[0][1].strip()!r:.60}")
            last = next(rows_of([comments[-1][1].lstrip("# ")]), [])
            if known(last) > known(header):
                header, before = last, comments[-1][0]
    names = tuple(map(str.strip, header))
    if names and Path(names[0]).suffix.lower() in photo.SUFFIXES and not meaning_of(names[0]):
        if len(names) != 2:
            new = with_names(path, ["path", "label", "split"], separator, before, before)
            raise DataError(
                f"{path}: its first line is a photo and no header, and has {several(len(names), 'columns')}; say what "
                f"they are: {new}"
            )
        names, before = ("path", "label"), before - 1
        notes = (*notes, "there is no header: the first column is taken as path, the second as label")
    width, place = len(names), {name: i for i, name in reversed(list(enumerate(names)))}

    def rows(columns: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        at = [place[c] if c else width for c in columns]
        with as_list(path):
            reader = rows_of(islice(io.StringIO(text, newline=""), before, None))
            for row in filter(any, reader):
                line = before + reader.line_num
                if any(row[width:]):
                    raise DataError(
                        f"{path} line {line}: has {len(row)} columns, {width} in the first line; "
                        f"what holds a {separator!r} must stand in quotes"
                    )
                yield line, [row[i] if i < min(width, len(row)) else None for i in at]

    return Table(path, names, rows, notes, max(1, before), separator)


def json_table(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    """JSON lines of objects; or one array of objects, or one object of path: label."""
    whole = whole_json(path, text) if path.suffix.lower() == ".json" else None

    def objects() -> Iterator[tuple[int, dict[str, Any]]]:
        lines = filter(lambda numbered: numbered[1].strip(), enumerate(io.StringIO(text, newline=""), 1))
        with as_list(path):
            for number, value in lines if whole is None else enumerate(whole, 1):
                try:
                    found = json.loads(value) if whole is None else value
                except json.JSONDecodeError as e:
                    raise DataError(f"{path} line {number}: is not JSON ({e.msg})") from e
                if not isinstance(found, dict):
                    raise DataError(f"{path} line {number}: expected an object like {{'path': ..., 'label': ...}}")
                yield number, found

    names = tuple(dict.fromkeys(key for _, row in objects() for key in row))
    rows = lambda columns: ((n, [row.get(c) if c else None for c in columns]) for n, row in objects())  # noqa: E731
    return Table(path, names, rows, notes)


def whole_json(path: Path, text: str) -> list[Any] | None:
    """The rows of one array or object; None for lines of objects, which come under this suffix too."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as e:
        if e.msg == "Extra data" and e.lineno > 1:
            return None
        raise DataError(f"{path} line {e.lineno}: is not JSON ({e.msg})") from e
    if not isinstance(found, dict):
        return found if isinstance(found, list) else [found]
    if len(found) > 1 and meaning_of(next(iter(found))):
        return [found]
    if strange := next((k for k, v in found.items() if isinstance(v, (dict, list))), None):
        what = f"{strange!r:.60} is neither a label nor a photo"
        raise DataError(f"{path}: {what}; expected [{{path, label}}, ...] or {{path: label, ...}}")
    return [{"path": key, "label": label} for key, label in found.items()]


def separator_of(first: str) -> str:
    """By the names that a header has with it, then by the cells it makes; blanks where there is no other."""
    cells = {s: next(csv.reader([first], delimiter=s), []) for s in SEPARATORS}
    best = max(SEPARATORS, key=lambda s: (known(cells[s][:MOST_COLUMNS]), len(cells[s])))
    return " " if len(cells[best]) < 2 and " " in first.strip() else best


def text_of_list(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a file and, unless its encoding is plain, a line about that. Raises OSError and DataError."""
    data = path.read_bytes()
    sure = next((name for bom, name in BOMS.items() if data.startswith(bom)), "")
    if not sure and b"\0" in data[:2] and data[:2] != b"\0\0":
        sure = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    if sure or not data:
        return data.decode(sure or "utf-8"), ()
    if text := decoded(data, "utf-8"):
        return text, ()
    again = f"iconv -f ITS_ENCODING -t UTF-8 {shlex.quote(str(path))} > {beside(path)}"
    chinese, western = decoded(data, "gb18030"), decoded(data, "cp1252")
    name, text = ("gb18030", chinese) if is_chinese(data, chinese, western) else ("cp1252", western)
    if not text:
        raise DataError(f"{path}: is neither UTF-8, UTF-16, GB 18030 nor Windows-1252; save it as UTF-8: {again}")
    word = re.search(r"[^\s,;|]*[^\x00-\x7f][^\s,;|]*", text)
    shown = word[0][:40] if word else ""
    return text, (f"{path.name} is not UTF-8; read as {CALLED[name]} it says {shown!r}; if that is wrong: {again}",)


def is_chinese(data: bytes, chinese: str, western: str) -> bool:
    """Where all decodes so, to common characters, unless each stands among Latin letters."""
    strange, other = ([c for c in text if c > "\x7f"] for text in (chinese, western))
    common = len("".join(strange).encode("gb2312", "ignore")) / 2 >= 0.9 * len(strange) > 0
    alone = re.search(rb"(?<![A-Za-z\x80-\xff])[\x80-\xff]+(?![A-Za-z\x80-\xff])", data)
    return common and bool(alone or not other or not all(map(str.isalpha, other)))


def decoded(data: bytes, name: str) -> str:
    """The text, or '' where these bytes are none."""
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return ""
