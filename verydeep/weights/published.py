"""The verb `weights`: plain values, which functions `..._text` say in words."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from verydeep.errors import ConfigError, ModelError
from verydeep.files.download import MB, Wanted, download
from verydeep.near import meant
from verydeep.weights.catalogue import LIST, SUMS, Entry, Errors, catalogue, checked_file
from verydeep.weights.convert import WRITERS, check_out, convert
from verydeep.weights.inputs import Input, shortly
from verydeep.weights.model import load_or_features
from verydeep.weights.read import Features, contents, open_foreign
from verydeep.words import aligned, several

AGAIN = 0.25  # points; another decoder or resizer of the photos moves an error rate by about 0.1
LARGEST = 1 << 30  # bytes of a file; the largest of the catalogue has 548 MiB
LIST_COLUMNS = ("name", "net", "MiB", "at hand", "expects", "errors % (top-1/top-5)", "licence", "origin")
LAYER_COLUMNS = ("tensor", "shape", "mean", "std", "least", "most", "zeros %")
PIECE = 1 << 22  # values of fc6 that are float64 at a time


def list_published() -> list[dict[str, Any]]:
    """What the catalogue knows, as plain values, and whether each file is at hand."""
    return [listing_of(e) for e in catalogue().values()]


def listing_of(e: Entry) -> dict[str, Any]:
    return {
        "name": e.name, "net": e.net, "batch_norm": e.batch_norm, "origin": e.origin, "eats": e.expects,
        "file": str(e.path), "bytes": e.size, "bytes_exact": e.bytes is not None,
        "at_hand": e.here,
        "licences": [one._asdict() for one in e.licences], "errors": [one._asdict() for one in e.errors],
        "checksums": {kind: asdict(one) for kind, one in e.checksums.items()},
        "urls": [asdict(one) for one in e.urls],
    }  # fmt: skip


def list_text(records: list[dict[str, Any]]) -> str:
    """For a terminal; errors stand with their protocol, and licences as each source states them."""
    rows = []
    for r in records:
        e = catalogue()[r["name"]]
        there = "yes" if r["at_hand"] else "wrong size" if e.path.is_file() else "no"
        none = "none published with a protocol" if e.head else "none: it has no FC layers"
        first, *more = [str(one) for one in e.errors] or [none]
        net, licence = e.net + " + batch norm" * e.batch_norm, ", or ".join(one.says for one in e.licences)
        rows.append((e.name, net, f"{e.size / 2**20:.0f}", there, e.expects, first, licence, e.origin))
        rows += [("", "", "", "", "", one, "", "") for one in more]
    note = "Checksums are their sources' (--json names them); only oxford-d-convolutions was checked by fetching."
    return f"{aligned(LIST_COLUMNS, rows)}\n\n{note}"


def beside_published(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each test whose errors were published: those errors, and whether they were found again."""
    nets = catalogue()
    pairs = [(r, e) for r in results if r.get("model") in nets for e in nets[r["model"]].errors if repeats(r, e)]
    return [
        f"{r['model']}, {e}, as published ({e.source}); here {r['top1_error']:.2f}/{r['top5_error']:.2f}: "
        + ("found again" if max(abs(r["top1_error"] - e.top1), abs(r["top5_error"] - e.top5)) <= AGAIN else "NOT found")
        for r, e in pairs
    ]


def repeats(r: Mapping[str, Any], e: Errors) -> bool:
    """Whether a test is one whose errors were published: of all those photos, shown in the same way."""
    ilsvrc = (r["split"], r["photos"], len(r["classes"])) == ("val", 50_000, 1_000)
    whole = not (r["limit"] or r["corrections"]) and r["top5_error"] is not None
    usual = r["average"] == "scores" and r["mirror"] != (r["protocol"] == "centre")
    same_photos = e.data in (f"{r['data']} {r['split']}", "ILSVRC-2012 val" * ilsvrc)
    return whole and usual and same_photos and (r["protocol"], *r["scales"]) == (e.protocol.removesuffix(" crop"), *e.Q)


