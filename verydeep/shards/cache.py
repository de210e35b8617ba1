"""Shards on an object store: whole ones are fetched into a bounded folder that several processes and users share.

Locks are those of files (flock), so they end with the process that holds them: the folder's while room is made, a
.part's while it is filled, a shard's, shared, while a photo is read from it. A .part's name says how many bytes it will
have.
"""

import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verydeep.data import photo
from verydeep.errors import DataError, PhotoError
from verydeep.files.disk import locked, saying, take_lock
from verydeep.shards.index import Index, Shard, read_index
from verydeep.shards.plan import Plan
from verydeep.shards.store import get, store

WAIT = 0.02
TOUCH = 10.0  # seconds after which a shard that is read again counts as used again
GB = 10**9
STAMPS = (  # by which stores tell versions
    "ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created", "md5", "Content-MD5",
)  # fmt: skip
BYTES = 256 << 20  # of an index without a size
PART = re.compile(r"\.(\d{1,15})\.part$")
REMEDY = "set VERYDEEP_DATA to a folder that can be read and written"


def cache_folder() -> Path:
    return Path(os.environ.get("VERYDEEP_DATA", "~/.cache/verydeep")).expanduser() / "shards"


def cache_limit() -> int:
    given = os.environ.get("VERYDEEP_CACHE_GB", "16")
    with suppress(ValueError):
        if 0 < float(given) < 1e9:
            return int(float(given) * GB)
    raise DataError(f"VERYDEEP_CACHE_GB is {given!r}; expected how many GB fetched shards may take, such as 16")


def fetch_index(url: str) -> Index:
    """The index at a URL, kept where the store can tell one version of it from another. Raises DataError."""
    (fs, path), about = store(url), dict[str, Any]()
    try:
        about = fs.info(path)
    except FileNotFoundError as e:
        raise DataError(f"{url} does not exist; shards need the index that 'verydeep pack' writes beside them") from e
    except Exception:  # fetching it will say why, or succeed
        pass
    size, stamp = about.get("size"), [str(about[name]) for name in STAMPS if about.get(name)]
    version = hashlib.sha256(repr((url, size, stamp or (time.time(), os.getpid()))).encode()).hexdigest()
    final = cache_folder() / f"{version}.index"
    with saying(f"{final.parent} cannot be used", REMEDY, DataError):
        final.parent.mkdir(parents=True, exist_ok=True)
        if not final.exists():
            part = final.with_suffix(f".{os.getpid()}.{size or BYTES}.part")
            with part.open("wb") as file:
                take_lock(file, wait=True)
                try:
                    get(url, part, lambda path: None if path.stat().st_size else "it is empty")
                    part.replace(final)
                finally:
                    part.unlink(missing_ok=True)
    with suppress(OSError):
        os.utime(final)
    found = read_index(final)
    if not stamp:
        final.unlink(missing_ok=True)  # it stays mapped, but nobody could tell that it is still the newest
    return found


