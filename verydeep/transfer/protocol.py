"""Appendix B as a protocol: descriptors of nets that are not trained any further, and a linear SVM on them."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from verydeep.collections import Kit, kit_of, open_kit
from verydeep.contract import Contract
from verydeep.data.reading import workers_for
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.describe import Rows, Several, described, descriptors
from verydeep.errors import ConfigError, DataError, PhotoError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import Scales, scales_for
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.transfer.measures import Truth, measured
from verydeep.transfer.parts import Ids, Part, parts_of, sampled
from verydeep.transfer.saved import save_net
from verydeep.transfer.svm import CONSTANTS, Svm, fitted
from verydeep.weights import check_task, load_describing

BARE = {"crop": 224, "scales": (256, 256)}  # what convolutions alone, whose contract knows none, are shown


class Ways(NamedTuple):
    """One row of the table: which nets, what is shown of a photo, and which Q, as numbers of them."""

    nets: tuple[int, ...]
    shown: tuple[str, ...]
    q: tuple[int, ...]
    several: Several


def transfer_models(
    models: Sequence[str], data: str, scales: Scales, settings: Settings, *, per_class: int | None = None,
    splits: int | None = None, seed: int = 0, limit: int | None = None, actions: bool = False, download: bool = False,
    save: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How well a linear SVM on what nets see tells the classes of DATA: plain values, a row for each combination of
    nets, Q and, of actions, photo and person. Each photo is described once by each net at each Q, and the descriptors,
    float32, stay in memory. save: a file for the first net with the SVM as its last layer.

    Raises ConfigError, DataError, ModelError, PhotoError.
    """
    nets = [load_describing(model) for model in models]
    for model, net in zip(models, nets, strict=True):
        check_task(model, net, "classes")
    found = [scales_of(net, scales) for net in nets]
    if strange := next((m for m, own in zip(models, found, strict=True) if len(own) != len(found[0])), None):
        raise ConfigError(f"scales: {strange} has another number of Q than {models[0]}; give numbers such as 256,384")
    kit = sampled(opened_kit(data, actions, download), per_class, limit, seed)
    if save and (len(nets) > 1 or not kit.one_each):
        why = f"there are {len(nets)} nets" if len(nets) > 1 else f"photos of {kit.name} are of several classes"
        raise ConfigError(f"save: one net with one class a photo can be saved, and {why}")
    parts_of(kit, per_class, splits, seed)  # what is wrong is told before the long work
    began = time.perf_counter()
    said, kit = all_described(models, nets, found, kit, settings)
    described_in, size = time.perf_counter() - began, sum(rows.nbytes for own in said for rows in own.values())
    parts, how = parts_of(kit, per_class, splits, seed)
    began, rows = time.perf_counter(), list[dict[str, Any]]()
    ways = list(ways_of(len(nets), tuple(kit.shown), len(found[0])))
    with Progress().bar(len(ways) * len(parts), "linear SVM", unit="splits") as advance:
        for way in ways:
            results = list[dict[str, Any]]()
            for part in parts:
                results.append(judged(joined(said, way), kit, part))
                advance(1, "")
            rows.append(row_of(way, results, kit, models, found))
    record = {
        "data": data, "kit": kit.name, "classes": list(kit.classes), "photos": len(kit.truth), "protocol": how,
        "rows": rows, "best": max(range(len(rows)), key=lambda i: rows[i]["validation"]),
        "guessing": guessing(kit.truth, kit.one_each),
        "mirror": settings.mirrors("dense"), "seed": seed, "notes": [*kit.notes, *missing(kit, parts)], "bytes": size,
        "seconds": {"describing": described_in, "svm": time.perf_counter() - began},
    }  # fmt: skip
    if save:
        one = next(i for i, way in enumerate(ways) if len(way.q) == 1)
        ids = parts[0].train if any(kit.splits) else np.arange(len(kit.truth))
        svm = next(fitted(joined(said, ways[one])[ids], kit.truth[ids], [float(np.median(rows[one]["constants"]))]))
        length, q = np.linalg.norm(said[0]["photo"][ids, ways[one].q[0]], axis=1).mean(), rows[one]["scales"][0]
        words = f"{rows[one]['accuracy']:.1f} % right in {how}, then trained on {len(ids):,} photos of {data}"
        record["saved"] = save_net(nets[0], svm, kit.classes, float(length), q, words, save)
    return record


def opened_kit(data: str, actions: bool, download: bool) -> Kit:
    """DATA with what is known of each photo; says how it was understood."""
    kit = open_kit(Path(data).expanduser(), actions) if "://" not in data and ":" not in data[:9] else None
    if kit is None and actions:
        raise ConfigError(f"actions: {data} is no folder of VOC2012")
    if kit is None:
        whole = open_data(data, download=download)
        for line in data_lines(whole):
            print(line, file=sys.stderr)
        return kit_of(whole)._replace(notes=())
    return kit


def scales_of(net: Classifier, scales: Scales) -> tuple[int, ...]:
    contract: Contract = net.contract
    if not net.net.fc6 and isinstance(scales, str):
        contract = replace(contract, **BARE)  # type: ignore[arg-type]
    return scales_for(contract, scales)


