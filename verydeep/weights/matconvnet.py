"""MatConvNet's `imagenet-vgg-*.mat`: a MATLAB 5 file, kernels H x W x C x K in columns, FC layers as convolutions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, from_numpy

from verydeep.data.naming import SYNSET, imagenet_classes
from verydeep.files.disk import mapped
from verydeep.files.matlab import Array, Budget, variables_of
from verydeep.shape import Pooling
from verydeep.weights import caffe
from verydeep.weights.classes import distinct
from verydeep.weights.shapes import Found, rename, unrepeated

names = caffe.names  # converted from Caffe with the names of its layers: conv1_1.weight <-> weights{1} of layer conv1_1


def read(path: Path) -> Found:
    """With its averageImage as the mean, and its class names."""
    file = mapped(path)
    variables = unrepeated(variables_of(file, Budget(len(file))))
    net = variables.get("net", variables)
    meta, layers = net.get("meta", net), net["layers"]
    found = rename(unrepeated(layer_weights(layers)), names)
    return found._replace(
        mean=mean_of(meta.get("normalization")),
        classes=(("", classes_of(meta.get("classes"))),),
        pooling=pooling_of(layers),
    )


def layer_weights(layers: list[Any]) -> Iterator[tuple[str, Tensor]]:
    """("conv1_1/0", float32 K x C x H x W) and ("conv1_1/1", float32 K) of every layer with weights."""
    for layer in layers:
        if weights := layer.get("weights") or [layer[field] for field in ("filters", "biases") if field in layer]:
            kernel, bias = weights
            sides = (*kernel.sides, 1, 1)[: max(4, len(kernel.sides))]  # MATLAB drops sides of 1 at the end
            columns = kernel._replace(sides=sides).shaped().transpose(3, 2, 0, 1)
            yield f"{layer['name']}/0", from_numpy(np.array(columns, dtype=np.float32, order="C"))
            yield f"{layer['name']}/1", from_numpy(bias.data.astype(np.float32))


def mean_of(normalization: Any) -> tuple[float, ...] | None:
    """Three numbers, or an image of one colour; None for an image that no single colour stands for."""
    average = normalization.get("averageImage") if isinstance(normalization, dict) else None
    if not isinstance(average, Array) or average.data.size < 3:
        return None
    colours = average.data.reshape(3, -1).astype(np.float64)  # columns first, so colours last
    return tuple(colours.mean(1).tolist()) if np.ptp(colours, axis=1).max() < 1e-3 else None


def pooling_of(layers: list[Any]) -> Pooling:
    """A pooling that pads one side only takes in what Caffe's takes in by rounding up."""
    pads = (layer.get("pad") for layer in layers if layer.get("type") == "pool")
    return "up" if any(np.any(pad.data) for pad in pads if isinstance(pad, Array)) else "down"


def classes_of(classes: Any) -> tuple[str, ...]:
    """The classes as ILSVRC's data calls them where `name` holds their synsets, else by their descriptions.

    What comes again (ImageNet has two cranes) gets its number from 0. Raises ValueError for a synset that does.
    """
    cells = [classes.get(field) if isinstance(classes, dict) else None for field in ("name", "description")]
    ids, words = (c if isinstance(c, list) and all(isinstance(x, str) for x in c) else [] for c in cells)
    if not ids or not all(SYNSET.fullmatch(name) for name in ids):
        return distinct(words or ids)
    unrepeated((name, None) for name in ids)
    known = dict(zip(ids, words, strict=False)) | imagenet_classes()
    return tuple(f"{name} {known.get(name, '')}".rstrip() for name in ids)
