"""What describe's tests are made of: small nets, noisy photos, and the layers of photos once more in numpy and fp64."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from verydeep.contract import Contract
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.weights.read import Features

spec = importlib.util.spec_from_file_location("oracle", Path(__file__).parents[1] / "net" / "oracle.py")
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)

MEAN, STD = 120.0, 60.0


def small(net="A", seed=0, fc_width=12, scales=(32, 32), **more):
    """A net of random weights, crop 32."""
    contract = Contract(net, tuple("abc"), 32, fc_width, 4, False, "up", (MEAN,) * 3, (STD,) * 3, scales, **more)
    classifier = build(contract)
    initialise(classifier.net, "he", seed=seed)
    return classifier.eval()


def without_fc(classifier):
    """Its convolutions alone, as `load_describing` gives them."""
    tensors = {n: t for n, t in classifier.net.state_dict().items() if not n.startswith("fc")}
    c = classifier.contract
    found = Features(tensors, c.net, c.base_width, False, "up", c.mean, c.std).within(("",), 32, 1)
    for fc in ("fc6", "fc7", "fc8"):
        setattr(found.net, fc, None)
    return found


def noise(height, width, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def noisy_photos(folder, count, bad=()):
    """Photos of three sizes, by name; the bad ones cannot be read."""
    folder.mkdir(parents=True)
    for i in range(count):
        noise(36 + i % 3, 44 - i % 3, i).save(folder / f"{i:02d}.png")
    for i in bad:
        (folder / f"{i:02d}.png").write_bytes(b"no photo")
    return [str(folder / f"{i:02d}.png") for i in range(count)]


def shown(photo, q, crop=None):
    """uint8 H x W x 3 at smallest side q, or its middle crop, by Pillow's bilinear filter."""
    scale = q / min(photo.size)
    size = round(photo.width * scale), round(photo.height * scale)
    if crop is None:
        return np.asarray(photo.resize(size, Image.Resampling.BILINEAR))
    left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
    x, y = photo.width / size[0], photo.height / size[1]
    box = left * x, top * y, min((left + crop) * x, photo.width), min((top + crop) * y, photo.height)
    return np.asarray(photo.resize((crop, crop), Image.Resampling.BILINEAR, box=box))


def layer(classifier, photo, tap, q, pool="mean", mirror=True, crop=32, mean=MEAN, std=STD):
    """What a layer says of one photo at one Q, in fp64."""
    pixels = shown(photo, q, crop if pool == "none" else None)
    p = {n: t.double().numpy() for n, t in classifier.net.state_dict().items()}
    if not classifier.net.fc6:  # the oracle has FC layers, whatever they say
        last = 8 * classifier.contract.base_width
        p |= {f"{fc}.{k}": np.zeros(s) for fc, i in (("fc6", last), ("fc7", 1), ("fc8", 1))
              for k, s in (("weight", (1, i)), ("bias", (1,)))}  # fmt: skip
    ways = [pixels, pixels[:, ::-1]] if mirror else [pixels]
    found = []
    for way in ways:
        x = (way.transpose(2, 0, 1)[None] - mean) / std
        taps = oracle.scores(classifier.contract.net, p, x, 32, classifier.contract.pooling == "up")[2]
        maps = taps[tap][0].reshape(len(taps[tap][0]), -1)
        found.append({"mean": maps.mean(1), "max": maps.max(1), "none": maps.ravel()}[pool])
    return np.mean(found, 0)
