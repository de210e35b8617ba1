"""Training beside a busy neighbour: photos a second alone, with all threads and with those that are free.

    python benchmarks/shared.py

Net A at half its width on builtin:fashion-mini. Each figure is a process of its own that trains for a while; the
neighbour is a process that computes without end on one core. The ways take turns; medians.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from verydeep.hardware import machine

NEIGHBOUR = "while True: pass"


def photos_a_second(threads: int | None, photos: int) -> float:
    """Of the second of two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "builtin:fashion-mini", "--recipe", "demo", "--most_photos", str(photos), "--epochs", "2"]
        own = ["--threads", str(threads)] if threads else []
        command = [sys.executable, "-m", "verydeep", *words, *own, "--out", f"{folder}/run", "--device", "cpu"]
        subprocess.run(command, check=True, capture_output=True)
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
        (log,) = Path(folder, "run").glob("log*")
        used = re.search(r"computing with (\d+) of", log.read_text())
        print(f"  threads {threads or 'by rule'}{f', which took {used[1]}' if used else ''}", flush=True)
        return float([r for r in map(json.loads, lines) if "photos_per_second" in r][-1]["photos_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    made = machine()
    print(made)
    every = int(str(made["threads"]))
    ways = [(busy, threads) for busy in (False, True) for threads in (every, 1, None)]
    found: dict[tuple[bool, int | None], list[float]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for busy, threads in ways:
            neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if busy else None
            try:
                found[busy, threads].append(photos_a_second(threads, args.photos))
            finally:
                if neighbour:
                    neighbour.kill()
                    neighbour.wait()
    alone = statistics.median(found[False, every])
    for (busy, threads), rates in found.items():
        rate = statistics.median(rates)
        where = "beside a busy process" if busy else "alone"
        print(f"{where}, threads {threads or 'by rule'}: {rate:.0f} photos/s, {rate / alone:.2f} of all threads alone")


if __name__ == "__main__":
    main()
