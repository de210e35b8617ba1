"""What to type so that a list is read: commands that write a mended copy of it."""

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
    above = f"head -n {line - 1} {file}; " * (line > 1)
    return f"({above}echo {shlex.quote(header.getvalue())}; tail -n +{rows} {file}) > {beside(path)}"


def beside(path: Path) -> str:
    """Where a mended copy of a list may be written, so that its paths stay right."""
    stem = f"{path.stem}2" if path.stem.startswith("mended") else "mended"  # never what is read
    return shlex.quote(str(path.with_name(f"{stem}{path.suffix}")))


def rekeyed(path: Path, key: str, name: str) -> str:
    """A command that writes a JSON list again with another name of a key."""
    plain = re.sub(r"[][\\/.*^$]", r"\\\g<0>", key)
    change = shlex.join(["sed", f's/"{plain}" *:/"{name}":/g', str(path)])
    return f"{change} > {beside(path)}"
