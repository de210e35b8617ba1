"""The paper's descriptor of a photo: what the last hidden layer says of the whole of it, averaged (appendix B).

Any other layers answer in the same pass. What is kept of a map is made where the net is, before the next is computed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from verydeep.evaluate.passes import Settings, Shown, passes, scorer_of
from verydeep.evaluate.views import Scales, View, scales_for
from verydeep.net.classifier import Classifier
from verydeep.paper import STRIDE

Rows = npt.NDArray[np.float32]
Several = Literal["average", "stack"]  # what becomes of several Q
DESCRIPTOR = "descriptor"  # as a tap: the last hidden layer of each net
SCALES_OF_CONVOLUTIONS = (256, 384, 512)  # which know no S
# Of maps n x C x h x w values n x D, in float32 or better; FC layers at crop size have no space.
POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32)) if x.ndim > 2 else x,
    "max": lambda x: x.amax((2, 3)) if x.ndim > 2 else x,
    "none": lambda x: x.flatten(1),
}


def last_hidden(net: Classifier) -> str:
    """The layer that describes: the last before the classes, rectified; of convolutions alone their last map."""
    return "relu7" if net.net.fc6 else "pool5"


def described(
    nets: Sequence[Classifier], scales: Sequence[tuple[int, ...]], open_photo: Callable[[int], Image.Image],
    ids: Iterable[int], settings: Settings, taps: Sequence[str] = (DESCRIPTOR,), pool: str = "mean", **how: Any,
) -> Iterator[tuple[list[int], list[Rows]]]:  # fmt: skip
    """(ids, what each net says of these photos, N x Q x D) chunk by chunk; how: as `passes` is told.

    Each photo is rescaled to each Q of the net and shown whole, with its mirror image unless settings say otherwise;
    the answer is the mean over both and over space. taps: layers instead of the last hidden one, side by side in D;
    pool: `max` over space, or `none`, for which the centre crop is shown, so that D is the same for all photos.
    """
    views = [[View("centre" if pool == "none" else "dense", q) for q in qs] for qs in scales]

    shown = [
        Shown(
            scorer_of(net, settings, layers_in(net, taps), POOLS[pool]), centre_side(net, min(own).scale), own,
            lambda maps, seen: maps, i,
        )
        for i, (net, own) in enumerate(zip(nets, views, strict=True))
    ]  # fmt: skip
    for chunk, by_net in passes(shown, open_photo, ids, settings, **how):
        found = zip(by_net, views, strict=True)
        yield chunk, [np.stack([by_view[view].numpy() for view in own], 1) for by_view, own in found]


def layers_in(net: Classifier, taps: Sequence[str]) -> list[str]:
    return [last_hidden(net) if tap == DESCRIPTOR else tap for tap in taps]


def descriptors(said: Sequence[Rows], several: Several = "average", normalise: bool = True) -> Rows:
    """N x D of length 1: each net's Q averaged, or one after the other; then the nets one after the other.

    normalise=False: of whatever length they are.
    """
    nets = [rows.mean(1) if several == "average" else rows.reshape(len(rows), -1) for rows in said]
    found = np.concatenate([of_length_1(rows) for rows in nets] if normalise else nets, 1)
    return of_length_1(found) if normalise else found


def of_length_1(rows: Rows) -> Rows:
    """Rows of Euclidean length 1; one of zeros stays."""
    with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths != 0))


def own_scales(net: Classifier, scales: Scales) -> tuple[int, ...]:
    """The Q at which a net describes, rising; convolutions alone know no S. Raises ConfigError below the crop."""
    if net.net.fc6 or not isinstance(scales, str):
        return scales_for(net.contract, scales)
    return SCALES_OF_CONVOLUTIONS[: 1 if scales == "single" else None]


def centre_side(net: Classifier, smallest: int) -> int:
    """The side of the centre crop; of convolutions alone 7/8 of the smallest Q, as in the paper."""
    return net.contract.crop if net.net.fc6 else max(STRIDE, smallest * 7 // 8)
