"""Splits: photos in files, and holding photos out for validation and the test by class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from verydeep.data import photo
from verydeep.data.record import Box, DataSet, Photos, Shares
from verydeep.errors import DataError


def files(root: Path, split: str, rows: Sequence[tuple[str, tuple[int, ...]]], boxes: Mapping[int, tuple[tuple[Box, int], ...]]) -> Photos:
    """Photos in files: rows are (path relative to root, labels)."""
    keys = [key for key, _ in rows]
    return Photos(split, keys, [labels for _, labels in rows], lambda id: photo.read(root / keys[id]), boxes)


def hold_out(
    name: str,
    root: Path,
    rows: Mapping[str, Sequence[str]],
    boxes: Mapping[str, tuple[tuple[Box, int], ...]],
    shares: Shares,
    seed: int,
) -> DataSet:
    """Divides every class by shares = (val, test), at least one photo each where the class has three or more.

    A photo's place depends on the seed and its own path, so adding photos moves few others between splits.
    """
    classes = list(rows)
    if shares is None:
        return assemble(name, root, classes, {"all": rows}, boxes)
    drawn: dict[str, dict[str, list[str]]] = {"train": {}, "val": {}, "test": {}}
    for label, keys in rows.items():
        counts = held_out_counts(len(keys), shares)
        ranked = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
        val, test = set(ranked[: counts[0]]), set(ranked[counts[0] : sum(counts)])
        drawn["val"][label] = [k for k in keys if k in val]
        drawn["test"][label] = [k for k in keys if k in test]
        drawn["train"][label] = [k for k in keys if k not in val and k not in test]
    used = {split: by_class for split, by_class in drawn.items() if any(by_class.values())}
    if "val" not in used:
        raise DataError(f"{name} has at most one photo a class to divide; at least two are needed, one to train on and one to validate")
    return assemble(name, root, classes, used, boxes, held_out=True)


def held_out_counts(n: int, shares: tuple[float, float]) -> tuple[int, int]:
    val, test = (max(round(n * s), 1) if s and n >= 3 else round(n * s) for s in shares)
    if n == 2:
        val, test = 1, 0
    while val + test >= n > 0:
        val, test = (val, test - 1) if test >= val else (val - 1, test)
    return val, test


def assemble(
    name: str, root: Path, classes: Sequence[str], by_split: Mapping[str, Mapping[str, Iterable[str]]],
    boxes: Mapping[str, tuple[tuple[Box, int], ...]] | None = None, held_out: bool = False,
) -> DataSet:  # fmt: skip
    number = {label: i for i, label in enumerate(classes)}
    splits = {}
    for split, by_class in by_split.items():
        rows = [(key, (number[label],)) for label in classes for key in by_class.get(label, ())]
        located = {i: boxes[key] for i, (key, _) in enumerate(rows) if boxes and key in boxes}
        splits[split] = files(root, split, rows, located)
    return DataSet(name, tuple(classes), splits, held_out)


def per_class(photos: Photos, classes: Sequence[str]) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {label: [] for label in classes}
    for key, label in zip(photos.keys, photos.targets(), strict=True):
        rows[classes[label]].append(key)
    return rows
