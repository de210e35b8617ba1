"""What a photo from a stranger may cost: 240 MB with its file, and about a second, known before a pixel is decoded.

A small file can ask for any amount of work: pixels a header claims, scans of a progressive JPEG, text that unpacks, a
million empty blocks. `hidden_memory` walks the blocks of a file before Pillow does; `check_cost` reads what Pillow made
of its header. The costs were measured with Pillow 13.0 on one thread.
"""

import re
import struct

from PIL import ImageFile, TiffImagePlugin

MEMORY = 240_000_000  # bytes of the file, the decoder and the pixels at their peak
MAX_SIDE = 65_535  # beyond it the resizer's single precision shows
MAX_BLOCKS = 65_536  # segments, chunks and strips, at up to 2 µs each in Pillow
MAX_SCANS = 256  # usual are ten; each builds its tables anew
MAX_SCANNED = 500_000_000  # pixels x scans, at 0.5 ns or more each
MAX_PROGRESSIVE = 32 << 20  # bytes, at up to 36 ns each in the last scans; in one scan a byte takes 5
MAX_HEADER = 8 << 20  # bytes of a JPEG before its first scan; phones keep a second photo there
MAX_RUNS = 4_000_000  # pixels and bytes of a run-length BMP, which Pillow unpacks in Python
MAX_SPELLED = 1_500_000  # values of a PPM that Pillow scales in Python, at 0.8 µs each
MAX_SHRUNK = 220_000_000  # pixels of a JPEG that is decoded smaller; phones have up to 200 million
TEXT = 1 << 20  # bytes to which Pillow unpacks one chunk before it refuses
LETTERS = 5  # bytes in memory for a byte of text in a PNG: the chunk, and a string of up to four a letter

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
ALONE = {0xC8, 0xD8, *range(0xF0, 0xFE)}  # markers that Pillow reads without a length
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE_FRAME = re.compile(rb"\xff\xc2\x00[\x0b\x11\x14]\x08")
TIFF_PACKINGS = {
    "raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "zstd", "jpeg", "group3", "group4",
    "tiff_ccitt",
}  # fmt: skip
BYTES_A_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # Pillow's; all other modes 4
AGAIN, AS_PNG = "save it again as an ordinary JPEG", "save it as a PNG"


class Refused(Exception):
    """Why a photo is not taken; who knows its name makes a PhotoError of it."""


def hidden_memory(data: bytes) -> int:
    """Bytes that a file's decoder will take beside pixels. Raises Refused for blocks without end."""
    walk = next((walk for start, walk in WALKS.items() if data.startswith(start)), None)
    return walk(data) if walk else 0


def jpeg_coefficients(data: bytes) -> int:
    """A JPEG of several scans keeps two bytes for every sample until the last; an ordinary one keeps none."""
    place, steps, scans, pixels, memory, several = 2, 0, 0, 0, 0, False
    while (marker := MARKER.search(data, place, MAX_PROGRESSIVE + 2)) and marker[1] != b"\xd9":
        code, size = marker[1][0], max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big"))
        steps += 1 if scans else 1 + marker.start() - place  # Pillow looks for the next marker byte by byte
        if steps > MAX_BLOCKS or (not scans and marker.end() > MAX_HEADER):
            raise Refused(f"is a JPEG of more than {MAX_HEADER >> 20} MiB or {MAX_BLOCKS:,} parts before its photo")
        if code in FRAMES:
            frame = data[marker.end() : marker.end() + size]
            if len(frame) < 8:
                raise Refused("is damaged or cut short (in the JPEG header)")
            if code > 0xC2 or frame[2] != 8:
                raise Refused(f"is an arithmetic-coded or lossless JPEG, or one of more than 8 bits; {AGAIN}")
            height, width, layers = struct.unpack(">HHB", frame[3:8])
            sampling = [(b >> 4) * (b & 15) for b in frame[9::3][:layers]]
            pixels, several = height * width, code == 0xC2
            memory = 2 * pixels * sum(sampling) // max([*sampling, 1])
        elif code == 0xDA:
            scans += 1
            several = several or (pixels > 0 and data[marker.end() + 2 : marker.end() + 3] < frame[7:8])
            if not several:
                return 0
            if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
                raise Refused(f"is a JPEG of {scans} scans or more, too many for its size; {AGAIN}")
        place = marker.end() + (0 if code in ALONE else size)
    if (marker.start() if marker else len(data)) > MAX_PROGRESSIVE:  # without the film that may follow the photo
        raise Refused(f"is a progressive JPEG of more than {MAX_PROGRESSIVE >> 20} MiB; {AGAIN}")
    return memory


