"""One photo: bytes to upright RGB, and rescaling so that the smallest side is S.

Inside this room a photo is a Pillow image of mode RGB; it leaves as uint8. One resizer serves training, testing and
serving: Pillow's bilinear filter with antialiasing, because it alone can rescale just the window that a crop needs.
"""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from verydeep.data import limits
from verydeep.data.limits import Refused
from verydeep.errors import PhotoError
from verydeep.files.disk import open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
)
MAX_BYTES = 128 << 20
MAX_ASPECT = 8
STRIP = 1 << 18  # pixels converted at a time, so that a conversion needs no second photo
EXPECTED = "expected a path, a Pillow image or uint8 H x W x 3"

TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's numbers to Image.Transpose's
FROM_THE_FAR_END = (1, 3, 4, 6)  # turns after which the first rows come last

Pixels = npt.NDArray[np.uint8]


def from_file(path: Path, smallest_side: int | None = None) -> Image.Image:
    """The photo in a file, as `decode` gives it. Raises PhotoError naming the file."""
    return decode(file_bytes(path), str(path), smallest_side)


def file_bytes(path: Path) -> bytes:
    """The bytes of a photo's file. Raises PhotoError naming the file."""
    try:
        with open_regular(path) as f:
            check_size(os.fstat(f.fileno()).st_size)
            return f.read()
    except Refused as e:
        raise PhotoError(str(path), str(e)) from e
    except OSError as e:
        raise PhotoError(str(path), f"cannot be read ({e.strerror or e})") from e
    except ValueError as e:  # a name that no file can have
        raise PhotoError(ascii(str(path)), f"cannot be read ({e})") from e


def check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise Refused(f"has {-(-size >> 20)} MiB, more than the {MAX_BYTES >> 20} MiB allowed")


def decode(data: bytes, name: str, smallest_side: int | None = None) -> Image.Image:
    """An upright RGB photo from the bytes of a JPEG, PNG, WebP, BMP, GIF or TIFF file.

    EXIF orientation is applied, CMYK and 16-bit pixels are converted, transparent parts become white, and of an
    animation the first frame is taken. Raises PhotoError with `name` for anything else, also for what would cost too
    much, before a pixel is decoded. With `smallest_side`, in pixels, a JPEG may come at 1/2, 1/4 or 1/8 of its size, no
    side below that: for training only, because once rescaled its pixels differ by about half a grey level.
    """
    try:
        check_size(len(data))
        stored, orientation = stored_pixels(data, smallest_side)
        rgb = to_rgb(stored)
        del stored  # there is room for two copies, and turning makes one
        return upright(rgb, orientation)
    except MemoryError:
        raise
    except Exception as e:  # decoders raise whatever a broken file leads them to
        raise PhotoError(name, reason_for(e, data)) from e


def reason_for(error: Exception, data: bytes) -> str:
    """Why a photo cannot be had, for one line."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):  # where warnings are errors
        return f"has more pixels than the {limits.MEMORY // 10**6} MB allowed can hold; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} photo" if data else "is empty"
    return f"is damaged or cut short ({(str(error).strip() or repr(error)).splitlines()[0]})"


def stored_pixels(data: bytes, smallest_side: int | None) -> tuple[Image.Image, int]:
    """The pixels as they are stored, apart from their decoder, and EXIF's orientation of them.

    Measured and left out: simplejpeg. Its pixels are the same (3,900 JPEGs), and so is its time. Its fractions of 5/8
    to 7/8 take longer than the whole photo, and 3/8 as long as 4/8.
    """
    hidden = limits.hidden_memory(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        limits.check_cost(image, data, hidden)
        size = image.size
        if smallest_side is not None:
            image.draft(image.mode, (smallest_side, smallest_side))
        image.load()
        orientation = exif_orientation(image)
        if orientation in TURNS and image.mode != "RGB":  # what is RGB already can be turned through a file
            limits.check_memory(size, len(data) + 8 * size[0] * size[1])
        return image._new(image.im), orientation


def to_rgb(image: Image.Image) -> Image.Image:
    """The photo on white, strip by strip: itself where it is RGB already."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    rgb = Image.new("RGB", image.size)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        rgb.paste(strip_to_rgb(image.crop(box)), box)
    return rgb


def strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = from_16_bit(image)
    elif image.mode == "F":
        raise Refused("has floating-point pixels, whose range is unknown; save it with 8 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 0-65535 to 0-255; Pillow itself would clip it to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise Refused(f"has pixels from {values.min()} to {values.max()}, expected 0 to 65535; save it with 8 bits")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if isinstance(key := image.info.get("transparency"), int):
        opaque = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, opaque))
    return grey


def exif_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block says nothing; the pixels are still good
        return 1


def upright(rgb: Image.Image, orientation: int) -> Image.Image:
    """The photo turned as EXIF says, never with a second one of more than 30 megapixels beside it."""
    if orientation not in TURNS:
        return rgb
    how = Image.Transpose(TURNS[orientation])
    return rgb.transpose(how) if 8 * rgb.width * rgb.height <= limits.MEMORY else turned_through_file(rgb, how)


def turned_through_file(rgb: Image.Image, how: Image.Transpose) -> Image.Image:
    """As rgb.transpose(how), strip by strip; `rgb` gives back its memory before the new photo takes its own."""
    width, height = rgb.size
    step = max(1, STRIP // width)
    strips = [(top, min(step, height - top)) for top in range(0, height, step)]
    swaps, far = how >= Image.Transpose.ROTATE_270 or how == Image.Transpose.ROTATE_90, how in FROM_THE_FAR_END
    with tempfile.TemporaryFile() as file:
        for top, rows in strips:
            file.write(rgb.crop((0, top, width, top + rows)).tobytes())
        rgb.close()
        file.seek(0)
        turned = Image.new("RGB", (height, width) if swaps else (width, height))
        for top, rows in strips:
            strip = Image.frombytes("RGB", (width, rows), file.read(3 * width * rows)).transpose(how)
            place = height - top - rows if far else top
            turned.paste(strip, (place, 0) if swaps else (0, place))
    return turned


def scaled_size(height: int, width: int, smallest_side: int) -> tuple[int, int]:
    """(height, width) after isotropic rescaling to smallest side S (section 3.1)."""
    short = min(height, width)
    return round(height * smallest_side / short), round(width * smallest_side / short)


def rescale(
    photo: Image.Image, smallest_side: int, window: tuple[int, int, int, int] | None = None, mirror: bool = False
) -> Pixels:
    """The photo at smallest side S, or only its window (top, left, height, width) there: uint8 H x W x 3.

    A window is that part of the whole rescaled photo but for rounding after each direction: some pixels differ by one
    grey level, a very few by two. Mirrored, if at all, afterwards.
    """
    height, width = scaled_size(photo.height, photo.width, smallest_side)
    top, left, rows, columns = window or (0, 0, height, width)
    down, across = photo.height / height, photo.width / width
    right, bottom = min((left + columns) * across, photo.width), min((top + rows) * down, photo.height)
    box = (left * across, top * down, right, bottom)
    rescaled = photo.resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    return np.asarray(rescaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else rescaled)


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
    """A photo from a Pillow image or uint8 H x W x 3 (or H x W, grey). Raises PhotoError."""
    try:
        if isinstance(given, Image.Image) and given.width and given.height:
            given.load()
            return upright(to_rgb(given), exif_orientation(given))
        array = np.asarray(given)
        if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2 or not array.size:
            raise Refused(f"is {array.dtype} of shape {array.shape}; {EXPECTED}")
    except Refused as e:
        raise PhotoError(name, str(e)) from e
    except (OSError, ValueError) as e:  # a lazily opened file that is damaged, a mode without RGB, a ragged list
        raise PhotoError(name, f"cannot be used ({e}); {EXPECTED}") from e
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
