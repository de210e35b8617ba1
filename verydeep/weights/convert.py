"""Writes a net in another toolkit's layout, and checks on the spot that what was written computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights import caffe, keras, timm, torchvision
from verydeep.weights.eats import Colours, Eats, eats_of, turned
from verydeep.weights.model import load
from verydeep.weights.read import Features, open_foreign
from verydeep.weights.recognise import layout_of

Target = Literal["caffe", "caffe-v1", "keras", "torchvision", "timm"]
USUAL: dict[str, str] = {"caffe": "bgr-255", "caffe-v1": "bgr-255", "keras": "bgr-255", "torchvision": "rgb-01-std", "timm": "rgb-01-std"}
ENDINGS = {"caffe": (".caffemodel",), "caffe-v1": (".caffemodel",), "keras": (".h5",), "torchvision": (".pth", ".pt", ".safetensors")}
CLOSE = 1e-4  # of the largest value: float32, and a convolution that adds in another order
SAME = 1e-6  # two means that print alike


class Report(NamedTuple):
    """What was written, and how far it was found from its source on a random photo, relative to the largest value."""

    path: Path
    to: str
    eats: Eats  # what the written net eats
    folded: tuple[str, ...]  # of std and mean, what went into conv1_1
    inside: float  # conv1_1 away from the border
    border: float  # conv1_1 with the border
    outputs: float  # the logits; of Features the last convolution

    def __str__(self) -> str:
        what = f"{' and '.join(self.folded)} folded into conv1_1" if self.folded else "no weight changed"
        return (
            f"{self.path}: {self.to}, {what}; eats {self.eats.order}, mean {short(self.eats.mean)}, std {short(self.eats.std)} of 0-255; "
            f"largest difference {self.inside:.1e} in conv1_1, {self.border:.1e} at its border, {self.outputs:.1e} at the end"
        )


def convert(
    source: Path | str | Classifier | Features, to: Target, out: Path | str, *, eats: str | Eats | None = None,
    keep: bool = False, fold_mean: bool = False,
) -> Report:  # fmt: skip
    """Writes a net for Caffe (V2 or V1), Keras, torchvision or timm, to eat what nets of that layout usually eat.

    source: a model or its path; `eats` says what a foreign file eats, as in `read_foreign`. The source's std is folded into conv1_1
    exactly: each weight is its fp64 product rounded once. Another mean can be folded too, with fold_mean, but the border is padded
    with zeros, which then mean another colour; the report has the difference. With keep nothing is folded, no bit of a weight
    changes, and the user of the file must feed it the source's mean and std. Raises ModelError, ConfigError and RunError.
    """
    path = Path(out)
    check_target(to, path)
    net = source if isinstance(source, (Classifier, Features)) else opened(source, eats)
    if (name := net.net.name if isinstance(net, Classifier) else net.net) == "A-LRN":
        raise ModelError(f"net {name} normalises its responses, which the nets of that layout do not; it would answer otherwise")
    tensors, mean, std = parts(net)
    usual = eats_of(USUAL[to])
    wanted = Eats(usual.order, *((mean, std) if usual.order == "RGB" else (turned(mean), turned(std)))) if keep else usual
    new_mean, new_std = wanted.rgb()
    folded = tuple(n for n, old, new in (("std", std, new_std), ("mean", mean, new_mean)) if not alike(old, new))
    if "mean" in folded and not fold_mean:
        raise ModelError(
            f"its mean is {short(mean)}, nets of {to} have {short(new_mean)} (RGB, 0-255); give --fold-mean to fold the difference into "
            "conv1_1, which changes what the border sees, or --keep to leave all weights as they are and feed the net its own mean"
        )
    try:
        write(turn(fold(tensors, mean, std, new_mean, new_std) if folded else tensors, wanted.order), to, path)
    except ValueError as e:
        raise ModelError(f"{path} cannot be written for {to}: {e}") from e
    report = Report(path, to, wanted, folded, *compare(net, open_foreign(path, wanted)))
    if not report.inside <= CLOSE or ("mean" not in folded and not max(report.border, report.outputs) <= CLOSE):
        raise ModelError(f"the written file does not compute what its source does, so do not use it: {report}")
    return report


def check_target(to: str, path: Path) -> None:
    endings = ENDINGS.get("torchvision" if to == "timm" else to)
    if endings is None:
        raise ConfigError(f"to: {to!r} is not known; try one of {', '.join(USUAL)}")
    if not path.name.endswith(endings):
        raise ConfigError(f"out: {path.name} is for {to}, so its name must end in {' or '.join(endings)}")


def opened(source: Path | str, eats: str | Eats | None) -> Classifier | Features:
    path = Path(source)
    layout = None if str(source).startswith("builtin:") or path.is_dir() else layout_of(path)
    return load(source) if layout is None or layout.origin == "verydeep" else open_foreign(path, eats)


def parts(net: Classifier | Features) -> tuple[dict[str, Tensor], Colours, Colours]:
    """Float32 tensors by our names, mean and std."""
    if isinstance(net, Features):
        return learnt(net.tensors), net.mean, net.std
    return learnt(net.net.state_dict()), net.contract.mean, net.contract.std


def learnt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().cpu().float() for n, t in tensors.items() if not n.endswith("num_batches_tracked")}


def alike(a: Colours, b: Colours) -> bool:
    return all(abs(x - y) <= SAME * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))


def fold(tensors: dict[str, Tensor], mean: Colours, std: Colours, new_mean: Colours, new_std: Colours) -> dict[str, Tensor]:
    """conv1_1 for pixels z normalised otherwise: its input (x - mean) / std, with x = z * new_std + new_mean, is z scaled and shifted."""
    m, s, new_m, new_s = (torch.tensor(c, dtype=torch.float64) for c in (mean, std, new_mean, new_std))
    weight = tensors["conv1_1.weight"].double()
    shift = (weight.sum((2, 3)) * ((new_m - m) / s)).sum(1)
    found = dict(tensors)
    found["conv1_1.weight"] = (weight * (new_s / s).view(1, 3, 1, 1)).float()
    if not alike(mean, new_mean):
        found["conv1_1.bias"] = (tensors["conv1_1.bias"].double() + shift).float()
    return found


def turn(tensors: dict[str, Tensor], order: str) -> dict[str, Tensor]:
    return tensors if order == "RGB" else tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}


def write(tensors: dict[str, Tensor], to: str, path: Path) -> None:
    if to in ("caffe", "caffe-v1"):
        caffe.write(tensors, path, "V2" if to == "caffe" else "V1")
    elif to == "keras":
        keras.write(tensors, path)
    else:
        (torchvision if to == "torchvision" else timm).write(tensors, path)


@torch.no_grad()
def compare(a: Classifier | Features, b: Classifier | Features) -> tuple[float, float, float]:
    """Largest differences on a random photo, relative to the largest value: conv1_1 without and with its border, and the outputs."""
    side = a.net.crop if isinstance(a, Classifier) else 64
    photo = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    last = "fc8" if isinstance(a, Classifier) else "pool5"
    (first_a, last_a), (first_b, last_b) = taps(a, photo, last), taps(b, photo, last)
    k = 2  # a 5x5 kernel reaches as far
    inside = slice(k, side - k)
    return (
        difference(first_a[..., inside, inside], first_b[..., inside, inside]),
        difference(first_a, first_b),
        difference(last_a, last_b),
    )


def taps(net: Classifier | Features, photo: Tensor, last: str) -> tuple[Tensor, Tensor]:
    if isinstance(net, Features):
        found = net.taps(photo, ["conv1_1", last])
    else:
        was_training = net.training
        net.eval()
        found = net.net.taps(net.normalise(photo.to(net.mean.device)), ["conv1_1", last])
        net.train(was_training)
    return found["conv1_1"].double().cpu(), found[last].double().cpu()


def difference(a: Tensor, b: Tensor) -> float:
    """NaN where either is."""
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))


def short(colours: Colours) -> str:
    return " ".join(f"{c:.6g}" for c in colours)