def fetch_published(name: str) -> dict[str, Any]:
    """Fetches a published net that is not at hand, and loads it once. Raises ModelError."""
    if (e := catalogue().get(name)) is None:
        raise ModelError(f"{name} is not a published net{meant(name, catalogue(), f'; {LIST}')}")
    if not e.path.is_file():
        elsewhere = f"set VERYDEEP_WEIGHTS to a folder with {e.size // MB} MB"
        urls = tuple(url.value for url in e.urls)
        download(Wanted(e.path, urls, e.size, LARGEST, e.check, ModelError, elsewhere))
    path = checked_file(e)
    if not e.builtin:
        open_foreign(path, entry=e)
        if e.strongest != "sha256":
            known = f"only the {SUMS[e.strongest]} is known, and it is right" if e.strongest else "no checksum is known"
            print(f"warning: of {path} {known}", file=sys.stderr)
    return listing_of(e)


def fetched_text(r: dict[str, Any]) -> str:
    return f"{r['name']} is at hand, in {r['file']}\nlicence: {catalogue()[r['name']].licence}"


def convert_model(source: str, to: str, out: Path, expects: str | None, fold_mean: bool, keep: bool) -> dict[str, Any]:
    """Writes a model for another toolkit, or as a file of ours. Raises ModelError, ConfigError and RunError."""
    if to != "safetensors":
        report = convert(source, to, out, expects=expects, fold_mean=fold_mean, keep=keep)  # type: ignore[arg-type]  # checks
        figures = {k: v for k, v in report._asdict().items() if k not in ("path", "expects")}
        return {"file": str(out), "words": "\n".join([str(report), *report.notes])} | figures
    if useless := " and ".join(flag for flag, on in (("fold_mean", fold_mean), ("keep", keep)) if on):
        why = "a safetensors file carries the model's own mean and std"
        raise ConfigError(f"{useless}: {why}; leave it out, or write another layout: {', '.join(WRITERS)}")
    check_out(source, out, to, (".safetensors",))
    found = load_or_features(source, expects)
    if isinstance(found, Features):
        raise ModelError(f"{source} has no FC layers, so it is no classifier; 'verydeep train DATA --from' takes it")
    found.save(out)
    c = found.contract
    words = f"{out}: net {c.net}, {several(len(c.classes), 'classes')}, expects {Input('RGB', c.mean, c.std)}"
    return {"file": str(out), "to": to, "words": words, "contract": asdict(c)}


def show_model(source: str) -> dict[str, Any]:
    """Contract and tensors of a model with their statistics. Raises ModelError."""
    about, tensors = contents(load_or_features(source))
    contract = {f.name: getattr(about, f.name) for f in fields(about) if f.name != "tensors"}
    contract |= {"reading": asdict(contract["reading"])} if "reading" in contract else {}
    return {"model": source, "contract": contract, "tensors": [tensor_facts(n, t) for n, t in tensors.items()]}


def tensor_facts(name: str, tensor: Tensor) -> dict[str, Any]:
    """In float64, piece by piece; a value that is not finite makes them null."""
    x, n = tensor.flatten(), max(1, tensor.numel())
    mean = float(x.sum(dtype=torch.float64)) / n
    squares = sum(float((piece.double() - mean).square().sum()) for piece in torch.split(x, PIECE))
    least, most, zeros = float(x.min()), float(x.max()), 1 - int(x.count_nonzero()) / n
    values = {"mean": mean, "std": math.sqrt(squares / n), "least": least, "most": most, "zeros": zeros}
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    return {"name": name, "shape": list(tensor.shape), **finite}


def show_text(r: dict[str, Any]) -> str:
    c = dict(r["contract"])
    many = {"classes": c.pop("classes", ()), "not taken": c.pop("left", ())}
    c |= {name: shortly(c[name]) for name in ("mean", "std")}
    c |= {"reading": ", ".join(f"{k} {v}" for k, v in c["reading"].items())} if "reading" in c else {}
    c |= {name: f"{len(all_)}: {'; '.join(all_[:6])}{'; ...' * (len(all_) > 6)}" for name, all_ in many.items() if all_}
    facts = [f"{name:<12}{value}" for name, value in c.items() if value != ""]
    rows = []
    for t in r["tensors"]:
        numbers = ["not finite" if t[k] is None else f"{t[k]:.4g}" for k in ("mean", "std", "least", "most")]
        rows.append((t["name"], "x".join(map(str, t["shape"])), *numbers, f"{100 * t['zeros']:.1f}"))
    return "\n".join([*facts, "", aligned(LAYER_COLUMNS, rows)])
