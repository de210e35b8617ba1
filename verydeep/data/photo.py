"""One photo: bytes to upright RGB, and rescaling so that the smallest side is S.

Inside this room a photo is a Pillow image of mode RGB; it leaves as uint8. One resizer for all: Pillow's bilinear
filter with antialiasing.
"""

import io
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from verydeep.colours import PLAINLY, Reading
from verydeep.data import kinds, limits
from verydeep.data.kinds import JPEG, check_tiff, is_deep_colour, open_image, unidentified
from verydeep.data.limits import Refused
from verydeep.data.turning import TURNS, exif_orientation, upright, upright_size
from verydeep.data.values import strips, to_rgb
from verydeep.errors import PhotoError
from verydeep.files.disk import open_regular

FORMATS, SUFFIXES = kinds.FORMATS, kinds.SUFFIXES
MAX_BYTES = 128 << 20
END, FILLER = b"\xff\xd9", b"\x5a\xa5\x3c\xc3" * 16  # the end marker of a JPEG, and bits that no photo goes on with
FULL_ENOUGH = 2048  # smallest side at which pixels are compared
MAX_ASPECT = 8
EXPECTED = "expected a path, a Pillow image or uint8 H x W x 3"

IN_FILE = "size in file"  # of Image.info, where a photo was decoded smaller: its upright height and width

Pixels = npt.NDArray[np.uint8]


class PixelSize(NamedTuple):
    """Of an upright photo as it was decoded, in pixels; in_file: height and width that its file has."""

    height: int
    width: int
    in_file: tuple[int, int]

    @classmethod
    def of(cls, image: Image.Image) -> "PixelSize":
        return cls(image.height, image.width, image.info.get(IN_FILE, (image.height, image.width)))


def from_file(path: Path, smallest_side: int | None = None, reading: Reading = PLAINLY) -> Image.Image:
    """The photo in a file, as `decode` gives it. Raises PhotoError naming the file."""
    return decode(file_bytes(path), str(path), smallest_side, reading)


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


def decode(data: bytes, name: str, smallest_side: int | None = None, reading: Reading = PLAINLY) -> Image.Image:
    """An upright photo in sRGB from the bytes of a file in one of FORMATS, or HEIC.

    EXIF orientation is applied, colours become what `reading` says, and of an animation the first frame is taken.
    Raises PhotoError with `name` for anything else, also for what would cost too much, before a pixel is decoded. With
    `smallest_side`, in pixels, a JPEG may come at 1/2, 1/4 or 1/8 of its size, no side below that: for training only,
    because once rescaled its pixels differ by about half a grey level. One too large for the memory always comes so.
    """
    try:
        check_size(len(data))
        found = None
        try:
            found = stored_pixels(data, smallest_side, reading)
        except OSError:
            if not lacks_end(data):
                raise
        stored, orientation = found or stored_pixels(with_end(data), smallest_side, reading)
        del found
        rgb, whole = to_rgb(stored, reading), stored.info.get(IN_FILE)
        del stored  # there is room for two copies, and turning makes one
        turned = upright(rgb, orientation)
        turned.info = {IN_FILE: upright_size(whole, orientation)} if whole else {}  # nothing is done a second time
        return turned
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
        return unidentified(data)
    return f"is damaged or cut short ({(str(error).strip() or repr(error)).splitlines()[0]})"


