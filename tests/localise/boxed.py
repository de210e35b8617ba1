"""Photos of coloured squares with their boxes, a list of them, and nets whose boxes are known."""

import csv
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.net.classifier import build
from verydeep.shape import Shape

CLASSES = ("blue", "green", "red")
WORDS = {
    "net": "A", "crop": 32, "scale": 36, "fc_width": 16, "base_width": 4, "batch": 6, "epochs": 2, "dropout": 0.0,
    "workers": 0, "precision": "fp32", "device": "cpu", "threads": 1, "save_every": 3, "input_std": 60.0,
}  # fmt: skip
TRAINED = ("batch", "dropout", "workers", "precision", "device", "threads")  # what a start does not bring
SAME = {name: WORDS[name] for name in TRAINED}
SHAPE = Shape("A", 3, 32, 8, 2)


def draw_square(folder, name, label, random, size=(48, 40)):
    """A photo with a square of its class's colour; its box."""
    width, height = size
    pixels = random.uniform(90, 130, (height, width, 3))
    side = int(random.integers(12, 26))
    x, y = int(random.integers(width - side)), int(random.integers(height - side))
    pixels[y : y + side, x : x + side] = np.eye(3)[2 - label] * 220
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return x, y, x + side, y + side


def make_list(folder, train=8, val=4, test=4, seed=0, boxes=True):
    """list.csv with photos of three classes and their boxes; the folder of the photos beside it."""
    random, rows = np.random.default_rng(seed), []
    for split, n in (("train", train), ("val", val), ("test", test)):
        for i in range(3 * n):
            name, label = f"{split}/{i:02d}.png", i % 3
            box = draw_square(folder, name, label, random, size=[(48, 40), (40, 56), (44, 44)][int(random.integers(3))])
            rows.append((name, CLASSES[label], split, " ".join(map(str, box)) if boxes else ""))
    with (folder / "list.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("path", "label", "split", "box"), *rows])
    return folder / "list.csv"


def net_of(task, said=None, classes=CLASSES, **more):
    """A net that says one thing whatever it sees: of each class (or once) a centre and a size, of its crop."""
    contract = Contract.of(
        replace(SHAPE, classes=len(classes)), classes, mean=(0.0,) * 3, std=(255.0,) * 3, scales=(36, 36), task=task,
        **more,
    )  # fmt: skip
    net = build(contract).eval()
    with torch.no_grad():
        for p in net.net.parameters():
            p.zero_()
        net.net.fc8.bias.copy_(torch.tensor(said, dtype=torch.float32).flatten())
    return net
