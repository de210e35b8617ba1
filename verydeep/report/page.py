"""A run as one self-contained page, report.html, and as Markdown, report.md; and the templates of all pages."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import yaml
from PIL import Image

from verydeep.collections import correction_rows
from verydeep.config import Config, plain
from verydeep.data.photo import Pixels, encode, middle
from verydeep.data.record import Photos
from verydeep.data.source import open_data
from verydeep.errors import PhotoError, RunError, VeryDeepError
from verydeep.evaluate.judge import by_class, cells_of
from verydeep.evaluate.lists import LISTS
from verydeep.evaluate.views import MEANS, PROTOCOLS
from verydeep.files.disk import read_json, write_text
from verydeep.net.classifier import Classifier
from verydeep.net.saved import read_classifier
from verydeep.net.sizes import sizes
from verydeep.paper import STRIDE
from verydeep.report import figures, tables
from verydeep.report.verdict import main_result, verdict
from verydeep.run import corrections_of, level_of, read_config, read_metrics
from verydeep.train.remember import finished_at
from verydeep.words import aligned, several

THUMBNAIL = 96
MOST_MAPS, MAPS_COST = 12, 10**12  # mistakes that show saliency, and multiply-adds for it: seconds on two threads
MOST_CLASSES_IN_MATRIX, MOST_CONFUSIONS = 40, 8


def rendered(template: str, facts: Mapping[str, Any]) -> str:
    """A template of any room, such as report/page.md.j2, filled in; one of HTML escapes what it shows."""
    escapes = template.endswith(".html.j2")  # and with it what it imports
    loader = jinja2.PackageLoader("verydeep", ".")
    environment = jinja2.Environment(loader=loader, autoescape=escapes, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(tables=tables, aligned=aligned, several=several)
    return environment.get_template(template).render(facts)


def write_report(run: Path) -> Path:
    """Writes report.html and report.md into a finished or interrupted run; returns the page's path. Raises RunError."""
    facts = run_facts(run)
    for suffix in ("md", "html"):
        write_text(run / f"report.{suffix}", rendered(f"report/page.{suffix}.j2", facts))
    return run / "report.html"


def run_facts(run: Path) -> dict[str, Any]:
    """Everything the two templates show, as plain values."""
    config, about, classifier = read_config(run), read_json(run / "run.json"), read_classifier(run / "best.safetensors")
    contract, layers = classifier.contract, sizes(classifier.net)
    results = own_results(run, contract.sha256, about["location"])
    main = main_result(results) if results else None
    dense = [r["scales"][0] for r in results if r["protocol"] == "dense" and "models" not in r]
    measured, skipped = run / "statistics.json", run / "skipped.csv"
    again = ["--config", str(run / "config.yaml"), "--out", "NEW_RUN"]
    again += ["--corrections", str(mended)] if (mended := corrections_of(run)) else []
    verb = ["train"] if contract.task == "classes" else ["localise", "train"]
    if start := about.get("started_from") if contract.task != "classes" and len(contract.classes) > 1 else None:
        again += ["--classifier", str(start["path"])]
    return {
        "run": run.resolve().name, "config": config, "about": about, "contract": contract,
        **learning(run, config.schedule),
        "results": results, "means": MEANS, **(of_main(main, about, run, classifier) if main else {}),
        # Where the last row and column of the class map hang over the photo's border
        "edges": [q for q in dense if contract.pooling == "up" and q % STRIDE and q < 2 * contract.crop],
        "layers": tables.by_column(tables.LAYER, [s._asdict() for s in layers]),
        "drawing": figures.svg_uri(figures.drawing(layers)),
        "parameters": sum(s.parameters for s in layers), "multiply_adds": sum(s.multiply_adds for s in layers),
        "statistics": read_json(measured) if measured.exists() else None,
        "skipped": skipped.read_text(encoding="utf-8").splitlines() if skipped.exists() else [],
        "own": other_fields(plain(config)),
        "mending": mending(f"{about['location']} {run.resolve().name}", about["classes"], mended),
        "command": shlex.join(["verydeep", *verb, about["data"], *again]),
    }  # fmt: skip


def mending(key: str, classes: Sequence[str], mended: Path | None) -> dict[str, Any]:
    """What a page needs to write corrections: a key of data and run, the classes, the lines that apply already."""
    rows = [cells for _, cells in correction_rows(mended)] if mended else []
    return {"key": key, "classes": list(classes), "rows": rows}


def other_fields(config: Mapping[str, Any]) -> str:
    """The fields that differ from the paper's, as YAML."""
    paper = plain(Config())
    return yaml.safe_dump({k: v for k, v in config.items() if v != paper[k]}, sort_keys=False).strip()


