"""LPIPS and DISTS: distances fitted to what people see, by published heads on the convolutions of net D.

The heads are small files that come in the Python packages lpips (lpips/weights/v0.1/vgg.pth) and torchmetrics
(functional/image/dists_models/weights.pt). They were fitted on torchvision's VGG-16: on another VGG the values differ.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep.errors import ModelError
from verydeep.files.disk import open_regular, saying
from verydeep.net.classifier import Classifier
from verydeep.perceptual.taps import Range, Taps, in_fp32, weighted_mean
from verydeep.weights import tensors_in

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
MOST_BYTES = 1 << 20  # of a file of heads
TINY_LENGTH, TINY_TERM, TINY_POOLED = 1e-10, 1e-6, 1e-12
WHERE = "that of the package lpips (lpips/weights/v0.1/vgg.pth) or torchmetrics (dists_models/weights.pt)"
PUBLISHED = {  # by SHA-256 of the file
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868":
        "LPIPS 0.1 for VGG (Zhang, Isola, Efros, Shechtman, Wang 2018), BSD-2-Clause",
    "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218": "DISTS (Ding, Ma, Wang, Simoncelli 2020), MIT",
}  # fmt: skip


class LPIPS(nn.Module):
    """LPIPS (Zhang et al. 2018): squared differences of maps of length 1 at each place, weighted, averaged over space.

    net: net D without batch norm, a Classifier or convolutions alone. heads: the file of lin0..4.model.1.weight.
    range, checkpoint: as in `Taps`. Pictures pass through the net's own normalisation, which its weights expect (of
    torchvision's it is the one that LPIPS has), and poolings that round down, as there. `about` says whose heads and
    whose VGG are used, and their licences. Raises ModelError for any other net or file.
    """

    weights: Tensor

    def __init__(self, net: Classifier, heads: str | Path, range: Range = "0-1", checkpoint: bool = False) -> None:
        super().__init__()
        self.about, self.widths = about(net, Path(heads)), widths(net)
        found = heads_in(Path(heads), {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate(self.widths)})
        self.register_buffer("weights", torch.cat([*found.values()], 1))
        self.taps = Taps(net, LAYERS, range, checkpoint, lambda x: F.max_pool2d(x, 2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """N distances, fp32, of float pictures N x 3 x H x W in the declared range, 16 pixels a side or more; of x or y
        one may stand for all. Gradients go into both. Raises ModelError."""
        weights = dict(zip(LAYERS, torch.split(self.weights, self.widths, 1), strict=True))

        def difference(name: str, x: Tensor, y: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                squares = (unit_length(in_fp32(x)) - unit_length(in_fp32(y))).square()
                return (squares * weights[name]).sum(1).mean((1, 2))

        return torch.stack([*self.taps.reduced([x, y], difference, weighted_mean).values()]).sum(0)


class DISTS(nn.Module):
    """DISTS (Ding et al. 2020): 1 less the weighted likeness of means (texture) and of deviations (structure) of all
    channels, the pixels' own too, with poolings that blur. Its heads are alpha and beta; all else as in `LPIPS`."""

    alpha: Tensor
    beta: Tensor

    def __init__(self, net: Classifier, heads: str | Path, range: Range = "0-1", checkpoint: bool = False) -> None:
        super().__init__()
        self.about = about(net, Path(heads))
        shape = (1, 3 + sum(widths(net)), 1, 1)
        for name, tensor in heads_in(Path(heads), {"alpha": shape, "beta": shape}).items():
            self.register_buffer(name, tensor)
        self.taps = Taps(net, LAYERS, range, checkpoint, blurred)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """As `LPIPS`."""
        found = self.taps.reduced([x, y], moments, joined_moments)
        pixels = moments("", *(self.taps.between_0_and_1(p.to(self.alpha.dtype)) for p in (x, y)))
        mean_x, mean_y, var_x, var_y, both = torch.cat([pixels, *found.values()], 2).unbind(1)
        texture = (2 * mean_x * mean_y + TINY_TERM) / (mean_x.square() + mean_y.square() + TINY_TERM)
        structure = (2 * both + TINY_TERM) / (var_x + var_y + TINY_TERM)
        alpha, beta = self.alpha.flatten(), self.beta.flatten()
        return 1 - (texture * alpha + structure * beta).sum(1) / (alpha.sum() + beta.sum())


