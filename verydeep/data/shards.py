"""Tar shards (to come)."""

from __future__ import annotations

from verydeep.data.record import DataSet


def is_pattern(data: str) -> bool:
    return ".tar" in data


def open_shards(data: str) -> DataSet:
    raise NotImplementedError
