"""What parity.py compares on: files of many shapes and kinds, made from a seed, and a net with random weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.net.classifier import Classifier, build
from verydeep.net.initialise import initialise

Pixels = np.ndarray[Any, Any]  # uint8 H x W x 3
Row = np.ndarray[Any, Any]  # posteriors, K

SAVED: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 90}, "444.jpg": {"quality": 95, "subsampling": 0, "progressive": True}, "png": {},
}  # fmt: skip
KINDS = [("RGB", "jpg"), ("RGB", "444.jpg"), ("CMYK", "jpg"), ("L", "jpg"), ("RGB", "png"), ("L", "png"),
         ("I;16", "png"), ("P", "png"), ("P-clear", "png"), ("RGBA", "png"), ("LA", "png")]  # fmt: skip
SHAPES: list[Callable[[int, int, int], tuple[float, float]]] = [  # height and width as stored, by crop, Q and round
    lambda crop, q, n: (1.3 * q + n, 1.9 * q),
    lambda crop, q, n: (q, 1.4 * q + n),
    lambda crop, q, n: (q + n + 2, 3 * (q + n + 2)),
    lambda crop, q, n: (3 * (q + n + 3), q + n + 3),
    lambda crop, q, n: (9, 13 + n),
    lambda crop, q, n: (0.6 * q, 0.7 * q + n),
    lambda crop, q, n: (2.6 * q + n, 2.3 * q),
    lambda crop, q, n: (crop + n, crop),
    lambda crop, q, n: (4 * q + n, q + 7),
]

RANDOM = Contract("D", tuple(f"class {i}" for i in range(20)), 224, 256, 16, False, "up", (120.0,) * 3, (60.0,) * 3,
                  (256, 256))  # fmt: skip


def make_photos(folder: Path, count: int, crop: int, scale: int, seed: int = 0) -> list[Path]:
    """Soft colours with a bright disc and a dark bar; any 12 in a row have all kinds, orientations and shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for i in range(count):
        (mode, suffix), orientation, random = KINDS[i % len(KINDS)], 1 + (i + 5) % 8, np.random.default_rng([seed, i])
        height, width = (round(side) for side in SHAPES[i % len(SHAPES)](crop, scale, 2 * (i // len(SHAPES))))
        image, more = Image.fromarray(scene(height, width, random)), SAVED[suffix]
        if mode == "I;16":
            grey = np.asarray(image.convert("L")).astype(np.uint16)
            image = Image.fromarray(grey * 256 + random.integers(0, 256, grey.shape, dtype=np.uint16))
        elif mode.startswith("P"):
            image, more = image.convert("RGB").quantize(16), {"transparency": 7} if mode == "P-clear" else {}
        else:
            image = image.convert(mode)
        exif = Image.Exif()
        exif[0x0112] = orientation
        found.append(folder / f"{i:02}-{mode.replace(';', '')}-{orientation}-{height}x{width}.{suffix}")
        image.save(found[-1], exif=exif, **more)
    return found


def scene(height: int, width: int, random: np.random.Generator) -> Pixels:
    """uint8 H x W x 4, the last being how clear it is; turned or mirrored it is another."""
    small = random.integers(0, 256, (*random.integers(2, 9, 2), 4), dtype=np.uint8)
    pixels = np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    pixels[np.hypot(rows - 0.3, columns - 0.3) < 0.2, :3] = random.integers(150, 256, 3)
    pixels[height // 2 : height // 2 + 2 + height // 9, : width // 2, :3] = random.integers(0, 90, 3)
    return pixels


def by_pillow(path: Path) -> Pixels:
    """Upright RGB, clear parts on white, 16 bits by 257."""
    with Image.open(path) as opened:
        image: Any = ImageOps.exif_transpose(opened)
    if image.mode == "I;16":
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy())[None].permute(0, 3, 1, 2)


def seen_of(image: Image.Image, net: Classifier, dense: bool) -> Pixels:
    scale = net.contract.test_scale
    return photo.rescale(image, scale) if dense else photo.centre_crop(image, scale, net.contract.crop)


def reference(path: Path, net: Classifier, dense: bool) -> Row:
    """Posteriors by the Classifier in fp32, of a file: the centre crop, or the whole photo without its mirror image."""
    if not dense:
        return net.predict([path])[0].numpy()
    return net.predict(tensor(seen_of(photo.from_file(path, reading=net.contract.reading), net, True)))[0].numpy()


def random_net(out: Path, paths: Sequence[Path]) -> str:
    """Over these photos the logits of a class are 0 in the mean and 2 in deviation, so that answers differ."""
    net = build(RANDOM)
    initialise(net.net, "glorot")
    last = net.net.fc8
    with torch.no_grad():
        logits = net.eval()(torch.cat([tensor(seen_of(Image.fromarray(by_pillow(p)), net, False)) for p in paths]))
        last.weight.mul_(2 / logits.std(0)[:, None])
        last.bias.sub_(logits.mean(0)).mul_(2 / logits.std(0))
    net.save(out / "random.safetensors")
    return str(out / "random.safetensors")
