"""A photo's way from JPEG to a crop of 224 at S = 256, on one thread: milliseconds, and ratios to plain Pillow.

    python benchmarks/decoding.py --repeats 15

Plain Pillow decodes the whole photo, rescales the whole photo and crops it. Ours rescales only the window of the
crop; for training it also decodes no more than it needs. The three take turns; medians, and medians of the
ratios of neighbours. Photos are made here: noise smoothed at four scales, a little of it sharp, quality 85.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data import photo

SIZES = ((640, 427), (2400, 1600), (4000, 3000))
SCALE, CROP = 256, 224


def natural(width: int, height: int) -> bytes:
    """A JPEG of about 1.3 to 2.3 bits a pixel, as photos have."""
    random = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 128, np.float32)
    for patches, strength in ((8, 0.75), (32, 0.45), (128, 0.25), (512, 0.13)):
        size = (max(2, height * patches // width), patches, 3)
        noise = Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        pixels += (np.asarray(noise).astype(np.float32) - 128) * np.float32(strength)
    pixels += 3 * random.standard_normal((height, width, 1), dtype=np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def plain(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
    height, width = photo.scaled_size(rgb.height, rgb.width, SCALE)
    top, left, rows, columns = photo.centre_window(height, width, CROP)
    whole = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(whole.crop((left, top, left + columns, top + rows)))


def window(data: bytes) -> npt.NDArray[np.uint8]:
    return photo.centre_crop(photo.decode(data, "photo.jpg"), SCALE, CROP)


def scaled(data: bytes) -> npt.NDArray[np.uint8]:
    return photo.centre_crop(photo.decode(data, "photo.jpg", SCALE), SCALE, CROP)


def milliseconds(way: Callable[[bytes], npt.NDArray[np.uint8]], data: bytes, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        way(data)
    return (time.perf_counter() - began) / times * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    ways = {"Pillow": plain, "ours": window, "ours, scaled": scaled}
    print(
        f"{'photo':>12}{'KiB':>7}"
        + "".join(f"{name + ' ms':>17}" for name in ways)
        + f"{'ours x':>9}{'scaled x':>10}{'levels':>8}"
    )
    for width, height in SIZES:
        data = natural(width, height)
        times = max(1, 4_000_000 // (width * height))
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                taken[name].append(milliseconds(way, data, times))
        ratios = [
            statistics.median(a / b for a, b in zip(taken["Pillow"], taken[n], strict=True))
            for n in ("ours", "ours, scaled")
        ]
        apart = np.abs(window(data).astype(int) - scaled(data)).mean()  # what scaled decoding changes, in grey levels
        shown = "".join(f"{statistics.median(t):>17.2f}" for t in taken.values())
        print(f"{f'{width} x {height}':>12}{len(data) >> 10:>7}{shown}{ratios[0]:>9.2f}{ratios[1]:>10.2f}{apart:>8.2f}")


if __name__ == "__main__":
    main()
