"""Other people's files become a Classifier with its contract, or Features where they have no FC layers."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier, build
from verydeep.net.vgg import VGG, first_weights
from verydeep.paper import STRIDE
from verydeep.shape import Pooling
from verydeep.weights import caffe, checkpoint, keras, matconvnet, onnx
from verydeep.weights.catalogue import Entry, published_as
from verydeep.weights.classes import classes_beside, classes_told, imagenets_classes, names_for, pair
from verydeep.weights.descent import said_of
from verydeep.weights.inputs import Colours, ContractWarning, Input
from verydeep.weights.recognise import OWN, Layout, recognise
from verydeep.weights.shapes import FC, Found, describe, reading, shown, with_counters, without_fc
from verydeep.words import several

READERS: dict[str, tuple[Callable[..., Found], str]] = {
    "caffe": (caffe.read, "a Caffe model"), "matconvnet": (matconvnet.read, "a MatConvNet file"),
    "keras": (keras.read, "a Keras file"), "onnx": (onnx.read, "an ONNX model"),
    "torchvision": (checkpoint.read, "a file of PyTorch"), "timm": (checkpoint.read, "a file of timm"),
}  # fmt: skip


@dataclass(frozen=True)
class Features:
    """The convolutions of a net without FC layers, with all of a contract that they need. They expect RGB, 0-255."""

    tensors: dict[str, Tensor]  # float32, by our names
    net: str
    base_width: int
    batch_norm: bool
    pooling: Pooling
    mean: Colours
    std: Colours
    origin: str = ""
    licence: str = ""
    left: tuple[str, ...] = ()  # what else the file holds: the layers of some other head

    def within(
        self, classes: Sequence[str], crop: int, fc_width: int, scales: tuple[int, int] | None = None
    ) -> Classifier:
        """These tensors in a net; FC layers that are not among them are on the meta device."""
        contract = Contract(
            self.net, tuple(classes), crop, fc_width, self.base_width, self.batch_norm, self.pooling, self.mean,
            self.std, scales or (crop * 8 // 7,) * 2, origin=self.origin, licence=self.licence,
        )  # fmt: skip
        classifier = build(contract, "meta")  # no first weights are drawn only to be overwritten
        classifier.net.load_state_dict(self.tensors, strict=False, assign=True)
        return classifier.eval()

    def classifier(self, classes: Sequence[str], crop: int = 224, fc_width: int = 4096) -> Classifier:
        """A net to fine-tune: these convolutions, and FC layers of random (Glorot's) weights."""
        origin = f"{self.origin}; FC layers random" if self.origin else "FC layers random"
        own = {n: t.clone() for n, t in self.tensors.items()}
        made = replace(self, tensors=own, origin=origin).within(classes, crop, fc_width)
        for fc in FC:
            first_weights(getattr(made.net, fc).to_empty(device="cpu"))
        return made

    @torch.no_grad()
    def taps(self, photos: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """As `VGG.taps`, of uint8 photos, N x 3 x H x W, in RGB. Raises ConfigError for FC layers."""
        wanted = list(names)
        if fc := [name for name in wanted if name.startswith(("fc", "relu6", "relu7"))]:
            raise ConfigError(f"{fc[0]} is an FC layer, and this file has none; its last layer is pool5")
        made = self.within(("",), STRIDE, 1)
        return made.net.taps(made.normalise(photos), wanted)


Net = Classifier | Features
FC8 = ("fc8.weight", "fc8.bias")


def read_foreign(
    path: Path | str, expects: str | Input | None = None, classes: Sequence[str] | None = None, *, origin: str = "",
    licence: str = "",
) -> Classifier:  # fmt: skip
    """The Classifier of another toolkit's file, in float32 on the CPU, in eval mode.

    expects: the net's input, a name in INPUTS or an Input; None: what the catalogue knows of a published file or
    its first layer, else what is usual for the layout, with a ContractWarning where that is a guess. classes: their
    names in order; None: the file's, else ImageNet's for a thousand, with a ContractWarning, and `class 0` and on for
    any other number. origin and licence go into the contract as they are. Raises ConfigError, and ModelError,
    also for a file without FC layers (read_features reads those).
    """
    return with_fc(open_foreign(Path(path), expects, classes, origin, licence), path)


def with_fc(found: Net, path: Path | str) -> Classifier:
    """Raises ModelError for convolutions alone."""
    if isinstance(found, Classifier):
        return found
    what = f"{path} holds the convolutions of net {found.net}, no fc6, fc7 and fc8"
    but = f" but {shown(found.left[:3])}" if found.left else ""
    how = "'verydeep train DATA --from FILE' starts from them, in Python verydeep.weights.read.read_features reads them"
    raise ModelError(f"{what}{but}; {how}")


def read_features(
    path: Path | str, expects: str | Input | None = None, *, origin: str = "", licence: str = ""
) -> Features:
    """The convolutions of another toolkit's file, whatever FC layers it has. Otherwise as `read_foreign`."""
    path = Path(path)
    found, layout = take(path)
    said = said_of(path, found, layout, expects, published_as(path), origin, licence)
    return features_of(path, found._replace(tensors=without_fc(found.tensors)), *said)[1]


def open_foreign(
    path: Path, given: str | Input | None = None, classes: Sequence[str] | None = None, origin: str = "",
    licence: str = "", entry: Entry | Literal["none"] | None = None, start: bool = False, key: str = "",
) -> Net:  # fmt: skip
    """A Classifier, or Features where there are no FC layers. entry: which published net it is, or none.

    With start, a file with another head gives its convolutions, with a ContractWarning. key: of several nets in it,
    which. What was understood of a file that holds more than a net is said in one ContractWarning.
    """
    found, layout = take(path, key)
    known = None if entry == "none" else entry or published_as(path)
    said = said_of(path, found, layout, given, known, origin, licence)
    understood = [f"its net is {path.name}#{found.inside}"] * bool(found.inside and not key)
    tensors, left = found.tensors, found.left
    has_fc = any(name.startswith(FC) for name in tensors)
    if other := [*left[:3], *(f"no {fc}" for fc in FC if f"{fc}.weight" not in tensors)] if has_fc else []:
        why = f"has other layers than a VGG ({shown(other)}), so it would not answer as it did"
        if not start:
            raise ModelError(f"{path} {why}; its convolutions are a start for 'verydeep train DATA --from FILE'")
        understood.append(f"only the convolutions are taken: it {why}")
        tensors, has_fc = without_fc(tensors), False
    if single := has_fc and len(tensors["fc8.bias"]) == 1:  # sigmoid(z) is the second of softmax([0, z])
        tensors = tensors | {n: torch.cat([torch.zeros_like(tensors[n]), tensors[n]]) for n in FC8}
        understood.append("its one output is a sigmoid's, the second of two classes")
    found = found._replace(tensors=tensors, left=() if has_fc else left)
    net, features = features_of(path, found, *said)
    where, told = classes_told(found, net.classes, single) if has_fc and classes is None else ("", ())
    if where:
        understood.append(f"its classes are those of its {where}")
    if understood:
        warnings.warn(f"{path}: {'; '.join(understood)}", ContractWarning, stacklevel=4)
    if not has_fc:
        return features
    usual = imagenets_classes() if known and known.head else ()
    names = told or usual or names_for(path, net.classes) if classes is None else pair(tuple(classes), single)
    if len(names) != net.classes:
        raise ModelError(f"{path} has {several(net.classes, 'classes')}, {several(len(names), 'names')} were given")
    return features.within(names, net.crop, net.fc_width, known.scales if known else None)


def features_of(path: Path, found: Found, its: Input, origin: str, licence: str) -> tuple[VGG, Features]:
    """The net of these tensors, on the meta device, and they with what is said of them. Raises ModelError."""
    tensors = found.tensors
    with reading(path, "a VGG"):
        net = describe(tensors, found.pooling)
    if its.order == "BGR":  # the same numbers in another place
        tensors = tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}
    mean, std = its.rgb()
    if min(std) < 0:  # a colour turned upside down before the net
        signs = torch.tensor(std).sign().view(1, 3, 1, 1)
        tensors = tensors | {"conv1_1.weight": tensors["conv1_1.weight"] * signs}
        std = abs(std[0]), abs(std[1]), abs(std[2])
    return net, Features(
        with_counters(tensors), net.name, net.base_width, net.batch_norm, found.pooling, mean, std, origin, licence,
        found.left,
    )  # fmt: skip


def take(path: Path, key: str = "") -> tuple[Found, Layout]:
    """The tensors of a file, whosever it is; key: of several nets in it, which. Raises ModelError."""
    layout = recognise(path)
    if layout == OWN:
        raise ModelError(f"{path} is a model of verydeep, whose contract is in it; load it with verydeep.load")
    read, what = READERS[layout.origin]
    if key and read is not checkpoint.read:
        raise ModelError(f"{path} is {what}, which holds one net; leave #{key[:60]} out")
    with reading(path, what):
        found = read(path, key) if key else read(path)
        return found._replace(classes=found.classes + classes_beside(path)), layout


def contents(net: Net) -> tuple[Contract | Features, dict[str, Tensor]]:
    """What a net is, and its float32 tensors by our names."""
    about, tensors = (net, net.tensors) if isinstance(net, Features) else (net.contract, net.net.state_dict())
    return about, {n: t.detach().cpu().float() for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
