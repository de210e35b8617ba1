"""What fuzzers of files share: bounds of time and memory on one input, a corpus of seeds, and libFuzzer's loop."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import atheris

SECONDS, MEMORY = 2.0, 100_000_000
UNIT = 1 if sys.platform == "darwin" else 1024


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def bounded(read: Callable[[bytes], object], data: bytes, typed: type[Exception], slower: float = 1) -> None:
    """Reads one input; only `typed` errors are in order, within 2 s (times `slower`) and 100 MB beside twice the input."""
    before, began = peak(), time.process_time()
    with suppress(typed):
        read(data)
    assert time.process_time() - began <= SECONDS * slower
    assert peak() - before <= MEMORY + 2 * len(data)


def fuzz(test_one_input: Callable[[bytes], None], seeds: Mapping[str, bytes], folder: Path) -> None:
    """Runs until an option of libFuzzer's or a finding ends the process."""
    (corpus := folder / "corpus").mkdir()
    for name, data in seeds.items():
        (corpus / name).write_bytes(data)
    atheris.Setup([*sys.argv, str(corpus), "-timeout=20", "-rss_limit_mb=4096"], test_one_input)
    atheris.Fuzz()
