"""Train, test by every protocol, report: what `train` and `demo` do from end to end."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

from verydeep.config import Config
from verydeep.data.record import DataSet
from verydeep.data.source import location, open_data
from verydeep.errors import DataError, ModelError
from verydeep.evaluate.evaluation import Settings, default_split, evaluate, renumbered
from verydeep.evaluate.protocol import PROTOCOLS, Protocol
from verydeep.hardware import device_for
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.report.page import write_report
from verydeep.run import read_config, read_json, write_json
from verydeep.train.prepare import run_training
from verydeep.weights.model import load


def experiment(data: str, config: Config, out: Path, download: bool = False, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Trains into the run `out` or goes on, tests its best net where that was not done yet, and writes the report."""
    progress = progress_of(ranks)
    ended = run_training(data, config, out, download, progress, ranks)
    with ranks.first_alone():  # when it is here, it has saved the best net
        opened, classifier = open_for(out, data, download), load(out)
    settings = Settings(device=device_for(config.device).type, workers=config.workers, bad_photos=config.bad_photos, long_photos="middle")
    results = []
    for protocol in PROTOCOLS:
        asked = settings._replace(protocol=protocol)
        results.append(result_of(out, str(out), classifier, opened, default_split(opened), asked, progress, again=False, ranks=ranks))
    if ranks.first:
        write_report(out)
    return {"run": str(out), "ended": ended, "report": str(out / "report.html"), "results": results}


def progress_of(ranks: Ranks) -> Progress:
    """Only the first rank draws."""
    return Progress("auto" if ranks.first else "none")


def result_of(
    model: Path, name: str, classifier: Classifier, data: DataSet, split: str, settings: Settings, progress: Progress, again: bool = True,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:  # fmt: skip
    """The result of a test; that of a run is kept in its results folder and, without `again`, taken from there."""
    scale, where = settings.scale_for(classifier), location(data.name)
    file = model / "results" / f"{file_name(data.name, split, settings, scale)}.json"
    if file.exists() and not again:
        kept: dict[str, Any] = read_json(file)["results"][0]
        if (kept["sha256"], kept["location"]) == (classifier.contract.sha256, where):
            return kept
    with progress.bar(len(data.split(split)), f"{settings.protocol}, Q = {scale}") as advance:
        result = {**evaluate(classifier, name, data, split, settings, lambda n: advance(n * ranks.size, ""), ranks), "location": where}
    if model.is_dir() and ranks.first:
        write_json(file, {"results": [result]})
    return result


def evaluate_models(
    models: list[str], data: str, protocols: list[Protocol], split: str | None, settings: Settings, download: bool = False,
    ranks: Ranks = ALONE,
) -> list[dict[str, Any]]:  # fmt: skip
    """One result for each model and protocol; those of runs are kept in their results folders too."""
    tests, progress = [], progress_of(ranks)
    for name in models:  # all of them fit before the first is tested
        classifier, model = load(name), Path(name).expanduser()
        with ranks.first_alone():
            opened = open_for(model, data, download)
        chosen = split or default_split(opened)
        try:
            renumbered(opened, chosen, classifier)
        except DataError as e:
            raise DataError(f"{name}: {e}") from e
        if chosen == "all" and ranks.first:
            print(
                f"note: {data} has no splits, so all its photos are tested; {name} may have been trained on some of them", file=sys.stderr
            )
        tests.append((model, name, classifier, opened, chosen))
    return [result_of(*test, settings._replace(protocol=protocol), progress, ranks=ranks) for test in tests for protocol in protocols]


def open_for(model: Path, data: str, download: bool = False) -> DataSet:
    """DATA as a model should see it: a run, or its best.safetensors, tested on its own data keeps the photos it held out."""
    run = model if model.is_dir() else model.parent
    if (run / "split.csv").exists() and (run / "run.json").exists() and holds(data, run):
        return open_data(data, split=run / "split.csv")
    return open_data(data, download=download)


def holds(data: str, run: Path) -> bool:
    """Whether DATA is what a run was trained on, there or moved elsewhere: the folder that holds all its photos."""
    if read_json(run / "run.json").get("location") == location(data):
        return True
    root = Path(data).expanduser()
    if data.startswith("builtin:") or not root.is_dir():
        return False
    split = open_data(data, split=run / "split.csv")
    return all((root / key).is_file() for photos in split.splits.values() for key in photos.keys)


def report_run(run: Path) -> Path:
    """Writes the report of a run anew; returns the page. Raises RunError where there is no run, ModelError before its first epoch."""
    read_config(run)
    if not (run / "best.safetensors").exists():
        raise ModelError(f"{run} has no best.safetensors yet: its first epoch is not done, so there is nothing to report")
    return write_report(run)


def file_name(data: str, split: str, settings: Settings, scale: int) -> str:
    """Another name for every other test: data, split, protocol, Q and what differs from the defaults."""
    title = re.sub(r"[^\w.-]+", "-", Path(data).name.replace(":", "-")).strip("-") or "data"
    place = hashlib.sha256(location(data).encode(errors="surrogateescape")).hexdigest()[:8]
    extras = ["mirror" if settings.mirrors else "plain", *(["bf16"] if settings.precision == "bf16" else [])]
    return "-".join([title, place, split, settings.protocol, str(scale), *extras])