def all_described(
    models: Sequence[str], nets: Sequence[Classifier], scales: Sequence[tuple[int, ...]], kit: Kit, settings: Settings
) -> tuple[list[dict[str, Rows]], Kit]:
    """By net what it says, N x Q x D, of what is shown of the examples; those that cannot be read are left out of both,
    if skipped. Raises PhotoError, and DataError where a net's answer is no number."""
    bad, said, keep = list[PhotoError](), list[dict[str, Rows]](), np.ones(len(kit.truth), bool)
    wanted = {name: np.unique(of) for name, (_, of) in kit.shown.items()}
    on_bad = (lambda i, e: bad.append(e)) if settings.bad_photos == "skip" else None
    with Progress().bar(len(nets) * sum(map(len, wanted.values())), "describing") as advance:
        for model, net, own in zip(models, nets, scales, strict=True):
            said.append({})
            for name, (photos, of) in kit.shown.items():
                photos = replace(photos, reading=net.contract.reading)
                chunks = list(described(
                    [net], [own], photos.open, wanted[name].tolist(), settings, on_bad=on_bad,
                    workers=workers_for(settings.workers, photos.in_memory), progress=lambda n: advance(n, ""),
                ))  # fmt: skip
                if not chunks:
                    raise DataError(f"{kit.name}: none of its photos could be read ({bad[0]})")
                seen, rows = np.concatenate([ids for ids, _ in chunks]), np.concatenate([r for _, [r] in chunks])
                if len(strange := np.flatnonzero(~np.isfinite(rows).all((1, 2)))):
                    wrong = photos.keys[int(seen[strange[0]])]
                    raise DataError(f"{model} says of {wrong} what is no number; try --precision fp32, or another net")
                keep &= np.isin(of, seen)
                said[-1][name] = rows[np.searchsorted(seen, of).clip(max=len(seen) - 1)]
    if keep.all():
        return said, kit
    note = f"warning: left out: {(~keep).sum()} that cannot be read, such as {bad[0]}"
    return [{name: rows[keep] for name, rows in one.items()} for one in said], kit.take(np.flatnonzero(keep), (), note)


def ways_of(nets: int, shown: tuple[str, ...], scales: int) -> Iterator[Ways]:
    """Each net and all together; each thing shown, and the first with all; one Q, all averaged, all stacked."""
    together = [tuple(range(nets))] * (nets > 1)
    for own in [*((i,) for i in range(nets)), *together]:
        for what in [*((name,) for name in shown), *[shown] * (len(shown) > 1)]:
            yield Ways(own, what, (scales // 2,), "average")
            if scales > 1:
                yield from (Ways(own, what, tuple(range(scales)), how) for how in get_args(Several))


def joined(said: Sequence[dict[str, Rows]], way: Ways) -> Rows:
    return descriptors([said[i][name][:, list(way.q)] for i in way.nets for name in way.shown], way.several)


def judged(rows: Rows, kit: Kit, part: Part) -> dict[str, Any]:
    """The measures of one split, with the constant that was best on what was held back."""
    learning = np.setdiff1d(part.train, part.choosing)
    if not len(learning) or not len(part.choosing) or not len(part.test):
        raise DataError(f"{kit.name}: too few photos; expected several to train on, to choose by and to test on")

    def on(svm: Svm, ids: Ids) -> tuple[dict[str, float], list[float | None]]:
        return measured(svm.scores(rows[ids]), kit.truth[ids], kit.one_each)

    tried = [next(iter(on(svm, part.choosing)[0].values())) for svm in fitted(rows[learning], kit.truth[learning])]
    best = int(np.argmax(tried))
    found, by_class = on(next(fitted(rows[part.train], kit.truth[part.train], [CONSTANTS[best]])), part.test)
    return found | {"constant": CONSTANTS[best], "validation": tried[best], "by_class": by_class}


def row_of(
    way: Ways, splits: Sequence[dict[str, Any]], kit: Kit, models: Sequence[str], scales: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    """The mean over the splits and, of several, the standard deviation."""
    row: dict[str, Any] = {
        "models": [models[i] for i in way.nets], "shown": list(way.shown), "several": way.several,
        "scales": [scales[way.nets[0]][i] for i in way.q], "constants": [s["constant"] for s in splits],
        "validation": float(np.mean([s["validation"] for s in splits])),
    }  # fmt: skip
    for name in (n for n in splits[0] if n not in ("constant", "validation", "by_class")):
        values = [s[name] for s in splits]
        row[name] = float(np.mean(values))
        row[f"{name}_deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    known = {c: [s["by_class"][i] for s in splits if s["by_class"][i] is not None] for i, c in enumerate(kit.classes)}
    row["by_class"] = {c: float(np.mean(values)) if values else None for c, values in known.items()}
    return row


def guessing(truth: Truth, one_each: bool) -> float:
    """What chance reaches, in percent: of the classes in turn, or the mean share of photos that have a class."""
    shares = (truth > 0).sum(0) / (truth != 0).sum(0).clip(min=1)
    return float(100 / truth.shape[1] if one_each else 100 * shares.mean())


def missing(kit: Kit, parts: Sequence[Part]) -> list[str]:
    """Classes without a photo to train or to test on, in given splits."""
    there = {(i, what) for p in parts for what, ids in (("train", p.train), ("test", p.test))
             for i in np.flatnonzero((kit.truth[ids] > 0).any(0)).tolist()}  # fmt: skip
    gone = ((c, what) for i, c in enumerate(kit.classes) for what in ("train", "test") if (i, what) not in there)
    return [f"warning: {c} has no photo to {what} on" for c, what in gone]
