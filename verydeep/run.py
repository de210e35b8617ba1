"""The run folder: created once, locked while in use, appended to, saved atomically.

config.yaml  run.json  split.csv      what was asked, on what data, and which photo went where
metrics.jsonl  log.txt  skipped.csv   what happened
last/  best.safetensors               where to go on, and the model to use
results/  report.html  report.md      what came out
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import BufferedReader
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import yaml

from verydeep.config import Config, WithoutAliases, different_fields, from_plain, plain
from verydeep.errors import RunError
from verydeep.ranks import ALONE, Ranks

T = TypeVar("T")
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what write_atomically fills, with the number of its process
LONGEST_JSON = 3_000_000  # bytes; read into Python they take up to thirty times as many
LONGEST_RECORD = 16_000  # bytes of a line of metrics.jsonl, fifty times as many as are written
LONGEST_YAML = 16_000  # a configuration is a tenth of that; the parser takes a second for it


def write_atomically(path: Path, write: Callable[[Path], T]) -> T:
    """Lets `write` fill a temporary file, flushes it and renames it to path: the old file or the new, whole. Returns what it did."""
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
    try:
        new = list(takewhile(lambda f: not f.is_dir(), (folder, *folder.parents)))
        folder.mkdir(parents=True, exist_ok=True)
        for f in new:
            with suppress(PermissionError):  # what may be written but not listed cannot be flushed
                flush_folder(f.parent)
    except OSError as e:
        raise RunError(f"{folder} cannot be created ({e.strerror or e}); free some space, or give another --out") from e


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


def open_regular(path: Path) -> BufferedReader:
    """A file to read, but no pipe, device or folder, which could block or never end. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_text(path: Path, most: int) -> str:
    """A UTF-8 file of at most so many bytes. Raises OSError and ValueError."""
    with open_regular(path) as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most:,} bytes", str(path))
    return data.decode("utf-8")


class Run:
    """An open run folder. `say` goes to stderr and log.txt, `record` to metrics.jsonl; of several ranks only the first does so."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.best, self.metrics = path / "best.safetensors", path / "metrics.jsonl"

    def say(self, message: str) -> None:
        if not self.writes:
            return
        print(message, file=sys.stderr, flush=True)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        append(self.path / "log.txt", "".join(f"{stamp} {line}\n" for line in message.splitlines()))

    def record(self, values: dict[str, Any]) -> None:
        if self.writes:
            append(self.metrics, json.dumps(values) + "\n")

    def forget_after(self, step: int, epochs: int) -> None:
        """Drops the records of what a run that resumes after `step`, with `epochs` complete, will do again."""

        def copy(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8") as f:
                for r in read_metrics(self.metrics):
                    if r["step"] <= step and ("val_top1_error" not in r or r["epoch"] <= epochs):
                        f.write(json.dumps(r) + "\n")

        if self.writes and self.metrics.exists():
            write_atomically(self.metrics, copy)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl one by one; a line cut short by a killed process is left out. Raises RunError."""
    try:
        with open_regular(path) as f:
            while line := f.readline(LONGEST_RECORD):
                if record := record_in(line):
                    yield record
    except OSError as e:
        raise RunError(f"{path} cannot be read ({e.strerror or e})") from e


def append(path: Path, text: str) -> None:
    """Opens and closes the file, so that a full disk is told here and never hides another error later on."""
    try:
        with open(path, "a", encoding="utf-8", newline="", opener=at_once) as f:
            f.write(text)
    except OSError as e:
        raise RunError(f"{path} cannot be written ({e.strerror or e})") from e


def record_in(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(value, dict) and isinstance(value.get("step"), int) and isinstance(value.get("epoch"), int)
    return value if whole else None


@contextmanager
def open_run(path: Path, config: Config, ranks: Ranks = ALONE) -> Iterator[Run]:
    """Creates or continues a run folder and holds its lock. Raises RunError if it is in use or was begun otherwise.

    Of several ranks the first does this, and the others wait for it.
    """
    if not ranks.first:
        ranks.gather(None)
        yield Run(path, writes=False)
        return
    try:
        check_folder(path, config)  # before a folder of something else gets a lock file
        make_folder(path)
        lock = open(path / ".lock", "a", opener=at_once)  # noqa: SIM115  held to the end
    except OSError as e:
        raise RunError(f"{path} cannot be used as a run folder ({e.strerror or e}); give another --out") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as e:  # EWOULDBLOCK, EAGAIN; EACCES
            raise RunError(f"{path} is in use by another training; wait for it or give another --out") from e
        except OSError as e:
            raise RunError(f"{path} cannot be locked ({e.strerror or e}); give an --out on a disk that can lock files") from e
        check_folder(path, config)  # again, now that no other training can begin
        remove_temporary(path, path / "last", path / "results")
        write_text(path / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False))
        ranks.gather(None)
        yield Run(path)


def check_folder(path: Path, config: Config) -> None:
    """Raises RunError for a folder of something else and for a run that was begun with another configuration."""
    names = os.listdir(path) if path.is_dir() else []
    if "config.yaml" not in names:
        ours = (".lock", ".config.yaml.", ".DS_Store")  # the second is left by a process killed while it began
        if strangers := [name for name in names if not name.startswith(ours)]:
            raise RunError(f"{path} already holds {strangers[0]} and is not a run folder; give an empty or new folder as --out")
    elif (fields := different_fields(old := read_config(path), config)) and has_state(path):
        changes = ", ".join(f"{f} ({getattr(old, f)} then, {getattr(config, f)} now)" for f in fields)
        raise RunError(f"{path} was begun with another configuration: {changes}; repeat the first command to resume, or give another --out")


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


def has_state(path: Path) -> bool:
    """Whether a training has saved anything; before that the folder may begin again with whatever is asked."""
    return exists(path / "last" / "state.json")


def exists(path: Path) -> bool:
    """Whether a file is there. Raises RunError where the disk does not say."""
    try:
        return path.exists()
    except OSError as e:
        raise RunError(f"{path} cannot be read ({e.strerror or e})") from e


def read_config(path: Path) -> Config:
    """The configuration that a run is going on with, FREE_FIELDS as last given. Raises RunError where there is no run."""
    file = path / "config.yaml"
    try:
        values = WithoutAliases(read_text(file, LONGEST_YAML)).get_single_data()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise RunError(f"{path} is not a run folder: it has no config.yaml") from e
    except OSError as e:
        raise RunError(f"{file} cannot be read ({e.strerror or e})") from e
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as e:
        raise RunError(f"{file} is not YAML; the run folder is damaged") from e
    if not isinstance(values, dict):
        raise RunError(f"{file} holds no fields; the run folder is damaged")
    try:
        return from_plain(values, str(file))
    except (ValueError, OverflowError) as e:  # a number of a thousand digits, which Python does not even print
        raise RunError(f"{file} holds a number out of range; the run folder is damaged") from e


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder. Raises RunError."""
    return parse_json(path)[0]


def parse_json(path: Path) -> tuple[dict[str, Any], str]:
    """The object and its text."""
    try:
        value = json.loads(text := read_text(path, LONGEST_JSON))
    except OSError as e:
        raise RunError(f"{path} cannot be read ({e.strerror or e}); is the run complete?") from e
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
    make_folder(path.parent)
    write_text(path, json_text(value))


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """A JSON object with its SHA-256, so that no flipped bit goes unnoticed."""
    write_json(path, {**value, "seal": seal_of(value)})


def seal_of(value: dict[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def json_text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
