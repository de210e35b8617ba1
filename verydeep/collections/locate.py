"""Where the photos of a list lie, if not where it says: in a folder below it, without their suffix, on a Windows drive.

Looked for once, when none of some fifty lies where the list says; what is found must be the only photo that fits.
"""

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path

from verydeep.data import photo
from verydeep.data.naming import is_hidden, is_storable
from verydeep.errors import DataError
from verydeep.words import several

SOME = 50  # photos spread over a list, of which one that is there says that the list is right
DEEPEST = 64  # folders of a path that are looked at


def photos_below(root: Path) -> list[str]:
    """Paths of photos below a folder; links to folders are followed at its top alone."""
    found = list[str]()
    for top in (root, *(path for path in root.iterdir() if path.is_symlink() and path.is_dir())):
        for folder, inside, names in os.walk(top):
            inside[:] = [name for name in inside if not is_hidden(name)]
            photos = (name for name in names if os.path.splitext(name)[1].lower() in photo.SUFFIXES)
            place = os.path.relpath(folder, root) if folder != str(root) else ""
            found += [path for name in photos if is_storable(path := os.path.join(place, name)) and not is_hidden(name)]
    return sorted(found)


def located(path: Path, keys: Sequence[str], root: Path) -> tuple[dict[str, str], list[str]]:
    """Listed -> real path, of those that differ; and what there is to say. Raises DataError where it is not plain."""

    def is_there(key: str) -> bool:
        return os.path.isfile(root / key)

    looked = list(map(is_there, keys[:: len(keys) // SOME + 1]))
    if all(looked):
        return {}, []
    there, found = photos_below(root), dict[str, str]()
    if not any(looked):
        found = searched(path, root, keys, there)
        if not found and not any(map(is_there, keys)):
            raise DataError(
                f"{path} names {several(len(keys), 'photos')} and none was found: {none(keys, root, there)}"
            )
    if twins := [real for real, n in Counter(found.values()).items() if n > 1]:
        listed = [key for key, real in found.items() if real == twins[0]]
        raise DataError(
            f"{path} names {listed[0]} and {listed[1]}, and of both only {twins[0]} is there; correct its paths, which "
            f"are relative to {root}"
        )
    moved, known = {key: real for key, real in found.items() if key != real}, found.keys() | set(there)
    lines = [f"photos of {path.name} were found in {root}: {key} is {real}" for key, real in islice(moved.items(), 1)]
    if gone := [key for key in keys if key not in known and not is_there(key)]:
        some = f"{len(gone):,} of {several(len(keys), 'photos')} were not found, {gone[0]} for one"
        lines.append(f"warning: {some}{perhaps(gone, there)}")
    return moved, lines


def none(keys: Sequence[str], root: Path, there: Sequence[str]) -> str:
    first, name = f"{keys[0]:.200}", os.path.basename(keys[0])
    if re.match(r"\w\w+:/", first):
        return f"{first} is an address; download the photos to the list's folder first"
    some = f"{several(len(there), 'photos')} there, such as {there[0]}" if there else "no photos there"
    looked = f"{os.path.join(root, first)} is not there, nor {name:.100} in a folder of {root}"
    return f"{looked}; there are {some}{perhaps(keys, there)}"


def perhaps(keys: Sequence[str], there: Sequence[str]) -> str:
    """Which photo may be meant by one of these: its name is the same but for folders, suffix and leading zeros."""

    def stem(path: str) -> str:
        return without_zeros(os.path.splitext(os.path.basename(path))[0])

    names = {stem(real): real for real in reversed(there)}
    return next((f"; {key:.200} may be {names[stem(key)]}: correct the list" for key in keys if stem(key) in names), "")


def searched(path: Path, root: Path, keys: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """Listed -> real path by whole listed paths, else without the folders that all of these begin with.

    Leading zeros make a difference, unless without them each is found.
    """
    parts = {key: key.lstrip("/").split("/") for key in keys}
    above = [own[:-1] for own in parts.values()]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(above), max(above), strict=False)))
    for drop in range(min(shared, DEEPEST) + 1) if there else ():
        match = partial(matched, path, root, {key: "/".join(own[drop:]) for key, own in parts.items()}, there)
        if len(found := match(plain)) < len(keys) and len(zeros := match(without_zeros)) == len(keys):
            return zeros
        if found:
            return found
    return {}


def matched(
    path: Path, root: Path, tails: dict[str, str], there: Sequence[str], form: Callable[[str], str]
) -> dict[str, str]:
    """Listed -> real path, by the end of paths in a form that leaves some differences out, or without the suffix.

    Of several that fit, those in the one folder that has all photos are taken. Raises DataError for other doubts.
    """
    depths, index = {tail.count("/") + 1 for tail in tails.values()}, dict[str, list[str]]()
    for real in there:
        own = form(real).split("/")
        for depth in depths if len(depths) < DEEPEST else ():
            if depth <= len(own):
                name = "/".join(own[-depth:])
                index.setdefault(name, []).append(real)
                index.setdefault(os.path.splitext(name)[0], []).append(real)
    fits = dict[str, list[str]]()
    for key, tail in tails.items():
        if fitting := index.get(form(tail)):
            fits[key] = [real for real in fitting if f"/{real}".endswith(f"/{tail}")] or fitting
    folders = Counter(folder for key, own in fits.items() for folder in {around(real, tails[key]) for real in own})
    full = [folder for folder, n in folders.items() if n == len(tails)]
    for key, own in fits.items():
        if len(full) == 1:
            own = fits[key] = [real for real in own if around(real, tails[key]) == full[0]]
        if len(own) > 1:
            beside = shlex.join(["cp", str(path), os.path.join(root, os.path.dirname(own[0]))])
            raise DataError(
                f"{path}: {key} may be {' or '.join(own[:3])}; write the whole path into the list, or put it beside "
                f"the photos that are meant: {beside}"
            )
    return {key: own[0] for key, own in fits.items()}


def around(real: str, tail: str) -> str:
    """The folder in which a photo stands under its listed name."""
    return "/".join(real.split("/")[: -1 - tail.count("/")])


def plain(name: str) -> str:
    """Without capitals, and with accents written in one way."""
    return unicodedata.normalize("NFC", name).lower()


def without_zeros(name: str) -> str:
    """And without the leading zeros of numbers, which spreadsheets eat."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain(name))
