"""Stored values to 8-bit sRGB as a `Reading` says, in strips, so that no second photo is needed."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.colours import PLAINLY, Reading
from verydeep.data.limits import Refused
from verydeep.data.profile import ImageCmsTransform, conversion, converted

STRIP = 1 << 18  # pixels converted at a time
SIXTEEN = (0.0, 65535.0)
INVERTED, UNSIGNED, SIGNED, TOP = "inverted", "unsigned", "signed", "top"  # in an image's info: what its mode hides

Values = npt.NDArray[np.generic]


def to_rgb(image: Image.Image, reading: Reading = PLAINLY) -> Image.Image:
    """The photo on its background, strip by strip: itself where it is RGB already; its own pixels may be converted."""
    convert = conversion(image) if reading.colour_profiles == "convert" and "icc_profile" in image.info else None
    if image.mode == "RGB" and "transparency" not in image.info:
        if convert:
            converted(image, convert, in_place=True)
        return image
    span = span_of(image, reading) if is_deep(image) else SIXTEEN
    rgb = Image.new("RGB", image.size)
    for box in strips(image):
        rgb.paste(strip_to_rgb(image.crop(box), reading, span, convert), box)
    return rgb


def is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def strip_to_rgb(
    image: Image.Image, reading: Reading, span: tuple[float, float], convert: ImageCmsTransform | None
) -> Image.Image:
    if is_deep(image):
        image = eight_bits(image, span)
    clear = "A" in image.getbands() or "transparency" in image.info
    if clear and (convert is None or image.mode != "LA"):
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if clear else None
    if convert:
        image = converted(image if image.mode == convert.input_mode else image.convert(convert.input_mode), convert)
        image = Image.merge("RGBA", (*image.split(), alpha)) if alpha else image
    if alpha:
        image = Image.alpha_composite(Image.new("RGBA", image.size, reading.background), image)
    return image.convert("RGB")


def values_of(image: Image.Image) -> Values:
    values = np.asarray(image)
    return values.view(np.uint32) if UNSIGNED in image.info else values


def span_of(image: Image.Image, reading: Reading) -> tuple[float, float]:
    """The values that become black and white. Raises Refused where that cannot be told."""
    if isinstance(reading.range, tuple):
        return reading.range
    if reading.range == "full" and TOP in image.info:
        return 0.0, float(image.info[TOP])
    if reading.range == "full" and image.mode.startswith("I;16"):
        return SIXTEEN
    ends = np.array([(part.min(), part.max()) for part in (values_of(image.crop(box)) for box in strips(image))])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not np.isfinite(low + high):
        raise Refused("has values that are no numbers; replace them")
    if reading.range == "auto":
        return low, max(high, low + 1e-12 + abs(low) * 1e-6)
    if image.mode == "F" and low >= 0 and (high <= 1 or 32 <= high <= 255):
        return 0.0, 1.0 if high <= 1 else 255.0
    if image.mode != "F" and low >= 0 and high <= SIXTEEN[1] and SIGNED not in image.info:
        return SIXTEEN
    kind = "floating-point" if image.mode == "F" else "signed" if SIGNED in image.info else "32-bit"
    raise Refused(
        f"has {kind} pixels from {low:g} to {high:g}, and what is black and white is not said; "
        f"train with --range LOW,HIGH, such as --range {low:g},{high:g}"
    )


def eight_bits(image: Image.Image, span: tuple[float, float]) -> Image.Image:
    """Grey of a span to 0-255; Pillow itself would clip 16 bits to white."""
    values = values_of(image)
    if image.mode == "F" and not np.isfinite(values.astype(np.float32)).all():
        raise Refused("has values that are no numbers; replace them")
    if span == SIXTEEN:
        found = (np.clip(values.astype(np.int64), 0, 65535) + 128) // 257
    else:
        found = np.rint((np.clip(values.astype(np.float64), *span) - span[0]) * (255 / (span[1] - span[0])))
    grey = Image.fromarray((255 - found if INVERTED in image.info else found).astype(np.uint8))
    if isinstance(key := image.info.get("transparency"), int):
        opaque = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, opaque))
    return grey