def own_results(run: Path, sha256: str, own: str) -> list[dict[str, Any]]:
    """The results that the run's best net has now, alone and fused, on its own data first; none of earlier weights."""

    def place(r: dict[str, Any]) -> tuple[object, ...]:
        """Own data first, tests of one kind together, and within them the steps of the ladder."""
        fused = r["model"] if "models" in r else ""
        kind = [str(r.get(name)) for name in ("split", "limit", "precision", "average", "pooling")]
        step = (PROTOCOLS.index(r["protocol"]), len(r["scales"]), r["scales"], str(r["mirror"]))
        return r["location"] != own, r["location"], fused, kind, step

    found = [r for file in (run / "results").glob("*.json") for r in read_json(file)["results"]]
    for r in found:
        if not all(m["remembered"] for m in r.get("corrections", ())):  # a test of its own, on other labels
            r.update(data=f"{r['data']}, corrected", location="")
    return sorted((r for r in found if sha256 in (r["sha256"], *(m["sha256"] for m in r.get("models", [])))), key=place)


def learning(run: Path, schedule: str) -> dict[str, Any]:
    """The epochs of a run and its curves; why the rate dropped, warnings, the gain table, and why training ended."""
    records = list(read_metrics(run / "metrics.jsonl"))
    steps, epochs = [r for r in records if "loss" in r], [r for r in records if "train_loss" in r]
    if not epochs:
        raise RunError(f"{run} has no finished epoch to report; let 'verydeep train' go on")
    try:
        ended = finished_at(run)
    except RunError as e:
        raise RunError(f"{run / 'last' / 'state.json'} is damaged; restore it from a copy, or train anew") from e
    said = {"drop": "{}", "warning": "warning: {}"}
    noted = [words.format(r[kind]) for r in records for kind, words in said.items() if kind in r]
    return {
        "epochs": epochs, "ended": ended,
        "why_kept": "" if schedule == "drops" else ", the end that one cycle is made for",
        "best": min(epochs, key=lambda r: r["val_error"]) if schedule == "drops" else epochs[-1],
        "curves": figures.svg_uri(figures.curves(steps, epochs)), "drops": list(dict.fromkeys(noted)),
        "gains": next((r["gains"] for r in records if "gains" in r), ""),
    }  # fmt: skip


def of_main(result: Mapping[str, Any], about: dict[str, Any], run: Path, net: Classifier) -> dict[str, Any]:
    """What the main result shows: its verdict, mistakes, figures by class, the matrix of few classes, confusions."""
    names, cells = result["classes"], cells_of(result)
    counts, photos = {(t, a): n for t, a, n in cells}, Counter[int]()
    for t, _, n in cells:
        photos[t] += n
    few = range(len(names) if len(names) <= MOST_CLASSES_IN_MATRIX else 0)
    often = sorted((-n, t, a) for t, a, n in cells if t != a)[:MOST_CONFUSIONS]
    return {
        "main": result, "verdict": verdict(result), "pictures": mistake_pictures(result, about, run, net),
        "by_class": tables.class_table(by_class(cells, names)), "lists": [n for n in LISTS if (run / n).exists()],
        "matrix": [(names[t], [(n := counts.get((t, a), 0), n / max(photos[t], 1)) for a in few]) for t in few],
        "confusions": [(names[t], names[a], -n) for n, t, a in often],
    }  # fmt: skip


def mistake_pictures(
    result: Mapping[str, Any], about: dict[str, Any], run: Path, net: Classifier
) -> list[dict[str, Any]]:
    """The most confident mistakes, each with its `source`, a data URI; '' where the photo or the data has gone. The
    first ones have `seen` too, the photo under the saliency of the answer."""
    from verydeep.explain import saliency_cost, seen_in

    kept, own = run / "split.csv", result["location"] == about["location"]
    try:
        drawn = kept if own and kept.exists() else None
        mended = corrections_of(run) if own else None
        data = open_data(result["location"], split=drawn, classes=level_of(run), remembered=mended)
        photos = data.read_as(read_config(run).reading).split(result["split"])
    except VeryDeepError:
        return [m | {"source": ""} for m in result["mistakes"]]
    classes, maps = net.contract.classes, min(MOST_MAPS, MAPS_COST // saliency_cost(net))
    found = []
    for i, m in enumerate(result["mistakes"]):
        found.append(m | {"source": thumbnail(photos, m["id"])})
        if i < maps and m["answer"] in classes:
            label = classes.index(m["answer"])
            found[-1]["seen"] = thumbnail(photos, m["id"], partial(seen_in, net, label, THUMBNAIL))
    return found


def thumbnail(photos: Photos, id: int, drawn: Callable[[Image.Image], Pixels] | None = None) -> str:
    """A photo, or what is drawn of it, as a data URI, or '' where it cannot be read."""
    try:
        image = photos.open(id)
        return figures.uri(encode(drawn(image) if drawn else middle(image, THUMBNAIL), "JPEG"), "image/jpeg")
    except (PhotoError, IndexError):
        return ""
