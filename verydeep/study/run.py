"""The paper's experiment on photos of your own: nets in stages, then all its tables, and what its claims come to.

study.json  study.yaml  split.csv    what was asked, on what photos, and what came out; the split that was drawn
answers.jsonl                        of each result in study.json, in its order, which photos were tested and right
study.html  study.md  NET-S-SEED/    the page, and a run folder for each stage
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

import verydeep
from verydeep.config import Config, from_plain, plain
from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet
from verydeep.data.said import class_by_class, data_lines
from verydeep.data.source import location, open_data
from verydeep.data.split import fewer
from verydeep.errors import DataError, RunError
from verydeep.evaluate.judge import cells_of, judged
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import default_split
from verydeep.files.disk import make_folder, read_json, write_atomically, write_json, write_text
from verydeep.hardware import device_for, machine
from verydeep.paper import TABLE_1
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.report.page import write_report
from verydeep.run import different_fields, read_metrics
from verydeep.study.page import write_pages
from verydeep.study.plan import Asked, Stage, Trial, finished_before, lasting, run_stages, stages, trials
from verydeep.study.rehearse import rehearse, stage_about
from verydeep.train.remember import finished_at

FORMAT = 3  # 1 had the answers by photo in study.json, 2 no training errors
BY_PHOTO = ("right", "tested")  # of a result; they stand in answers.jsonl
LEFT_TO_RUNS = ("confusion", "mistakes", "recall", "classes", "skipped")  # of a result; its run keeps them


def study(
    data: str, config: Config, asked: Asked, out: Path, download: bool = False, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Trains what is asked and not yet done, tests what is not yet tested, and writes record, answers and pages.

    The page holds every finished stage of the folder, those of earlier calls too. Returns what study.json and
    answers.jsonl hold together. Raises ConfigError, DataError, RunError, NonFiniteLoss, and Interrupted after a signal;
    the same call goes on.
    """
    progress = Progress("auto" if ranks.first else "none")
    with ranks.first_alone():
        plan, photos, about, limits = prepare_study(data, config, asked, out, download)
        if ranks.first:
            begin_study(out, about, photos)
    split = out / "split.csv"
    run_stages(data, plan, out, download, progress, ranks, split if split.exists() else None)
    ranks.gather(None)  # by then the first has saved the last best net
    trained = [*plan, *finished_before(plan, config, asked, out, about["photos"]["train"])]
    results = tested(trials(trained, *limits), data, config, out, ranks, progress)
    record = about | {
        "nets": [n for n in TABLE_1 if n in {s.net for s in trained}],
        "seeds": sorted({s.config.seed for s in trained}),
        "train_scales": asked.which, "crops_photos": asked.crops_photos, "test_photos": asked.test_photos,
        "made_with": machine() | {"ranks": ranks.size}, "results": results,
        "stages": {s.name: stage_facts(s, len(photos.classes), out / s.name, results) for s in trained},
    }  # fmt: skip
    if ranks.first:
        keep_study(out, record)
        write_pages(out, record)
        for run in (out / stage.name for stage in trained):
            page, made = run / "report.html", [f.stat().st_mtime_ns for f in (run / "results").glob("*.json")]
            if not page.exists() or max(made, default=0) > page.stat().st_mtime_ns:  # it does not show all results
                write_report(run)
    return record


def dry_run(data: str, config: Config, asked: Asked, out: Path, download: bool = False) -> dict[str, Any]:
    """The stages, tests and times of `study`, which trains and writes nothing here."""
    plan, photos, about, limits = prepare_study(data, config, asked, out, download)
    return rehearse(plan, trials(plan, *limits), out, photos.classes, about)


def prepare_study(
    data: str, config: Config, asked: Asked, out: Path, download: bool
) -> tuple[list[Stage], DataSet, dict[str, Any], tuple[int | None, int | None]]:
    """The stages that are asked for, the photos, what the study is of, and how many photos are tested, in crops too.

    One split for all seeds, as the first call drew it. Raises ConfigError, DataError, RunError.
    """
    plan = stages(asked, config)
    most, crops = asked.test_photos, asked.crops_photos
    drawn = out / "split.csv" if (out / "study.json").exists() and (out / "split.csv").exists() else None
    photos = open_data(
        data, (config.val_share, config.test_share), config.seed, download, drawn, config.groups, config.classes,
        corrections=config.corrections,
    )  # fmt: skip
    photos = photos.read_as(config.reading)
    split, trained_on = default_split(photos), fewer(photos, config.most_photos)
    about = {
        "format": FORMAT, "version": verydeep.__version__, "data": data, "location": location(data),
        "fingerprint": photos.fingerprint(), "config": plain(config), "tuning_epochs": asked.tuning_epochs,
        "photos": {name: len(own) for name, own in trained_on.splits.items()},
        "classes": len(photos.classes), "split": split,
    }  # fmt: skip
    check_study(out, about)
    plan = lasting(plan, len(trained_on.split("train")))
    n = len(photos.split(split))
    limits = (most if most and most < n else None, crops if crops and crops < min(most or n, n) else None)
    for limit in limits:
        if said := class_by_class(photos.split(split), limit):
            raise DataError(
                f"{data}: {said}; leave --test_photos and --crops_photos out, or give a shuffled list as DATA"
            )
    return plan, photos, about, limits


