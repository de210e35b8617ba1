"""Raw pixels, what is most often mistaken for them, and photos however they are given."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from verydeep.colours import PLAINLY, Reading
from verydeep.data import photo
from verydeep.errors import LongPhotoError, ModelError

WANTED = "uint8 of shape N x 3 x H x W in RGB"
FORWARD_PIXELS = 4 << 20  # in one forward pass: block 1 of net D takes 256 bytes a pixel and map


def check_pixels(photos: Tensor) -> None:
    """Raises ModelError for anything but raw pixels, uint8 N x 3 x H x W, with what it looks like and what to do."""
    if not isinstance(photos, Tensor):
        raise ModelError(f"photos are a {type(photos).__name__}; expected a tensor, {WANTED}: torch.from_numpy")
    if photos.ndim != 4 or photos.shape[1] != 3 or photos.dtype != torch.uint8:
        given = f"{str(photos.dtype).removeprefix('torch.')} of shape {tuple(photos.shape)}"
        looks = other_shape(photos) or other_values(photos)
        raise ModelError(f"photos are {given}; expected raw pixels, {WANTED}; {looks}")


def other_shape(photos: Tensor) -> str:
    if photos.ndim == 3:
        return "one photo: add a batch dimension with photo[None]" + ("" if photos.shape[0] == 3 else ", colours first")
    if photos.ndim == 4 and photos.shape[1] != 3 and photos.shape[3] == 3:
        return "its colours stand last: photos.permute(0, 3, 1, 2) puts them first"
    if photos.ndim != 4 or photos.shape[1] != 3:
        return "grey photos need three equal colours, transparent ones no fourth; stack photos of one size"
    if photos.is_complex() or not photos.numel() or photos.is_meta:
        return "convert the photos as they were decoded"
    return ""


def other_values(photos: Tensor) -> str:
    low, high = float(photos.min()), float(photos.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return "some values are no finite numbers, so they are no pixels"
    scale = "divided by a standard deviation" if max(-low, high) < 20 else "in 0-255 units"
    normalised = f"a mean subtracted and {scale}; give the pixels before that, the net subtracts its own mean"
    likely = (
        (-0.1 < low < 0 and 0.5 < high < 1.1,
         "pixels of 0-1 that were rescaled: (photos * 255).round().clamp(0, 255).to(torch.uint8)"),
        (low < 0, f"normalised pixels, {normalised}"),
        (high <= 1, "pixels of 0-1: (photos * 255).round().to(torch.uint8)"),
        (high < 20, "very dark pixels of 0-255, or pixels with a mean subtracted; give uint8 as it was decoded"),
        (high <= 255, "pixels of 0-255: photos.round().to(torch.uint8)"),
        (True, "pixels of more than 8 bits; scale them to 0-255 and convert to uint8"),
    )  # fmt: skip
    return f"values from {low:.4g} to {high:.4g} look like {next(what for fits, what in likely if fits)}"


def photo_of(given: object, name: str, reading: Reading = PLAINLY) -> Image.Image:
    """A photo from a path, the bytes of a file, an open file, a Pillow image or a uint8 array. Raises PhotoError."""
    if isinstance(given, (str, Path)):
        return photo.from_file(Path(given), reading=reading)
    if isinstance(given, bytes):
        return photo.decode(given, name, reading=reading)
    if callable(read := getattr(given, "read", None)):
        return photo.decode(read(photo.MAX_BYTES + 1), name, reading=reading)
    return photo.from_memory(given, name, reading)


def is_long(image: Image.Image) -> bool:
    """Whether a photo is beyond 8:1 and might, whole, fill the memory."""
    return max(image.size) > photo.MAX_ASPECT * min(image.size)


def too_long(image: Image.Image, name: str) -> LongPhotoError:
    size = f"{image.width} x {image.height}"
    return LongPhotoError(name, f"is {size}, longer than {photo.MAX_ASPECT}:1, too long for dense evaluation")


def both_ways(score: Callable[[Tensor], Tensor], photos: Tensor) -> tuple[Tensor, Tensor]:
    """What a net says of uint8 photos, N x 3 x H x W, and of their mirror images; small ones go through together."""
    if 2 * photos[:, 0].numel() > FORWARD_PIXELS:
        return score(photos), score(photos.flip(3))
    photos, mirrored = score(torch.cat([photos, photos.flip(3)])).chunk(2)  # the weights are prepared once
    return photos, mirrored
