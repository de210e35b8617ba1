"""Archives: photos as they were downloaded, and what the shards of others hold."""

import os
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

from verydeep.data import photo
from verydeep.data.naming import is_hidden
from verydeep.errors import DataError
from verydeep.words import several

PACKED = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")


def check_packed(data: str, path: Path) -> None:
    """Raises DataError for an archive as downloaded, which is no shard, with what unpacks it."""
    name = path.name.lower()
    kind = next((k for k in PACKED if name.endswith(k)), "")
    if not kind or not path.is_file() or (kind == ".tar" and not holds_folders(path)):
        return
    folder = str(path)[: -len(kind)]
    unpack = f"mkdir '{folder}' && tar -xf '{path}' -C '{folder}'"
    if kind == ".zip":
        unpack = f"unzip '{path}' -d '{folder}'"
    raise DataError(f"{data} is a packed archive, which is not read in place; unpack it ({unpack}) and give {folder}")


def holds_folders(path: Path) -> bool:
    """Whether a tar holds photos in folders, without the small files that stand beside each photo in a shard."""
    try:
        with tarfile.open(path, "r:") as archive:
            names = [os.path.splitext(member.name) for member in islice(archive, 200) if member.isfile()]
    except (tarfile.TarError, OSError, ValueError):
        return False
    photos = {name for name, ending in names if ending.lower() in photo.SUFFIXES}
    beside = {name for name, ending in names if ending.lower() not in photo.SUFFIXES}
    return any("/" in name.removeprefix("./") for name in photos) and not beside & photos


def photos_packed(folder: Path) -> Counter[str]:
    """The photos in the archives of a folder, counted as '' but for one whose name has another dot.

    The library would unpack a sparse file to whatever size a stranger's archive claims for it. Raises ValueError.
    """
    found = Counter[str]()
    for path in folder.rglob("*.tar"):
        with tarfile.open(path, "r:") as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep an object for each
                if member.issparse():
                    raise ValueError(f"{path.name} holds a sparse file, {member.name!r}, which is no photo")
                base, ending = os.path.splitext(os.path.basename(member.name))
                if member.isfile() and ending.lower() in photo.SUFFIXES and not is_hidden(base):
                    dotted = "." in base and len(found) < 2
                    found[f"{base}{ending}" if dotted else ""] += 1
    return found


def lost_words(packed: Counter[str], used: int) -> list[str]:
    """A line for photos in archives that no row of a table has."""
    if (lost := packed.total() - used) <= 0:
        return []
    such = "".join(f", such as {name}" for name in packed if name)
    some = f"warning: {lost:,} of {several(packed.total(), 'photos')} in the shards are not used{such}"
    return [f"{some}: what stands before its first dot says what a file belongs to, so names may have no other dot"]
