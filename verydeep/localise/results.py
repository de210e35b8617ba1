"""What `localise` keeps in a run: the records of its tests, the threshold they chose, the net that says what."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verydeep.errors import ModelError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.sample import folder_of
from verydeep.evaluate.views import Scales
from verydeep.files.disk import read_json, read_sealed, write_bounded
from verydeep.localise.evaluate import THRESHOLD, WHAT, evaluate_boxes
from verydeep.localise.map_test import evaluate_maps
from verydeep.ranks import ALONE, Ranks
from verydeep.weights import check_task, load

FILE = "localisation.json"


def evaluate_any(
    models: Sequence[str], data: str, classifier: str | None, scales: Scales, merge: str, split: str | None,
    settings: Settings, *, limit: int | None = None, download: bool = False, ranks: Ranks = ALONE,
) -> list[dict[str, Any]]:  # fmt: skip
    """The records of box nets, each alone and several together, and of nets of classes those of their class maps."""
    tasks = {model: load(model).contract.task for model in models}
    boxes = [model for model in tasks if tasks[model] != "classes"]
    what = classifier_of(boxes[0], classifier) if boxes else None
    groups = [[m] for m in boxes] + [boxes] * (len(boxes) > 1)
    found = [
        evaluate_boxes(g, data, what, scales, merge, split, settings, limit=limit, download=download, ranks=ranks)
        for g in groups
    ]
    scale = scales[0] if isinstance(scales, tuple) else None
    maps = [m for m in tasks if tasks[m] == "classes" and ranks.first]
    return found + [evaluate_maps(m, data, split, settings, scale=scale, limit=limit, download=download) for m in maps]


def classifier_of(model: str, given: str | None) -> str | None:
    """The net that says what is there: the one given, or the one that a box run was started from; none for one class.
    Raises ModelError."""
    if given or ((contract := load(model).contract).task != "classes" and len(contract.classes) == 1):
        return given
    run = folder_of(model)
    start = read_sealed(run / "run.json").get("started_from", {}) if run else {}
    if not start:
        check_task(model, load(model), "boxes")
        raise ModelError(f"{model} does not say which net says what is there; {WHAT}")
    if load(path := str(start["path"])).contract.sha256 != start["sha256"]:
        raise ModelError(f"{path} is no longer the net that {model} was started from; {WHAT}")
    return path


def keep_results(run: Path, records: Sequence[dict[str, Any]]) -> None:
    write_bounded(run / FILE, json.dumps({"results": list(records)}))


def kept_threshold(model: str, merge: str) -> float:
    """The threshold that the last test of a run chose for this way of merging."""
    run = folder_of(model)
    file = run / FILE if run else None
    if file and file.exists():
        for record in read_json(file)["results"]:
            if record.get("merge") == merge and record["models"] == [model]:
                return float(record["threshold"])
    return THRESHOLD
