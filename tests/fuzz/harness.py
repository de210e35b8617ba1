"""What fuzzers of files share: bounds of time and memory on one input, a corpus of seeds, and libFuzzer's loop."""

import resource
import sys
import time
from contextlib import suppress

import atheris

SECONDS, MEMORY = 2.0, 100_000_000
UNIT = 1 if sys.platform == "darwin" else 1024


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def bounded(read, data, typed, slower=1):
    """Reads one input; only `typed` errors are in order, in 2 s (times `slower`) and 100 MB beside twice the input."""
    before, began = peak(), time.process_time()
    with suppress(typed):
        read(data)
    assert time.process_time() - began <= SECONDS * slower
    assert peak() - before <= MEMORY + 2 * len(data)


def fuzz(test_one_input, seeds, folder):
    """Runs until an option of libFuzzer's or a finding ends the process. seeds: name -> bytes."""
    (corpus := folder / "corpus").mkdir()
    for name, data in seeds.items():
        (corpus / name).write_bytes(data)
    atheris.Setup([*sys.argv, str(corpus), "-timeout=20", "-rss_limit_mb=4096"], test_one_input)
    atheris.Fuzz()
