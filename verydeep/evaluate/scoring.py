"""Photos to posteriors: an engine's class maps, averaged over space, mirror images and crops."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from verydeep.data.photo import Pixels
from verydeep.evaluate.views import Frames, View, inputs
from verydeep.net.classifier import Classifier, build

Scorer = Callable[[Tensor], Tensor]  # uint8 N x 3 x H x W -> float32 N x K x h x w, on whatever device
Precision = Literal["fp32", "bf16", "fp64"]
Average = Literal["scores", "posteriors"]
FORWARD_PIXELS = 4 << 20  # in one forward pass: block 1 of net D takes 256 bytes a pixel and map


def torch_scorer(
    classifier: Classifier,
    device: torch.device,
    precision: Precision = "fp32",
    pooling: Literal["up", "down"] | None = None,
) -> Scorer:
    """PyTorch as the engine: moves the classifier to the device in eval mode. fp64 and another pooling leave it as it is."""
    if pooling is not None and pooling != classifier.contract.pooling:
        classifier = pooled(classifier, pooling)
    if precision == "fp64":
        classifier = copy.deepcopy(classifier).double()
    classifier = classifier.to(device).eval()

    @torch.no_grad()
    def score(photos: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return classifier.score_map(photos.to(device, non_blocking=True))

    return score


def pooled(classifier: Classifier, pooling: Literal["up", "down"]) -> Classifier:
    """The same weights, not copied, in a net whose pooling rounds odd sides otherwise."""
    other = build(replace(classifier.contract, pooling=pooling), "meta")
    other.load_state_dict(classifier.state_dict(), assign=True)
    return other


def posteriors(scorer: Scorer, photos: Tensor, mirror: bool, average: Average = "scores") -> Tensor:
    """Posteriors N x K on the CPU: class scores averaged over space, then soft-max, then the average with the mirror image's.

    average: with `posteriors` soft-max comes first, at every place of the map.
    """
    if not mirror:
        return over_space(scorer(photos), average).cpu()
    together = (
        2 * len(photos) * photos.shape[2] * photos.shape[3] <= FORWARD_PIXELS
    )  # the weights are then prepared once
    ways = (
        over_space(scorer(torch.cat([photos, photos.flip(3)])), average).chunk(2)
        if together
        else [over_space(scorer(way), average) for way in (photos, photos.flip(3))]
    )
    return ((ways[0] + ways[1]) / 2).cpu()


def over_space(map: Tensor, average: Average) -> Tensor:
    return map.mean((2, 3)).softmax(1) if average == "scores" else map.softmax(1).mean((2, 3))


def component(
    scorer: Scorer, photos: Sequence[Frames], view: View, crop: int, mirror: bool, average: Average, batch: int,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Tensor, int]:  # fmt: skip
    """(posteriors N x K, pixels through the net) of photos in one view, averaged over mirror images and crops.

    What is of one size goes through together, at most `batch` inputs and FORWARD_PIXELS at a time; of 25 crops each is one
    input, and its mirror image goes with it as far as FORWARD_PIXELS allow. `progress` is told the share that is done.
    """
    sizes: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}
    each = 1
    for n, made in enumerate(photos):
        shown = inputs(made, view, crop)
        each = len(shown)
        sizes.setdefault(shown[0].shape, []).extend((n, pixels) for pixels in shown)
    total, through = None, 0
    for (height, width, _), members in sizes.items():
        size = min(batch, max(1, FORWARD_PIXELS // (height * width)))
        for i in range(0, len(members), size):
            part = members[i : i + size]
            stack = torch.from_numpy(np.stack([pixels for _, pixels in part])).permute(0, 3, 1, 2)
            found = posteriors(scorer, stack, mirror, average)
            if total is None:
                total = found.new_zeros(len(photos), found.shape[1])
            total.index_add_(0, torch.tensor([n for n, _ in part]), found)
            progress(len(part) / (each * len(photos)))
            through += len(part) * height * width * (1 + mirror)
    assert total is not None, "no photos"
    return total / each, through
