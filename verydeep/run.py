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
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from verydeep.config import Config, different_fields, from_plain, plain
from verydeep.errors import RunError
from verydeep.ranks import ALONE, Ranks

TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what write_atomically fills, with the number of its process


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file, flushes it and renames it to path: the old file or the new, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
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


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot flush folders
            raise
    finally:
        os.close(handle)


class Run:
    """An open run folder. `say` goes to stderr and log.txt, `record` to metrics.jsonl; of several ranks only the first does so."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

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
        if self.writes and self.metrics.exists():
            found = read_metrics(self.metrics)
            kept = [r for r in found if r["step"] <= step and ("val_top1_error" not in r or r["epoch"] <= epochs)]
            write_text(self.metrics, "".join(f"{json.dumps(r)}\n" for r in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a line cut short by a killed process is left out."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if usable(line)]


def append(path: Path, text: str) -> None:
    """Opens and closes the file, so that a full disk is told here and never hides another error later on."""
    try:
        with path.open("a", encoding="utf-8") as f:
            f.write(text)
    except OSError as e:
        raise RunError(f"{path} cannot be written ({e.strerror or e})") from e


def usable(line: str) -> bool:
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("step"), int)


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
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
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
        remove_temporary(path, path / "last")
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
    for file in (f for folder in folders if folder.is_dir() for f in folder.iterdir()):
        if TEMPORARY.fullmatch(file.name):
            with suppress(OSError):  # another's file; it does no harm
                file.unlink()


def has_state(path: Path) -> bool:
    """Whether a training has saved anything; before that the folder may begin again with whatever is asked."""
    return (path / "last" / "state.json").exists()


def read_config(path: Path) -> Config:
    """The configuration that a run is going on with, FREE_FIELDS as last given. Raises RunError where there is no run."""
    file = path / "config.yaml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise RunError(f"{path} is not a run folder: it has no config.yaml") from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise RunError(f"{file} is not YAML; the run folder is damaged") from e
    if not isinstance(values, dict):
        raise RunError(f"{file} holds no fields; the run folder is damaged")
    return from_plain(values, str(file))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder. Raises RunError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise RunError(f"{path} cannot be read ({e.strerror}); is the run complete?") from e
    except ValueError as e:
        raise RunError(f"{path} is not JSON; the run folder is damaged") from e
    if not isinstance(value, dict):
        raise RunError(f"{path} does not hold an object; the run folder is damaged")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
