"""Other people's files become a Classifier with its contract, or Features where they have no FC layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier, build, checksum
from verydeep.net.vgg import VGG
from verydeep.paper import STRIDE
from verydeep.progress import several
from verydeep.weights import caffe, keras, matconvnet, onnx, timm, torchvision
from verydeep.weights.eats import FINGERPRINTS, Colours, ContractWarning, Eats, Known, eats_of
from verydeep.weights.recognise import Layout, recognise
from verydeep.weights.shapes import Found, Shape, describe, reading, shown, without_fc


@dataclass(frozen=True)
class Features:
    """The convolutions of a net whose FC layers are not in its file, with all of a contract that they need. They eat RGB, 0-255."""

    tensors: dict[str, Tensor]  # float32, by our names
    net: str
    base_width: int
    batch_norm: bool
    pooling: Literal["up", "down"]
    mean: Colours
    std: Colours
    origin: str = ""
    licence: str = ""
    left: tuple[str, ...] = ()  # what else the file holds: the layers of some other head

    def classifier(self, classes: Sequence[str], crop: int = 224, fc_width: int = 4096) -> Classifier:
        """A net to fine-tune: these convolutions, and FC layers of random (Glorot's) weights, which know nothing yet."""
        contract = Contract(
            self.net, tuple(classes), crop, fc_width, self.base_width, self.batch_norm, self.pooling, self.mean, self.std,
            scales_of(crop), origin=f"{self.origin}; FC layers random" if self.origin else "FC layers random", licence=self.licence,
        )  # fmt: skip
        classifier = build(contract)
        classifier.net.load_state_dict(self.tensors, strict=False)
        return classifier.eval()

    @torch.no_grad()
    def taps(self, photos: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Activations by name, as `VGG.taps`, of uint8 photos, N x 3 x H x W, in RGB. Raises ConfigError for FC layers."""
        wanted = list(names)
        if fc := [name for name in wanted if name.startswith(("fc", "relu6", "relu7"))]:
            raise ConfigError(f"{fc[0]} is an FC layer, and this file has none; its last layer is pool5")
        net = VGG(self.net, base_width=self.base_width, batch_norm=self.batch_norm, pooling=self.pooling, device="meta").eval()
        net.load_state_dict(self.tensors, strict=False, assign=True)
        contract = Contract(
            self.net, ("",), STRIDE, 1, self.base_width, self.batch_norm, self.pooling, self.mean, self.std, (STRIDE, STRIDE)
        )  # fmt: skip
        return net.taps(Classifier(net, contract).normalise(photos), wanted)


def read_foreign(
    path: Path | str, eats: str | Eats | None = None, classes: Sequence[str] | None = None, *, origin: str = "", licence: str = ""
) -> Classifier:
    """The Classifier of another toolkit's file, in float32 on the CPU, in eval mode.

    eats: what the net eats, a name in eats.EATS or an Eats. Without it, that of a known fingerprint, else what the layout usually
    eats, with a ContractWarning. classes: their names in order; without them the file's, else `class 0` and on. origin and licence
    go into the contract as they are. Raises ModelError, also for a file without FC layers (read_features reads those), and ConfigError.
    """
    found = open_foreign(Path(path), eats, classes, origin, licence)
    if isinstance(found, Features):
        but = f" but {shown(found.left[:3])}" if found.left else ""
        raise ModelError(
            f"{path} holds the convolutions of net {found.net}, no fc6, fc7 and fc8{but}; a net whose FC layers are random classifies "
            "nothing, so none is made; for activations and fine-tuning take verydeep.weights.read.read_features"
        )
    return found


def read_features(path: Path | str, eats: str | Eats | None = None, *, origin: str = "", licence: str = "") -> Features:
    """The convolutions of another toolkit's file, whatever FC layers it has. Otherwise as `read_foreign`."""
    found, layout = take(Path(path))
    return features_of(Path(path), found, layout, eats, origin, licence)


def open_foreign(
    path: Path, eats: str | Eats | None = None, classes: Sequence[str] | None = None, origin: str = "", licence: str = ""
) -> Classifier | Features:
    """A Classifier, or Features where the file has no FC layers."""
    found, layout = take(path)
    if not any(name.startswith("fc") for name in found.tensors):
        return features_of(path, found, layout, eats, origin, licence)
    if found.left:
        raise ModelError(
            f"{path} has layers that no VGG has ({shown(found.left[:3])}), so it would not answer as it did; read_features takes "
            "its convolutions"
        )
    with reading(path, f"a file of {layout.origin}"):
        shape = describe(found.tensors)
    given = tuple(classes) if classes is not None else found.classes or tuple(f"class {i}" for i in range(shape.classes))
    if len(given) != shape.classes:
        raise ModelError(f"{path} has {several(shape.classes, 'classes')}, {several(len(given), 'names')} were given for them")
    known, eaten = contract_of(path, found, layout, eats)
    mean, std = eaten.rgb()
    contract = Contract(
        shape.net, given, shape.crop, shape.fc_width, shape.base_width, shape.batch_norm, found.pooling or layout.pooling, mean, std,
        scales_of(shape.crop), origin=origin or known.origin or said_of(path, layout), licence=licence or known.licence,
    )  # fmt: skip
    classifier = build(contract, "meta")
    classifier.load_state_dict(
        {f"net.{n}": t for n, t in as_we_eat(found.tensors, eaten, shape).items()} | {"mean": column(mean), "std": column(std)}, assign=True
    )
    return classifier.eval()


def features_of(path: Path, found: Found, layout: Layout, eats: str | Eats | None, origin: str, licence: str) -> Features:
    with reading(path, f"a file of {layout.origin}"):
        shape = describe(tensors := without_fc(found.tensors))
    known, eaten = contract_of(path, found, layout, eats)
    mean, std = eaten.rgb()
    return Features(
        as_we_eat(tensors, eaten, shape), shape.net, shape.base_width, shape.batch_norm, found.pooling or layout.pooling, mean, std,
        origin or known.origin or said_of(path, layout), licence or known.licence, found.left,
    )  # fmt: skip


def take(path: Path) -> tuple[Found, Layout]:
    """The tensors of a file, whosever it is. Raises ModelError."""
    layout = recognise(path)
    if layout.origin == "verydeep":
        raise ModelError(f"{path} is a model of verydeep, whose contract is in it; load it with verydeep.load")
    if layout.origin == "caffe":
        return caffe.read(path), layout
    if layout.origin == "matconvnet":
        return matconvnet.read(path), layout
    if layout.origin == "keras":
        return keras.read(path), layout
    if layout.origin == "onnx":
        return onnx.read(path)[0], layout
    module = timm if layout.origin == "timm" else torchvision
    return module.read(path, layout.form == "pickle"), layout


def contract_of(path: Path, found: Found, layout: Layout, eats: str | Eats | None) -> tuple[Known, Eats]:
    """What the net eats: what was said, what is known of it, what its file tells, or what is usual."""
    known = FINGERPRINTS.get(checksum(without_fc(found.tensors)), Known("", "", ""))
    if eats is not None:
        return known, eats_of(eats)
    if known.eats:
        return known, eats_of(known.eats)
    usual = eats_of(layout.usual)
    if found.mean:
        return known, usual._replace(mean=(found.mean[0], found.mean[1], found.mean[2]))
    warnings.warn(
        f"{path} does not say what its net eats; it was taken for {layout.usual}, as is usual for {layout.origin} ({layout.form}): "
        f"{usual.order}, mean {rounded(usual.mean)}, std {rounded(usual.std)} of 0-255. Say --eats (in Python eats=) if you know better",
        ContractWarning, stacklevel=4,
    )  # fmt: skip
    return known, usual


def said_of(path: Path, layout: Layout) -> str:
    return f"{path.name}, {layout.origin} {layout.form}"


def rounded(colours: Colours) -> list[float]:
    return [round(c, 3) for c in colours]


def as_we_eat(tensors: dict[str, Tensor], eats: Eats, shape: Shape) -> dict[str, Tensor]:
    """Our nets eat RGB, so the input channels of conv1_1 are turned where the file's are BGR: the same numbers in another place."""
    found = dict(tensors)
    if eats.order == "BGR":
        found["conv1_1.weight"] = found["conv1_1.weight"].flip(1)
    if shape.batch_norm:
        found |= {n.replace("running_var", "num_batches_tracked"): torch.tensor(0) for n in tensors if n.endswith("running_var")}
    return found


def column(colours: Colours) -> Tensor:
    return torch.tensor(colours).view(1, 3, 1, 1)


def scales_of(crop: int) -> tuple[int, int]:
    """S = 256 at a crop of 224, and in the same proportion elsewhere."""
    return crop * 8 // 7, crop * 8 // 7
