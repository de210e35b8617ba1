"""A run as one self-contained page, report.html, and as Markdown, report.md."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml

from verydeep.config import Config, plain
from verydeep.data.photo import encode, middle
from verydeep.data.record import Photos
from verydeep.data.source import open_data
from verydeep.errors import PhotoError, RunError, VeryDeepError
from verydeep.files.disk import read_json, write_text
from verydeep.net.classifier import read_classifier
from verydeep.net.sizes import sizes
from verydeep.report import figures, tables
from verydeep.run import read_config, read_metrics
from verydeep.train import state

THUMBNAIL = 96
MOST_CLASSES_IN_MATRIX = 40


class Picture(NamedTuple):
    source: str  # data URI, or '' where the photo could not be read
    mistake: dict[str, Any]


def write_report(run: Path) -> Path:
    """Writes report.html and report.md into a finished or interrupted run; returns the page's path. Raises RunError."""
    facts = gather(run)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("verydeep.report", "."),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(tables=tables, zip=zip)
    write_text(run / "report.html", environment.get_template("page.html.j2").render(facts))
    write_text(run / "report.md", environment.get_template("page.md.j2").render(facts))
    return run / "report.html"


def gather(run: Path) -> dict[str, Any]:
    """Everything the two templates show, as plain values."""
    config, about, classifier = read_config(run), read_json(run / "run.json"), read_classifier(run / "best.safetensors")
    contract, layers, results = (
        classifier.contract,
        sizes(classifier.net),
        results_of(run, classifier.contract.sha256, about["location"]),
    )
    notes = [
        tables.edge_note(contract, r["scales"][0]) for r in results if r["protocol"] == "dense" and "models" not in r
    ]
    main = results[0] if results else None
    about_main = (
        {"pictures": pictures(main, about, run), "matrix": matrix(main), "confusions": confusions(main)} if main else {}
    )
    paper = plain(Config())
    own = {name: value for name, value in plain(config).items() if value != paper[name]}
    return {
        "run": run.resolve().name, "config": config, "about": about, "contract": contract, "results": results, "main": main, **about_main,
        **learning(run), "notes": [note for note in notes if note],
        "layers": layers, "parameters": sum(s.parameters for s in layers), "multiply_adds": sum(s.multiply_adds for s in layers),
        "drawing": figures.svg_uri(figures.drawing(layers)), "gains": gain_lines(run),
        "statistics": read_json(run / "statistics.json"),
        "skipped": (run / "skipped.csv").read_text(encoding="utf-8").splitlines() if (run / "skipped.csv").exists() else [],
        "own": yaml.safe_dump(own, sort_keys=False).strip(),
        "command": f"verydeep train {shlex.quote(about['data'])} --config {shlex.quote(str(run / 'config.yaml'))} --out NEW_RUN",
    }  # fmt: skip


def results_of(run: Path, sha256: str, own: str) -> list[dict[str, Any]]:
    """The results that the run's best net has now, alone and fused, on its own data first; those of earlier weights are left out."""
    found = [r for file in (run / "results").glob("*.json") for r in read_json(file)["results"]]
    return sorted(
        (r for r in found if sha256 in (r["sha256"], *(m["sha256"] for m in r.get("models", [])))),
        key=lambda r: place(r, own),
    )


def place(result: dict[str, Any], own: str) -> tuple[object, ...]:
    """Where a result stands in the report: own data first, tests of one kind together, and within them the steps of the ladder."""
    kind = [str(result.get(name)) for name in ("split", "limit", "precision", "average", "pooling")]
    steps = (
        ["centre", "dense", "crops", "both"].index(result["protocol"]),
        len(result["scales"]),
        result["scales"],
        str(result["mirror"]),
    )
    return (
        result["location"] != own,
        result["location"],
        "models" in result,
        result["model"] if "models" in result else "",
        kind,
        steps,
    )


def learning(run: Path) -> dict[str, Any]:
    """The epochs of a run, its curves, when and why the rate dropped, and why training ended."""
    records = list(read_metrics(run / "metrics.jsonl"))
    steps, epochs = [r for r in records if "loss" in r], [r for r in records if "train_loss" in r]
    if not epochs:
        raise RunError(f"{run} has no finished epoch to report; let 'verydeep train' go on")
    return {
        "epochs": epochs, "best": min(epochs, key=lambda r: r["val_error"]),
        "curves": figures.svg_uri(figures.curves(steps, epochs)), "drops": drops(run),
        "ended": state.read_state(run / "last").counters.finished,
    }  # fmt: skip


def log_lines(run: Path) -> list[str]:
    """The log without its time stamps."""
    return [line[len("2014-09-04 00:00:00 ") :] for line in (run / "log.txt").read_text(encoding="utf-8").splitlines()]


def drops(run: Path) -> list[str]:
    """When and why the rate dropped, and the warnings at the start."""
    return [line for line in log_lines(run) if line.startswith(("drop ", "warning: "))]


def gain_lines(run: Path) -> list[str]:
    """The gain table as it was said before the first step."""
    lines = log_lines(run)
    start = next((i for i, line in enumerate(lines) if line.startswith("signal ")), len(lines))
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("fc8 ")), start - 1)
    return lines[start : end + 1]


def pictures(result: dict[str, Any], about: dict[str, Any], run: Path) -> list[Picture]:
    """The most confident mistakes as pictures; where the data has gone, the words alone."""
    own = result["location"] == about["location"]
    try:
        data = open_data(result["location"], split=kept if own and (kept := run / "split.csv").exists() else None)
        photos = data.split(result["split"])
    except VeryDeepError:
        return [Picture("", m) for m in result["mistakes"]]
    return [Picture(thumbnail(photos, m["id"]), m) for m in result["mistakes"]]


def thumbnail(photos: Photos, id: int) -> str:
    try:
        return figures.uri(encode(middle(photos.open(id), THUMBNAIL), "JPEG"), "image/jpeg")
    except (PhotoError, IndexError):
        return ""


def matrix(result: dict[str, Any]) -> list[tuple[str, list[tuple[int, float]]]]:
    """The confusion matrix as (class, cells of count and share of the row); empty beyond 40 classes."""
    if len(result["classes"]) > MOST_CLASSES_IN_MATRIX:
        return []
    return [
        (name, [(n, n / max(sum(row), 1)) for n in row])
        for name, row in zip(result["classes"], result["confusion"], strict=True)
    ]


def confusions(result: dict[str, Any], most: int = 8) -> list[tuple[str, str, int]]:
    """The most frequent confusions: (truth, answer, count)."""
    names, table = result["classes"], result["confusion"]
    pairs = [(n, t, a) for t, row in enumerate(table) for a, n in enumerate(row) if a != t and n]
    return [(names[t], names[a], n) for n, t, a in sorted(pairs, key=lambda p: (-p[0], p[1], p[2]))[:most]]
