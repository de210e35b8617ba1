"""The size of a photo and how EXIF turns it, from its header."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from verydeep.data import photo
from verydeep.data.kinds import JPEG, open_image
from verydeep.data.limits import MAX_BLOCKS, hidden_memory
from verydeep.data.turning import IN_PNG, exif_orientation, upright_size
from verydeep.errors import PhotoError
from verydeep.files.disk import open_regular

HEADER = 1 << 16  # bytes in which most photos have said it
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"

Size = tuple[int, int]  # width, height


def stored_size(path: Path) -> tuple[Size, int]:
    """((width, height) as stored, EXIF's orientation) of a photo's file. Raises PhotoError."""
    try:
        with open_regular(path) as f:
            photo.check_size(length := os.fstat(f.fileno()).st_size)
            data = f.read(HEADER)
            if data.startswith(PNG) and is_plain_png(f):
                return struct.unpack_from(">II", data, len(PNG)), 1
            if not data.startswith(JPEG):  # what turns them may stand anywhere
                f.seek(0)
                data = f.read()
            try:
                return size_in(data)
            except Exception:
                if len(data) == length:
                    raise
                return size_in(data + f.read())
    except MemoryError:
        raise
    except Exception as e:  # decoders raise whatever a broken file leads them to
        raise PhotoError(str(path), photo.reason_for(e, b"")) from e


def size_in(data: bytes) -> tuple[Size, int]:
    hidden_memory(data)
    with open_image(data) as image:
        turn = exif_orientation(image)
        return upright_size(image.size, turn) if image.format == "TIFF" else image.size, turn  # Pillow turns a TIFF's


def is_plain_png(file: BinaryIO) -> bool:
    """Whether all its chunks are there and none may say that it is turned."""
    place = 8
    for _ in range(MAX_BLOCKS):
        file.seek(place)
        head = file.read(8 + max(map(len, IN_PNG)))
        if len(head) < 8 or head[4:].startswith(IN_PNG[:1]) or head[8:].startswith(IN_PNG[1:]):
            return False
        if head[4:8] == b"IEND":
            return True
        place += 12 + int.from_bytes(head[:4], "big")
    return False
