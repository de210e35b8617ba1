"""Train, test by every protocol, report: what `train` and `demo` do from end to end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from verydeep.config import Config
from verydeep.data.record import DataSet
from verydeep.data.source import location, open_data
from verydeep.errors import ModelError
from verydeep.evaluate.evaluation import Settings, default_split, evaluate
from verydeep.evaluate.protocol import PROTOCOLS, Protocol
from verydeep.hardware import device_for
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.report.page import write_report
from verydeep.run import read_config, read_json, write_json
from verydeep.train.prepare import run_training
from verydeep.weights.model import load


def experiment(data: str, config: Config, out: Path, download: bool = False) -> dict[str, Any]:
    """Trains into the run `out` or goes on, tests its best net where that was not done yet, and writes the report."""
    progress = Progress()
    ended = run_training(data, config, out, download, progress)
    opened, classifier = open_for(out, data, download), load(out)
    settings = Settings(device=device_for(config.device).type, workers=config.workers, bad_photos=config.bad_photos)
    results = []
    for protocol in PROTOCOLS:
        result = result_of(out, classifier, opened, default_split(opened), settings._replace(protocol=protocol), progress)
        results.append(result)
    page = write_report(out)
    return {"run": str(out), "ended": ended, "report": str(page), "results": results}


def result_of(
    run: Path, classifier: Classifier, data: DataSet, split: str, settings: Settings, progress: Progress, again: bool = False
) -> dict[str, Any]:
    """The result of a test of a run, kept in its results folder; `again` tests even where it is there."""
    scale = settings.scale or classifier.contract.test_scale
    file = run / "results" / f"{slug(data.name)}-{split}-{settings.protocol}-{scale}.json"
    if file.exists() and not again:
        kept: dict[str, Any] = read_json(file)["results"][0]
        if kept["sha256"] == classifier.contract.sha256:
            return kept
    with progress.bar(len(data.split(split)), f"{settings.protocol}, Q = {scale}") as advance:
        result = evaluate(classifier, str(run), data, split, settings, lambda n: advance(n, ""))
    write_json(file, {"results": [result]})
    return result


def evaluate_models(
    models: list[str], data: str, protocols: list[Protocol], split: str | None, settings: Settings, download: bool = False
) -> list[dict[str, Any]]:
    """One result for each model and protocol; those of runs are kept in their results folders too."""
    progress, results = Progress(), []
    for model in models:
        classifier, path = load(model), Path(model)
        opened = open_for(path, data, download)
        chosen = split or default_split(opened)
        for protocol in protocols:
            asked = settings._replace(protocol=protocol)
            if path.is_dir():
                results.append(result_of(path, classifier, opened, chosen, asked, progress, again=True))
                continue
            scale = asked.scale or classifier.contract.test_scale
            with progress.bar(len(opened.split(chosen)), f"{protocol}, Q = {scale}") as advance:
                results.append(evaluate(classifier, model, opened, chosen, asked, lambda n, advance=advance: advance(n, "")))  # type: ignore[misc]
    return results


def open_for(model: Path, data: str, download: bool = False) -> DataSet:
    """DATA as a model should see it: a run tested on its own data keeps the photos it held out."""
    split = model / "split.csv"
    if split.exists() and read_json(model / "run.json").get("location") == location(data):
        return open_data(data, split=split)
    return open_data(data, download=download)


def report_run(run: Path) -> Path:
    """Writes the report of a run anew; returns the page. Raises RunError where there is no run, ModelError before its first epoch."""
    read_config(run)
    if not (run / "best.safetensors").exists():
        raise ModelError(f"{run} has no best.safetensors yet: its first epoch is not done, so there is nothing to report")
    return write_report(run)


def slug(name: str) -> str:
    """A file name for a data set's name."""
    return re.sub(r"[^\w.-]+", "-", Path(name).name.replace(":", "-")).strip("-") or "data"