class Cache:
    """The shards below a URL. `read` gives a photo's bytes, from any number of threads; `expect` says what comes."""

    def __init__(self, url: str, index: Index, folder: Path | None = None, limit: int | None = None) -> None:
        self.url, self.index = url, index
        self.folder, self.limit = folder or cache_folder(), limit or cache_limit()
        self.number = {f"{shard.sha256}.tar": n for n, shard in enumerate(index.shards)}  # of a file in the folder
        self.sizes = np.array([shard.bytes for shard in index.shards])
        self.plan: Plan | None = None
        self.busy = threading.Lock()  # held while a thread fetches ahead
        self.allow(int(self.sizes.max()), "one shard has")

    def allow(self, needed: int, what: str) -> None:
        if needed > self.limit:
            raise DataError(
                f"{self.url}: {what} {needed / GB:.3g} GB, more than the {self.limit / GB:.3g} GB that fetched shards "
                f"may take; set VERYDEEP_CACHE_GB={-(-needed // GB) + 1} or more, or pack with a smaller --shard_mb"
            )

    def read(self, at: int, name: str) -> bytes:
        """The bytes of the photo at a position. Raises PhotoError where the disk fails, DataError for a whole shard."""
        with self.opened(int(self.index.shard[at])) as file:
            found = photo_at(file, self.index, at, name)
        if self.plan and self.plan.advance(at):
            self.fetch_ahead()
        return found

    def opened(self, shard: int) -> FileIO:
        """A shard's file, fetched if need be, which nobody removes until it is closed."""
        path = self.folder / f"{self.index.shards[shard].sha256}.tar"
        with saying(f"{path} cannot be used", REMEDY, DataError):
            while True:
                try:
                    file = path.open("rb", buffering=0)
                except FileNotFoundError:
                    self.fetch(shard)
                    continue
                fcntl.flock(file, fcntl.LOCK_SH)
                about = os.fstat(file.fileno())
                if about.st_size == self.sizes[shard]:
                    if time.time() - about.st_mtime > TOUCH:
                        with suppress(OSError):  # another user's; its time only says what to remove first
                            os.utime(file.fileno())
                    return file
                file.close()
                path.unlink(missing_ok=True)  # somebody cut it

    def fetch(self, shard: int, ahead: bool = False) -> bool:
        """Brings a shard here, or waits until another thread or process has. `ahead` neither waits nor makes room at
        the cost of what is needed sooner; it gives False where there is no room."""
        given = self.index.shards[shard]
        final, part = self.folder / f"{given.sha256}.tar", self.folder / f"{given.sha256}.{given.bytes}.part"
        while True:
            with self.alone():
                if final.exists():
                    return True
                file = part.open("ab")
                ours = take_lock(file)
                if ours and self.make_room(given.bytes, shard, ahead, part):
                    break
                if ours:
                    part.unlink()
                file.close()
            if ahead:
                return not ours
            time.sleep(WAIT)
        with file:
            try:
                get(self.url + given.name, part, lambda path: mismatch(path, given))
                with self.alone():  # or who adds up the folder would count it twice
                    part.replace(final)
            finally:
                part.unlink(missing_ok=True)
        return True

    def make_room(self, needed: int, shard: int, ahead: bool, own: Path) -> bool:
        """Removes what was used least recently, but first what the plan does not need, and of that what it needs last.
        Of the .parts, which come before all, only those go that nobody fills any more."""
        due_of = self.plan.due if self.plan else lambda shard: None
        total, found, due = needed, [], due_of(shard)
        for path in self.folder.iterdir():
            if path == own or path.suffix not in (".tar", ".part", ".index"):
                continue
            with suppress(FileNotFoundError):
                about, part, later = path.stat(), PART.search(path.name), due_of(self.number.get(path.name, -1))
                size = int(part[1]) if part else about.st_size
                total += size
                found.append((not part, later is not None, -(later or 0), about.st_mtime, path, size))
        for whole, planned, sooner, _, path, size in sorted(found):
            if (whole and total <= self.limit) or (ahead and planned and -sooner <= (due or 0)):
                break
            if removed(path):
                total -= size
        return total <= self.limit

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One at a time, over all threads, processes and users that share the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock", os.O_RDONLY | os.O_CREAT, wait=True):  # others may only read it
            yield

    def expect(self, ids: npt.NDArray[np.int64]) -> None:
        """The photos at these positions will be read in this order: begins to fetch their shards."""
        if len(ids):
            plan = Plan(self.index.shard, ids)
            self.allow(plan.overlap(self.sizes), "the shards that are read side by side have")
            self.plan = plan
            self.fetch_ahead()

    def fetch_ahead(self) -> None:
        """Goes on fetching in the background, until nothing more fits; reading on comes here again."""
        if self.busy.acquire(blocking=False):
            threading.Thread(target=self.run_ahead, name="shards", daemon=True).start()

    def run_ahead(self) -> None:
        try:
            with suppress(DataError, OSError):  # whoever reads the shard will meet it again, and say so
                while (plan := self.plan) and plan.next < len(plan.order):
                    if not self.fetch(int(plan.order[plan.next]), ahead=True):
                        break
                    plan.next += 1
        finally:
            self.busy.release()


def removed(path: Path) -> bool:
    """Removes a file unless somebody reads or fills it, or it is another user's."""
    try:
        with path.open("rb") as file:
            if fine := take_lock(file):
                path.unlink()
            return fine
    except OSError as e:
        return isinstance(e, FileNotFoundError)


def mismatch(path: Path, shard: Shard) -> str | None:
    """What is wrong with a fetched shard, or None."""
    if (size := path.stat().st_size) != shard.bytes:
        return f"it has {size:,} bytes, the index says {shard.bytes:,}"
    with path.open("rb") as f:
        same = hashlib.file_digest(f, "sha256").hexdigest() == shard.sha256
    return None if same else "its SHA-256 is not the one in the index; shards and index must be of one pack"


def photo_at(file: FileIO, index: Index, at: int, name: str) -> bytes:
    """A photo's bytes from its shard. Raises PhotoError."""
    size = int(index.size[at])
    if size > photo.MAX_BYTES:
        raise PhotoError(name, f"has {size >> 20} MiB, more than the {photo.MAX_BYTES >> 20} MiB allowed")
    try:
        found = os.pread(file.fileno(), size, int(index.offset[at]))
        if len(found) < size:
            raise OSError("the file is cut short")
    except OSError as e:
        raise PhotoError(name, f"cannot be read from {file.name} ({e.strerror or e})") from e
    return found