def png_text(data: bytes) -> int:
    place, memory = 8, 0
    for _ in range(MAX_BLOCKS):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if memory + len(data) > MEMORY:  # here, for Pillow reads text while it opens a file
            raise Refused(f"is a PNG with more text than the {MEMORY // 10**6} MB allowed can hold; save it without")
        if kind in (b"IEND", b""):
            return memory
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            memory += LETTERS * min(TEXT, 1032 * size)  # deflate's highest ratio
        if kind not in (b"IDAT", b"fdAT"):
            memory += LETTERS * min(size, len(data))
        place += size + 12
    raise Refused(f"is a PNG of more than {MAX_BLOCKS:,} chunks")


def gif_blocks(data: bytes) -> int:
    """Follows Pillow, which takes an extension's first block, or the first two of a counted one, even if empty."""
    place, steps = 13 + (6 << (data[10] & 7) if len(data) > 10 and data[10] & 128 else 0), 0
    while data[place : place + 1] not in (b"", b",", b";"):
        if data[place] == ord("!"):
            comment = data[place + 1 : place + 2] == b"\xfe"
            taken = 0 if comment else 2 if data[place + 1 : place + 14] == b"\xff\x0bNETSCAPE2.0" else 1
            place += 2
            while place < len(data) and steps <= MAX_BLOCKS and (data[place] or taken):
                place, steps, taken = place + 1 + data[place], steps + 1, max(0, taken - 1)
        place, steps = place + 1, steps + 1
        if steps > MAX_BLOCKS:
            raise Refused(f"is a GIF of more than {MAX_BLOCKS:,} blocks before its photo")
    return 0


