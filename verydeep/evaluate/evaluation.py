"""One model, one split, one protocol: a result that knows how it was made (decision 5)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

import verydeep
from verydeep.data.reading import workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.errors import ConfigError, DataError, LongPhotoError, PhotoError
from verydeep.evaluate.protocol import LongPhotos, Protocol, answers, mirrored, torch_scorer
from verydeep.evaluate.scores import Scores
from verydeep.net.classifier import Classifier
from verydeep.ranks import ALONE, Ranks


class Settings(NamedTuple):
    """How to test. scale: Q, by default the model's own; mirror: by default as the protocol does in the paper."""

    protocol: Protocol = "centre"
    scale: int | None = None
    mirror: bool | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"
    batch: int = 32
    workers: int = -1
    bad_photos: Literal["stop", "skip"] = "stop"
    long_photos: LongPhotos = "stop"

    def scale_for(self, classifier: Classifier) -> int:
        """Q."""
        return classifier.contract.test_scale if self.scale is None else self.scale

    @property
    def mirrors(self) -> bool:
        return mirrored(self.protocol) if self.mirror is None else self.mirror


def count(
    classifier: Classifier, photos: Photos, settings: Settings, progress: Callable[[int], None] = lambda n: None, ranks: Ranks = ALONE
) -> tuple[Scores, list[PhotoError]]:
    """(scores, skipped photos) of a split whose targets are the model's own class numbers.

    Each rank tests whole batches of its own; counts are integers and nothing is padded, so the sum is that of one rank.
    """
    contract, targets = classifier.contract, torch.from_numpy(photos.targets())
    scale = settings.scale_for(classifier)
    if scale < contract.crop:
        raise ConfigError(f"scales: Q = {scale} is smaller than the crop of {contract.crop}; give {contract.crop} or more")
    scores, skipped = Scores(len(contract.classes)), list[PhotoError]()

    def on_bad(id: int, e: PhotoError) -> None:
        if isinstance(e, LongPhotoError):
            raise LongPhotoError(photos.keys[id], e.reason)
        if settings.bad_photos == "stop":
            raise PhotoError(photos.keys[id], f"{e.reason}; repair or remove it, or add --bad_photos skip")
        skipped.append(PhotoError(photos.keys[id], e.reason))

    order, step = photos.in_turn(), settings.batch
    own = np.concatenate([order[:0], *(order[i : i + step] for i in range(ranks.rank * step, len(order), ranks.size * step))])
    photos.expect(own)
    found = answers(
        torch_scorer(classifier, torch.device(settings.device), settings.precision == "bf16"), photos.open, own.tolist(),
        protocol=settings.protocol, scale=scale, crop=contract.crop, batch=settings.batch, on_bad=on_bad,
        mirror=settings.mirrors, long_photos=settings.long_photos,
        workers=workers_for(settings.workers, photos.in_memory),
    )  # fmt: skip
    for ids, posteriors in found:
        scores.add(ids, posteriors, targets[ids])
        progress(len(ids))
    return scores.over(ranks), [PhotoError(*e) for part in ranks.gather([(e.photo, e.reason) for e in skipped]) for e in part]


def evaluate(
    classifier: Classifier, name: str, data: DataSet, split: str, settings: Settings, progress: Callable[[int], None] = lambda n: None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:  # fmt: skip
    """The record of a test, as `evaluate --json` prints it: error rates in percent beside their counts."""
    photos = renumbered(data, split, classifier)
    began = time.perf_counter()
    scores, skipped = count(classifier, photos, settings, progress, ranks)
    if not scores.photos:
        raise DataError(f"{data.name}: none of the {len(photos)} photos of {split} could be read")
    contract = classifier.contract
    return {
        "model": name, "data": data.name, "split": split, "protocol": settings.protocol,
        "scales": [settings.scale_for(classifier)], **scores.as_dict(),
        "mirror": settings.mirrors, "long_photos": settings.long_photos,
        "crop": contract.crop, "pooling": contract.pooling, "precision": settings.precision, "engine": "torch", "device": settings.device,
        "net": contract.net, "sha256": contract.sha256, "version": verydeep.__version__,
        "seconds": round(time.perf_counter() - began, 2),
        "skipped": [{"photo": e.photo, "reason": e.reason} for e in skipped],
        "classes": list(contract.classes), "recall": scores.recall(), "confusion": scores.confusion.tolist(),
        "mistakes": [
            {"id": -id, "photo": photos.keys[-id], "truth": contract.classes[t], "answer": contract.classes[a], "probability": round(p, 4)}
            for p, id, t, a in sorted(scores.mistakes, reverse=True)
        ],
    }  # fmt: skip


def renumbered(data: DataSet, split: str, classifier: Classifier) -> Photos:
    """The split with labels as the model numbers its classes. Raises DataError if the model lacks a class."""
    number = {c: i for i, c in enumerate(classifier.contract.classes)}
    photos = data.split(split)
    if strange := [c for c in data.classes if c not in number]:
        raise DataError(
            f"{data.name} has the class {strange[0]!r}, which the model does not know; it knows {', '.join(list(number)[:12])}"
            f"{', ...' if len(number) > 12 else ''}"
        )
    if data.classes == classifier.contract.classes:
        return photos
    return replace(photos, labels=np.array([number[c] for c in data.classes])[photos.targets()], boxes={})


def default_split(data: DataSet) -> str:
    """test, else val, else whatever there is."""
    return next((s for s in ("test", "val") if s in data.splits), next(iter(data.splits)))
