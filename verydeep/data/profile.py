"""Embedded colour profiles (ICC.1) to sRGB: phones write Display P3, cameras Adobe RGB, printers CMYK."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageCms import ImageCmsTransform as ImageCmsTransform

LARGEST = 3 << 20  # bytes; those of printing presses have up to 2.7 MiB
PROBE = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 15)]), -1).reshape(1, -1, 3).astype(np.uint8)
AS_SRGB = 2  # grey levels by which the many spellings of sRGB differ
MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
GREY = ("1", "L", "LA", "I", "F")


class Unfit(Exception):
    """A profile that is damaged, or of other colours than its photo."""


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """The conversion of pixels of a mode, by the profile's own default (perceptual); None where they are sRGB already.

    Raises Unfit. That a profile is sRGB is seen by what it does to 5,832 colours, not by its name.
    """
    try:
        if len(profile) > LARGEST:
            raise Unfit
        given, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        own = MODES[given.profile.xcolor_space]
        if (own == "CMYK") != (mode == "CMYK") or (own == "L" and mode.split(";")[0] not in GREY):
            raise Unfit
        exact = ImageCms.Flags.NOOPTIMIZE if own == "L" else ImageCms.Flags.NONE  # dark greys would be 7 levels off
        found = ImageCms.buildTransform(given, srgb, own, "RGB", flags=exact)
        if own == "CMYK":
            return found
        probe = Image.fromarray(PROBE) if own == "RGB" else Image.linear_gradient("L")
        moved = np.asarray(ImageCms.applyTransform(probe, found)).astype(int) - np.asarray(probe.convert("RGB"))
    except Exception as e:  # whatever a damaged profile leads to
        raise Unfit from e
    return None if np.abs(moved).max() <= AS_SRGB else found


def conversion(image: Image.Image) -> ImageCmsTransform | None:
    """What converts an image by the profile that it carries; None for none, for sRGB, and for one that is unfit."""
    profile = image.info.get("icc_profile")
    try:
        return to_srgb(profile, image.mode) if profile else None
    except Unfit:
        return None


def converted(image: Image.Image, by: ImageCmsTransform, in_place: bool = False) -> Image.Image:
    found = ImageCms.applyTransform(image, by, inPlace=in_place)
    return image if found is None else found