def moments(name: str, x: Tensor, y: Tensor) -> Tensor:
    """N x 5 x C: the means of both, their variances, their covariance."""
    with torch.autocast(x.device.type, enabled=False):
        x, y = torch.broadcast_tensors(in_fp32(x), in_fp32(y))  # type: ignore[no-untyped-call]
        means = [m.mean((2, 3)) for m in (x, y)]
        x, y = (m - mean[:, :, None, None] for m, mean in zip((x, y), means, strict=True))
        return torch.stack([*means, *((a * b).mean((2, 3)) for a, b in ((x, x), (y, y), (x, y)))], 1)


def joined_moments(strips: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Of strips: the moments within, and those of their means."""
    means = weighted_mean([strip[:, :2] for strip in strips], shares)
    off = [(strip[:, :2] - means).unbind(1) for strip in strips]
    between = [torch.stack([a * a, b * b, a * b], 1) for a, b in off]
    within = weighted_mean([strip[:, 2:] + more for strip, more in zip(strips, between, strict=True)], shares)
    return torch.cat([means, within], 1)


def unit_length(maps: Tensor) -> Tensor:
    """Of length 1 at each place; where all is 0 it stays, with a gradient of 0."""
    lengths: Tensor = torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    return maps / (lengths + TINY_LENGTH)


def blurred(x: Tensor) -> Tensor:
    """The root of squares under a Hanning window of 3 x 3, at every second place."""
    with torch.autocast(x.device.type, enabled=False):
        row = in_fp32(x).new_tensor([0.25, 0.5, 0.25])
        window = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
        pooled = F.conv2d(in_fp32(x).square(), window, stride=2, padding=1, groups=x.shape[1])
        return (pooled + TINY_POOLED).sqrt()


def widths(net: Classifier) -> list[int]:
    """Of the layers that are compared. Raises ModelError for another net."""
    if net.net.name != "D" or net.net.batch_norm:
        norm = " with batch norm" * net.net.batch_norm
        raise ModelError(
            f"the net is {net.net.name}{norm}; expected net D without batch norm, for which heads are made"
        )
    found = {layer.name: layer.width * net.net.base_width // 64 for layer in chain(*net.net.blocks)}
    return [found[layer.replace("relu", "conv")] for layer in LAYERS]


def heads_in(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """All these tensors and no others, finite and not below 0, as fitted ones are. Raises ModelError."""
    found = tensors_in(path, "a file of heads")
    if wrong := sorted(found.keys() ^ shapes.keys()):
        lacks = "lacks" if wrong[0] in shapes else "holds beside them"
        raise ModelError(f"{path} {lacks} {wrong[0][:60]}; expected {', '.join(shapes)}")
    for name, tensor in found.items():
        if tensor.shape != shapes[name]:
            raise ModelError(
                f"{path}: {name} is {tuple(tensor.shape)}; expected {shapes[name]}, as the net has channels"
            )
        if not torch.isfinite(tensor).all() or float(tensor.min()) < 0 or float(tensor.max()) == 0:
            raise ModelError(f"{path}: {name} is below 0, all 0 or not finite, so it was not fitted; expected {WHERE}")
    return found


def about(net: Classifier, heads: Path) -> dict[str, str]:
    """Whose heads and whose VGG give the values. Raises ModelError."""
    with saying(f"{heads} cannot be read", f"expected {WHERE}", ModelError), open_regular(heads) as f:
        digest = sha256(f.read(MOST_BYTES)).hexdigest()
    contract = net.contract
    return {
        "heads": PUBLISHED.get(digest, "not published heads"), "heads_file": str(heads), "heads_sha256": digest,
        "vgg": contract.origin or "of unknown origin", "vgg_licence": contract.licence or "unknown",
        "note": "the heads were fitted on torchvision's VGG-16; on another VGG the values differ",
    }  # fmt: skip
