"""One photo: bytes to upright RGB, and rescaling so that the smallest side is S.

Inside this room a photo is a Pillow image of mode RGB; it leaves as uint8. One resizer serves training,
testing and serving: Pillow's bilinear filter with antialiasing, because it alone can rescale just the
window that a crop needs and give the pixels that rescaling the whole photo would have given, to within
two grey levels: Pillow rounds after each direction, so some differ by one and a very few by two.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from verydeep.errors import PhotoError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"})
MAX_PIXELS = 64_000_000
MAX_SIDE = 65_535  # beyond it the resizer's single precision shows
MAX_BYTES = 256 << 20
MAX_SCANS = 256
MAX_ASPECT = 8

Pixels = npt.NDArray[np.uint8]


def read(path: Path, smallest_side: int | None = None) -> Image.Image:
    """The photo in a file. Raises PhotoError naming the file."""
    return decode(file_bytes(path), str(path), smallest_side)


def file_bytes(path: Path) -> bytes:
    """What a photo's file holds. Raises PhotoError naming the file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PhotoError(str(path), f"has {path.stat().st_size >> 20} MiB, more than the {MAX_BYTES >> 20} MiB allowed")
        return path.read_bytes()
    except OSError as e:
        raise PhotoError(str(path), f"cannot be read ({e.strerror or e})") from e
    except ValueError as e:  # a name that no file can have
        raise PhotoError(ascii(str(path)), f"cannot be read ({e})") from e


def decode(data: bytes, name: str, smallest_side: int | None = None) -> Image.Image:
    """An upright RGB photo from the bytes of a JPEG, PNG, WebP, BMP, GIF or TIFF file.

    EXIF orientation is applied, CMYK and 16-bit pixels are converted, transparent parts become white,
    and of an animation the first frame is taken. Raises PhotoError with `name` for anything else; sizes
    are checked before a pixel is decoded.
    """
    if not data:
        raise PhotoError(name, "is empty")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > MAX_SCANS:
        raise PhotoError(name, f"is a JPEG of more than {MAX_SCANS} scans; save it again as an ordinary JPEG")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError(name, f"has {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} allowed")
            if max(image.size) > MAX_SIDE:
                raise PhotoError(name, f"is {image.width} x {image.height} pixels; no side may be longer than {MAX_SIDE:,}")
            image.load()
            return upright(to_rgb(image, name), image)
    except PhotoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:  # the latter where warnings are errors
        raise PhotoError(name, f"has more pixels than the {MAX_PIXELS:,} allowed") from e
    except UnidentifiedImageError as e:
        raise PhotoError(name, f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} photo") from e
    except MemoryError:
        raise
    except Exception as e:  # decoders raise whatever a broken file leads them to
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise PhotoError(name, f"is damaged or cut short ({reason})") from e


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = from_16_bit(image, name)
    elif image.mode == "F":
        raise PhotoError(name, "has floating-point pixels, whose range is unknown; save it with 8 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def from_16_bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of 0-65535 to 0-255; Pillow itself would clip it to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PhotoError(name, f"has pixels from {values.min()} to {values.max()}, expected 0 to 65535; save it with 8 bits")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if isinstance(key := image.info.get("transparency"), int):
        opaque = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, opaque))
    return grey


def upright(rgb: Image.Image, opened: Image.Image) -> Image.Image:
    try:
        orientation = opened.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing; the pixels are still good
        return rgb
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)  # EXIF's numbers to Image.Transpose's
    return rgb if turn is None else rgb.transpose(Image.Transpose(turn))


def scaled_size(height: int, width: int, smallest_side: int) -> tuple[int, int]:
    """(height, width) after isotropic rescaling to smallest side S (section 3.1)."""
    short = min(height, width)
    return round(height * smallest_side / short), round(width * smallest_side / short)


def rescale(photo: Image.Image, smallest_side: int, window: tuple[int, int, int, int] | None = None) -> Pixels:
    """The photo at smallest side S, or only its window (top, left, height, width) there: uint8 H x W x 3.

    A window is that part of the whole rescaled photo but for rounding: in rare cases up to 2 grey levels differ.
    """
    height, width = scaled_size(photo.height, photo.width, smallest_side)
    top, left, rows, columns = window or (0, 0, height, width)
    down, across = photo.height / height, photo.width / width
    box = (left * across, top * down, min((left + columns) * across, photo.width), min((top + rows) * down, photo.height))
    return np.asarray(photo.resize((columns, rows), Image.Resampling.BILINEAR, box=box))


def centre_window(height: int, width: int, crop: int) -> tuple[int, int, int, int]:
    """(top, left, crop, crop) in the middle of a rescaled photo."""
    return (height - crop) // 2, (width - crop) // 2, crop, crop


def centre_crop(photo: Image.Image, smallest_side: int, crop: int) -> Pixels:
    """The middle crop at smallest side S: uint8 crop x crop x 3."""
    size = scaled_size(photo.height, photo.width, smallest_side)
    return rescale(photo, smallest_side, centre_window(*size, crop))


def middle(photo: Image.Image, smallest_side: int) -> Pixels:
    """The whole photo at smallest side S, but of a photo longer than 8:1 only the middle 8:1 part."""
    height, width = scaled_size(photo.height, photo.width, smallest_side)
    rows, columns = min(height, MAX_ASPECT * smallest_side), min(width, MAX_ASPECT * smallest_side)
    return rescale(photo, smallest_side, ((height - rows) // 2, (width - columns) // 2, rows, columns))


def encode(pixels: Pixels, format: str = "PNG") -> bytes:
    """A file's bytes of uint8 H x W x 3 pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format)
    return out.getvalue()


def from_memory(given: object, name: str) -> Image.Image:
    """A photo from a Pillow image or a uint8 array H x W x 3 (or H x W, grey). Raises PhotoError."""
    try:
        if isinstance(given, Image.Image) and given.width and given.height:
            return upright(to_rgb(given, name), given)
        array = np.asarray(given)
    except (OSError, ValueError) as e:  # a lazily opened file that is damaged, a mode without RGB, a ragged list
        raise PhotoError(name, f"cannot be used ({e}); expected a path, a Pillow image or uint8 H x W x 3") from e
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise PhotoError(name, f"is {array.dtype} of shape {array.shape}; expected a path, a Pillow image or uint8 H x W x 3")
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