def stored_pixels(data: bytes, smallest_side: int | None, reading: Reading = PLAINLY) -> tuple[Image.Image, int]:
    """The pixels as they are stored, apart from their decoder, and EXIF's orientation of them.

    Measured and left out: simplejpeg. Its pixels are the same (3,900 JPEGs), and so is its time. Its fractions of 5/8
    to 7/8 take longer than the whole photo, and 3/8 as long as 4/8.
    """
    hidden = limits.hidden_memory(data)
    with open_image(data) as image:
        part = limits.part_that_fits(image, data, hidden)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            image.info.update(check_tiff(image))
        if reading.range != "full" and is_deep_colour(image, data):
            raise Refused("has more than 8 bits in several colours, and --range is for grey alone; save it with 8 bits")
        whole = image.height, image.width
        if smallest_side is not None and min(whole) // smallest_side >= part:
            image.draft(image.mode, (smallest_side, smallest_side))
        elif part > 1:
            image.draft(image.mode, (image.width // part, image.height // part))
        image.load()
        if (image.height, image.width) != whole:
            image.info[IN_FILE] = whole
        orientation = exif_orientation(image)
        if orientation in TURNS and image.mode != "RGB":  # what is RGB already can be turned through a file
            limits.check_memory(image.size, len(data) + 8 * image.width * image.height)
        return image._new(image.im), orientation


def with_end(data: bytes) -> bytes:
    """A JPEG without its end marker, with one, if nothing else lacks. Raises OSError."""
    if limits.hidden_memory(data):  # several scans, of which any may lack
        raise OSError("the file ends within its pixels")
    sums = []
    for tail in (b"", FILLER):  # seen where pixels lack
        image = stored_pixels(data + tail + END, FULL_ENOUGH)[0]
        sums.append([zlib.crc32(image.crop(box).tobytes()) for box in strips(image)])
        del image
    if sums[0] != sums[1]:
        raise OSError("the file ends within its pixels")
    return data + END


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG has no end marker after its first scan; one of a thumbnail before that, or of a film behind the
    photo, is not its own."""
    place = 2
    for _ in range(limits.MAX_BLOCKS):
        if data[place : place + 1] != b"\xff" or data[place + 1 : place + 2] == b"\xda":
            break
        filled = data[place + 1 : place + 2] == b"\xff"
        place += 1 if filled else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data.startswith(JPEG) and data.find(END, place) < 0


def scaled_size(height: int, width: int, smallest_side: int) -> tuple[int, int]:
    """(height, width) after isotropic rescaling to smallest side S (section 3.1)."""
    short = min(height, width)
    return round(height * smallest_side / short), round(width * smallest_side / short)


def rescale(
    photo: Image.Image, smallest_side: int, window: tuple[int, int, int, int] | None = None, mirror: bool = False
) -> Pixels:
    """The photo at smallest side S, or only its window (top, left, height, width) there: uint8 H x W x 3.

    A window is that part of the rescaled photo but for rounding: some pixels differ by a grey level or two.
    """
    height, width = scaled_size(photo.height, photo.width, smallest_side)
    top, left, rows, columns = window or (0, 0, height, width)
    down, across = photo.height / height, photo.width / width
    right, bottom = min((left + columns) * across, photo.width), min((top + rows) * down, photo.height)
    box = (left * across, top * down, right, bottom)
    if (rows, columns) == (height, width):  # lines first
        photo, box = photo.resize((width, photo.height), Image.Resampling.BILINEAR), (0, 0, width, photo.height)
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


def from_memory(given: object, name: str, reading: Reading = PLAINLY) -> Image.Image:
    """A photo from a Pillow image or uint8 H x W x 3 (or H x W, grey). Raises PhotoError."""
    try:
        if isinstance(given, Image.Image) and given.width and given.height:
            given.load()
            own = given.copy() if "icc_profile" in given.info else given  # whose pixels may be converted
            turned = upright(rgb := to_rgb(own, reading), exif_orientation(given))
            if turned is not rgb:
                turned.info = {}  # which would turn it again
            return turned
        array = np.asarray(given)
        if array.dtype != np.uint8 or array.shape[2:] not in ((), (3,)) or array.ndim < 2 or not array.size:
            raise Refused(f"is {array.dtype} of shape {array.shape}; {EXPECTED}")
    except Refused as e:
        raise PhotoError(name, str(e)) from e
    except (OSError, ValueError) as e:  # a lazily opened file that is damaged, a mode without RGB, a ragged list
        raise PhotoError(name, f"cannot be used ({e}); {EXPECTED}") from e
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
