"""The paper's descriptor of a photo: what the last hidden layer says of the whole of it, averaged (appendix B)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from verydeep.evaluate.passes import Seen, Settings, Shown, passes, torch_scorer
from verydeep.evaluate.views import View
from verydeep.net.classifier import Classifier

Rows = npt.NDArray[np.float32]
Several = Literal["average", "stack"]  # what becomes of several Q


def last_hidden(net: Classifier) -> str:
    """The layer that describes: the last before the classes, rectified; of convolutions alone their last map."""
    return "relu7" if net.net.fc6 else "pool5"


def described(
    nets: Sequence[Classifier], scales: Sequence[tuple[int, ...]], open_photo: Callable[[int], Image.Image],
    ids: Iterable[int], settings: Settings, **how: Any,
) -> Iterator[tuple[list[int], list[Rows]]]:  # fmt: skip
    """(ids, what each net says of these photos, N x Q x D) chunk by chunk; how: as `passes` is told.

    Each photo is rescaled to each Q of the net and shown whole, with its mirror image unless settings say otherwise;
    the answer is the mean over both and over space.
    """
    views = [[View("dense", q) for q in qs] for qs in scales]
    shown = [
        Shown(torch_scorer(net, settings, last_hidden(net)), net.contract.crop, own, over_space, i)
        for i, (net, own) in enumerate(zip(nets, views, strict=True))
    ]
    for chunk, by_net in passes(shown, open_photo, ids, settings, **how):
        found = zip(by_net, views, strict=True)
        yield chunk, [np.stack([by_view[view].numpy() for view in own], 1) for by_view, own in found]


def over_space(maps: Tensor, seen: Seen) -> Tensor:
    return maps.flatten(2).mean(2) if maps.ndim > 2 else maps  # FC layers at crop size have no space


def descriptors(said: Sequence[Rows], several: Several = "average") -> Rows:
    """N x D of length 1: each net's Q averaged, or one after the other; then the nets one after the other."""
    nets = [rows.mean(1) if several == "average" else rows.reshape(len(rows), -1) for rows in said]
    return of_length_1(np.concatenate([of_length_1(rows) for rows in nets], 1))


def of_length_1(rows: Rows) -> Rows:
    """Rows of Euclidean length 1; one of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))
