"""Two nets side by side: what they are, and how far their answers lie apart on one photo."""

import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.net.classifier import Classifier
from verydeep.weights.read import Features

Net = Classifier | Features


def contents(net: Net) -> tuple[Contract | Features, dict[str, Tensor]]:
    """What a net eats and is, and its float32 tensors by our names."""
    about, tensors = (net, net.tensors) if isinstance(net, Features) else (net.contract, net.net.state_dict())
    return about, {n: t.detach().cpu().float() for n, t in tensors.items() if not n.endswith("num_batches_tracked")}


@torch.no_grad()
def nets_apart(a: Net, b: Net) -> tuple[float, float, float]:
    """Largest differences on a random photo: conv1_1 without and with its border, and the outputs."""
    side, last = (a.net.crop, "fc8") if isinstance(a, Classifier) else (64, "pool5")
    photo = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (first, end), (its_first, its_end) = (taps(net, photo, ["conv1_1", last]) for net in (a, b))
    inside = (..., slice(2, -2), slice(2, -2))  # a 5x5 kernel reaches as far
    return furthest(first[inside], its_first[inside]), furthest(first, its_first), furthest(end, its_end)


def taps(net: Net, photo: Tensor, names: list[str]) -> list[Tensor]:
    if isinstance(net, Features):
        found = net.taps(photo, names)
    else:
        was_training = net.training
        net.eval()
        found = net.net.taps(net.normalise(photo.to(net.mean.device)), names)
        net.train(was_training)
    return [found[name].double().cpu() for name in names]


def furthest(a: Tensor, b: Tensor) -> float:
    """Relative to the largest value; NaN where either is."""
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))
