"""How a photo is shown to a net in the test: a crop in the middle, or the whole photo densely (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep.data import photo
from verydeep.data.photo import Pixels
from verydeep.data.reading import in_order
from verydeep.errors import LongPhotoError, PhotoError
from verydeep.net.classifier import Classifier

Protocol = Literal["centre", "dense"]
LongPhotos = Literal["stop", "middle"]
PROTOCOLS: tuple[Protocol, ...] = ("centre", "dense")
Scorer = Callable[[Tensor], Tensor]  # uint8 N x 3 x H x W -> float32 N x K x h x w
WAITING_PIXELS = 64 << 20  # photos of odd sizes wait for company at most this long
FORWARD_PIXELS = 4 << 20  # in one forward pass: block 1 of net D takes 256 bytes a pixel and map


def shown(image: Image.Image, protocol: Protocol, scale: int, crop: int, long_photos: LongPhotos = "stop") -> Pixels:
    """What the net sees of a photo at smallest side Q: uint8, crop x crop x 3 or all of it.

    Of a photo beyond 8:1 dense evaluation takes the middle 8:1 part with `middle`, else raises LongPhotoError.
    """
    if protocol == "centre":
        return photo.centre_crop(image, scale, crop)
    if max(image.size) > photo.MAX_ASPECT * min(image.size):
        if long_photos == "middle":
            return photo.middle(image, scale)
        raise LongPhotoError(
            "",
            f"is {image.width} x {image.height}, longer than {photo.MAX_ASPECT}:1, too long for dense evaluation; "
            "test its middle part with --long_photos middle, or use --protocol centre",
        )
    return photo.rescale(image, scale)


def mirrored(protocol: Protocol) -> bool:
    """Whether the mirror image is averaged in by default: in the paper's dense test yes, in everyone's centre crop no."""
    return protocol == "dense"


def posteriors(scorer: Scorer, photos: Tensor, mirror: bool) -> Tensor:
    """Float32 N x K: class scores averaged over space, then soft-max, then the average with the mirror image's."""
    found = scorer(photos).mean((2, 3)).softmax(1)
    return (found + scorer(photos.flip(3)).mean((2, 3)).softmax(1)) / 2 if mirror else found


def torch_scorer(classifier: Classifier, device: torch.device, bf16: bool = False) -> Scorer:
    """PyTorch as the engine: moves the classifier to the device in eval mode."""
    classifier = classifier.to(device).eval()

    @torch.no_grad()
    def score(photos: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return classifier.score_map(photos.to(device, non_blocking=True)).cpu()

    return score


def answers(
    scorer: Scorer, open_photo: Callable[[int], Image.Image], ids: range | list[int], *, protocol: Protocol, scale: int, crop: int,
    mirror: bool, batch: int = 32, workers: int = 0, long_photos: LongPhotos = "stop",
    on_bad: Callable[[int, PhotoError], None] | None = None,
) -> Iterator[tuple[list[int], Tensor]]:  # fmt: skip
    """(ids, posteriors N x K) of photos, those of equal size together, not in order; memory stays bounded.

    A bad photo goes to `on_bad`; without it the PhotoError is raised.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}

    def flush(size: tuple[int, ...]) -> tuple[list[int], Tensor]:
        members = waiting.pop(size)
        stack = torch.from_numpy(np.stack([pixels for _, pixels in members])).permute(0, 3, 1, 2)
        return [id for id, _ in members], posteriors(scorer, stack, mirror)

    for id, pixels in in_order(lambda id: shown(open_photo(id), protocol, scale, crop, long_photos), ids, workers, on_bad, ahead=8):
        waiting.setdefault(pixels.shape, []).append((id, pixels))
        if len(waiting[pixels.shape]) >= min(batch, max(1, FORWARD_PIXELS // (pixels.shape[0] * pixels.shape[1]))):
            yield flush(pixels.shape)
        elif sum(len(m) * s[0] * s[1] for s, m in waiting.items()) > WAITING_PIXELS:
            yield flush(max(waiting, key=lambda s: len(waiting[s]) * s[0] * s[1]))
    while waiting:
        yield flush(next(iter(waiting)))
