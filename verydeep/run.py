"""The run folder: created once, locked while in use, appended to, saved atomically.

config.yaml  run.json  split.csv      what was asked, on what data, and which photo went where
corrections.csv                       which labels of the data were mended
metrics.jsonl  log.txt  skipped.csv   what happened
last/  best.safetensors               where to go on, and the model to use
results/  report.html  report.md      what came out
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import yaml

from verydeep.colours import BEFORE
from verydeep.config import Config, Level, from_plain, plain
from verydeep.errors import RunError
from verydeep.fields import kinds_of, yaml_fields
from verydeep.files.disk import (
    append,
    exists,
    locked,
    make_folder,
    open_regular,
    read_json,
    read_sealed,
    remove_temporary,
    saying,
    write_atomically,
    write_text,
)
from verydeep.ranks import ALONE, Ranks

# What may differ when a run goes on: nothing that was computed so far would have been computed otherwise.
FREE_FIELDS = frozenset({"threads", "workers", "save_every", "track", "bad_photos", "keep", "corrections"})
LONGEST_RECORD = 16_000  # bytes of a line of metrics.jsonl, several times as many as are written
OLD_NAMES = {"train_top1_error": "train_error", "val_top1_error": "val_error"}  # of earlier versions


class Run:
    """An open run folder. `say`: to stderr and log.txt; `record`: to metrics.jsonl; of several ranks the first does."""

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

    def note(self, kind: str, message: str, step: int = 0, epoch: int = 0) -> None:
        """Says what the report shows too: a `drop` of the rate, a `warning`, the `gains` before the first step."""
        self.record({"step": step, "epoch": epoch, kind: message})
        self.say(f"warning: {message}" if kind == "warning" else message)

    def forget_after(self, step: int, epochs: int) -> None:
        """Drops the records of what a run that resumes after `step`, with `epochs` complete, will do again."""

        def copy(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8") as f:
                for r in read_metrics(self.metrics):
                    if r["step"] <= step and ("loss" in r or r["epoch"] <= epochs):
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


def record_in(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("step"), int) or not isinstance(value.get("epoch"), int):
        return None
    return {OLD_NAMES.get(name, name): v for name, v in dict[str, Any](value).items()}


@contextmanager
def open_run(path: Path, config: Config, ranks: Ranks = ALONE) -> Iterator[Run]:
    """Creates or continues a run folder and holds its lock. Raises RunError if it is in use or was begun otherwise.

    Of several ranks the first does this, and the others wait for it.
    """
    if not ranks.first:
        ranks.gather(None)
        yield Run(path, writes=False)
        return
    with ExitStack() as held:
        with saying(f"{path} cannot be used as a run folder", "give another --out, on a disk that can lock files"):
            check_folder(path, config)  # before a folder of something else gets a lock file
            make_folder(path)
            ours = held.enter_context(locked(path / ".lock"))
        if not ours:
            raise RunError(f"{path} is in use by another training; wait for it or give another --out")
        check_folder(path, config)  # again, now that no other training can begin
        remove_temporary(path, path / "last", path / "results")
        write_text(path / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False))
        ranks.gather(None)
        yield Run(path)


def different_fields(a: Config, b: Config) -> list[str]:
    """Names of the fields that make two runs two different runs; more epochs do not where no plan depends on them."""
    laid_out = a.drop_at or a.schedule != "drops" or a.steps or a.epochs > b.epochs
    free = FREE_FIELDS if laid_out else FREE_FIELDS | {"epochs"}
    kind: Any = type(a)
    return [n for n in kinds_of(kind) if n not in free and getattr(a, n) != getattr(b, n)]


def check_folder(path: Path, config: Config) -> None:
    """Raises RunError for a folder of something else and for a run that was begun with another configuration."""
    names = os.listdir(path) if path.is_dir() else []
    if "config.yaml" not in names:
        ours = (".lock", ".config.yaml.", ".DS_Store")  # the second is left by a process killed while it began
        if strangers := [name for name in names if not name.startswith(ours)]:
            raise RunError(
                f"{path} already holds {strangers[0]} and is not a run folder; give an empty or new folder as --out"
            )
    elif ("boxes" in yaml_fields(path / "config.yaml")) != hasattr(config, "boxes") and has_state(path):
        raise RunError(f"{path} was trained for another task; give another --out")
    elif (fields := different_fields(old := read_config(path, type(config)), config)) and has_state(path):
        changes = ", ".join(f"{f} ({getattr(old, f)} then, {getattr(config, f)} now)" for f in fields)
        other = "give another --out"
        if fields == ["epochs"]:
            other = f"its rate has a plan for {old.epochs} epochs; 'verydeep train --from {path}' starts from its net"
        if fields == ["colour_profiles"]:
            other = f"add --colour_profiles {old.colour_profiles}"
        raise RunError(
            f"{path} was begun with another configuration: {changes}; repeat the first command to resume, or {other}"
        )


def level_of(path: Path) -> Level | None:
    """Where the run's DATA has its classes; null where that is plain, or nothing says it."""
    return read_config(path).classes if exists(path / "config.yaml") else None


def corrections_of(path: Path) -> Path | None:
    """The corrections of its data that a run remembers. Raises RunError where they are not what they were."""
    about, file = read_json(path / "run.json"), path / "corrections.csv"
    if not (said := about.get("corrections")):
        return None
    if not exists(file) or sha256(file.read_bytes()).hexdigest() != said["sha256"]:
        raise RunError(f"{file} is not what the run was begun with; restore it, its SHA-256 stands in run.json")
    return file


def judged_by(model: str | Path) -> Literal["centre", "dense"]:
    """How the photos are shown in the test that a run is judged by; `centre` of anything else."""
    file = Path(model).expanduser() / "run.json"
    verdict = read_sealed(file).get("verdict") if file.is_file() else None
    return "dense" if isinstance(verdict, dict) and verdict.get("protocol") == "dense" else "centre"


def has_state(path: Path) -> bool:
    """Whether a training has saved anything; before that the folder may begin again with whatever is asked."""
    return exists(path / "last" / "state.json")


def read_config(path: Path, kind: type[Config] = Config) -> Config:
    """The configuration that a run is going on with, FREE_FIELDS as last given. Raises RunError without a run."""
    file = path / "config.yaml"
    try:
        values = yaml_fields(file)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise RunError(f"{path} is not a run folder: it has no config.yaml") from e
    except OSError as e:
        raise RunError(f"{file} cannot be read ({e.strerror or e})") from e
    except ValueError as e:
        raise RunError(f"{file} {e}; the run folder is damaged") from e
    if "boxes" in values and kind is Config:  # the others are the task's own
        values = {name: value for name, value in values.items() if name in kinds_of(Config)}
    try:
        return from_plain({"colour_profiles": BEFORE.colour_profiles} | values, str(file), kind)
    except (ValueError, OverflowError) as e:  # a number of a thousand digits, which Python does not even print
        raise RunError(f"{file} holds a number out of range; the run folder is damaged") from e
