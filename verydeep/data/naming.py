"""Names of files and classes: natural order, and what counts as hidden."""

import re
from importlib import resources

SYNSET = re.compile(r"n\d{8}")  # how ImageNet calls a class
HIDDEN = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"})


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key in which 2 comes before 10, with the name itself to settle ties."""
    parts = filter(None, re.split(r"(\d+)", name))
    # Digits by their length first, because int() refuses more than 4,300.
    return tuple((0, len(n := p.lstrip("0")), n) if p.isdecimal() else (1, 0, p.casefold()) for p in parts), name


def bare_column(name: str) -> str:
    """A column's name without capitals, blanks and hyphens: Image Path, image-path and imagePath are image_path."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())).strip("_").lower()


def is_storable(name: str) -> bool:
    """False for what UTF-8 files cannot hold: NUL, and the bytes of a file name that is not UTF-8."""
    return "\0" not in name and (name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name))


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def imagenet_classes() -> dict[str, str]:
    """Synset -> name of the 1,000 classes, in the order of the synsets: the n-th is output n of a published net."""
    text = resources.files("verydeep.data").joinpath("ilsvrc-synsets.txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))