def check_study(out: Path, about: dict[str, Any]) -> None:
    """Raises RunError for a folder of something else and for a study of other photos or with other fields."""
    names = sorted(f.name for f in out.iterdir()) if out.is_dir() else []
    if "study.json" not in names:
        if strangers := [name for name in names if not name.startswith(".")]:
            raise RunError(f"{out} holds {strangers[0]} and is not a study; give an empty or new folder as --out")
        return
    old = read_json(out / "study.json")
    if "machines" in old:
        raise RunError(f"{out} holds joined studies, whose stages are elsewhere; give another --out")
    if old.get("location") == about["location"] and old.get("fingerprint") != about["fingerprint"]:
        raise RunError(f"{out} was begun with other photos of {about['location']}; restore them, or give another --out")
    then, now = (from_plain(a["config"], str(out / "study.json")) for a in (old, about))
    now = replace(now, net=then.net, seed=then.seed)  # which the stages choose
    pairs = [(name, old.get(name), about[name]) for name in ("location", "tuning_epochs")]
    pairs += [(f, getattr(then, f), getattr(now, f)) for f in dict.fromkeys(["epochs", *different_fields(then, now)])]
    if changes := ", ".join(f"{name} ({a} then, {b} now)" for name, a, b in pairs if a != b):
        again = "repeat the first command with more nets or seeds, or give another --out"
        raise RunError(f"{out} is another study: {changes}; {again}")


def begin_study(out: Path, about: dict[str, Any], photos: DataSet) -> None:
    """The folder, before its first stage: what the study is of, and the split that was drawn for it."""
    make_folder(out)
    for line in data_lines(photos):
        print(line, file=sys.stderr)
    if not (out / "study.json").exists():
        write_json(out / "study.json", about | {"stages": {}, "results": []})
    write_fields(out, about["config"])
    if photos.held_out and not (out / "split.csv").exists():
        write_atomically(out / "split.csv", partial(write_split, photos))


def write_fields(out: Path, fields: dict[str, Any]) -> None:
    """study.yaml, unless it is there."""
    if not (out / "study.yaml").exists():
        write_text(out / "study.yaml", yaml.safe_dump(fields, sort_keys=False))


def keep_study(out: Path, record: dict[str, Any]) -> None:
    """study.json, small whatever the number of photos, and beside it what is known of each photo, a line a result."""
    own = ("stages", "protocol", "scales", "tested")
    lines = [{name: r[name] for name in own} | r["right"] for r in record["results"]]
    write_text(out / "answers.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    small = [{name: value for name, value in r.items() if name not in BY_PHOTO} for r in record["results"]]
    write_json(out / "study.json", record | {"results": small})


def tested(
    tests: Sequence[Trial], data: str, config: Config, out: Path, ranks: Ranks, progress: Progress
) -> list[dict[str, Any]]:
    """The records of all tests, each with the names of its stages, without what only its run needs.

    Those of unchanged weights are taken from the run folders.
    """
    settings = Settings(
        device=device_for(config.device).type, batch=max(32, min(config.batch, 128)), workers=config.workers,
        bad_photos=config.bad_photos, long_photos="middle",
    )  # fmt: skip
    found = []
    for trial in tests:
        names = {str(out / s.name): s.name for s in trial.stages}
        for record in evaluate_models(
            list(names), data, trial.protocols, trial.scales, settings=settings, limit=trial.limit, again=False,
            ranks=ranks, progress=progress,
        ):  # fmt: skip
            alone = [names[record["model"]]] if record["model"] in names else list(names.values())
            doubt = judged(cells_of(record), record["classes"]).doubt
            found.append({"stages": alone, "doubt": doubt} | {k: v for k, v in record.items() if k not in LEFT_TO_RUNS})
    return found


def stage_facts(stage: Stage, classes: int, folder: Path, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page says of a stage."""
    epochs = [r for r in read_metrics(folder / "metrics.jsonl") if "val_error" in r]
    sha256 = next(r["sha256"] for r in results if r["stages"] == [stage.name])
    kept = min(epochs, key=lambda r: r["val_error"]) if stage.config.schedule == "drops" else epochs[-1]
    came_out = {
        "epochs_done": len(epochs), "ended": finished_at(folder), "train_error": epochs[-1]["train_error"],
        "val_error": kept["val_error"], "sha256": sha256,
    }  # fmt: skip
    return stage_about(stage, classes) | came_out
