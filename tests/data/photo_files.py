"""Files of photos, made here: by Pillow, or by hand where Pillow would not write them. And a measure of chance."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2, rows: bytes | None = None) -> bytes:
    """Colour 0 is grey, 2 RGB, 4 grey and alpha; all zeros where `rows`, with their filter bytes, are not given."""
    if rows is None:
        line = 1 + width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8
        squeezer = zlib.compressobj(1)
        packed = b"".join(squeezer.compress(bytes(line)) for _ in range(height)) + squeezer.flush()
    else:
        packed = zlib.compress(rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def chi_square(counts: list[int]) -> float:
    """Of counts that should be alike, about 1 by chance."""
    expected = sum(counts) / len(counts)
    return sum((c - expected) ** 2 / expected for c in counts) / (len(counts) - 1)
