"""Names of files and classes: natural order, and what counts as hidden."""

from __future__ import annotations

import re

HIDDEN = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"})


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key in which 2 comes before 10, with the name itself to settle ties."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in parts if p), name


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN
