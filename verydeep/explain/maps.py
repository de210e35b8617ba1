"""Where in a photo the answer of a net comes from, by four methods.

All look at the whole photo at smallest side Q = S, of one longer than 8:1 at its middle part, without its mirror image.
The score of a class is that before the soft-max, the mean of its class map (section 3.2).
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from verydeep.data import photo
from verydeep.evaluate.frames import spread, windows
from verydeep.evaluate.views import View
from verydeep.net.classifier import Classifier
from verydeep.net.pixels import FORWARD_PIXELS
from verydeep.net.sizes import sizes

Method = Literal["saliency", "smooth", "map", "occlusion"]
METHODS: tuple[Method, ...] = ("saliency", "smooth", "map", "occlusion")
Map = npt.NDArray[np.float32]
Told = Callable[[str], None]
NOISE = 0.15  # of the range of the photo's values
FINER, MOST_PIXELS = 3, 1 << 20  # of a class map: so many times Q, but no larger photo
BACKWARD_PIXELS = FORWARD_PIXELS >> 4  # of noisy copies that go through together
PATCHES, PATCH = 300, 5  # at most about so many; the side of one is this part of the crop
AT_ONCE = 32  # patches


class Explained(NamedTuple):
    """Maps of one class, float32 h x w, over the photo at smallest side Q.

    saliency and smooth: score a grey level of 0-255, from 0; map: score; occlusion: posterior that is lost, -1 to 1.
    """

    label: int
    probability: float
    maps: dict[Method, Map]


def explain_photo(
    net: Classifier, image: Image.Image, labels: Sequence[int] = (), methods: Sequence[Method] = METHODS,
    copies: int = 25, seed: int = 0, told: Told = lambda words: None,
) -> list[Explained]:  # fmt: skip
    """The maps of an upright RGB photo for each class, or for the most probable one; `net` is in eval mode.

    told: hears of each step, how much of a method is done.
    """
    whole = photo.middle(image, net.contract.test_scale)
    pixels = torch.from_numpy(whole.copy()).permute(2, 0, 1)[None].to(net.mean.device)
    with torch.no_grad():
        posteriors = net(pixels).softmax(1)[0]
    found = []
    for label in labels or [int(posteriors.argmax())]:
        maps = dict[Method, Map]()
        for method in methods:
            told(method)
            maps[method] = one_map(net, image, pixels, label, method, copies, seed, told)
        found.append(Explained(label, float(posteriors[label]), maps))
    return found


def saliency_cost(net: Classifier) -> int:
    """Multiply-adds of one saliency of a photo of 4:3, about: of its answer, and of the way there and back."""
    larger = 4 / 3 * (net.contract.test_scale / net.contract.crop) ** 2
    return round(3 * larger * sum(size.multiply_adds for size in sizes(net.net)))


def one_map(
    net: Classifier, image: Image.Image, pixels: Tensor, label: int, method: Method, copies: int, seed: int, told: Told
) -> Map:
    if method == "map":
        return map_over(net, image, label, (pixels.shape[2], pixels.shape[3])).astype(np.float32)
    if method == "occlusion":
        return occlusion(net, pixels, label, told).numpy().astype(np.float32)
    if method == "smooth":
        return smoothed(net, pixels, label, copies, seed, told).numpy().astype(np.float32)
    return saliency(net, pixels, label).numpy().astype(np.float32)


def gradient(net: Classifier, pixels: Tensor, label: int) -> Tensor:
    """Of the score of a class, by pixels N x 3 x h x w, float of 0-255, each photo by itself."""
    with torch.enable_grad():
        pixels = pixels.detach().requires_grad_()
        scores = net.net.dense((pixels - net.mean) / net.std).mean((2, 3))
        return torch.autograd.grad(scores[:, label].sum(), pixels)[0]


def saliency(net: Classifier, pixels: Tensor, label: int) -> Tensor:
    """The largest absolute gradient over colours (Simonyan, Vedaldi and Zisserman 2013, section 3)."""
    return gradient(net, pixels.to(net.mean.dtype), label)[0].abs().amax(0).cpu()


def smoothed(net: Classifier, pixels: Tensor, label: int, copies: int, seed: int, told: Told) -> Tensor:
    """The same of the mean gradient of noisy copies (SmoothGrad: Smilkov et al. 2017)."""
    plain, drawn = pixels.to(net.mean.dtype), torch.Generator().manual_seed(seed)
    deviation, total = NOISE * (plain.max() - plain.min()), torch.zeros_like(plain[0])
    at_once = max(1, BACKWARD_PIXELS // plain[0, 0].numel())
    for first in range(0, copies, at_once):
        many = min(at_once, copies - first)
        noise = torch.stack([torch.randn(plain.shape[1:], generator=drawn) for _ in range(many)]).to(plain)
        total += gradient(net, plain + deviation * noise, label).sum(0)
        told(f"smooth {first + many}/{copies}")
    return (total / copies).abs().amax(0).cpu()


def map_over(net: Classifier, image: Image.Image, label: int, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The dense class map of the photo at several times Q, whose windows see parts, spread over rows x columns."""
    own, short, long = net.contract.test_scale, min(image.size), max(image.size)
    part = min(long / short, photo.MAX_ASPECT)
    view = View("dense", max(own, min(FINER * own, math.isqrt(int(MOST_PIXELS / part)))))
    pixels = torch.from_numpy(photo.middle(image, view.scale).copy()).permute(2, 0, 1)[None].to(net.mean.device)
    with torch.no_grad():
        scores = net.dense(pixels)[0, label].double().cpu().numpy()
    cells = windows(view, net.contract.crop, (image.height, image.width), 0, (scores.shape[0], scores.shape[1]))
    sides = [min(side, photo.MAX_ASPECT * short) for side in image.size]
    x0, y0 = ((side - own) / 2 for side, own in zip(image.size, sides, strict=True))
    return spread(cells.reshape(-1, 4), scores.ravel(), (x0, y0, x0 + sides[0], y0 + sides[1]), shape)


@torch.no_grad()
def occlusion(net: Classifier, pixels: Tensor, label: int, told: Told) -> Tensor:
    """The posterior that is lost where a patch of the net's mean colour hides the photo, the mean over the patches that
    hide a place (Zeiler and Fergus 2014, section 4.2)."""
    height, width = pixels.shape[2:]
    step = max(1, net.contract.crop // PATCH // 2, math.ceil(math.sqrt(height * width / PATCHES)))
    side = max(net.contract.crop // PATCH, step)
    rows, columns = (range(0, step * math.ceil(max(n - side, 0) / step) + 1, step) for n in (height, width))
    places = [(slice(y, y + side), slice(x, x + side)) for y in rows for x in columns]
    grey, before = net.mean[0].round().clamp(0, 255).to(torch.uint8), net(pixels).softmax(1)[0, label]
    lost, hidden = torch.zeros(2, height, width, dtype=torch.float64)
    at_once = max(1, min(AT_ONCE, FORWARD_PIXELS // 4 // (height * width)))
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        copies = pixels.repeat(len(some), 1, 1, 1)
        for copy, (y, x) in zip(copies, some, strict=True):
            copy[:, y, x] = grey
        for drop, (y, x) in zip((before - net(copies).softmax(1)[:, label]).tolist(), some, strict=True):
            lost[y, x] += drop
            hidden[y, x] += 1
        told(f"occlusion {first + len(some)}/{len(places)}")
    found: Tensor = lost / hidden
    return found
