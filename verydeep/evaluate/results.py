"""Results as records that know how they were made (decision 5), and where those of a run are kept."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import verydeep
from verydeep.data.source import location
from verydeep.errors import RunError
from verydeep.evaluate.classify import Entrant, Tally
from verydeep.evaluate.judge import by_class, interval
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.posteriors import SavedModel
from verydeep.evaluate.sample import Sample
from verydeep.evaluate.views import MEANS, Step
from verydeep.files.disk import read_json, write_bounded

SHARED = ("mirror", "average", "pooling", "long_photos", "precision", "crop")
MEMBER = (
    "model", "net", "sha256", "crop", "scales", "pooling", "mirror", "average", "passes", "top1_error", "top5_error",
)  # fmt: skip


def records(entrants: Sequence[Entrant], sample: Sample, settings: Settings, found: Tally) -> list[dict[str, Any]]:
    """A record for each step of each model, and of their fusion; rates are in percent beside their counts."""
    fingerprint = sample.fingerprint()
    alone = {
        (m, step): {
            "model": e.name, **sample.about(), "protocol": step.protocol, **counted(e, sample, found, m, step),
            **how_made(e, m, step, settings, found), "crop": e.contract.crop, "net": e.contract.net,
            "sha256": e.contract.sha256, "photos_sha256": fingerprint,
            "corrections": [m._asdict() for m in sample.corrections],
        }
        for m, e in enumerate(entrants) for step in e.steps
    }  # fmt: skip
    if len(entrants) == 1:
        return list(alone.values())
    return [*alone.values(), *(fusion(entrants, sample, found, step, alone) for step in entrants[0].steps)]


def how_made(entrant: Entrant, m: int, step: Step, settings: Settings, found: Tally) -> dict[str, Any]:
    """How the posteriors of a step were made and what they cost, as they are saved with them too."""
    if isinstance(entrant.source, SavedModel):
        return {**entrant.source.how[step]._asdict(), "scales": list(entrant.source.how[step].scales)}
    c, views, photos = entrant.contract, entrant.steps[step], max(1, found.scores[m, step].photos)
    pixels = sum(found.spent.pixels[m, v] for v in views)
    seconds = found.spent.waiting + sum(found.spent.seconds[m, v] for v in views)
    return {
        "scales": sorted({v.scale for v in views}), "mirror": settings.mirrored(step.protocol),
        "average": settings.average, "pooling": settings.pooling or c.pooling, "long_photos": settings.long_photos,
        "precision": settings.precision, "engine": settings.engine, "device": settings.device,
        "version": verydeep.__version__, "passes": round(pixels / photos / c.crop**2, 3), "seconds": round(seconds, 2),
    }  # fmt: skip


def counted(entrant: Entrant, sample: Sample, found: Tally, m: int, step: Step) -> dict[str, Any]:
    scores, classes, keys = found.scores[m, step], entrant.contract.classes, sample.photos.keys
    return {
        **scores.as_dict(), "right": scores.right(), "tested": scores.tested(),
        "skipped": [{"photo": e.photo, "reason": e.reason} for _, e in found.skipped],
        "classes": list(classes), "recall": scores.recall(),
        "confusion": [list(cell) for cell in scores.cells()], "by_class": by_class(scores.cells(), classes),
        "interval": list(interval(scores.top1_errors, scores.photos)) if scores.photos else None,
        "mistakes": [
            {"id": -id, "photo": keys[-id], "truth": classes[t], "answer": classes[a], "probability": round(p, 4)}
            for p, id, t, a in sorted(scores.mistakes, reverse=True)
        ],
    }  # fmt: skip


def fusion(
    entrants: Sequence[Entrant], sample: Sample, found: Tally, step: Step, alone: dict[tuple[int, Step], dict[str, Any]]
) -> dict[str, Any]:
    """The record of the average over models; what the models do not share is null there and stands in `models`."""
    own = [alone[m, step] for m in range(len(entrants))]
    sums = " ".join(sorted(r["sha256"] for r in own))  # whatever the order of the models
    shared = {name: own[0][name] if all(r[name] == own[0][name] for r in own) else None for name in SHARED}
    members = [{name: r[name] for name in MEMBER} for r in own]
    return {
        "model": " + ".join(e.name for e in entrants), **sample.about(), "protocol": step.protocol,
        "scales": sorted({q for r in own for q in r["scales"]}),
        **counted(entrants[0], sample, found, len(entrants), step), **shared,
        "engine": own[0]["engine"], "device": own[0]["device"], "version": verydeep.__version__,
        "passes": round(sum(r["passes"] for r in own), 3), "seconds": round(sum(r["seconds"] for r in own), 2),
        "net": " + ".join(r["net"] for r in own), "sha256": hashlib.sha256(sums.encode()).hexdigest(),
        "photos_sha256": own[0]["photos_sha256"], "models": members, "corrections": own[0]["corrections"],
    }  # fmt: skip


def file_name(sample: Sample, entrants: Sequence[Entrant], step: Step, settings: Settings) -> str:
    """Another name for every other test: data, split, protocol, Q and what differs from the defaults."""
    title = re.sub(r"[^\w.-]+", "-", Path(sample.data).name.replace(":", "-")).strip("-") or "data"
    place = hashlib.sha256(location(sample.data).encode(errors="surrogateescape")).hexdigest()[:8]
    contracts = [e.contract for e in entrants]
    extras = {
        {True: "mirror", False: "plain", None: "mixed"}[settings.mirrored(step.protocol)]: True,
        settings.precision: settings.precision != "fp32",
        settings.engine: settings.engine != "torch",
        "posteriors": settings.average == "posteriors" and MEANS[step.protocol].maps,
        f"pooling-{settings.pooling}": any(settings.pooling not in (None, c.pooling) for c in contracts),
        f"first-{sample.limit}": sample.limit is not None,
        **{f"corrected-{m.sha256[:8]}": not m.remembered for m in sample.corrections},
    }
    scales = sorted({v.scale for e in entrants for v in e.steps[step]})
    parts = [title, place, sample.split, step.protocol, *map(str, scales), *(word for word, on in extras.items() if on)]
    if len(entrants) > 1:  # they may differ in scales, crops and what their names say, so all that goes into a sum
        all_of_it = sorted((e.contract.sha256, [tuple(v) for v in e.steps[step]]) for e in entrants)
        parts.append(f"fused-{hashlib.sha256(json.dumps(all_of_it).encode()).hexdigest()[:12]}")
    return "-".join(parts) + ".json"


def keep(entrants: Sequence[Entrant], sample: Sample, settings: Settings, results: Sequence[dict[str, Any]]) -> None:
    """Writes the results of runs into their results folders; a fusion into that of each run in it."""
    for (own, step), record in zip(entries(entrants), results, strict=True):
        text = json.dumps({"results": [record]}, ensure_ascii=False, separators=(",", ": "))  # no line for each number
        for e in own:
            if not isinstance(e.source, SavedModel) and (run := Path(e.name).expanduser()).is_dir():
                write_bounded(run / "results" / file_name(sample, own, step, settings), text + "\n")


def kept(entrants: Sequence[Entrant], sample: Sample, settings: Settings) -> list[dict[str, Any]] | None:
    """What `keep` wrote, if all of it is there and is of these weights, in this order, photos and settings."""
    found, wanted = [], (sample.fingerprint(), verydeep.__version__)
    for own, step in entries(entrants):
        file = Path(own[0].name).expanduser() / "results" / file_name(sample, own, step, settings)
        if isinstance(own[0].source, SavedModel) or not file.is_file():
            return None
        try:
            record = dict(read_json(file)["results"][0])
            models = [m["sha256"] for m in record.get("models", [record])]
            same = (record["photos_sha256"], record["version"]) == wanted
        except (RunError, LookupError, TypeError, ValueError):
            return None
        if not same or models != [e.contract.sha256 for e in own]:
            return None
        found.append({**record, "model": " + ".join(e.name for e in own)})
    return found


def entries(entrants: Sequence[Entrant]) -> list[tuple[Sequence[Entrant], Step]]:
    """Who is in each record, in the order of `records`."""
    alone: list[tuple[Sequence[Entrant], Step]] = [([e], step) for e in entrants for step in e.steps]
    return alone + ([(entrants, step) for step in entrants[0].steps] if len(entrants) > 1 else [])
