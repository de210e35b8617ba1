"""Where the photos of a list lie, if not where it says: in a folder below it, without their suffix, on a Windows drive.

Looked for once, when none of the first lies where the list says; what is found must be the only photo that fits.
"""

import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from pathlib import Path

from verydeep.data import photo
from verydeep.data.naming import is_hidden, is_storable
from verydeep.errors import DataError
from verydeep.words import several

FIRST = 50  # photos, of which one that is there says that the list is right
MOST_FILES = 2_000_000  # that are looked through
DEEPEST = 64  # folders of a path that are looked at


def photos_below(root: Path) -> list[str]:
    """Paths of photos below a folder; links to folders are followed at its top alone."""
    found, folders = list[str](), [("", True)]
    while folders:
        inside, top = folders.pop()
        try:
            entries = list(os.scandir(root / inside))
        except OSError:
            continue
        for entry in entries:
            if is_hidden(entry.name) or not is_storable(entry.name):
                continue
            if entry.is_dir(follow_symlinks=top):
                folders.append((f"{inside}{entry.name}/", False))
            elif os.path.splitext(entry.name)[1].lower() in photo.SUFFIXES:
                found.append(f"{inside}{entry.name}")
        if len(found) > MOST_FILES:
            return []
    return sorted(found)


def located(path: Path, keys: Sequence[str], root: Path) -> tuple[dict[str, str], list[str]]:
    """Listed -> real path, of those that differ; and a line about it. Raises DataError where it is not plain."""
    if any(os.path.isfile(root / key) for key in islice(keys, FIRST)):
        return {}, []
    there, found = photos_below(root), dict[str, str]()
    parts = {key: key.lstrip("/").split("/") for key in keys}
    above = [own[:-1] for own in parts.values()]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(above), max(above), strict=False)))
    for drop in range(min(shared, DEEPEST) + 1) if there else ():
        if found := matched(path, root, {key: "/".join(own[drop:]) for key, own in parts.items()}, there):
            break
    else:
        if any(os.path.isfile(root / key) for key in keys):
            return {}, []
        some = f"{several(len(there), 'photos')} there, such as {there[0]}" if there else "no photos there"
        raise DataError(
            f"{path} names {several(len(keys), 'photos')} and none was found: {os.path.join(root, keys[0]):.300} is "
            f"not there, nor {os.path.basename(keys[0]):.100} in a folder of {root}; there are {some}"
        )
    twins = [real for real, n in Counter(found.values()).items() if n > 1]
    if twins:
        listed = [key for key, real in found.items() if real == twins[0]]
        raise DataError(
            f"{path} names {listed[0]} and {listed[1]}, and of both only {twins[0]} is there; correct its paths, which "
            f"are relative to {root}"
        )
    key, real = next(iter(found.items()))
    lines = [f"photos of {path.name} were found in {root}: {key} is {real}"] if key != real else []
    if gone := [key for key in keys if key not in found and not os.path.isfile(root / key)]:
        lines.append(f"warning: {len(gone):,} of {several(len(keys), 'photos')} were not found, {gone[0]} for one")
    return {key: real for key, real in found.items() if key != real}, lines


def matched(path: Path, root: Path, tails: dict[str, str], there: Sequence[str]) -> dict[str, str]:
    """Listed -> real path, by the end of paths: capitals make no difference, and a listed name may lack its suffix.

    Of several that fit, those in the one folder that has all photos are taken. Raises DataError for other doubts.
    """
    depths, index = {tail.count("/") + 1 for tail in tails.values()}, dict[str, list[str]]()
    for real in there:
        own = plain(real).split("/")
        for depth in depths if len(depths) < DEEPEST else ():
            if depth <= len(own):
                name = "/".join(own[-depth:])
                index.setdefault(name, []).append(real)
                index.setdefault(os.path.splitext(name)[0], []).append(real)
    fits = dict[str, list[str]]()
    for key, tail in tails.items():
        if fitting := index.get(plain(tail)):
            fits[key] = [real for real in fitting if f"/{real}".endswith(f"/{tail}")] or fitting
    folders = Counter(folder for key, own in fits.items() for folder in {around(real, tails[key]) for real in own})
    full = [folder for folder, n in folders.items() if n == len(tails)]
    found = dict[str, str]()
    for key, own in fits.items():
        if len(full) == 1:
            own = [real for real in own if around(real, tails[key]) == full[0]]
        if len(own) > 1:
            folder = os.path.dirname(own[0])
            raise DataError(
                f"{path}: {key} may be {' or '.join(own[:3])}; write the whole path into the list, or put it beside "
                f"the photos that are meant: {shlex.join(['cp', str(path), os.path.join(root, folder)])}"
            )
        found[key] = own[0]
    return found


def plain(name: str) -> str:
    """Without capitals, and with accents written in one way."""
    return unicodedata.normalize("NFC", name).lower()


def around(real: str, tail: str) -> str:
    """The folder in which a photo stands under its listed name."""
    return "/".join(real.split("/")[: -1 - tail.count("/")])


def slashes(root: Path) -> Callable[[str], str]:
    """Turns the backslashes of a list from Windows, unless the first path with one is a file as it stands."""
    turns: list[bool] = []

    def turned(key: str) -> str:
        if "\\" not in key:
            return key
        if not turns:
            turns.append(not os.path.isfile(root / key))
        return key.replace("\\", "/") if turns[0] else key

    return turned
