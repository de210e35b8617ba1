"""A board of trainings: seconds to 85, 90, 93 and 95 % right of the validation photos, and errors on the test photos.

    python benchmarks/board.py docs/results/fashion runs/modern-D-0 runs/modern-D-1 fused.json

Of each run it keeps a small record in the folder; of a file written by `evaluate --json`, the fusions. Then it draws
board.md and board.svg from all records there, those of earlier machines too. Seconds are of training alone, without
validations. The seeds of one training are called alike but for a last -SEED.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verydeep.config import from_plain
from verydeep.data.batches import bounds
from verydeep.evaluate.passes import Settings
from verydeep.report.figures import framed
from verydeep.report.tables import markdown
from verydeep.run import read_metrics

USUAL = Settings()
GOALS = (85, 90, 93, 95)  # % right
KEPT = ("protocol", "scales", "mirror", "average", "pooling", "split", "photos", "top1_errors", "precision")


def record_of(run: Path) -> dict[str, Any]:
    """What is kept of a run: its fields, machine, course and tests."""
    about = json.loads((run / "run.json").read_text())
    epochs = [r for r in read_metrics(run / "metrics.jsonl") if "val_error" in r]
    fields = yaml.safe_load((run / "config.yaml").read_text())
    batches = len(bounds(about["photos"]["train"], fields["batch"]))
    shown = about["photos"]["train"] * from_plain(fields, "config.yaml").lasting(batches).repeats  # in an epoch
    if resumed := [r["epoch"] for r in epochs if not r["photos_per_second"]]:
        raise SystemExit(f"{run}: epochs {resumed} were validated after a resume, so their time is not known")
    course = [
        {name: r[name] for name in ("epoch", "train_error", "val_error")}
        | {"seconds": round(shown / r["photos_per_second"], 1)}  # "seconds" is since it was resumed
        for r in epochs
    ]
    tests = [r for f in sorted((run / "results").glob("*.json")) for r in json.loads(f.read_text())["results"]]
    own = [r for r in tests if r["data"] == about["data"] and r["split"] == "test" and "models" not in r]
    tests = [{name: r[name] for name in KEPT} for r in own if not r["limit"]]
    return {
        "name": run.name, "data": about["data"], "fields": fields, "machine": about["made_with"], "course": course,
        "tests": tests,
    }  # fmt: skip


def fusions_of(file: Path) -> list[dict[str, Any]]:
    """The fusions in what `evaluate --json` printed."""
    found = [r for r in json.loads(file.read_text())["results"] if "models" in r]
    return [{"models": [Path(m["model"]).name for m in r["models"]], **{n: r[n] for n in KEPT}} for r in found]


def seconds_to(course: Sequence[Mapping[str, Any]], right: float) -> float | None:
    """Training seconds until an epoch ended with so many % of the validation photos right."""
    total = 0.0
    for epoch in course:
        total += epoch["seconds"]
        if 100 - epoch["val_error"] >= right:
            return total
    return None


def spread(errors: Sequence[float]) -> str:
    """Mean, and deviation if there are several."""
    mean = f"{statistics.mean(errors):.2f}"
    return f"{mean} ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else mean


def family(record: Mapping[str, Any]) -> str:
    """The name without its seed."""
    return str(record["name"]).rpartition("-")[0]


def how(test: Mapping[str, Any]) -> str:
    more = ", mirrored" * (test["mirror"] is True) + f", {test['precision']}" * (test["precision"] != "fp32")
    more += f", {test.get('average')}" * (test.get("average", USUAL.average) != USUAL.average)
    more += ", pooling up" * (test.get("pooling") == "up")  # all are trained with pooling down
    return f"{test['protocol']} at Q = {', '.join(map(str, test['scales']))}{more}"


def board(records: Sequence[dict[str, Any]]) -> str:
    """Two tables: times of each run on its machine, and every test of each family."""
    times, tests = [], []
    for r in records:
        reached = [seconds_to(r["course"], g) for g in GOALS]
        cells = ["-" if s is None else f"{s:,.0f}" for s in [*reached, sum(e["seconds"] for e in r["course"])]]
        about = r["machine"]
        times.append([r["name"], *cells, f"{about['processor']}, {about['cores']} cores" + ", bf16" * about["bf16"]])
    for name in dict.fromkeys(map(family, records)):
        own = [t for r in records if family(r) == name for t in r["tests"]]
        for test in dict.fromkeys(map(how, own)):
            errors = [100 * t["top1_errors"] / t["photos"] for t in own if how(t) == test]
            tests.append([name, test, spread(errors), ", ".join(f"{e:.2f}" for e in errors)])
    titles = ["training", *(f"s to {g} %" for g in GOALS), "s in all", "machine"]
    return markdown(titles, times) + "\n\n" + markdown(["training", "test", "top-1 error, %", "each seed"], tests)


def figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Validation errors over training seconds, a line a run, a colour a family."""
    drawn = Figure(figsize=(9, 4), layout="constrained")
    axis: Axes = drawn.subplots()
    names = list(dict.fromkeys(map(family, records)))
    for r in records:
        at, total = [], 0.0
        for e in r["course"]:
            total += e["seconds"]
            at.append(total / 60)
        name = family(r)
        first = next(o for o in records if family(o) == name) is r
        axis.plot(
            at, [e["val_error"] for e in r["course"]], color=f"C{names.index(name)}", marker=".", linewidth=1,
            label=name if first else None,
        )  # fmt: skip
    for goal in GOALS:
        axis.axhline(100 - goal, color="#8a8f98", linewidth=0.7, linestyle=":")
    axis.set_yscale("log")
    axis.set_yticks(ticks := [4, 5, 7, 10, 15, 20, 30], [f"{t} %" for t in ticks])
    axis.minorticks_off()
    axis.set_ylim(4, 40)
    axis.legend(frameon=False)
    framed(axis, "error on the validation photos", "minutes of training")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the board")
    parser.add_argument("found", type=Path, nargs="*", help="run folders, and files of `evaluate --json`")
    args = parser.parse_args()
    (args.out / "records").mkdir(parents=True, exist_ok=True)
    for path in args.found:
        kept = record_of(path) if path.is_dir() else {"name": path.stem, "fusions": fusions_of(path)}
        (args.out / "records" / f"{kept['name']}.json").write_text(json.dumps(kept, indent=1) + "\n")
    records = [json.loads(f.read_text()) for f in sorted((args.out / "records").glob("*.json"))]
    fused = [
        [" + ".join(t["models"]), how(t), f"{100 * t['top1_errors'] / t['photos']:.2f}"]
        for r in records
        for t in r.get("fusions", ())
    ]
    runs = [r for r in records if "course" in r]
    text = board(runs) + ("\n\n" + markdown(["fused", "test", "top-1 error, %"], fused) if fused else "")
    (args.out / "board.md").write_text(f"# Board\n\n{text}\n\n![errors over time](board.svg)\n")
    figure(runs).savefig(args.out / "board.svg")
    print(text)


if __name__ == "__main__":
    main()
