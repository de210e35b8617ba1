"""The test protocols of section 3.2 once more: crop by crop, in numpy and fp64, by the nets of tests/net/oracle.py."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise

spec = importlib.util.spec_from_file_location("oracle", Path(__file__).parents[1] / "net" / "oracle.py")
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)

MEAN, STD = 120.0, 60.0


def made(classes="abcdefg", scales=(32, 32), seed=0, pooling="up", net="A", crop=32):
    """A small classifier with random weights."""
    contract = Contract(net, tuple(classes), crop, 12, 4, False, pooling, (MEAN,) * 3, (STD,) * 3, scales)
    classifier = build(contract)
    torch.manual_seed(seed)
    initialise(classifier.net, "he")
    return classifier.eval()


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def soft_max(scores):
    powers = [np.exp(s - max(scores)) for s in scores]
    return np.array([p / sum(powers) for p in powers])


def one(classifier, pixels, average, pooling):
    """Posteriors of one uint8 H x W x 3, as crop or densely."""
    x = (np.asarray(pixels, np.float64).transpose(2, 0, 1)[None] - MEAN) / STD
    parameters = {name: p.detach().numpy().astype(np.float64) for name, p in classifier.net.named_parameters()}
    scores = oracle.scores(classifier.contract.net, parameters, x, classifier.contract.crop, pooling == "up")[0][0]
    places = [scores[:, i, j] for i in range(scores.shape[1]) for j in range(scores.shape[2])]
    if average == "scores":
        return soft_max(sum(places) / len(places))
    return sum(soft_max(p) for p in places) / len(places)


def shown(image, view, q, crop):
    """Every array that the net sees, mirror images aside."""
    short = min(image.size)
    width, height = (round(side * q / short) for side in image.size)
    whole = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    if view == "dense":
        return [whole]
    if view == "centre":
        return [whole[(height - crop) // 2 :, (width - crop) // 2 :][:crop, :crop]]
    tops, lefts = ([0, round(s / 4), s // 2, s - round(s / 4), s] for s in (height - crop, width - crop))
    return [whole[top : top + crop, left : left + crop] for top in tops for left in lefts]


def posteriors(classifier, image, protocol, scales, mirror, average="scores", pooling="up"):
    """K posteriors of one photo."""
    found = []
    for view in ("dense", "crops") if protocol == "both" else (protocol,):
        of_view = []
        for q in scales:
            for pixels in shown(image, view, q, classifier.contract.crop):
                ways = [pixels, pixels[:, ::-1]] if mirror else [pixels]
                of_view += [one(classifier, way, average, pooling) for way in ways]
        found.append(sum(of_view) / len(of_view))
    return sum(found) / len(found)
