"""The verb `weights`: published nets listed, fetched, converted; any model's weights shown and verified."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights import randomness
from verydeep.weights.catalogue import Entry, at_hand, catalogue, digests, entry, strongest, whose
from verydeep.weights.catalogue import words as words_of
from verydeep.weights.convert import USUAL, check_out, convert, opened
from verydeep.weights.descent import descent_of
from verydeep.weights.eats import ContractWarning
from verydeep.weights.fetch import fetch
from verydeep.weights.model import file_of, load, published
from verydeep.weights.read import Features, open_foreign
from verydeep.weights.recognise import Layout, layout_of
from verydeep.words import aligned, several

LIST_COLUMNS = ("name", "net", "MiB", "at hand", "eats", "errors % (top-1/top-5)", "licence", "origin")
LAYER_COLUMNS = ("tensor", "shape", "mean", "std", "least", "most", "zeros %")
PIECE = 1 << 22  # values of fc6 that are float64 at a time
HASHED = re.compile(
    r"-(?=\d*[a-f])([0-9a-f]{8})\.pth$"
)  # as torchvision's names end; eight decimals may be a date or a step


def listed() -> list[dict[str, Any]]:
    """What the catalogue knows, as plain values, and whether each file is at hand."""
    return [record_of(e) for e in catalogue().values()]


def record_of(e: Entry) -> dict[str, Any]:
    return {
        "name": e.name, "net": e.net, "batch_norm": e.batch_norm, "origin": e.origin, "eats": e.eats, "file": str(e.path),
        "bytes": e.size, "bytes_exact": e.exact, "at_hand": e.path.is_file() and e.fits(e.path.stat().st_size),
        "licences": [one._asdict() for one in e.licences], "errors": [one._asdict() for one in e.errors],
        "checksums": {kind: one._asdict() for kind, one in e.checksums.items()}, "urls": [one._asdict() for one in e.urls],
    }  # fmt: skip


def list_text(records: list[dict[str, Any]]) -> str:
    """For a terminal; errors stand with their protocol, and licences as each source states them."""
    rows = []
    for r in records:
        e = catalogue()[r["name"]]
        at_hand = "yes" if r["at_hand"] else "wrong size" if e.path.is_file() else "no"
        licence = ", or ".join(one.says for one in e.licences)
        net = f"{e.net}{' + batch norm' if e.batch_norm else ''}"
        errors = [str(one) for one in e.errors] or [
            "none published with a protocol" if e.head else "none: it has no FC layers"
        ]
        rows.append((e.name, net, f"{e.size / 2**20:.0f}", at_hand, e.eats, errors[0], licence, e.origin))
        rows += [("", "", "", "", "", more, "", "") for more in errors[1:]]
    return "\n".join(
        [
            aligned(LIST_COLUMNS, rows), "",
            "Checksums and addresses are as their sources state them (--json names them); no file was fetched to check this list.",
        ]
    )  # fmt: skip


def fetched(name: str) -> dict[str, Any]:
    """Fetches a published net and loads it once. Raises ModelError."""
    found = entry(name)
    path = fetch(found)
    if not found.builtin:
        published(found, path)
    return record_of(found)


def fetched_text(r: dict[str, Any]) -> str:
    licence = "; ".join(f"{one['says']} ({one['source']})" for one in r["licences"])
    return f"{r['name']} is in {r['file']}; licence: {licence}"


def converted(source: str, to: str, out: Path, eats: str | None, fold_mean: bool, keep: bool) -> dict[str, Any]:
    """Writes a model for another toolkit, or as a file of ours with its contract. Raises ModelError, ConfigError and RunError."""
    if to == "safetensors" and (useless := [flag for flag, on in (("fold_mean", fold_mean), ("keep", keep)) if on]):
        raise ConfigError(
            f"{' and '.join(useless)}: a safetensors file carries the model's own mean and std, so nothing is ever folded into it; "
            f"leave it out, or write another layout: {', '.join(USUAL)}"
        )
    if to != "safetensors":
        report = convert(source, to, out, eats=eats, fold_mean=fold_mean, keep=keep)  # type: ignore[arg-type]  # which it checks
        figures = {k: getattr(report, k) for k in ("to", "folded", "inside", "border", "outputs", "written", "notes")}
        return {"file": str(out), "words": "\n".join([str(report), *report.notes])} | figures
    check_out(source, out)
    found = opened(source, eats)
    if out.suffix != ".safetensors":
        raise ConfigError(f"out: {out} is for safetensors, so its name must end in .safetensors")
    if isinstance(found, Features):
        raise ModelError(
            f"{source} has no FC layers, so it is no classifier to keep with its contract; 'verydeep train DATA --from' takes it"
        )
    found.save(out)
    c = found.contract
    words = f"{out}: net {c.net}, {several(len(c.classes), 'classes')}, mean {rounded(c.mean)}, std {rounded(c.std)} (RGB, 0-255)"
    return {"file": str(out), "to": to, "words": words, "contract": dataclasses.asdict(c)}


def shown(source: str) -> dict[str, Any]:
    """Contract and tensors of a model with their statistics. Raises ModelError."""
    found = opened(source)
    tensors = found.tensors if isinstance(found, Features) else found.net.state_dict()
    if isinstance(found, Features):
        contract = {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "tensors"}
    else:
        contract = dataclasses.asdict(found.contract)
    return {
        "model": source,
        "contract": contract,
        "tensors": [tensor_record(n, t) for n, t in tensors.items() if t.is_floating_point()],
    }


def tensor_record(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    """Shape and statistics of float values, reckoned in float64 piece by piece; a value that is not finite makes them null."""
    x, n = tensor.detach().flatten(), max(1, tensor.numel())
    mean = float(x.sum(dtype=torch.float64)) / n
    values = {
        "mean": mean,
        "std": math.sqrt(sum(float((piece.double() - mean).square().sum()) for piece in torch.split(x, PIECE)) / n),
        "least": float(x.min()), "most": float(x.max()), "zeros": 1 - int(x.count_nonzero()) / n,
    }  # fmt: skip
    return {
        "name": name,
        "shape": list(tensor.shape),
        **{k: v if math.isfinite(v) else None for k, v in values.items()},
    }


def show_text(r: dict[str, Any]) -> str:
    c = dict(r["contract"])
    many = {"classes": c.pop("classes", ()), "not taken": c.pop("left", ())}
    facts = [
        f"{name:<12}{rounded(value) if name in ('mean', 'std') else value}"
        for name, value in c.items()
        if value not in ("", ())
    ]
    facts += [
        f"{name:<12}{len(all_)}: {'; '.join(all_[:6])}{'; ...' if len(all_) > 6 else ''}"
        for name, all_ in many.items()
        if all_
    ]
    rows = [
        (
            t["name"], "x".join(map(str, t["shape"])),
            *("not finite" if t[k] is None else f"{t[k]:.4g}" for k in ("mean", "std", "least", "most")), f"{100 * t['zeros']:.1f}",
        )
        for t in r["tensors"]
    ]  # fmt: skip
    return "\n".join([*facts, "", aligned(LAYER_COLUMNS, rows)])


NOT_KNOWN = "it is none of the catalogue's nets, and its first layer is none of those whose values are known"


def verified(source: str) -> dict[str, Any]:
    """Whether a model is whole, finite, learnt and known, each with how that was judged. Raises ModelError where it cannot be read."""
    file = file_of(source)
    if not Path(source).exists() and source in catalogue():
        at_hand(source)
    layout = layout_of(file)
    named = next((e for e in catalogue().values() if e.file == file.name and strongest(e)), None)
    sums = digests(file) if layout or (named and file.is_file()) else {}
    sealed = layout is not None and layout.origin == "verydeep"
    name = None if sealed or layout is None else whose(sums)
    whole, why = wholeness(file.name, sums, named, name, sealed) if sums else (None, "")
    try:
        found = readable(source, file, layout, name)
    except ModelError as e:
        if whole is not False:
            raise
        checks = [
            {"check": "whole", "ok": False, "words": why},
            {"check": "finite", "ok": None, "words": f"not judged: {e}"},
        ]
        return {"model": source, "published": None, "good": False, "checks": checks}
    tensors = found.tensors if isinstance(found, Features) else found.net.state_dict()
    known = name or (own_name(found) if isinstance(found, Classifier) else None)
    infinite = [n for n, t in tensors.items() if not bool(t.isfinite().all())]
    learnt, how = (
        (None, "not judged, as not every value is finite")
        if infinite
        else randomness.judged(randomness.signs(net_of(found)))
    )
    checks = [
        {"check": "whole", "ok": whole, "words": why},
        {
            "check": "finite",
            "ok": not infinite,
            "words": f"not finite: {', '.join(infinite[:5])}" if infinite else "every value is finite",
        },
        {
            "check": "learnt",
            "ok": learnt,
            "words": how if infinite else f"{'not random' if learnt else 'like random weights'}: {how}",
        },
        {"check": "known", "ok": None, "words": f"it is {known}" if known else str(descent_of(tensors) or NOT_KNOWN)},
    ]
    return {
        "model": source,
        "published": known,
        "good": whole is not False and not infinite and bool(learnt),
        "checks": checks,
    }


def readable(source: str, file: Path, layout: Layout | None, name: str | None) -> Classifier | Features:
    """What is in a file that may be the published net `name`. Raises ModelError."""
    if layout is None or layout.origin == "verydeep":
        return load(
            file if file.is_file() else source
        )  # of what is no file that can be read, it says what it is instead
    with warnings.catch_warnings(action="ignore", category=ContractWarning):  # the usual colours may not be its own
        return open_foreign(file, layout.usual, entry=catalogue()[name] if name else "none")


def wholeness(
    file: str, sums: dict[str, str], named: Entry | None, name: str | None, sealed: bool
) -> tuple[bool | None, str]:
    """Whether a file is as it was published or saved: by the checksum that its name promises, that it carries, or that is stated of it."""
    if named and name != named.name:
        kind = str(strongest(named))
        return False, (
            f"its name is that of {named.name}, whose {words_of(kind)} is {named.checksums[kind].value}, and its own is {sums[kind]}: "
            "it is damaged or another file; fetch it again, or rename it"
        )
    if sealed:
        return True, "contract and tensors match the SHA-256 they carry"
    if name:
        return True, f"its {words_of(str(strongest(catalogue()[name])))} is that of {name}"
    if not (m := HASHED.search(file)):
        return (
            None,
            "the file carries no checksum and is none of the catalogue's; it could be read, and every layer is there",
        )
    kind, own = words_of("sha256_prefix"), sums["sha256_prefix"]
    if own == m[1]:
        return True, f"its {kind} is that in its name"
    return False, (
        f"its name ends in {m[1]}, as torchvision's end in their {kind}, and its own is {own}: "
        "it is damaged or was changed; fetch it again, or rename it"
    )


def own_name(found: Classifier) -> str | None:
    """The catalogue's name of tensors with this fingerprint."""
    sums = {n: e.checksums["tensors_sha256"].value for n, e in catalogue().items() if "tensors_sha256" in e.checksums}
    return next((name for name, value in sums.items() if value == found.contract.sha256), None)


def net_of(found: Classifier | Features) -> Any:
    return found.classifier(("",), 32, 1).net if isinstance(found, Features) else found.net


def verify_text(r: dict[str, Any]) -> str:
    marks = {True: "yes", False: "NO", None: "-"}
    return "\n".join([f"{c['check']:<8}{marks[c['ok']]:<5}{c['words']}" for c in r["checks"]])


def rounded(colours: Any) -> list[float]:
    return [round(c, 3) for c in colours]