def tiff_tags(data: bytes) -> int:
    """Pillow makes an object of every strip or tile that the first page lists, however small the file's photo."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    first, number, entry = (order + kinds for kinds in (("Q", "Q", "HHQ8x") if big else ("L", "H", "HHL4x")))
    try:
        (place,) = struct.unpack_from(first, data, 8 if big else 4)
        (entries,) = struct.unpack_from(number, data, place)
        place += struct.calcsize(number)
        for i in range(min(entries, MAX_BLOCKS)):
            tag, kind, count = struct.unpack_from(entry, data, place + i * struct.calcsize(entry))
            if count > MAX_BLOCKS and (tag in (273, 324) or kind not in (1, 2, 6, 7)):
                raise Refused(f"is a TIFF with {count:,} values for tag {tag}; save it with larger strips")
    except (struct.error, OverflowError):
        pass  # Pillow says what is wrong
    return 0


WALKS = {b"\xff\xd8": jpeg_coefficients, b"\x89PNG": png_text, b"GIF": gif_blocks, b"II": tiff_tags, b"MM": tiff_tags}


def part_that_fits(image: ImageFile.ImageFile, data: bytes, hidden: int) -> int:
    """1, or 2, 4 or 8 for a JPEG in one scan that fits at such a part of its sides only. Raises Refused."""
    jpeg = image.format in ("JPEG", "MPO") and not hidden and image.width * image.height <= MAX_SHRUNK
    for part in (1, 2, 4) if jpeg else ():
        try:
            check_cost(image, data, hidden, part)
            return part
        except Refused:
            continue
    check_cost(image, data, hidden, 8 if jpeg else 1)
    return 8 if jpeg else 1


def check_cost(image: ImageFile.ImageFile, data: bytes, hidden: int, part: int = 1) -> None:
    """Whether an opened photo may be decoded, at full size or a part of its sides. Raises Refused."""
    if max(image.size) > MAX_SIDE:
        raise Refused(f"is {image.width} x {image.height} pixels; no side may be longer than {MAX_SIDE:,}")
    pixels, stored = -(-image.width // part) * -(-image.height // part), BYTES_A_PIXEL.get(image.mode, 4)
    converted = 4 * (image.mode != "RGB" or "transparency" in image.info)
    if image.format == "WEBP":
        hidden += 12 * pixels  # two canvases and their copy
    elif image.format in ("AVIF", "HEIF"):
        hidden += (11 if is_plain(data) else 32) * pixels // 2
    elif image.format == "PPM" and image.tile[0].codec_name != "raw":
        if max(pixels * len(image.getbands()), len(data) // 4) > MAX_SPELLED:
            raise Refused(
                f"is a PPM of an unusual range or in plain text of more than {MAX_SPELLED:,} values; {AS_PNG}"
            )
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        hidden += tiff_memory(image, data)
    elif image.format == "BMP" and image.tile[0].codec_name == "bmp_rle" and max(pixels, len(data)) > MAX_RUNS:
        raise Refused(f"is a run-length BMP of more than {MAX_RUNS:,} pixels or bytes; {AS_PNG}")
    check_memory(image.size, len(data) + pixels * stored + max(hidden, pixels * converted))


def is_plain(data: bytes) -> bool:
    """Whether all pictures in an AVIF or HEIC have 8 bits, half the colours each way, and no transparency."""
    coded = [(b"av1C", 2, 0x7C, 0x0C), (b"hvcC", 16, 3, 1), (b"hvcC", 17, 7, 0)]  # box, byte in it, bits, their value
    found = [(m.end() + at, mask, value) for box, at, mask, value in coded for m in re.finditer(box, data[: 1 << 16])]
    return bool(found) and all(data[at] & mask == value for at, mask, value in found) and b"auxC" not in data[: 1 << 16]


def tiff_memory(image: TiffImagePlugin.TiffImageFile, data: bytes) -> int:
    """Bytes that a TIFF takes beside its pixels: one strip or tile unpacked, and a second copy to turn."""
    tags, packing = image.tag_v2, str(image.info.get("compression"))
    scans = packing == "jpeg" and PROGRESSIVE_FRAME.search(data)
    if packing not in TIFF_PACKINGS or scans:
        raise Refused(f"is a TIFF packed by {packing}{' in scans' if scans else ''}; save it with LZW or deflate")
    width, height = image.size if tags.get(274, 1) not in (5, 6, 7, 8) else image.size[::-1]
    columns, rows = (tags.get(322), tags.get(323)) if 322 in tags else (width, min(tags.get(278) or height, height))
    if not (isinstance(columns, int) and isinstance(rows, int) and columns > 0 and rows > 0):
        raise Refused("is damaged or cut short (a TIFF with strips of no size)")
    if -(-width // columns) * -(-height // rows) > MAX_BLOCKS:
        raise Refused(f"is a TIFF of more than {MAX_BLOCKS:,} strips or tiles; save it with larger ones")
    bits = max(tags.get(258) or (1,)) * (tags.get(277) or 1)
    turned = 4 * image.width * image.height if tags.get(274, 1) != 1 else 0
    return turned + (0 if packing == "raw" else columns * rows * max(4, -(-int(bits) // 8)))


def check_memory(size: tuple[int, int], need: int) -> None:
    """`need`: bytes of the file, of the pixels, and of what decodes them."""
    if need > MEMORY:
        shown = f"has {size[0]} x {size[1]} pixels and would take {-(-need // 10**6):,} MB to decode"
        raise Refused(f"{shown}, more than the {MEMORY // 10**6} MB allowed; make it smaller or {AGAIN}")
