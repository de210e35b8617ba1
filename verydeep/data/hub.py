"""Tar shards (to come)."""

from __future__ import annotations

from verydeep.data.record import DataSet


def open_hub(data: str) -> DataSet:
    raise NotImplementedError
