"""What to type so that a list is read: commands that write a mended copy of it."""

import codecs
import csv
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path


def with_names(path: Path, names: Sequence[str], separator: str, line: int, rows: int) -> str:
    """A command that writes a list again, with these names in its line number `line` and then what it has from `rows`
    on."""
    header, file = io.StringIO(), shlex.quote(str(path))
    csv.writer(header, delimiter=separator, lineterminator="").writerow(names)
    with path.open("rb") as f:
        wide = f.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as Excel saves text
    text = f"iconv -f UTF-16 -t UTF-8 {file} |" if wide else f"< {file}"
    above = f"{text} head -n {line - 1}; " * (line > 1)
    said = shlex.join(["printf", r"%s\n", header.getvalue()])
    return f"({above}{said}; {text} tail -n +{rows}) > {beside(path)}"


def beside(path: Path) -> str:
    """Where a mended copy of a list may be written, so that its paths stay right."""
    stem = f"{path.stem}2" if path.stem.startswith("mended") else "mended"  # never what is read
    return shlex.quote(str(path.with_name(f"{stem}{path.suffix}")))


def rekeyed(path: Path, key: str, name: str) -> str:
    """A command that writes a JSON list again with another name of a key."""
    plain = re.sub(r"[][\\/.*^$]", r"\\\g<0>", key)
    change = shlex.join(["sed", f's/"{plain}" *:/"{name}":/g', str(path)])
    return f"{change} > {beside(path)}"
