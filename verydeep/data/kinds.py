"""What a file is, by its first bytes: the formats that are read, with what opens them, and the names of others."""

import io
import struct
from typing import Any

from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError, features

from verydeep.data.limits import Refused

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
NAMES = "JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, AVIF or HEIC"
SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".hif",
    )
)  # fmt: skip
JPEG = b"\xff\xd8"
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
OTHERS = (  # bytes at a place, in lower case, and what they say
    (0, b"%pdf", "a PDF document"), (0, b"8bps", "a Photoshop file"), (0, b"%!ps", "a PostScript drawing"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript drawing"), (0, b"<!doctype html", "a web page"), (0, b"<html", "a web page"),
    (0, b"<svg", "an SVG drawing"), (0, b"\xff\x0a", "a JPEG XL photo"), (4, b"jxl \r\n", "a JPEG XL photo"),
    (4, b"jp  \r\n", "a JPEG 2000 photo"), (0, b"\xff\x4f\xff\x51", "a JPEG 2000 photo"),
    (4, b"ftypcrx", "a camera's raw file"), (8, b"cr\2\0", "a camera's raw file"),
    (0, b"fujifilm", "a camera's raw file"),
    (4, b"ftyp", "a film"), (8, b"avi ", "a film"), (0, b"\x1aE\xdf\xa3".lower(), "a film"),
    (0, b"pk\3\4", "a ZIP archive"), (0, b"rar!", "a RAR archive"), (0, b"\x1f\x8b", "a gzip archive"),
    (128, b"dicm", "a DICOM file"), (0, b"#?radiance", "a Radiance HDR photo"), (0, b"v/1\1", "an OpenEXR photo"),
    (0, b"version https://git-lfs", "a pointer of Git LFS ('git lfs pull' fetches the file)"),
    (0, b"\x93numpy", "a NumPy array"), (0, b"\x89hdf", "an HDF5 file"), (0, b"\0\0\1\0", "an icon"),
    (0, b"\0\0\2\0", "an icon"), (0, b"{", "JSON text"), (0, b"<?xml", "XML text, perhaps an SVG drawing"),
)  # fmt: skip


def open_image(data: bytes) -> Any:
    """An opened Pillow image whose pixels are not decoded yet. Raises what Pillow raises, and Refused."""
    if data.startswith(JPEG):  # past Image.open's limit of pixels: larger ones are decoded smaller
        try:
            return JpegImagePlugin.jpeg_factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error) as e:
            raise UnidentifiedImageError("no JPEG") from e
    if data[8:10] == b"CR":  # a TIFF of previews
        raise UnidentifiedImageError("a raw file")
    return Image.open(io.BytesIO(data), formats=("HEIF",) if is_heic(data) else FORMATS)


def is_heic(data: bytes) -> bool:
    """Whether a file is HEIC; from then on Pillow opens such files. Raises Refused without what opens it, or AVIF."""
    if data[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[i : i + 4] for i in range(8, size, 4)}
    if brands & {b"avif", b"avis"}:
        if not features.check("avif"):
            raise Refused("is an AVIF photo; pip install -U Pillow reads it")
        return False
    if not brands & HEIC:
        return False
    try:
        import pillow_heif
    except ImportError as e:
        raise Refused("is a HEIC photo; pip install 'verydeep[heic]' reads it") from e
    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener(thumbnails=False)
    return True


def unidentified(data: bytes) -> str:
    """What to say of a file that Pillow does not know."""
    if not data:
        return "is empty"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and data[8:10] != b"CR":
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8] if data[2:4] != b"+\0" else data[:16])
            file = io.BytesIO(data)
            file.seek(tags.next)
            tags.load(file)
            return f"is a TIFF of {layout(tags)}, which is not read; save it as 8-bit RGB"
        except Exception:  # whatever a damaged directory leads to
            return "is damaged or cut short (a TIFF without a directory)"
    start = data[:200].removeprefix(b"\xef\xbb\xbf").lower()
    start = start.lstrip() if start.lstrip().startswith(b"<") else start
    what = next((name for place, sign, name in OTHERS if start[place : place + len(sign)] == sign), "")
    return f"is {what}, not a {NAMES} photo" if what else f"is not a {NAMES} photo"


def layout(tags: Any) -> str:
    """A TIFF's pixels in a few words."""
    kind = {2: "signed ", 3: "floating-point "}.get(max(tags.get(339) or (1,)), "")
    samples, bits = int(tags.get(277) or 1), "/".join(map(str, sorted(set(tags.get(258) or (1,)))))
    apart = " in separate planes" if samples > 1 and tags.get(284) == 2 else ""
    colours = {0: "white is zero", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
    return f"{samples} x {bits} {kind}bits ({colours.get(tags.get(262), 'colours of another kind')}{apart})"


def check_tiff(image: TiffImagePlugin.TiffImageFile) -> dict[str | tuple[int, int], object]:
    """What an opened TIFF's mode hides, for its info. Raises Refused for layouts that Pillow would read as others."""
    tags = image.tag_v2
    bits, kind = max(tags.get(258) or (1,)), max(tags.get(339) or (1,))
    samples, extra = int(tags.get(277) or 1), tuple(tags.get(338) or ())
    grey = tags.get(262) in (0, 1)
    bands = grey and samples > 1 and not (samples == 2 and extra in ((1,), (2,)) and tags.get(284) != 2)
    planes = tags.get(284) == 2 and samples > 1 and bits > 8 and image.info.get("compression") == "raw"
    if bands or planes or (kind == 2 and bits < 16) or (tags.get(262) == 0 and (kind != 1 or bits > 16)):
        raise Refused(f"is a TIFF of {layout(tags)}, which is not read; save it as 8-bit RGB, or as grey of one sample")
    found: dict[str | tuple[int, int], object] = {"signed": True} if kind == 2 and bits == 16 else {}
    if kind == 1 and bits == 32:
        found["unsigned"] = True
    if grey and 8 < bits < 16:
        found["top"] = (1 << bits) - 1
    if tags.get(262) == 0 and bits > 8:
        found["inverted"] = True
    return found


def is_deep_colour(image: Any, data: bytes) -> bool:
    """Whether each colour, or grey beside its transparency, has more than 8 bits; Pillow gives the high ones."""
    if image.mode.startswith("I") or image.mode == "F":
        return False
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return isinstance(image, TiffImagePlugin.TiffImageFile) and max(image.tag_v2.get(258) or (1,)) > 8
