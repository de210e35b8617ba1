"""Classes from maps: posteriors, their fusion, and one pass that counts the errors of every step of every model."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep.contract import Contract, class_key
from verydeep.data.reading import workers_for
from verydeep.data.record import Photos
from verydeep.errors import LongPhotoError, ModelError, PhotoError
from verydeep.evaluate.passes import (
    CHUNK_BATCHES,
    OnBad,
    Reduce,
    Settings,
    Shown,
    Spent,
    Told,
    own_part,
    passes,
    scorer_of,
)
from verydeep.evaluate.posteriors import SavedModel
from verydeep.evaluate.scores import Scores
from verydeep.evaluate.views import Protocol, Scales, Step, View, components
from verydeep.net.classifier import Classifier
from verydeep.ranks import ALONE, Ranks

Found = list[dict[Step, Tensor]]  # by model: posteriors N x K of each step
# Of maps n x K x h x w posteriors n x K: scores averaged over space, then soft-max, or after it (section 3.2).
POSTERIORS: dict[str, Reduce] = {
    "scores": lambda maps, seen: maps.mean((2, 3)).softmax(1),
    "posteriors": lambda maps, seen: maps.softmax(1).mean((2, 3)),
}


@dataclass(frozen=True, eq=False)
class Entrant:
    """One model of a test, and the views whose mean each step of the ladder is; none if its posteriors were saved."""

    name: str
    contract: Contract
    source: Classifier | SavedModel
    steps: dict[Step, tuple[View, ...]]

    @property
    def views(self) -> list[View]:
        """Each once, in a fixed order."""
        return list(dict.fromkeys(v for views in self.steps.values() for v in views))


def entrant(name: str, classifier: Classifier, steps: Sequence[Step], scales: Scales) -> Entrant:
    """A model that will see the photos. Raises ConfigError for a Q below its crop."""
    contract = classifier.contract
    if contract.task != "classes":
        raise ModelError(f"{name or 'the model'} says where things are, not what; try 'verydeep localise'")
    return Entrant(name, contract, classifier, {step: components(step, contract, scales) for step in steps})


@dataclass
class Tally:
    """What a test found: scores by number of the model, the fused ones last, and step. Skipped photos by id."""

    scores: dict[tuple[int, Step], Scores]
    skipped: list[tuple[int, PhotoError]]
    spent: Spent


def answers(
    entrants: Sequence[Entrant], open_photo: Callable[[int], Image.Image], ids: Iterable[int], settings: Settings, *,
    workers: int = 0, on_bad: OnBad | None = None, spent: Spent | None = None, progress: Told = lambda n: None,
    batches: int = CHUNK_BATCHES,
) -> Iterator[tuple[list[int], Found]]:  # fmt: skip
    """(ids, posteriors by model and step) of photos, as `passes` shows them."""
    reduce = POSTERIORS[settings.average]
    nets = [
        Shown(scorer_of(e.source, settings), e.contract.crop, e.views, reduce, m)
        for m, e in enumerate(entrants) if isinstance(e.source, Classifier)
    ]  # fmt: skip
    ids = with_rows(entrants, ids, on_bad)
    for chunk, seen in passes(
        nets, open_photo, ids, settings, workers=workers, on_bad=on_bad, spent=spent, progress=progress, batches=batches
    ):
        parts = iter(seen)
        found: Found = []
        for e in entrants:
            if isinstance(e.source, SavedModel):
                found.append({step: e.source.rows(step, chunk) for step in e.steps})
            else:
                by_view = next(parts)
                found.append({step: mean([by_view[view] for view in views]) for step, views in e.steps.items()})
        yield chunk, found


def with_rows(entrants: Sequence[Entrant], ids: Iterable[int], on_bad: OnBad | None) -> Iterator[int]:
    """The photos that all saved posteriors have."""
    saved = [(e.name, e.source.file.tested) for e in entrants if isinstance(e.source, SavedModel)]
    for id in ids:
        lacking = next((name for name, tested in saved if not tested[id]), None)
        if lacking is None:
            yield id
            continue
        error = PhotoError("", f"could not be read when {lacking} was saved")
        if on_bad is None:
            raise error
        on_bad(id, error)


def mean(parts: Sequence[Tensor]) -> Tensor:
    """The plain mean, added in the order given."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total / len(parts)


