"""The paper's experiment on photos of your own: nets in stages, then all its tables, and what its claims come to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import verydeep
from verydeep.config import Config, different_fields, from_plain, plain
from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet
from verydeep.data.source import location, open_data
from verydeep.data.split import fewer
from verydeep.errors import ConfigError, RunError
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import default_split
from verydeep.files.disk import make_folder, read_json, write_json, write_text
from verydeep.hardware import device_for, machine
from verydeep.net.sizes import sizes
from verydeep.paper import TABLE_1
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.report.page import write_report
from verydeep.run import read_metrics
from verydeep.study.claims import findings, said
from verydeep.study.page import seed_words, write_pages
from verydeep.study.plan import Limits, Stage, Trial, Which, run_stages, stages, trials
from verydeep.study.rehearse import net_of, rehearse
from verydeep.study.tables import all_tables
from verydeep.train.remember import finished_at
from verydeep.words import aligned

FORMAT = 1
DROPPED = ("confusion", "mistakes", "recall", "classes", "skipped")  # of a result; its run keeps them


class Asked(NamedTuple):
    """What a study is to hold. which: the S that each net is trained at (see `train.plan.stages`)."""

    nets: Sequence[str]
    seeds: Sequence[int] = (0,)
    which: Which = "table3"
    tuning_epochs: int | None = None
    crops_photos: int | None = None
    test_photos: int | None = None


def study(
    data: str, config: Config, asked: Asked, out: Path, download: bool = False, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Trains what is asked and not yet done, tests what is not yet tested, and writes study.json, study.html and study.md.

    The page holds every finished stage of the folder, those of earlier calls too. Returns what study.json holds.
    Raises ConfigError, DataError, RunError, NonFiniteLoss, and Interrupted after a signal; the same call goes on.
    """
    plan = plan_of(config, asked)
    progress = Progress("auto" if ranks.first else "none")
    with ranks.first_alone():
        opened = open_for(data, config, out, download)
        about = identity(data, opened, config, asked)
        check_study(out, about)
        if ranks.first:
            begin(out, about, opened)
    split = out / "split.csv" if (out / "split.csv").exists() else None
    run_stages(data, plan, out, download, progress, ranks, split)
    ranks.gather(None)  # by then the first has saved the last best net
    trained = [*plan, *finished_before(plan, config, asked, out)]
    results = tested(trained, limits_for(asked, opened), data, config, out, ranks, progress)
    record = about | {
        "photos": counts(opened, config), "classes": len(opened.classes), "split": default_split(opened),
        "nets": [n for n in TABLE_1 if n in {s.net for s in trained}], "seeds": sorted({s.config.seed for s in trained}),
        "train_scales": asked.which, "crops_photos": asked.crops_photos, "test_photos": asked.test_photos,
        "made_with": machine() | {"ranks": ranks.size},
        "stages": {s.name: facts(s, len(opened.classes), out, results) for s in trained}, "results": results,
    }  # fmt: skip
    if ranks.first:
        write_json(out / "study.json", record)
        write_pages(out, record)
        for stage in trained:
            if report_is_old(out / stage.name):
                write_report(out / stage.name)
    return record


def report_is_old(run: Path) -> bool:
    """Whether a run has results that its report does not show."""
    page, results = run / "report.html", [f.stat().st_mtime_ns for f in (run / "results").glob("*.json")]
    return not page.exists() or max(results, default=0) > page.stat().st_mtime_ns


def summary(record: dict[str, Any], out: Path) -> str:
    """Tables and verdicts for a terminal."""
    lines = []
    for table in all_tables(record["results"], record["stages"]):
        lines += [f"{table.title}. {table.caption}", aligned(table.columns, table.rows), ""]
    for f in findings(record["results"], record["stages"]):
        said_of = [f"{protocol}: {said(f, protocol)}" for protocol, v in f.verdicts.items() if v]
        lines.append(f"{f.claim.sentence} {'; '.join(said_of).capitalize() or 'Not tested'}.")
    return "\n".join([*lines, seed_words(record["seeds"]), f"the page: {out / 'study.html'}"])


def dry_run(data: str, config: Config, asked: Asked, out: Path, download: bool = False) -> dict[str, Any]:
    """The stages, tests and times of `study`, which trains and writes nothing here. Raises ConfigError, DataError, RunError."""
    plan = plan_of(config, asked)
    opened = open_for(data, config, out, download)
    check_study(out, identity(data, opened, config, asked))
    return rehearse(plan, out, opened.classes, counts(opened, config), default_split(opened), limits_for(asked, opened))


def plan_of(config: Config, asked: Asked) -> list[Stage]:
    """The stages that are asked for. Raises ConfigError before anything is trained."""
    for name in ("crops_photos", "test_photos"):
        if (n := getattr(asked, name)) is not None and n < 1:
            raise ConfigError(f"{name}: {n} is too small; it must be 1 or more")
    return stages(asked.nets, config, asked.seeds, asked.which, asked.tuning_epochs)


def counts(opened: DataSet, config: Config) -> dict[str, int]:
    """Photos by split, of the training photos those that are trained on."""
    return {split: len(photos) for split, photos in fewer(opened, config.most_photos).splits.items()}


def limits_for(asked: Asked, opened: DataSet) -> Limits:
    """How many photos are tested, where that is not all of them."""
    n = len(opened.split(default_split(opened)))
    photos = asked.test_photos if asked.test_photos is not None and asked.test_photos < n else None
    crops = asked.crops_photos if asked.crops_photos is not None and asked.crops_photos < (photos or n) else None
    return Limits(photos, crops)


