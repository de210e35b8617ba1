"""Cross-validation: so many trainings that every photo is tested once, by a net that has not seen it."""

import filecmp
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet
from verydeep.data.said import data_lines
from verydeep.data.split import by_group, dealt, held_out_counts, parted, together
from verydeep.errors import DataError, RunError
from verydeep.evaluate.judge import interval
from verydeep.files.disk import make_folder, write_atomically, write_text
from verydeep.report.tables import likely, markdown, rate
from verydeep.words import aligned, several

COLUMNS = ("fold", "photos", "top-1 error", "95 %")


def fold_splits(data: DataSet, folds: int, seed: int, val_share: float) -> list[DataSet]:
    """The data divided anew for each fold: a part of every class to test on, of the rest a share to validate on.

    Groups stay whole. Raises DataError for data with splits of its own, and for a class with fewer photos or groups
    than folds.
    """
    if set(data.splits) != {"all"}:
        raise DataError(
            f"{data.name} has splits of its own, {', '.join(data.splits)}; folds are drawn from undivided data"
        )
    photos = data.splits["all"]
    targets = photos.targets()
    counts = np.bincount(targets, minlength=len(data.classes))
    number, holds = by_group(photos, f"folds {seed}")  # each photo alone where nothing says groups
    groups = np.bincount([c for own in holds for c in own], minlength=len(counts))
    if groups.min() < max(folds, 3):
        few, n = data.classes[int(groups.argmin())], int(groups.min())
        has = f"stands in {several(n, 'groups')} by {data.grouped_by!r}" if data.grouped_by else f"has {n} photos"
        raise DataError(f"{data.name}: the class {few!r} {has}, too few for {folds} folds")
    dealing, found = dealt(holds, folds), []
    for fold in range(folds):
        places = np.where(dealing == fold, 2, 0).astype(np.int8)
        rest = counts - np.bincount(targets[places[number] == 2], minlength=len(counts))
        wanted = [held_out_counts(n, (val_share, 0.0))[0] for n in rest.tolist()]
        found.append(parted(data, "all", together(holds, [wanted], places)[number]))
    return found


def cross_validate(
    data: DataSet, folds: int, seed: int, val_share: float, out: Path,
    one: Callable[[Path, Path], dict[str, Any] | None], writes: bool,
) -> dict[str, Any]:  # fmt: skip
    """Trains and tests each fold in a run of its own, by `one`, which is given its folder and its manifest; all sums.

    An interrupted one goes on: folds that have ended are not trained again. Raises RunError for other folds there.
    """
    made = fold_splits(data, folds, seed, val_share)
    for line in data_lines(data) if writes else ():
        print(line, file=sys.stderr)
    names = [f"fold-{i}" for i in range(1, folds + 1)]
    if writes:
        make_folder(out)
        check_same_folds(out, dict(zip(names, made, strict=True)))
        for name, divided in zip(names, made, strict=True):
            if not (out / f"{name}.csv").exists():
                write_atomically(out / f"{name}.csv", partial(write_split, divided))
    records = list[dict[str, Any]]()
    for number, name in enumerate(names, 1):
        if writes:
            print(f"fold {number} of {folds}: {out / name}", file=sys.stderr, flush=True)
        if (record := one(out / name, out / f"{name}.csv")) is not None:
            records.append(record)
            test = judged_by(record)
            print(
                f"fold {number} of {folds}: top-1 error {rate(test['top1_error'], test['top1_errors'])}",
                file=sys.stderr,
            )
    if not records:
        return {}
    page, found = out / "folds.md", summed(records)
    write_text(page, markdown(COLUMNS, fold_rows(found)) + "\n")
    return {"run": str(out), "report": str(page), **found}


def check_same_folds(out: Path, made: Mapping[str, DataSet]) -> None:
    """Raises RunError for a folder that another division was begun in, so that no photo is tested twice."""
    with TemporaryDirectory() as beside:
        for name, divided in made.items():
            before, now = out / f"{name}.csv", Path(beside) / f"{name}.csv"
            write_split(divided, now)
            if before.exists() and not filecmp.cmp(before, now, shallow=False):
                others = "another number of folds, other photos, another seed or val_share"
                raise RunError(f"{before} divides {divided.name} in another way ({others}); give another --out")


def summed(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each fold's errors by the test that it is judged by, and those of all photos together."""
    tests = [main for r in records for main in [judged_by(r)]]
    photos, errors = sum(t["photos"] for t in tests), sum(t["top1_errors"] for t in tests)
    error, guessing = 100 * errors / photos, sum(r["verdict"]["guessing"] for r in records) / len(records)
    low, high = interval(errors, photos)
    spread = statistics.stdev(t["top1_error"] for t in tests)
    doubts = sum(not r["verdict"]["learnt"] for r in records)
    words = (
        f"{error:.1f} % errors on {photos:,} photos, each tested by a net that has not seen it "
        f"(95 % interval {low:.1f} to {high:.1f} %; from fold to fold +- {spread:.1f}); guessing would give "
        f"{guessing:.1f} %."
    )
    said = {"learnt": not doubts, "error": round(error, 4), "interval": [low, high], "guessing": round(guessing, 2)}
    doubt = f"In {doubts} of {len(records)} folds nothing is learnt. " if doubts else ""
    rows = [{name: t[name] for name in ("photos", "top1_errors", "top1_error")} for t in tests]
    return {"verdict": {**said, "words": doubt + words}, "folds": rows}


def judged_by(record: dict[str, Any]) -> dict[str, Any]:
    protocol = record["verdict"]["protocol"]
    return dict(next(r for r in record["results"] if r["protocol"] == protocol))


def fold_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    folds = found["folds"]
    both = {name: sum(f[name] for f in folds) for name in ("photos", "top1_errors")}
    total = both | {"top1_error": 100 * both["top1_errors"] / both["photos"]}
    return [
        (str(name), f"{f['photos']:,}", rate(f["top1_error"], f["top1_errors"]), likely(f["top1_errors"], f["photos"]))
        for name, f in [*enumerate(folds, 1), ("all", total)]
    ]  # fmt: skip


def folds_text(record: dict[str, Any]) -> str:
    return f"{record['verdict']['words']}\n\n{aligned(COLUMNS, fold_rows(record))}\nthe table: {record['report']}"
