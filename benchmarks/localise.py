"""Appendix A on builtin:fashion-scenes: tables 8 and 9, the paper's orderings, and modern-boxes beside the paper's way.

    python benchmarks/localise.py --out runs/localise --seeds 0 1 2

Net A, crop 64, half width. For each seed a net of classes (recipe modern, S in [64;96]), and from it boxes at S = 64:
PCR by the recipe modern-boxes, and in as many steps the paper's PCR and SCR of all layers and its PCR of the FC layers
alone. Each is tested at one scale and at the three at which the net of classes is at home; the paper's PCR also at two,
in the proportion of 256 and 384, and modern-boxes with the other merges. A JSON line for each test
goes to results.jsonl; what is there is not done again. An ordering is held, or not, where the photos that one answer
has right and the other wrong differ by more than chance (all seeds together), else undecided.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import verydeep
from verydeep.box_config import BoxConfig
from verydeep.evaluate.judge import interval_of
from verydeep.evaluate.passes import Settings
from verydeep.hardware import machine
from verydeep.localise import evaluate_boxes, train_boxes
from verydeep.recipes import layered

DATA = "builtin:fashion-scenes"
WHAT = {"net": "A", "crop": 64, "scale": [64, 96], "base_width": 32, "fc_width": 512, "steps": 3600}
PAPER = {"epochs": 12, "patience": 2, "colour": "off", "dropout": 0.0, "batch": 64}
WAYS: dict[str, dict[str, Any]] = {
    "modern-boxes": {"recipe": "modern-boxes", "steps": 948},  # as many as the paper's
    "PCR all": PAPER,
    "SCR all": PAPER | {"boxes": "SCR"},
    "PCR FC": PAPER | {"freeze": "pool5"},
}
THREE = (64, 80, 96)
TESTS: dict[str, Any] = {
    "one scale": ("single", "greedy"),
    "three scales": (THREE, "greedy"),
    "two scales": ((64, 96), "greedy"),
    "three, literally": (THREE, "literal"),
    "three, nms": (THREE, "nms"),
}
MORE = {"PCR all": {"two scales"}, "modern-boxes": {"three, literally", "three, nms"}}
ORDERINGS = (  # better, worse, column: what the paper found
    (("PCR all", "one scale"), ("SCR all", "one scale"), "given"),
    (("PCR all", "one scale"), ("PCR FC", "one scale"), "given"),
    (("PCR all", "two scales"), ("PCR all", "one scale"), "top5"),
    (("PCR all", "three scales"), ("PCR all", "one scale"), "top5"),
    (("modern-boxes", "one scale"), ("PCR all", "one scale"), "given"),
    (("modern-boxes", "one scale"), ("PCR all", "one scale"), "dense"),
)
COLUMNS = ("given", "dense", "top1", "top5")


def tests(out: Path, seeds: list[int], ways: list[str], more: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records, trained and tested where they are not there yet."""
    kept = out / "results.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    there = {(r["seed"], r["way"], r["at"]) for r in done}
    yield from done
    for seed in seeds:
        what = out / f"what-{seed}"
        verydeep.train(DATA, recipe="modern", out=what, seed=seed, **WHAT | more)
        for way in ways:
            where = out / f"{way.replace(',', '').replace(' ', '-')}-{seed}"
            fields = {"scale": 64, **WAYS[way], "seed": seed, **more}
            config = layered(fields.pop("recipe", None), start=str(what), run=where, base=BoxConfig(), **fields)
            train_boxes(DATA, config, where)
            for at, how in TESTS.items():
                if at in {"one scale", "three scales"} | MORE.get(way, set()) and (seed, way, at) not in there:
                    record = evaluate_boxes([str(where)], DATA, str(what), *how, settings=Settings(engine="auto"))
                    record |= {"seed": seed, "way": way, "at": at, "machine": machine()}
                    with kept.open("a") as f:
                        f.write(json.dumps(record) + "\n")
                    yield record


def table(records: list[dict[str, Any]]) -> str:
    lines = [f"{'':<36}" + "".join(f"{c:>16}" for c in COLUMNS)]
    for way in WAYS:
        for at in TESTS:
            own = [r for r in records if (r["way"], r["at"]) == (way, at)]
            rates = np.array([[100 * r["errors"]["net"][c] / r["photos"] for c in COLUMNS] for r in own])
            if len(own):
                cells = [f"{m:.1f} +- {s:.1f}" for m, s in zip(rates.mean(0), spread(rates), strict=True)]
                lines.append(f"{way + ', ' + at:<36}" + "".join(f"{c:>16}" for c in cells))
    for name in ("mean box", "whole photo"):
        rate = [100 * records[-1]["errors"][name][c] / records[-1]["photos"] for c in COLUMNS]
        lines.append(f"{name:<36}" + "".join(f"{x:>16.1f}" for x in rate))
    classes = [100 * records[-1]["class_errors"][c] / records[-1]["photos"] for c in ("top1", "top5")]
    lines.append(f"{'the class alone':<36}{'':>32}" + "".join(f"{x:>16.1f}" for x in classes))
    return "\n".join(lines)


def spread(rates: np.ndarray) -> np.ndarray:
    return rates.std(0, ddof=1) if len(rates) > 1 else np.zeros(rates.shape[1])


def orderings(records: list[dict[str, Any]]) -> str:
    """A line for each ordering: the photos that only one of the two has right, added over seeds; in the interval each
    photo counts once, with its mean gain."""
    there = {(r["seed"], r["way"], r["at"]): r for r in records}
    lines = []
    for better, worse, column in ORDERINGS:
        seeds = [
            seed for seed in sorted({r["seed"] for r in records}) if {(seed, *better), (seed, *worse)} <= set(there)
        ]
        if not seeds:
            continue
        first, second = (np.array([wrong_in(there[seed, *one], column) for seed in seeds]) for one in (better, worse))
        only = int((~first & second).sum()), int((first & ~second).sum())
        low, high = interval_of((second.astype(float) - first).mean(0))
        verdict = "held" if low > 0 else "not held" if high < 0 else "undecided"
        what = f"{', '.join(better)} against {', '.join(worse)}, {column}"
        lines.append(
            f"{verdict:<10} {what}: {low:+.1f} to {high:+.1f} points ({only[0]}:{only[1]} photos, seeds {seeds})"
        )
    return "\n".join(lines)


def wrong_in(record: dict[str, Any], column: str) -> Any:
    return np.array([row["iou"][COLUMNS.index(column)] <= 0.5 for row in record["rows"]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--most_photos", type=int, help="for a quick look")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    quick = {"most_photos": given.most_photos} if given.most_photos else {}
    found = list(tests(given.out, given.seeds, given.ways, quick))
    print(table(found), orderings(found), sep="\n\n")
