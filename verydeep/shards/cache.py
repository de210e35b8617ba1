"""Shards on an object store: whole ones are fetched into a bounded folder that several processes share.

Locks are those of files (flock), so they end with the process that holds them: the folder's while room is made, a
.part's while it is filled, a shard's, shared, while a photo is read from it. The name of a .part says how many bytes it will have.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from verydeep.errors import DataError, PhotoError
from verydeep.shards.index import Index, Shard, read_index
from verydeep.shards.plan import Plan, overlap
from verydeep.shards.store import get, store

WAIT = 0.02
TOUCH = 10.0  # seconds after which a shard that is read again counts as used again
GB = 10**9
STAMPS = (
    "ETag",
    "etag",
    "LastModified",
    "last_modified",
    "mtime",
    "updated",
    "created",
    "md5",
    "Content-MD5",
)  # by which stores tell versions
BYTES = 256 << 20  # of an index without a size


def cache_folder() -> Path:
    return Path(os.environ.get("VERYDEEP_DATA", "~/.cache/verydeep")).expanduser() / "shards"


def cache_limit() -> int:
    given = os.environ.get("VERYDEEP_CACHE_GB", "16")
    try:
        if not 0 < float(given) < 1e9:
            raise ValueError
    except ValueError:
        raise DataError(
            f"VERYDEEP_CACHE_GB is {given!r}; expected the number of GB that fetched shards may take, such as 16"
        ) from None
    return int(float(given) * GB)


def fetch_index(url: str) -> Index:
    """The index at a URL, through the cache where the store can tell one version of it from another. Raises DataError."""
    fs, path = store(url)
    try:
        said = fs.info(path)
        stamp = {name: str(said[name]) for name in ("size", *STAMPS) if said.get(name)}
    except FileNotFoundError as e:
        raise DataError(
            f"{url} does not exist; shards on an object store need the index that 'verydeep pack' writes beside them"
        ) from e
    except Exception:  # fetching it will say why, or succeed
        stamp = {}
    folder = made(cache_folder())
    version = hashlib.sha256(repr((url, stamp if len(stamp) > 1 else (time.time(), os.getpid()))).encode()).hexdigest()
    final = folder / f"{version}.index"
    with suppress(OSError):
        os.utime(final)
    if not final.exists():
        part = folder / f"{version}.{os.getpid()}.{stamp.get('size', BYTES)}.part"
        with part.open("wb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                get(url, part, lambda path: None if path.stat().st_size else "it is empty")
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)
    found = read_index(final)
    if len(stamp) < 2:
        final.unlink(missing_ok=True)  # it stays mapped, but nobody could tell that it is still the newest
    return found


def made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(
            f"{folder} cannot be made ({e.strerror or e}); set VERYDEEP_DATA to a folder that can be written"
        ) from e
    return folder


class Cache:
    """The shards below a URL. `read` gives a photo's bytes, from any number of threads."""

    def __init__(self, url: str, shards: Sequence[Shard], folder: Path | None = None, limit: int | None = None) -> None:
        self.url, self.shards = url, shards
        self.folder, self.limit = folder or cache_folder(), limit or cache_limit()
        self.names = [f"{shard.sha256}.tar" for shard in shards]
        self.plan: Plan | None = None
        self.thread: threading.Thread | None = None
        self.lock = threading.Lock()
        self.used: dict[int, float] = {}
        made(self.folder)
        if unnamed := next((shard.name for shard in shards if not shard.sha256), None):
            raise DataError(f"{url}: the index has no SHA-256 of {unnamed}; write it with 'verydeep pack'")
        self.allow(max(shard.bytes for shard in shards), "one shard has")

    def allow(self, needed: int, what: str) -> None:
        if needed > self.limit:
            raise DataError(
                f"{self.url}: {what} {needed / GB:.3g} GB, more than the {self.limit / GB:.3g} GB that fetched shards may take; "
                f"set VERYDEEP_CACHE_GB={-(-needed // GB) + 1} or more, or pack with a smaller --shard_mb"
            )

    def read(self, at: int, shard: int, offset: int, size: int, name: str) -> bytes:
        """A photo's bytes. `at` is its position, by which the plan advances."""
        try:
            with self.opened(shard) as handle:
                found = read_exactly(handle, offset, size)
        except OSError as e:
            raise PhotoError(name, f"cannot be read from {self.folder / self.names[shard]} ({e.strerror or e})") from e
        if (plan := self.plan) and plan.advance(at):
            self.fetch_ahead(plan)
        return found

    @contextmanager
    def opened(self, shard: int) -> Iterator[int]:
        """A shard's file, fetched if need be, which nobody removes meanwhile."""
        path = self.folder / self.names[shard]
        while True:
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                self.fetch(shard)
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_SH)
                if os.fstat(handle).st_size != self.shards[shard].bytes:
                    path.unlink(missing_ok=True)  # somebody cut it
                    continue
                now = time.monotonic()
                if now - self.used.get(shard, -TOUCH) >= TOUCH:
                    self.used[shard] = now
                    with suppress(OSError):  # another user's; its time only says what to remove first
                        os.utime(handle)
                yield handle
                return
            finally:
                os.close(handle)

    def fetch(self, shard: int, ahead: bool = False) -> bool:
        """Brings a shard here, or waits until another thread or process has; `ahead` neither waits nor makes room at the cost of what
        is needed sooner, and tells whether there was room."""
        final, given = self.folder / self.names[shard], self.shards[shard]
        part = self.folder / f"{given.sha256}.{given.bytes}.part"
        while True:
            with self.alone():
                if final.exists():
                    return True
                claim = self.claim(part, given.bytes, shard, ahead)
            if not isinstance(claim, str):
                break
            if ahead:
                return claim == "busy"
            time.sleep(WAIT)
        try:
            get(self.url + given.name, part, lambda path: mismatch(path, given))
            with self.alone():  # or who adds up the folder would count it twice
                part.replace(final)
        finally:
            part.unlink(missing_ok=True)
            os.close(claim)
        return True

    def claim(self, part: Path, size: int, shard: int, ahead: bool) -> int | Literal["busy", "full"]:
        """A locked handle of an empty .part for which there is room; called by one at a time."""
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        if not locked(handle):
            os.close(handle)
            return "busy"
        if self.make_room(size, shard, ahead, part.name):
            return handle
        part.unlink()
        os.close(handle)
        return "full"

    def make_room(self, needed: int, shard: int, ahead: bool, own: str) -> bool:
        """Removes what was used least recently, but first what the plan does not need, and of that what it needs last."""
        plan, total, found = self.plan, needed, []
        number = {name: i for i, name in enumerate(self.names)}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name == own or not entry.name.endswith((".tar", ".part", ".index")):
                    continue
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    continue
                part = entry.name.endswith(".part")
                said = entry.name.split(".")[-2]
                size = int(said) if part and said.isdecimal() else about.st_size
                total += size
                due = plan.due(number.get(entry.name, -1)) if plan else None
                found.append((not part, due is not None, -(due or 0), about.st_mtime, entry.path, size))
        due = plan.due(shard) if plan else None
        for whole, planned, later, _, path, size in sorted(found):
            if (whole and total <= self.limit) or (ahead and planned and -later <= (due or 0)):
                break
            if removed(path):  # of the .parts, only those that nobody fills any more
                total -= size
        return total <= self.limit

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One at a time, over all threads and processes that share the folder."""
        try:
            handle = os.open(made(self.folder) / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as e:
            raise DataError(
                f"{self.folder} cannot be used ({e.strerror or e}); set VERYDEEP_DATA to a folder that can be written"
            ) from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def expect(self, shards: npt.NDArray[np.int32], ids: npt.NDArray[np.int64]) -> None:
        """Photos will be read in this order: begins to fetch their shards. `shards` has each photo's."""
        if not len(ids):
            return
        plan = Plan(shards, ids)
        self.allow(
            overlap(plan, np.array([s.bytes for s in self.shards])), "the shards that are read side by side have"
        )
        self.plan = plan
        self.fetch_ahead(plan)

    def fetch_ahead(self, plan: Plan) -> None:
        """Goes on fetching in the background. The thread ends where nothing more fits; reading on starts another."""
        with self.lock:
            if (self.thread is None or not self.thread.is_alive()) and plan.next < len(plan.order):
                self.thread = threading.Thread(target=self.run_ahead, args=(plan,), name="shards", daemon=True)
                self.thread.start()

    def run_ahead(self, plan: Plan) -> None:
        with suppress(DataError, OSError):  # whoever reads the shard will meet it again, and say so
            while self.plan is plan and plan.next < len(plan.order):
                if not self.fetch(int(plan.order[plan.next]), ahead=True):
                    return
                plan.next += 1


def locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def removed(path: str) -> bool:
    """Removes a file unless somebody reads or fills it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return True
    try:
        if not locked(handle):
            return False
        Path(path).unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def mismatch(path: Path, shard: Shard) -> str | None:
    """What is wrong with a fetched shard, or None."""
    if (size := path.stat().st_size) != shard.bytes:
        return f"it has {size:,} bytes, the index says {shard.bytes:,}"
    with path.open("rb") as f:
        same = hashlib.file_digest(f, "sha256").hexdigest() == shard.sha256
    return None if same else "its SHA-256 is not the one in the index; shards and index must be of one pack"


def read_exactly(handle: int, offset: int, size: int) -> bytes:
    """size bytes from offset on; a read may give fewer. Raises OSError at the end of the file."""
    found = os.pread(handle, size, offset)
    while len(found) < size:
        more = os.pread(handle, size - len(found), offset + len(found))
        if not more:
            raise OSError(errno.EIO, "the file is cut short")
        found += more
    return found
