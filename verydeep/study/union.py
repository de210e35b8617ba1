"""Studies of other seeds or nets, which may come from other machines, on one page: their records are enough."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verydeep.config import from_plain
from verydeep.errors import RunError
from verydeep.files.disk import make_folder, read_json, read_text, saying
from verydeep.paper import TABLE_1
from verydeep.run import different_fields
from verydeep.study.page import write_pages
from verydeep.study.run import FORMAT, keep_study, write_fields

SAME = (
    "format", "fingerprint", "split", "photos", "classes", "train_scales", "tuning_epochs", "crops_photos",
    "test_photos",
)  # fmt: skip
OWN = {"net", "seed", "device"}  # may differ: stages have nets and seeds of their own, and photos tell another split
LONGEST = 200_000_000  # bytes of answers


def read_study(folder: Path) -> dict[str, Any]:
    """What study.json and answers.jsonl of a finished study hold together. Raises RunError."""
    record = read_json(folder / "study.json")
    if record.get("format") != FORMAT or not record.get("results"):
        raise RunError(f"{folder} is not a finished study of this version; the command that began it goes on with it")
    answers = folder / "answers.jsonl"
    try:
        with saying(f"{answers} cannot be read"):
            lines = read_text(answers, LONGEST).splitlines()
        rows = list(zip(record["results"], map(json.loads, lines), strict=True))
        if any(r[name] != a[name] for r, a in rows for name in ("stages", "protocol", "scales")):
            raise ValueError("it is that of another study")
        known = [{"tested": a["tested"], "right": {top: a[top] for top in ("top1", "top5")}} for _, a in rows]
    except (ValueError, KeyError, TypeError) as e:
        raise RunError(f"{answers} is damaged ({e}); what wrote the study writes it again") from e
    return record | {"results": [r | k for (r, _), k in zip(rows, known, strict=True)]}


def united(folders: Sequence[Path]) -> dict[str, Any]:
    """One record of several studies, alike but for their nets, seeds and machines. Raises RunError."""
    first, *others = found = [read_study(f) for f in folders]
    if not others:
        return first
    stages, results = dict[str, Any](first["stages"]), list(first["results"])
    config = from_plain(first["config"], str(folders[0]))
    for folder, study in zip(folders[1:], others, strict=True):
        names = [name for name in SAME if study.get(name) != first.get(name)]
        other = from_plain(study["config"], str(folder))
        names += sorted({*different_fields(config, other), *different_fields(other, config)} - OWN)
        if names:
            raise RunError(f"{folder} and {folders[0]} differ in {', '.join(names)}; studies of one plan can be joined")
        if twice := sorted(set(stages) & set(study["stages"])):
            raise RunError(f"{folder} holds {twice[0]} as well; give studies of other seeds or nets")
        stages |= study["stages"]
        results += study["results"]
    return first | {
        "nets": [n for n in TABLE_1 if n in {f["net"] for f in stages.values()}],
        "seeds": sorted({f["seed"] for f in stages.values()}), "stages": stages, "results": results,
        "machines": [m for study in found for m in study.get("machines", [study["made_with"]])],
    }  # fmt: skip


def join(folders: Sequence[Path], out: Path) -> Path:
    """Writes record, answers and pages of several studies, or of one again; returns the page. Raises RunError."""
    if folders != [out] and out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty; give a new folder as --out")
    record = united(folders)
    make_folder(out)
    write_fields(out, record["config"])
    keep_study(out, record)
    return write_pages(out, record)
