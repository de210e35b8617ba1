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
from verydeep.net.classifier import Classifier, build
from verydeep.net.vgg import VGG, first_weights
from verydeep.paper import STRIDE
from verydeep.weights import caffe, keras, matconvnet, onnx, timm, torchvision
from verydeep.weights.catalogue import Entry, published_as
from verydeep.weights.eats import Colours, ContractWarning, Eats
from verydeep.weights.recognise import Layout, recognise
from verydeep.weights.said import Said, imagenets_classes, said_of
from verydeep.weights.shapes import FC, Found, Shape, describe, reading, shown, without_fc
from verydeep.words import several


class OtherHead(ModelError):
    """What stands on a file's convolutions is not what stands on a VGG's."""


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
        classifier = build(contract, drawn=False)
        classifier.net.load_state_dict(self.tensors, strict=False)
        for fc in (classifier.net.fc6, classifier.net.fc7, classifier.net.fc8):
            first_weights(fc)
        return classifier.eval()

    @torch.no_grad()
    def taps(self, photos: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Activations by name, as `VGG.taps`, of uint8 photos, N x 3 x H x W, in RGB. Raises ConfigError for FC layers."""
        wanted = list(names)
        if fc := [name for name in wanted if name.startswith(("fc", "relu6", "relu7"))]:
            raise ConfigError(f"{fc[0]} is an FC layer, and this file has none; its last layer is pool5")
        net = VGG(
            self.net, base_width=self.base_width, batch_norm=self.batch_norm, pooling=self.pooling, device="meta"
        ).eval()
        net.load_state_dict(self.tensors, strict=False, assign=True)
        contract = Contract(
            self.net, ("",), STRIDE, 1, self.base_width, self.batch_norm, self.pooling, self.mean, self.std, (STRIDE, STRIDE)
        )  # fmt: skip
        return net.taps(Classifier(net, contract).normalise(photos), wanted)


def read_foreign(
    path: Path | str,
    eats: str | Eats | None = None,
    classes: Sequence[str] | None = None,
    *,
    origin: str = "",
    licence: str = "",
) -> Classifier:
    """The Classifier of another toolkit's file, in float32 on the CPU, in eval mode.

    eats: what the net eats, a name in eats.EATS or an Eats. Without it, what the catalogue knows of a published file or of its first
    layer, else what the layout usually eats, with a ContractWarning where that is a guess. classes: their names in order; without them
    the file's, else ImageNet's for a thousand, with a ContractWarning, and `class 0` and on for any other number. origin and licence
    go into the contract as they are. Raises ModelError, also for a file without FC layers (read_features reads those), and ConfigError.
    """
    return whole(open_foreign(Path(path), eats, classes, origin, licence), path)


def whole(found: Classifier | Features, path: Path | str) -> Classifier:
    """Raises ModelError for convolutions alone."""
    if isinstance(found, Features):
        but = f" but {shown(found.left[:3])}" if found.left else ""
        raise ModelError(
            f"{path} holds the convolutions of net {found.net}, no fc6, fc7 and fc8{but}; a net whose FC layers are random classifies "
            "nothing, so none is made; 'verydeep train DATA --from FILE' starts from them, in Python "
            "verydeep.weights.read.read_features reads them"
        )
    return found


def read_features(path: Path | str, eats: str | Eats | None = None, *, origin: str = "", licence: str = "") -> Features:
    """The convolutions of another toolkit's file, whatever FC layers it has. Otherwise as `read_foreign`."""
    path = Path(path)
    found, layout = take(path)
    return features_of(path, found, said_of(path, found, layout, eats, published_as(path), origin, licence))


def open_foreign(
    path: Path, eats: str | Eats | None = None, classes: Sequence[str] | None = None, origin: str = "", licence: str = "",
    entry: Entry | Literal["none"] | None = None,
) -> Classifier | Features:  # fmt: skip
    """A Classifier, or Features where the file has no FC layers. entry: which published net it is, or none, where that is known already."""
    found, layout = take(path)
    said = said_of(path, found, layout, eats, None if entry == "none" else entry or published_as(path), origin, licence)
    if not any(name.startswith("fc") for name in found.tensors):
        return features_of(path, found, said)
    if other := [*found.left[:3], *(f"no {fc}" for fc in FC if f"{fc}.weight" not in found.tensors)]:
        raise OtherHead(
            f"{path} has other layers than a VGG ({shown(other)}), so it would not answer as it did; its convolutions are a "
            "start for 'verydeep train DATA --from FILE'"
        )
    with reading(path, f"a file of {layout.origin}"):
        shape = describe(found.tensors)
    names = (said.classes if classes is None else tuple(classes)) or names_for(path, shape.classes)
    if len(names) != shape.classes:
        raise ModelError(
            f"{path} has {several(shape.classes, 'classes')}, {several(len(names), 'names')} were given for them"
        )
    mean, std = said.eats.rgb()
    contract = Contract(
        shape.net, names, shape.crop, shape.fc_width, shape.base_width, shape.batch_norm, said.pooling, mean, std,
        said.scales or scales_of(shape.crop), origin=said.origin, licence=said.licence,
    )  # fmt: skip
    classifier = build(contract, "meta")
    tensors = as_we_eat(found.tensors, said.eats, shape)
    classifier.load_state_dict(
        {f"net.{n}": t for n, t in tensors.items()} | {"mean": column(mean), "std": column(std)}, assign=True
    )
    return classifier.eval()


def names_for(path: Path, outputs: int) -> tuple[str, ...]:
    """`class 0` and on; a thousand are ImageNet's, with a ContractWarning."""
    if outputs != len(imagenets := imagenets_classes()):
        return tuple(f"class {i}" for i in range(outputs))
    warnings.warn(
        f"{path} names none of its 1,000 outputs; they were taken for ImageNet's classes in the order of the synsets "
        "(classes= of verydeep.weights.read.read_foreign says others)",
        ContractWarning, stacklevel=4,
    )  # fmt: skip
    return imagenets


def features_of(path: Path, found: Found, said: Said) -> Features:
    with reading(path, "convolutions"):
        shape = describe(tensors := without_fc(found.tensors))
    mean, std = said.eats.rgb()
    return Features(
        as_we_eat(tensors, said.eats, shape), shape.net, shape.base_width, shape.batch_norm, said.pooling, mean, std,
        said.origin, said.licence, found.left,
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


def as_we_eat(tensors: dict[str, Tensor], eats: Eats, shape: Shape) -> dict[str, Tensor]:
    """Our nets eat RGB, so the input channels of conv1_1 are turned where the file's are BGR: the same numbers in another place."""
    found = dict(tensors)
    if eats.order == "BGR":
        found["conv1_1.weight"] = found["conv1_1.weight"].flip(1)
    if shape.batch_norm:
        found |= {
            n.replace("running_var", "num_batches_tracked"): torch.tensor(0)
            for n in tensors
            if n.endswith("running_var")
        }
    return found


def column(colours: Colours) -> Tensor:
    return torch.tensor(colours).view(1, 3, 1, 1)


def scales_of(crop: int) -> tuple[int, int]:
    """S = 256 at a crop of 224, and in the same proportion elsewhere."""
    return crop * 8 // 7, crop * 8 // 7