def fused(entrants: Sequence[Entrant], found: Found) -> dict[Step, Tensor]:
    """The average of the models' posteriors, classes numbered as the first model does (section 4.4)."""
    keys = [[class_key(c) for c in e.contract.classes] for e in entrants]
    numbers = [{key: i for i, key in enumerate(own)} for own in keys]
    order = [
        torch.tensor([n[key] for key in keys[0]]) if own != keys[0] else torch.arange(len(own))
        for own, n in zip(keys, numbers, strict=True)
    ]
    ordered = list(zip(found, order, strict=True))
    return {step: mean([own[step][:, o] for own, o in ordered]) for step in entrants[0].steps}


def tally(
    entrants: Sequence[Entrant], photos: Photos, targets: Sequence[Tensor], settings: Settings, progress: Told,
    ranks: Ranks, keep: Callable[[list[int], Found], None] = lambda ids, found: None, remember: bool = True,
) -> Tally:  # fmt: skip
    """Counts every step of every model and of their fusion; targets int64 N as each model numbers its classes.

    Each rank tests whole batches of its own; counts are integers and nothing is padded, so the sum is that of one rank.
    `keep` is given the rank's own posteriors; `remember`, which photos were right.
    """
    skipped, spent, among = list[tuple[int, PhotoError]](), Spent(), len(photos) if remember else 0
    fusing = len(entrants) > 1
    sources, targets = [*entrants, *entrants[:fusing]], [*targets, *targets[:fusing]]  # the last: their fusion
    scores = {(m, s): Scores(len(e.contract.classes), among=among) for m, e in enumerate(sources) for s in e.steps}

    def on_bad(id: int, e: PhotoError) -> None:
        if isinstance(e, LongPhotoError):
            raise LongPhotoError(photos.keys[id], e.reason)
        if settings.bad_photos == "stop":
            raise PhotoError(photos.keys[id], f"{e.reason}; repair or remove it, or add --bad_photos skip")
        skipped.append((id, PhotoError(photos.keys[id], e.reason)))

    own = own_part(photos, settings.batch, ranks)
    views = [(m, v) for m, e in enumerate(entrants) if isinstance(e.source, Classifier) for v in e.views]
    if views:
        photos.expect(np.array(own, np.int64))
    workers = workers_for(settings.workers, photos.in_memory)
    for ids, found in answers(
        entrants, photos.open, own, settings, workers=workers, on_bad=on_bad, spent=spent, progress=progress
    ):
        keep(ids, found)
        for m, by_step in enumerate([*found, *([fused(entrants, found)] if fusing else [])]):
            for s, p in by_step.items():
                scores[m, s].add(ids, p, targets[m][ids])
    theirs = ranks.gather([(id, e.photo, e.reason) for id, e in skipped])
    together = sorted((id, key, reason) for part in theirs for id, key, reason in part)
    if views:
        through = ranks.sum(torch.tensor([spent.pixels[v] for v in views], dtype=torch.int64)).tolist()
        spent.pixels = Counter(dict(zip(views, through, strict=True)))
    over_all = {at: s.over(ranks) for at, s in scores.items()}
    return Tally(over_all, [(id, PhotoError(*e)) for id, *e in together], spent)


def count(
    classifier: Classifier, photos: Photos, settings: Settings, progress: Told = lambda n: None, ranks: Ranks = ALONE,
    protocol: Protocol = "centre",
) -> tuple[Scores, list[PhotoError]]:  # fmt: skip
    """(scores, skipped photos) of one protocol at the single scale; the targets are the model's own class numbers."""
    step = Step(protocol)
    entrants = [entrant("", classifier, [step], "single")]
    targets = [torch.from_numpy(photos.targets())]
    found = tally(entrants, photos, targets, settings, progress, ranks, remember=False)
    return found.scores[0, step], [e for _, e in found.skipped]
