"""Classification as the loop's task: the loss, what an error is, and the validation (section 3.1)."""

import math
from collections.abc import Callable
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from verydeep.config import Config
from verydeep.data.batches import class_of
from verydeep.data.record import Photos
from verydeep.errors import DataError
from verydeep.evaluate.classify import count
from verydeep.evaluate.judge import judged
from verydeep.evaluate.passes import Settings
from verydeep.net.classifier import Classifier
from verydeep.ranks import Ranks
from verydeep.train.loop import Facts, Goal, Validate
from verydeep.train.skipped import Skipped

WORDS = "top-1 error {train_error:.2f} % training, {val_error:.2f} % validation"


def cross_entropy(
    outputs: Tensor, targets: Tensor, weight: Tensor | None = None, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(loss, top-1 error in percent) of logits N x K, summed over photos: multinomial logistic regression.

    `weight`: of each class, K; `smoothing`: share of the target that all classes have alike.
    """
    loss = F.cross_entropy(outputs.float(), targets, weight, reduction="sum", label_smoothing=smoothing)
    return loss, 100 * (outputs.argmax(1) != targets).sum()


def class_weights(targets: npt.NDArray[np.int64]) -> Tensor:
    """A weight for each class, float32 K, with which all count the same in the loss, and the mean photo counts 1."""
    counts = np.bincount(targets)
    return torch.from_numpy(len(targets) / (len(counts) * counts)).float()


def classification(
    classifier: Classifier, photos: Photos, val: Photos, name: str, config: Config, settings: Settings,
    skipped: Skipped, ranks: Ranks,
) -> Goal:  # fmt: skip
    """Classes as the task. One who only guesses has a loss of ln(classes)."""
    weight = class_weights(photos.targets()).to(settings.device) if config.balance == "loss" else None
    objective = partial(cross_entropy, weight=weight, smoothing=config.label_smoothing)
    validate = validation(classifier, val, name, settings, skipped, ranks)
    return Goal(class_of(photos), objective, validate, WORDS, math.log(classifier.net.classes))


def validation(
    classifier: Classifier, photos: Photos, name: str, settings: Settings, skipped: Skipped, ranks: Ranks
) -> Validate:
    """(top-1 error in percent, the top-5 error) by the centre crop, whenever it is called."""

    def validate(progress: Callable[[int], None]) -> tuple[float, Facts]:
        scores, bad = count(classifier, photos, settings, progress, ranks)
        for key, reason in [*chain(*ranks.gather(skipped.unlisted)), *((e.photo, e.reason) for e in bad)]:
            skipped.list(key, reason)
        skipped.unlisted.clear()
        if not scores.photos:
            raise DataError(f"{name}: none of its {len(photos)} validation photos could be read")
        facts: Facts = {"val_top5_error": scores.as_dict()["top5_error"]}
        if doubt := judged(scores.cells(), classifier.contract.classes).doubt:
            facts["doubt"] = doubt
        return 100 * scores.top1_errors / scores.photos, facts

    return validate
