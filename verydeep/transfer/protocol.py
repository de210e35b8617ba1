"""Appendix B as a protocol: descriptors of nets that are not trained any further, and a linear SVM on them."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from verydeep.collections import Kit, kit_of, open_kit
from verydeep.data.reading import workers_for
from verydeep.data.said import data_lines
from verydeep.data.source import open_data
from verydeep.data.tree import listed
from verydeep.describe import Rows, Several, described, descriptors
from verydeep.errors import ConfigError, DataError
from verydeep.evaluate.passes import Settings, settled
from verydeep.evaluate.views import Scales, scales_for
from verydeep.files.disk import check_place
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.transfer.measures import measured
from verydeep.transfer.parts import Ids, Part, parts_of, sampled
from verydeep.transfer.saved import save_net
from verydeep.transfer.svm import CONSTANTS, Svm, fitted
from verydeep.weights import check_task, load_describing
from verydeep.words import several

Said = list[dict[str, Rows]]  # by net, of what is shown, N x Q x D


class Combination(NamedTuple):
    """One row of the table: which nets, what of a photo they are shown, one Q or all, and what becomes of these."""

    nets: tuple[int, ...]
    shown: tuple[str, ...]
    all: bool
    several: Several

    def q(self, count: int) -> list[int]:
        """Which of so many Q: all, or the one in the middle."""
        return list(range(count)) if self.all else [count // 2]


def transfer_models(
    models: Sequence[str], data: str, scales: Scales, settings: Settings, *, per_class: int | None = None,
    splits: int | None = None, seed: int = 0, limit: int | None = None, actions: bool = False, download: bool = False,
    save: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How well a linear SVM on what nets see tells the classes of DATA: plain values, a row for each way to combine
    nets, Q and, of actions, photo and person. Each photo is described once by each net at each Q; the descriptors,
    float32, stay in memory. save: a file for the net with the SVM as its last layer.

    Raises ConfigError, DataError, ModelError, PhotoError.
    """
    nets = [load_describing(model) for model in models]
    for model, net in zip(models, nets, strict=True):
        check_task(model, net, "classes")
    q, settings = [scales_of(net, scales) for net in nets], settled(settings, nets)
    kit = sampled(opened_kit(data, actions, download), per_class, limit, seed)
    check_place(save)
    if save and (len(nets) > 1 or not kit.one_each):
        raise ConfigError(f"save: {len(nets)} nets and {kit.name} are given; expected one net, and one class a photo")
    parts, how = parts_of(kit, per_class, splits, seed)
    said, good, note = all_described(models, nets, q, kit, settings)
    if note:
        kit = kit.take(good, (), note)
        parts, how = parts_of(kit, per_class, splits, seed)
    ways, rows = list(ways_of(len(nets), tuple(kit.shown), max(map(len, q)) > 1)), list[dict[str, Any]]()
    with Progress().bar(len(ways), "linear SVM", unit="rows") as advance:
        for way in ways:
            how_made = {"models": [models[i] for i in way.nets], "shown": list(way.shown), "several": way.several}
            own = q[way.nets[0]]
            found = combined(said, way)
            results = [measured_on(found, kit, part) for part in parts]
            rows.append({**how_made, "scales": [own[i] for i in way.q(len(own))], **averaged(kit, results)})
            advance(1, "")
    there = ((what, (kit.truth[ids] > 0).any(0)) for what, ids in (("train", parts[0].train), ("test", parts[0].test)))
    lacking = [f"warning: {kit.classes[c]} has no photo to {w} on" for w, own in there for c in np.flatnonzero(~own)]
    shares = [(kit.truth[part.test] > 0).sum(0) / (kit.truth[part.test] != 0).sum(0).clip(min=1) for part in parts]
    guessing = np.mean([own.max() if kit.one_each else own.mean() for own in shares])  # always the largest class
    record = {
        "data": data, "kit": kit.name, "classes": list(kit.classes), "photos": len(kit.truth), "protocol": how,
        "rows": rows, "best": max(range(len(rows)), key=lambda i: rows[i]["validation"]), "seed": seed,
        "guessing": 100 * float(guessing), "mirror": settings.mirrors("dense"), "engine": settings.engine,
        "bytes": sum(found.nbytes for own in said for found in own.values()),
        "notes": [*kit.notes, *lacking],
    }  # fmt: skip
    if save:
        ids = parts[0].train if any(kit.splits) else np.arange(len(kit.truth))
        svm = next(fitted(combined(said, ways[0])[ids], kit.truth[ids], [float(np.median(rows[0]["constants"]))]))
        length = np.linalg.norm(said[0]["photo"][ids, len(q[0]) // 2], axis=1).mean()
        words = f"{rows[0]['accuracy']:.1f} % right in {how}, then trained on {len(ids):,} photos of {data}"
        save_net(nets[0], svm, kit.classes, float(length), rows[0]["scales"][0], words, save)
    return record


def opened_kit(data: str, actions: bool, download: bool) -> Kit:
    """DATA with what is known of each photo; says how it was understood."""
    if kit := open_kit(Path(data).expanduser(), actions):
        return kit
    whole = open_data(data, download=download)
    for line in data_lines(whole):
        print(line, file=sys.stderr)
    return kit_of(whole)._replace(notes=())


def scales_of(net: Classifier, scales: Scales) -> tuple[int, ...]:
    """The Q; of convolutions alone, whose contract knows none, about 112, where 300 photos take a minute."""
    contract, bare = net.contract, isinstance(scales, str) and not net.net.fc6
    return scales_for(replace(contract, crop=96, scales=(112, 112)) if bare else contract, scales)


def all_described(
    models: Sequence[str], nets: Sequence[Classifier], q: Sequence[tuple[int, ...]], kit: Kit, settings: Settings
) -> tuple[Said, Ids, str]:
    """What nets say of the examples whose photos can be read, which these are, and a note of the others, if any.

    Raises DataError where an answer is no number, or no photo can be read.
    """
    said, wanted = Said(), {name: np.unique(of) for name, (_, of) in kit.shown.items()}
    bad = {name: dict[int, str]() for name in wanted}
    with Progress().bar(len(nets) * sum(map(len, wanted.values())), "describing") as advance:
        for model, net, own in zip(models, nets, q, strict=True):
            said.append({})
            for name, (photos, _) in kit.shown.items():
                photos, ids = replace(photos, reading=net.contract.reading), wanted[name]
                chunks = described(
                    [net], [own], photos.open, ids.tolist(), settings, progress=lambda n: advance(n, ""),
                    workers=workers_for(settings.workers, photos.in_memory),
                    on_bad=lambda id, e, own=bad[name]: own.update({id: e.reason}),
                )  # fmt: skip
                rows = np.concatenate([rows for _, [rows] in chunks] or [np.empty((0, 1, 1), np.float32)])
                ids = np.setdiff1d(ids, list(bad[name]))
                if len(strange := ids[~np.isfinite(rows).all((1, 2))]):
                    raise DataError(f"{model} says of {photos.name(int(strange[0]))} what is no number; is it damaged?")
                said[-1][name] = rows
    good = np.flatnonzero(np.all([~np.isin(of, list(bad[name])) for name, (_, of) in kit.shown.items()], 0))
    if not len(good):
        raise DataError(f"{kit.name}: none of its photos can be read; 'verydeep check' says why")
    for by_name in said:
        for name, (_, of) in kit.shown.items():
            by_name[name] = by_name[name][np.searchsorted(np.setdiff1d(wanted[name], list(bad[name])), of[good])]
    unread = [f"{kit.shown[name][0].keys[id]} {why}" for name, own in bad.items() for id, why in own.items()]
    note = f"warning: left out: {several(len(unread), 'photos')} that cannot be read ({listed(unread)})"
    return said, good, note if unread else ""


def ways_of(nets: int, shown: tuple[str, ...], many: bool) -> Iterator[Combination]:
    """Each net, then all together; each thing shown, then all together; one Q, then all, averaged and stacked."""
    for own in [*((i,) for i in range(nets)), *[tuple(range(nets))] * (nets > 1)]:
        for what in [*((name,) for name in shown), *[shown] * (len(shown) > 1)]:
            yield Combination(own, what, False, "average")
            yield from (Combination(own, what, True, how) for how in get_args(Several) if many)


def combined(said: Said, way: Combination) -> Rows:
    some = [said[i][name] for i in way.nets for name in way.shown]
    return descriptors([rows[:, way.q(rows.shape[1])] for rows in some], way.several)


def measured_on(rows: Rows, kit: Kit, part: Part) -> dict[str, Any]:
    """The measures of one split, with the constant that was best on what was held back."""
    learning = np.setdiff1d(part.train, part.choosing)
    if not all(map(len, (learning, part.choosing, part.test))):
        what = "groups of a class" if kit.groups else "photos"
        raise DataError(f"{kit.name}: too few {what}; expected several to train on, to choose by and to test on")

    def by(svm: Svm, ids: Ids) -> tuple[dict[str, float], list[float | None]]:
        return measured(svm.scores(rows[ids]), kit.truth[ids], kit.one_each)

    tried = [next(iter(by(svm, part.choosing)[0].values())) for svm in fitted(rows[learning], kit.truth[learning])]
    best = int(np.argmax(tried))
    found, by_class = by(next(fitted(rows[part.train], kit.truth[part.train], [CONSTANTS[best]])), part.test)
    return {"measures": found, "constant": CONSTANTS[best], "validation": tried[best], "by_class": by_class}


def averaged(kit: Kit, splits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The means over splits and, of several, standard deviations; of each class None where no split tests it."""
    chosen, reached = [s["constant"] for s in splits], [s["validation"] for s in splits]
    row: dict[str, Any] = {"constants": chosen, "validation": float(np.mean(reached))}
    for name in splits[0]["measures"]:
        values = [s["measures"][name] for s in splits]
        row[name] = float(np.mean(values))
        row[f"{name}_deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    known = ([v for s in splits if (v := s["by_class"][i]) is not None] for i in range(len(kit.classes)))
    row["by_class"] = {c: float(np.mean(v)) if v else None for c, v in zip(kit.classes, known, strict=True)}
    return row
