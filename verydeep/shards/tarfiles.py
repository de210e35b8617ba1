"""Tar archives by their headers: where each file's bytes lie, and headers that come out the same every time."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from verydeep.errors import DataError

BLOCK = 512
END = bytes(2 * BLOCK)
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
LONGEST_NAME = 1 << 20  # of a long name or a pax header; longer ones are damage


class Member(NamedTuple):
    """A file in an archive: its bytes are size bytes from offset on."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """One block, the same for the same name and size: no times, no owners."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def members(path: Path) -> Iterator[Member]:
    """The files of an archive in their order; only headers are read. Raises DataError where it is damaged or compressed."""
    try:
        with path.open("rb", buffering=0) as archive:
            yield from walk(archive, path)
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror or e})") from e


def walk(archive: BinaryIO, path: Path) -> Iterator[Member]:
    end = archive.seek(0, 2)
    at, name, size = 0, "", -1  # the last two where a header before has given them
    while at + BLOCK <= end:
        archive.seek(at)
        block = archive.read(BLOCK)
        if not any(block):
            return
        given, length, kind = parse(block, path, at)
        data, at = at + BLOCK, at + BLOCK + length + -length % BLOCK
        if kind in b"Lx":
            if length > LONGEST_NAME:
                raise damaged(path, at)
            content = archive.read(length)
            name, size = (
                (content.rstrip(b"\0").decode("utf-8", "surrogateescape"), size)
                if kind == b"L"
                else pax(content, name, size)
            )
            continue
        if size >= 0:
            length, at = size, data + size + -size % BLOCK
        if data + length > end:
            raise DataError(
                f"{path} is cut short: {name or given} ends {data + length - end} bytes behind its end; copy it again"
            )
        if kind in b"0\0007":
            yield Member(name or given, data, length)
        if kind != b"g":
            name, size = "", -1


def parse(block: bytes, path: Path, at: int) -> tuple[str, int, bytes]:
    """Name, size and kind from a header, whose sum must be right."""
    try:
        if at == 0 and (kind := next((k for start, k in COMPRESSED.items() if block.startswith(start)), None)):
            raise DataError(
                f"{path} is compressed ({kind}); photos can be read only from plain tar, so unpack it once with {kind} -d"
            )
        if number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
            raise ValueError
        prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
        name = b"/".join(filter(None, (prefix, block[:100].split(b"\0", 1)[0])))
        return name.decode("utf-8", "surrogateescape"), number(block[124:136]), block[156:157]
    except ValueError as e:
        raise damaged(path, at) from e


def number(field: bytes) -> int:
    """Octal text, or base 256 for what octal cannot hold."""
    value = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b" \0") or b"0", 8)
    if value < 0:
        raise ValueError
    return value


def pax(content: bytes, name: str, size: int) -> tuple[str, int]:
    """The name and size that a pax header gives the file behind it."""
    while content:
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(content):
            break
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit():
            size = int(value)
        content = content[int(length) :]
    return name, size


def damaged(path: Path, at: int) -> DataError:
    return DataError(f"{path} is not a tar archive, or damaged at byte {at}; copy it again")
