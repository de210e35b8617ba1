"""What lies in a folder: photos, folders, and what is passed over."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from verydeep.data import photo
from verydeep.data.naming import is_hidden, is_storable, natural
from verydeep.data.record import Names, Passed
from verydeep.errors import DataError
from verydeep.words import several

# What lies beside photos and is none, by its ending; all else that is passed over is told.
BESIDE = frozenset({
    ".cfg", ".cls", ".csv", ".db", ".htm", ".html", ".index", ".ini", ".ipynb", ".json", ".jsonl", ".lnk", ".log", ".m",
    ".mat", ".md", ".ndjson", ".names", ".py", ".rst", ".sh", ".toml", ".tsv", ".txt", ".url", ".xml", ".yaml", ".yml",
})  # fmt: skip
PASSED = {  # finding of `check` -> what they are called in a line, and what to do; '' for those of `check` alone
    "not-photos": ("files", f"; what of them are photos, convert to one of {', '.join(sorted(photo.SUFFIXES))}"),
    "links": ("links", "; copy there what they lead to"),
    "loose-photos": ("photos", "; move each into the folder of its class"),
    "empty-class": ("folders", ""),
    "box-empty": ("boxes", ""),
    "box-outside": ("boxes", "; were the photos cut or rescaled after they were marked?"),
    "photo-without-box": ("photos", ""),
    "class-without-box": ("classes", ""),
    "hidden": ("", ""),
}
MOST_NAMES = 1000  # kept of what is passed over; the count is always of all
NUMBERED = re.compile(r"(.*[^\W\d_])[\W_]*\d+[\W_]*")  # cat.0, cat_001, cat (1)


@dataclass(eq=False)
class Tree:
    """A folder: its photos and the folders in it by name, links to folders or to nothing, what is hidden, and endings
    of the other files. `key` stands before the names of its photos, and is '' or ends in a slash.
    """

    path: str
    key: str
    photos: Names
    below: dict[str, Tree]
    links: list[str]
    hidden: list[str]
    others: Counter[str]

    @property
    def name(self) -> str:
        return os.path.basename(self.key.rstrip("/") or self.path)

    @property
    def full(self) -> dict[str, Tree]:
        """The folders in it that hold photos, at any depth."""
        return {name: tree for name, tree in self.below.items() if any(t.photos for t in tree.walk())}

    def walk(self) -> Iterator[Tree]:
        """It and all folders below."""
        yield self
        for tree in self.below.values():
            yield from tree.walk()

    def all_keys(self) -> Iterator[str]:
        """Paths of all photos in it, relative to DATA."""
        return (tree.key + name for tree in self.walk() for name in tree.photos)

    def __len__(self) -> int:
        return sum(len(tree.photos) for tree in self.walk())

    def opened(self) -> Tree:
        """With what its links to folders lead to, as classes may be links, in natural order; below they stay links."""
        for name in self.links:
            if os.path.isdir(path := os.path.join(self.path, name)):
                self.below[name] = tree_of(path, f"{self.key}{name}/")
        self.links = [name for name in self.links if name not in self.below]
        self.below = {name: self.below[name] for name in sorted(self.below, key=natural)}
        return self


def tree_of(path: str | os.PathLike[str], key: str = "") -> Tree:
    """A folder with all below, without a Path or a system call for each photo. Raises DataError for names not UTF-8."""
    photos, links, hidden, below, others = list[str](), list[str](), list[str](), dict[str, Tree](), Counter[str]()
    with os.scandir(path) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if is_hidden(entry.name):
                hidden.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                below[entry.name] = tree_of(entry.path, f"{key}{entry.name}/")
            elif ending in photo.SUFFIXES and entry.is_file():
                photos.append(entry.name)
            elif entry.is_symlink() and not entry.is_file():
                links.append(entry.name)
            else:
                others[ending] += 1
    if strange := next((name for name in photos if not is_storable(key + name)), None):
        raise DataError(f"{os.fspath(path)!a}: the name {key + strange!a} is not UTF-8; rename it")
    return Tree(os.fspath(path), key, Names.of(sorted(photos, key=natural)), below, links, hidden, others)


def repeated_words(names: Iterable[str]) -> list[str]:
    """Of names such as cat.0 and dog_001 the words before the numbers, if there are several and each stands again."""
    stems = [os.path.splitext(os.path.basename(name))[0] for name in names]
    words = Counter(found[1] if (found := NUMBERED.fullmatch(stem)) else "" for stem in stems)
    return sorted(words, key=natural) if len(words) > 1 and "" not in words and min(words.values()) > 1 else []


def passed_over(around: Iterable[Tree], trees: Iterable[Tree], what: str) -> tuple[Passed, ...]:
    """What is hidden or a link anywhere around, and what is no photo in these folders or below them."""
    strange = Counter[str]()
    for tree in (tree for top in trees for tree in top.walk()):
        strange.update({ending: n for ending, n in tree.others.items() if ending not in BESIDE})
    kinds = [f"{n} {ending or 'without an ending'}" for ending, n in strange.most_common()]
    every = [tree for top in around for tree in top.walk()]
    links = [tree.key + name for tree in every for name in tree.links]
    hidden = [tree.key + name for tree in every for name in tree.hidden]
    return (*passed("not-photos", kinds, what, strange.total()), *passed("links", links), *passed("hidden", hidden))


def passed(kind: str, names: Sequence[str], where: str = "", count: int = 0) -> list[Passed]:
    """None, or things of a kind in PASSED; so many, or as many as they are named."""
    if not names:
        return []
    noun, then = PASSED[kind]
    some = f"{several(count or len(names), noun)} {where}".rstrip()
    line = f"warning: passed over: {some} ({listed(names)}){then}" if noun else ""
    return [Passed(kind, count or len(names), tuple(names[:MOST_NAMES]), line)]


def listed(names: Sequence[str], most: int = 3) -> str:
    """Some names, each on one line whatever it holds."""
    shown = ", ".join(repr(name)[1:-1][:60] for name in names[:most])
    return shown + (", ..." if len(names) > most else "")
