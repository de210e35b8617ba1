"""Files written whole or not at all, and read from folders that strangers may have filled."""

import errno
import fcntl
import json
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import BufferedReader
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from verydeep.errors import RunError, VeryDeepError

T = TypeVar("T")
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what write_atomically fills, with the number of its process
ELSEWHERE = "give another --out, where no file is in the way, and where you have room and may write"
LONGEST_JSON = 3_000_000  # bytes; read into Python they take up to thirty times as many


@contextmanager
def saying(what: str, then: str = "", kind: type[VeryDeepError] = RunError) -> Iterator[None]:
    """An OSError inside becomes one line: what failed, the system's reason, and what to try."""
    try:
        yield
    except OSError as e:
        raise kind(f"{what} ({e.strerror or e})" + (f"; {then}" if then else "")) from e


def write_atomically(path: Path, write: Callable[[Path], T]) -> T:
    """Lets `write` fill a temporary file, flushes and renames it: the old file or the new. Returns what it did."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        result = write(temporary)
        with temporary.open("rb+") as f:
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as e:
        raise RunError(f"{path} cannot be saved ({e.strerror or e}); what was there before is unchanged") from e
    finally:
        with suppress(OSError):  # a read-only disk refuses even this, and has been reported
            temporary.unlink(missing_ok=True)
    try:
        flush_folder(path.parent)
    except OSError as e:
        raise RunError(f"{path} was saved but may not survive a power cut ({e.strerror or e})") from e
    return result


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def make_folder(folder: Path) -> None:
    """Creates a folder and those above it where there are none, to stay. Raises RunError."""
    with saying(f"{folder} cannot be created", ELSEWHERE):
        new = list(takewhile(lambda f: not f.is_dir(), (folder, *folder.parents)))
        folder.mkdir(parents=True, exist_ok=True)
        for f in new:
            with suppress(PermissionError):  # what may be written but not listed cannot be flushed
                flush_folder(f.parent)


def check_place(path: Path | None) -> None:
    """Raises RunError where a file, if one is asked for, cannot be put in the end, before the work that it holds."""
    if path is None:
        return
    if path.is_dir():
        raise RunError(f"{path} cannot be saved, as it is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise RunError(
            f"{path} cannot be saved, as there is no folder {path.parent}; make it first, or write elsewhere"
        )


def flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot flush folders
            raise
    finally:
        os.close(handle)


def at_once(path: str, flags: int) -> int:
    """Opens no link that a stranger laid to a file elsewhere, and waits for no reader of a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def take_lock(file: BinaryIO | int, wait: bool = False) -> bool:
    """Whether nobody else holds a file's or folder's lock (flock); if so it is held from now on, until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):  # EWOULDBLOCK, EAGAIN; EACCES
        return False
    return True


@contextmanager
def locked(path: Path, flags: int = os.O_WRONLY | os.O_CREAT, wait: bool = False) -> Iterator[bool]:
    """Whether a file's lock was free, which then is held inside. It ends with the process too. Raises OSError.

    By default it may be made, and is opened to write, without which network file systems lock nothing.
    """
    handle = at_once(str(path), flags)
    try:
        yield take_lock(handle, wait)
    finally:
        os.close(handle)


def append(path: Path, text: str) -> None:
    """Opens and closes the file, so that a full disk is told here and never hides another error later on."""
    with saying(f"{path} cannot be written"), open(path, "a", encoding="utf-8", newline="", opener=at_once) as f:
        f.write(text)


def open_regular(path: Path) -> BufferedReader:
    """A file to read, but no pipe, device or folder, which could block or never end. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")


def mapped(path: Path) -> memoryview:
    """The bytes of a file, paged in as they are read. Raises OSError and ValueError."""
    with open_regular(path) as f:
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))


def exists(path: Path) -> bool:
    """Whether a file is there. Raises RunError where the disk does not say."""
    with saying(f"{path} cannot be read"):
        return path.exists()


def read_text(path: Path, most: int) -> str:
    """A UTF-8 file of at most so many bytes. Raises OSError and ValueError."""
    with open_regular(path) as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most:,} bytes", str(path))
    return data.decode("utf-8")


def remove_temporary(*folders: Path) -> None:
    """Removes what killed processes were writing."""
    remove_files(lambda name: TEMPORARY.fullmatch(name) is not None, *folders)


def remove_files(unwanted: Callable[[str], bool], *folders: Path) -> None:
    """Removes the files with such names; one that cannot be removed does no harm but take space."""
    for folder in folders:
        with suppress(OSError):
            for file in [f for f in folder.iterdir() if unwanted(f.name)]:
                with suppress(OSError):
                    file.unlink()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder. Raises RunError."""
    return parse_json(path)[0]


def parse_json(path: Path) -> tuple[dict[str, Any], str]:
    """The object and its text."""
    try:
        with saying(f"{path} cannot be read", "is the run complete?"):
            value = json.loads(text := read_text(path, LONGEST_JSON))
    except (ValueError, RecursionError) as e:
        raise RunError(f"{path} is not JSON; the run folder is damaged") from e
    if not isinstance(value, dict):
        raise RunError(f"{path} does not hold an object; the run folder is damaged")
    return value, text


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, to the byte. Raises RunError for anything else."""
    value, text = parse_json(path)
    seal = value.pop("seal", None)
    if seal != seal_of(value) or json_text({**value, "seal": seal}) != text:
        raise RunError(f"{path} does not match its SHA-256; the file is damaged, start again with another --out")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_bounded(path, json_text(value))


def write_bounded(path: Path, text: str) -> None:
    """JSON that can be read again; for one that could not, RunError before the file is replaced."""
    if (size := len(text.encode())) > LONGEST_JSON:
        raise RunError(
            f"{path} would have {size:,} bytes, and at most {LONGEST_JSON:,} can be read again, so it was not written; "
            "take shorter names of classes, or fewer classes or photos"
        )
    make_folder(path.parent)
    write_text(path, text)


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """A JSON object with its SHA-256, so that no flipped bit goes unnoticed."""
    write_json(path, {**value, "seal": seal_of(value)})


def seal_of(value: dict[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def json_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
