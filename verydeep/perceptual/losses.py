"""Content and style of pictures (Gatys, Ecker and Bethge 2015)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from verydeep.net.classifier import Classifier
from verydeep.perceptual.strips import Reduce
from verydeep.perceptual.taps import Join, Range, Taps, in_fp32, one_below_another, same_size, weighted_mean

FIRST = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class Content(nn.Module):
    """Mean squared difference of maps, by default of relu4_2, as there. The arguments are those of `Taps`."""

    reduce: tuple[Reduce, Join] = (lambda name, maps: in_fp32(maps), one_below_another)

    def __init__(
        self, net: Classifier, taps: str | Iterable[str] = "relu4_2", range: Range = "0-1", checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.taps = Taps(net, taps, range, checkpoint)

    def of(self, pictures: Tensor) -> dict[str, Tensor]:
        """A target by layer: maps N x C x h x w of content, Gram matrices N x C x C of style."""
        return self.taps.reduced([pictures], *self.reduce)

    def forward(self, pictures: Tensor, target: Tensor | Mapping[str, Tensor]) -> Tensor:
        """N distances, fp32, of float pictures N x 3 x H x W in the declared range to as many, or to one, or to what
        `of` made of them: the mean over layers. Raises ModelError."""
        known = self.of(target) if isinstance(target, Tensor) else target
        found = self.of(pictures)
        for name in found:
            same_size(found[name], known[name])
        return torch.stack([(f - known[name]).square().flatten(1).mean(1) for name, f in found.items()]).mean(0)


def gram(name: str, maps: Tensor) -> Tensor:
    with torch.autocast(maps.device.type, enabled=False):
        rows = in_fp32(maps).flatten(2)
        return rows @ rows.transpose(1, 2) / rows.shape[2]


class Style(Content):
    """Mean squared difference of Gram matrices, products of channels averaged over places, in fp32 or fp64.

    By default of the first layer of each block; pictures may differ in size. A quarter of it, times the number of
    layers, is the loss of Gatys et al. with weights of 1. The arguments are those of `Taps`.
    """

    reduce = (gram, weighted_mean)

    def __init__(
        self, net: Classifier, taps: str | Iterable[str] = FIRST, range: Range = "0-1", checkpoint: bool = False
    ) -> None:
        super().__init__(net, taps, range, checkpoint)
