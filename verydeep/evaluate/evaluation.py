"""One pass over the photos of a test: decoded once, shown to every model in every view, counted for every step of the ladder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep.contract import Contract, class_key
from verydeep.data.reading import in_order, workers_for
from verydeep.data.record import Photos
from verydeep.errors import LongPhotoError, PhotoError
from verydeep.evaluate.posteriors import SavedModel
from verydeep.evaluate.protocol import Protocol, Scales, Step, components, mirrored
from verydeep.evaluate.scores import Scores
from verydeep.evaluate.scoring import Average, Precision, Scorer, component, torch_scorer
from verydeep.evaluate.views import Frames, LongPhotos, View, frames
from verydeep.net.classifier import Classifier
from verydeep.ranks import ALONE, Ranks

CHUNK_PIXELS = 64 << 20  # of photos that are worked on together; their uint8 pixels take three times as many bytes
CHUNK_BATCHES = 4
Found = list[dict[Step, Tensor]]  # by model: posteriors N x K of each step
Progress = Callable[[int], None]


class Settings(NamedTuple):
    """How to test. mirror and pooling: None does as the protocol does in the paper and as the model's contract says.

    average: class scores over space before the soft-max, or posteriors after it (section 3.2).
    """

    mirror: bool | None = None
    precision: Precision = "fp32"
    device: str = "cpu"
    batch: int = 32
    workers: int = -1
    bad_photos: Literal["stop", "skip"] = "stop"
    long_photos: LongPhotos = "stop"
    average: Average = "scores"
    pooling: Literal["up", "down"] | None = None

    def mirrors(self, protocol: Protocol) -> bool:
        return mirrored(protocol) if self.mirror is None else self.mirror


DEFAULTS = Settings()


@dataclass(frozen=True, eq=False)
class Entrant:
    """One model of a test, and the views whose mean each step of the ladder is; none where its posteriors were saved."""

    name: str
    contract: Contract
    source: Classifier | SavedModel
    steps: dict[Step, tuple[View, ...]]

    @property
    def views(self) -> list[View]:
        """Each once, in a fixed order."""
        return (
            list(dict.fromkeys(v for views in self.steps.values() for v in views))
            if isinstance(self.source, Classifier)
            else []
        )


def entrant(name: str, classifier: Classifier, steps: Sequence[Step], scales: Scales) -> Entrant:
    """A model that will see the photos. Raises ConfigError for a Q below its crop."""
    return Entrant(
        name, classifier.contract, classifier, {s: components(s, classifier.contract, scales) for s in steps}
    )


@dataclass
class Spent:
    """What a test cost: pixels through the net and seconds, by model and view, and seconds of waiting for photos."""

    pixels: Counter[tuple[int, View]] = field(default_factory=Counter)
    seconds: dict[tuple[int, View], float] = field(default_factory=dict)
    waiting: float = 0.0


@dataclass
class Tally:
    """What a test found: scores by number of the model, the fused ones last, and step. Skipped photos by id."""

    scores: dict[tuple[int, Step], Scores]
    skipped: list[tuple[int, PhotoError]]
    spent: Spent


def answers(
    entrants: Sequence[Entrant], open_photo: Callable[[int], Image.Image], ids: Iterable[int], settings: Settings, *, workers: int = 0,
    on_bad: Callable[[int, PhotoError], None] | None = None, spent: Spent | None = None, progress: Progress = lambda n: None,
    batches: int = CHUNK_BATCHES,
) -> Iterator[tuple[list[int], Found]]:  # fmt: skip
    """(ids, posteriors by model and step) of photos, chunk by chunk in their order; what is held does not grow with their number.

    A bad photo goes to `on_bad`; without it the PhotoError is raised.
    """
    spent = spent or Spent()
    device = torch.device(settings.device)
    scorers = [
        torch_scorer(e.source, device, settings.precision, settings.pooling)
        if isinstance(e.source, Classifier)
        else None
        for e in entrants
    ]
    wanted = {(view, e.contract.crop) for e in entrants for view in e.views}
    ids = with_rows(entrants, ids, on_bad)
    seen: Iterable[tuple[int, Frames]] = ((id, {}) for id in ids)
    if wanted:
        seen = in_order(lambda id: frames(open_photo(id), wanted, settings.long_photos), ids, workers, on_bad, ahead=8)
    began = time.perf_counter()
    for chunk in chunks(seen, batches * settings.batch):
        spent.waiting += time.perf_counter() - began
        found = chunk_answers(
            entrants, scorers, [id for id, _ in chunk], [made for _, made in chunk], settings, spent, progress
        )
        yield [id for id, _ in chunk], found
        began = time.perf_counter()


def with_rows(
    entrants: Sequence[Entrant], ids: Iterable[int], on_bad: Callable[[int, PhotoError], None] | None
) -> Iterator[int]:
    """The photos that all saved posteriors have."""
    saved = [e for e in entrants if isinstance(e.source, SavedModel)]
    for id in ids:
        lacking = next(
            (e.name for e in saved if isinstance(e.source, SavedModel) and not e.source.file.tested[id]), None
        )
        if lacking is None:
            yield id
        elif on_bad is None:
            raise PhotoError("", f"could not be read when {lacking} was saved")
        else:
            on_bad(id, PhotoError("", f"could not be read when {lacking} was saved"))


def chunks(seen: Iterable[tuple[int, Frames]], photos: int) -> Iterator[list[tuple[int, Frames]]]:
    """Photos in lists of at most so many, and of few more than CHUNK_PIXELS."""
    chunk, held = list[tuple[int, Frames]](), 0
    for id, made in seen:
        chunk.append((id, made))
        held += sum(p.size // 3 for p in made.values())
        if len(chunk) >= photos or held >= CHUNK_PIXELS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def chunk_answers(
    entrants: Sequence[Entrant], scorers: Sequence[Scorer | None], ids: list[int], photos: list[Frames], settings: Settings, spent: Spent,
    progress: Progress,
) -> Found:  # fmt: skip
    """The posteriors of one chunk; `progress` hears of its photos while they are worked on."""
    work = sum(view.cost(e.contract.crop) for e in entrants for view in e.views)
    done, told, found = 0.0, 0, Found()

    def advance(share: float) -> None:
        nonlocal done, told
        done += share
        if (n := min(len(ids), int(done * len(ids)))) > told:
            progress(n - told)
            told = n

    for m, (e, scorer) in enumerate(zip(entrants, scorers, strict=True)):
        if scorer is None:
            assert isinstance(e.source, SavedModel)
            found.append({step: e.source.rows(step, ids) for step in e.steps})
            continue
        parts = dict[View, Tensor]()
        for view in e.views:
            began, weight = time.perf_counter(), view.cost(e.contract.crop) / work
            mirror = settings.mirrors(view.name)
            told_share = lambda share, weight=weight: advance(share * weight)  # noqa: E731
            parts[view], pixels = component(
                scorer, photos, view, e.contract.crop, mirror, settings.average, settings.batch, told_share
            )
            spent.pixels[m, view] += pixels
            spent.seconds[m, view] = spent.seconds.get((m, view), 0.0) + time.perf_counter() - began
        found.append({step: mean([parts[view] for view in views]) for step, views in e.steps.items()})
    if len(ids) > told:
        progress(len(ids) - told)
    return found


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
    return {step: mean([own[step][:, o] for own, o in zip(found, order, strict=True)]) for step in entrants[0].steps}


def tally(
    entrants: Sequence[Entrant], photos: Photos, targets: Sequence[Tensor], settings: Settings, progress: Progress, ranks: Ranks,
    keep: Callable[[list[int], Found], None] = lambda ids, found: None, remember: bool = True,
) -> Tally:  # fmt: skip
    """Counts every step of every model and of their fusion; targets int64 N as each model numbers its classes.

    Each rank tests whole batches of its own; counts are integers and nothing is padded, so the sum is that of one rank.
    `keep` is given the rank's own posteriors; `remember`, which photos were right.
    """
    skipped, spent, among = list[tuple[int, PhotoError]](), Spent(), len(photos) if remember else 0
    fusing = len(entrants) > 1
    sources, targets = (
        [*entrants, *entrants[: int(fusing)]],
        [*targets, *targets[: int(fusing)]],
    )  # the last counts their fusion
    scores = {
        (m, step): Scores(len(e.contract.classes), among=among) for m, e in enumerate(sources) for step in e.steps
    }

    def on_bad(id: int, e: PhotoError) -> None:
        if isinstance(e, LongPhotoError):
            raise LongPhotoError(photos.keys[id], e.reason)
        if settings.bad_photos == "stop":
            raise PhotoError(photos.keys[id], f"{e.reason}; repair or remove it, or add --bad_photos skip")
        skipped.append((id, PhotoError(photos.keys[id], e.reason)))

    order, step = photos.in_turn(), settings.batch
    own = np.concatenate(
        [order[:0], *(order[i : i + step] for i in range(ranks.rank * step, len(order), ranks.size * step))]
    )
    if any(e.views for e in entrants):
        photos.expect(own)
    workers = workers_for(settings.workers, photos.in_memory)
    for ids, found in answers(
        entrants, photos.open, own.tolist(), settings, workers=workers, on_bad=on_bad, spent=spent, progress=progress
    ):
        keep(ids, found)
        for m, by_step in enumerate([*found, *([fused(entrants, found)] if fusing else [])]):
            for s, p in by_step.items():
                scores[m, s].add(ids, p, targets[m][ids])
    together = sorted(
        (id, key, reason)
        for part in ranks.gather([(id, e.photo, e.reason) for id, e in skipped])
        for id, key, reason in part
    )
    views = [(m, v) for m, e in enumerate(entrants) for v in e.views]
    if views:
        through = ranks.sum(torch.tensor([spent.pixels[v] for v in views], dtype=torch.int64)).tolist()
        spent.pixels = Counter(dict(zip(views, through, strict=True)))
    return Tally({at: s.over(ranks) for at, s in scores.items()}, [(id, PhotoError(*e)) for id, *e in together], spent)


def count(
    classifier: Classifier, photos: Photos, settings: Settings, progress: Progress = lambda n: None, ranks: Ranks = ALONE,
    protocol: Protocol = "centre",
) -> tuple[Scores, list[PhotoError]]:  # fmt: skip
    """(scores, skipped photos) of one protocol at the single scale; the split's targets are the model's own class numbers."""
    step = Step(protocol)
    entrants = [entrant("", classifier, [step], "single")]
    found = tally(entrants, photos, [torch.from_numpy(photos.targets())], settings, progress, ranks, remember=False)
    return found.scores[0, step], [e for _, e in found.skipped]