def open_for(data: str, config: Config, out: Path, download: bool) -> DataSet:
    """The photos, split as the study's first call drew it: one split for all seeds."""
    split = out / "split.csv" if (out / "study.json").exists() and (out / "split.csv").exists() else None
    return open_data(data, (config.val_share, config.test_share), config.seed, download, split)


def identity(data: str, opened: DataSet, config: Config, asked: Asked) -> dict[str, Any]:
    """What may not change from call to call."""
    return {
        "format": FORMAT, "version": verydeep.__version__, "data": data, "location": location(data), "fingerprint": opened.fingerprint(),
        "config": plain(config), "tuning_epochs": asked.tuning_epochs,
    }  # fmt: skip


def check_study(out: Path, about: dict[str, Any]) -> None:
    """Raises RunError for a folder of something else and for a study of other photos or with other fields."""
    names = [f.name for f in out.iterdir()] if out.is_dir() else []
    if "study.json" not in names:
        if strangers := sorted(name for name in names if not name.startswith(".")):
            raise RunError(
                f"{out} already holds {strangers[0]} and is not a study; give an empty or new folder as --out"
            )
        return
    old = read_json(out / "study.json")
    if old.get("location") != about["location"]:
        raise RunError(f"{out} is a study of {old.get('location')}, not of {about['location']}; give another --out")
    if old.get("fingerprint") != about["fingerprint"]:
        raise RunError(f"{out} was begun with other photos of {about['location']}; restore them, or give another --out")
    then, now = (from_plain(a["config"], str(out / "study.json")) for a in (old, about))
    now = replace(now, net=then.net, seed=then.seed)  # which the stages choose
    changes = [f"{f} ({getattr(then, f)} then, {getattr(now, f)} now)" for f in different_fields(then, now)]
    if old.get("tuning_epochs") != about["tuning_epochs"]:
        changes.append(f"tuning_epochs ({old.get('tuning_epochs')} then, {about['tuning_epochs']} now)")
    if changes:
        raise RunError(
            f"{out} is another study: {', '.join(changes)}; repeat the first command with more nets or seeds, or give another --out"
        )


def begin(out: Path, about: dict[str, Any], opened: DataSet) -> None:
    """The folder, before its first stage: what the study is of, and the split that was drawn for it."""
    make_folder(out)
    if not (out / "study.json").exists():
        write_json(out / "study.json", about | {"stages": {}, "results": []})
        write_text(out / "study.yaml", yaml.safe_dump(about["config"], sort_keys=False))
    if opened.held_out and not (out / "split.csv").exists():
        write_split(opened, out / "split.csv")


def finished_before(plan: Sequence[Stage], config: Config, asked: Asked, out: Path) -> list[Stage]:
    """Finished stages of earlier calls that this one does not ask for."""
    names, seeds = (
        {s.name for s in plan},
        {int(m[1]) for f in out.iterdir() if (m := re.fullmatch(r".+-seed(\d+)", f.name))},
    )
    every = stages(list(TABLE_1), config, sorted(seeds), "all", asked.tuning_epochs) if seeds else []
    return [s for s in every if s.name not in names and finished_at(out / s.name)]


def tested(
    trained: Sequence[Stage], limits: Limits, data: str, config: Config, out: Path, ranks: Ranks, progress: Progress
) -> list[dict[str, Any]]:
    """The records of all tests, each with the names of its stages; those of unchanged weights are taken from the run folders."""
    settings = Settings(
        device=device_for(config.device).type, batch=max(32, min(config.batch, 128)), workers=config.workers,
        bad_photos=config.bad_photos, long_photos="middle",
    )  # fmt: skip
    found = []
    for trial in trials(trained, limits):
        records = evaluate_models(
            [str(out / s.name) for s in trial.stages], data, trial.protocols, trial.scales, settings=settings, limit=trial.limit,
            again=False, ranks=ranks, progress=progress,
        )  # fmt: skip
        found += [named(trial, r, out) for r in records]
    return found


def named(trial: Trial, record: dict[str, Any], out: Path) -> dict[str, Any]:
    """A record with its stages, without what only its run needs."""
    alone = [s.name for s in trial.stages if record["model"] == str(out / s.name)]
    kept = {name: value for name, value in record.items() if name not in DROPPED}
    return {"stages": alone or [s.name for s in trial.stages], **kept}


def facts(stage: Stage, classes: int, out: Path, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page says of a stage."""
    c, folder = stage.config, out / stage.name
    epochs = [r for r in read_metrics(folder / "metrics.jsonl") if "val_error" in r]
    layers = sizes(net_of(c, classes, "meta"))
    own = next(r for r in results if r["stages"] == [stage.name])
    return {
        "net": stage.net, "way": stage.way, "seed": c.seed, "scale": c.scale_text, "test_scale": sum(c.scales) // 2,
        "parent": stage.parent, "lr": c.lr, "epochs": c.epochs, "epochs_done": len(epochs), "ended": finished_at(folder),
        "val_error": min(r["val_error"] for r in epochs), "sha256": own["sha256"],
        "weight_layers": sum(s.name.startswith(("conv", "fc")) for s in layers),
        "parameters": sum(s.parameters for s in layers), "multiply_adds": sum(s.multiply_adds for s in layers),
    }  # fmt: skip
