"""MatConvNet's `imagenet-vgg-*.mat`: a MATLAB 5 file, kernels H x W x C x K in columns, FC layers as convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import from_numpy

from verydeep.data.naming import SYNSET, imagenet_classes
from verydeep.files.disk import mapped
from verydeep.files.matlab import Array, Budget, variables_of
from verydeep.weights import caffe
from verydeep.weights.shapes import FC, Found, reading, rename

names = caffe.names  # converted from Caffe with the names of its layers: conv1_1.weight <-> weights{1} of layer conv1_1


def read(path: Path) -> Found:
    """The tensors of a net, its averageImage as the mean, and its class names. Raises ModelError."""
    with reading(path, "a MatConvNet file"):
        file = mapped(path)
        variables: dict[str, Any] = {}
        for name, value in variables_of(file, Budget(len(file))):
            variables.setdefault(name, value)
        net = variables.get("net", variables)
        meta = net.get("meta", net)
        found = rename(dict(blobs(net["layers"])), names)
        return found._replace(
            mean=mean_of(meta.get("normalization")),
            classes=classes_of(meta.get("classes")),
            pooling=pooling_of(net["layers"]),
        )


def blobs(layers: list[Any]) -> Iterator[tuple[str, Any]]:
    """("conv1_1/0", float32 K x C x H x W) and ("conv1_1/1", float32 K) of every layer with weights; of FC layers K x C*H*W."""
    seen = set()
    for layer in layers:
        weights = layer.get("weights") or [layer[field] for field in ("filters", "biases") if field in layer]
        if not weights:
            continue
        name, (kernel, bias) = str(layer["name"]), weights
        if name in seen:
            raise ValueError(f"two layers are called {name[:40]}")
        seen.add(name)
        sides = (*kernel.sides, 1, 1)[: max(4, len(kernel.sides))]  # MATLAB drops sides of 1 at the end
        columns = kernel._replace(sides=sides).shaped().transpose(3, 2, 0, 1)
        weight = from_numpy(np.array(columns, dtype=np.float32, order="C"))
        yield f"{name}/0", weight.flatten(1) if name in FC else weight
        yield f"{name}/1", from_numpy(bias.data.astype(np.float32))


def mean_of(normalization: Any) -> tuple[float, ...] | None:
    """Three numbers, or an image of one colour; None for an image that no single colour stands for."""
    average = normalization.get("averageImage") if isinstance(normalization, dict) else None
    if not isinstance(average, Array) or average.data.size < 3:
        return None
    colours = average.data.reshape(3, -1).astype(np.float64)  # columns first, so colours last
    return tuple(colours.mean(1).tolist()) if np.ptp(colours, axis=1).max() < 1e-3 else None


def pooling_of(layers: list[Any]) -> Literal["up", "down"]:
    """A pooling that pads one side only takes in what Caffe's takes in by rounding up."""
    pads = [
        layer["pad"].data for layer in layers if layer.get("type") == "pool" and isinstance(layer.get("pad"), Array)
    ]
    return "up" if any(np.any(pad) for pad in pads) else "down"


def classes_of(classes: Any) -> tuple[str, ...]:
    """The classes as ILSVRC's data calls them where `name` holds their synsets, else by their descriptions.

    What comes again (there are two cranes in ImageNet) gets its number from 0. Raises ValueError for a synset that does.
    """
    names, words = (texts(classes, field) for field in ("name", "description"))
    if not names or not all(SYNSET.fullmatch(name) for name in names):
        often = Counter(found := words or names)
        return tuple(f"{name} (class {i})" if often[name] > 1 else name for i, name in enumerate(found))
    if repeated := next((name for name, n in Counter(names).items() if n > 1), None):
        raise ValueError(f"two classes are {repeated}")
    known = dict(zip(names, words, strict=False)) | imagenet_classes()
    return tuple(f"{name} {known.get(name, '')}".rstrip() for name in names)


def texts(classes: Any, field: str) -> list[str]:
    """A cell of texts; empty for anything else."""
    found = classes.get(field) if isinstance(classes, dict) else None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else []
