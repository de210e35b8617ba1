"""Photos from strangers: each is an RGB photo or a PhotoError, within 2 s of one processor and 256 MB more memory."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from photo_files import chunk, exif, png, saved
from PIL import Image, ImageCms

from verydeep.data import photo
from verydeep.errors import PhotoError

SECONDS, MEMORY = 2.0, 256e6
RANDOM = np.random.default_rng(7)
PATCHES = Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8))
SMOOTH = PATCHES.resize((200, 150), Image.Resampling.BICUBIC)
PHOTO, ANY = "", " "  # what a case must give; other text is part of the PhotoError's reason, None allows both


def claims(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    place = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def frame(jpeg: bytes, marker: int, bits: int = 8) -> bytes:
    """A JPEG whose frame is marked as another kind."""
    place = jpeg.index(b"\xff\xc0")
    return jpeg[:place] + bytes([0xFF, marker]) + jpeg[place + 2 : place + 4] + bytes([bits]) + jpeg[place + 5 :]


def scans(jpeg: bytes, more: int) -> bytes:
    """A progressive JPEG with its last scan repeated."""
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * more + jpeg[-2:]


def colour_by_colour() -> bytes:
    """A sequential JPEG of three scans, one for each layer: grey three times."""
    grey = saved(SMOOTH.convert("L"), "JPEG")
    header, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    layers = b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3))
    frame = segment(0xC0, grey[header + 4 : header + 9] + b"\3" + layers)
    scans = b"".join(grey[scan : scan + 5] + bytes([i]) + grey[scan + 6 : -2] for i in (1, 2, 3))
    return grey[:header] + frame + grey[header + 13 : scan] + scans + b"\xff\xd9"


def tiff(*entries: tuple[int, int, int, int], tail: bytes = b"") -> bytes:
    """A TIFF of one directory: (tag, type, count, value or offset); `tail` begins at offset 512."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHLL", *e) for e in entries) + bytes(4)
    return (b"II*\0" + struct.pack("<L", 8) + directory).ljust(512, b"\0") + tail


def grey_tiff(
    width: int, height: int, *others: tuple[int, int, int, int], packing: int = 1, tail: bytes = b""
) -> bytes:
    given = {e[0]: e for e in others}
    usual = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, packing), (262, 3, 1, 1)]
    usual += [(273, 4, 1, 512), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(tail))]
    return tiff(*(e for e in sorted([*(e for e in usual if e[0] not in given), *others])), tail=tail)


def gif(*blocks: bytes, size: tuple[int, int] = (1, 1)) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    return screen + b"".join(blocks) + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2D\1\0;"


def bmp(width: int, height: int, body: bytes, packing: int) -> bytes:
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, packing, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(body), 0, 0, 54 + 1024) + header + palette + body


def bomb(megabytes: int) -> bytes:
    squeezer = zlib.compressobj(9)
    return b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(megabytes)) + squeezer.flush()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


def truncated() -> dict[str, tuple[bytes, str | None]]:
    files = {f.lower(): saved(SMOOTH, f) for f in photo.FORMATS}
    files["progressive"] = saved(SMOOTH, "JPEG", progressive=True)
    every = ((f, data, percent) for f, data in files.items() for percent in range(0, 100, 5))
    refused = {"jpeg": ANY, "progressive": ANY, "png": ANY, "webp": ANY}
    return {f"{f} cut at {p} %": (data[: len(data) * p // 100], refused.get(f)) for f, data, p in every}


def colours() -> dict[str, tuple[bytes, str | None]]:
    cmyk, grey = saved(SMOOTH.convert("CMYK"), "JPEG"), SMOOTH.convert("L")
    adobe = cmyk.index(b"Adobe")
    palette = SMOOTH.quantize(16)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    rgba = Image.merge("RGBA", (*SMOOTH.split(), grey))
    frames: dict[str, object] = {"save_all": True, "append_images": [SMOOTH.rotate(90)]}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    progressive = saved(SMOOTH, "JPEG", progressive=True)
    cases = {
        "cmyk": cmyk,
        "ycck": cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :],
        "cmyk without Adobe": cmyk[: adobe - 4] + cmyk[adobe + 12 :],
        "a scan for each colour": colour_by_colour(),
        "1 bit": saved(SMOOTH.convert("1"), "PNG"),
        "1 bit tiff": saved(SMOOTH.convert("1"), "TIFF", compression="group4"),
        "16 bit grey": saved(wide, "PNG"),
        "16 bit rgb": png(64, 64, depth=16),
        "16 bit rgba": png(64, 64, depth=16, colour=6),
        "grey with alpha": saved(Image.merge("LA", (grey, grey)), "PNG"),
        "palette with transparency": saved(palette, "PNG", transparency=bytes(range(16))),
        "rgb with a transparent colour": png(64, 64, chunk(b"tRNS", bytes(6))),
        "animated gif": saved(SMOOTH, "GIF", **frames),
        "animated png": saved(SMOOTH, "PNG", **frames),
        "animated webp": saved(SMOOTH, "WEBP", **frames),
        "tiff of 40 pages": saved(SMOOTH, "TIFF", save_all=True, append_images=[SMOOTH] * 39),
        "profile": saved(SMOOTH, "JPEG", icc_profile=profile.tobytes()),
        "another profile": saved(SMOOTH, "JPEG", icc_profile=red_for_green()),
        "heic": heic(SMOOTH),
        "plain ppm": b"P3 2 1 255\n 1 2 3 4 5 6",
        "12 bit pgm": b"P5 2 1 4095\n" + bytes(4),
        "film behind a progressive jpeg": progressive + b"\xff\xda\0\2" * 1_000 + bytes(33 << 20),
    }
    cases |= {f"rgba {f}": saved(rgba, f) for f in ("PNG", "WEBP", "TIFF")}
    formats = ("JPEG", "PNG", "TIFF")
    turns, thin = range(1, 9), ((1, 1), (1, 65_500), (65_500, 1))
    cases |= {f"orientation {o} {f}": saved(SMOOTH, f, exif=exif(o)) for o in turns for f in (*formats, "WEBP")}
    cases |= {f"{w} x {h} {f}": saved(Image.new("RGB", (w, h)), f) for w, h in thin for f in formats}
    return {name: (data, PHOTO) for name, data in cases.items()}


def lies() -> dict[str, tuple[bytes, str | None]]:
    jpeg, progressive = saved(SMOOTH, "JPEG"), saved(SMOOTH, "JPEG", progressive=True)
    webp, flat = saved(SMOOTH, "WEBP"), saved(Image.new("L", (4000, 3000)), "JPEG", progressive=True)
    place = webp.index(b"\x9d\x01\x2a") + 3
    turned = saved(SMOOTH, "JPEG", exif=exif(6))
    damaged = turned.index(b"Exif\0\0") + 6
    full = saved(SMOOTH, "JPEG", progressive=True, subsampling=0)
    return {
        "empty": (b"", "is empty"),
        "html": (b"<!doctype html><p>404", "is a web page"),
        "pdf": (b"%PDF-1.7\n%\xe2\xe3", "is a PDF"),
        "zeros": (bytes(4096), "is not a JPEG"),
        "text": (b"a cat, I promise\n", "is not a JPEG"),
        "drawing": (saved(SMOOTH, "EPS"), "is a PostScript"),
        "begun": (b"\xff\xd8", "is not a JPEG"),
        "65,500 png": (png(65_500, 65_500, rows=b""), "240 MB"),
        "65,500 jpeg": (claims(jpeg, 65_500, 65_500), "240 MB"),
        "65,500 gif": (gif(size=(65_500, 65_500)), "240 MB"),
        "8000 gif": (gif(size=(8_000, 8_000)), "would take 321 MB"),
        "16,383 webp": (webp[:place] + struct.pack("<HH", 16_383, 16_383) + webp[place + 4 :], "240 MB"),
        "webp of another size": (webp[:place] + struct.pack("<HH", 3_000, 3_000) + webp[place + 4 :], "damaged"),
        "bmp of another size": (bmp(30_000, 1_500, b"", 0), "damaged"),
        "bmp upside down": (bmp(100, -(2**31), b"", 0), None),
        "plain ppm of many values": (b"P3 1000 1000 255\n" + b"1 " * 3_000_000, "in plain text"),
        "plain ppm of a long comment": (b"P1 1 1\n#" + bytes(20_000_000), "in plain text"),
        "ppm of an unusual range": (b"P6 1000 1000 100\n" + bytes(3_000_000), "unusual range"),
        "ppm of 65,500": (b"P6 65500 65500 255\n", "240 MB"),
        "profile of 5 MB": (saved(SMOOTH, "TIFF", icc_profile=bytes(5 << 20)), PHOTO),
        "12 bit jpeg": (frame(jpeg, 0xC1, 12), "save it again"),
        **{f"frame {m:x}": (frame(jpeg, m), "save it again") for m in (0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCF)},
        "80,000 scans": (scans(progressive, 80_000), "scans"),
        "70 scans of 12 million pixels": (scans(flat, 64), "scans"),
        "3,000 scans that are not progressive": (scans(colour_by_colour(), 3_000), "scans"),
        "33 MB of scans": (progressive[:-2] + b"\xff\xda" + bytes(33 << 20), "progressive JPEG of more than 32 MiB"),
        "progressive 4:4:4": (claims(full, 5_000, 5_000), "would take 251 MB"),
        "jpeg of fill bytes": (jpeg[:2] + b"\xff" * 8_000_000 + jpeg[2:], "parts before its photo"),
        "jpeg of rubbish": (jpeg[:2] + segment(0xE1, b"") + b"x" * 8_000_000 + jpeg[2:], "parts before its photo"),
        "jpeg of empty segments": (jpeg[:2] + segment(0xE1, b"") * 1_000_000 + jpeg[2:], "parts before its photo"),
        "jpeg of EXIF": (jpeg[:2] + segment(0xE1, b"Exif\0\0".ljust(65_000)) * 1_000 + jpeg[2:], "8 MiB"),
        "damaged EXIF": (turned[:damaged] + b"\xff" * 8 + turned[damaged + 8 :], PHOTO),
        "EXIF that points at itself": (turned[: damaged + 4] + b"\0\0\0\4" + turned[damaged + 8 :], PHOTO),
    }


def containers() -> dict[str, tuple[bytes, str | None]]:
    text = b"Comment\0\0" + bomb(100)
    full = zlib.compress(bytes((1 << 20) - 1))
    wide = zlib.compress((cat := "\U0001f408".encode()) + b" " * ((1 << 20) - 5))
    strips, blocks = bytes(4 * 1_000_000), b"\1," * 10_000_000 + b"\0"
    many = [(40_000 + i, 7, 1 << 20, 512) for i in range(40)]
    lzma = saved(Image.new("L", (64, 64)), "TIFF", compression="lzma")
    progressive = saved(SMOOTH, "JPEG", progressive=True)
    rgb = ((258, 3, 3, 512), (262, 3, 1, 6), (273, 4, 1, 518), (277, 3, 1, 3))
    scanned = grey_tiff(200, 150, *rgb, packing=7, tail=struct.pack("<3H", 8, 8, 8) + progressive)
    return {
        "zTXt bomb": (png(1, 1, chunk(b"zTXt", text)), "damaged"),
        "iTXt bomb": (png(1, 1, chunk(b"iTXt", b"c\0\1\0\0\0" + bomb(100))), "damaged"),
        "iCCP bomb": (png(1, 1, chunk(b"iCCP", text)), "damaged"),
        "60 full zTXt": (png(1, 1, *(chunk(b"zTXt", b"%d\0\0" % i + full) for i in range(60))), "more text"),
        "60 wide iTXt": (png(1, 1, *(chunk(b"iTXt", b"%d\0\1\0\0\0" % i + wide) for i in range(60))), "more text"),
        "text of 60 MB": (png(1, 1, chunk(b"iTXt", b"a\0\0\0\0\0" + cat.ljust(60 << 20))), "more text"),
        "100,000 chunks": (png(1, 1, *[chunk(b"abCd", b"")] * 100_000), "65,536 chunks"),
        "gif of tiny comments": (gif(b"!\xfe" + b"\1a" * 10_000_000 + b"\0"), "65,536 blocks"),
        "gif of tiny blocks after an empty one": (gif(b"!\1\0" + blocks), "65,536 blocks"),
        "gif of tiny blocks after an empty count": (gif(b"!\xff\x0bNETSCAPE2.0\0" + blocks), "65,536 blocks"),
        "gif of rubbish": (gif(b"\7" * 8_000_000), "65,536 blocks"),
        "tiff of a million strips": (grey_tiff(1, 1, (273, 4, 1_000_000, 512), tail=strips), "values for tag 273"),
        "tiff of 4 million in bytes": (grey_tiff(1, 1, (273, 1, 4_000_000, 512), tail=strips), "values for tag 273"),
        "tiff of a million bits": (grey_tiff(1, 1, (258, 3, 1_000_000, 512), tail=strips), "values for tag 258"),
        "tiff of a tile of 900 million": (grey_tiff(64, 64, *tile(30_000), packing=5, tail=bytes(64)), "would take"),
        "tiff of tiny tiles": (grey_tiff(5_000, 5_000, *tile(1), packing=5, tail=bytes(64)), "strips or tiles"),
        "tiff strip of 49 million": (grey_tiff(7_000, 7_000, packing=8, tail=bomb(48)), "would take"),
        "tiff by lzma": (lzma, "packed by lzma"),
        "tiff by progressive jpeg": (scanned, "in scans"),
        "tiff without end": (grey_tiff(4, 4)[:8] + b"\xff\xff", None),
        "tiff of 65,500": (grey_tiff(65_500, 65_500), "240 MB"),
        "tiff whose tags overlap": (tiff(*many, tail=bytes(2 << 20)), None),
        "rle bmp": (bmp(2_500, 2_500, b"\1\7\0\0" * 2_500, 1), "run-length"),
        "rle bmp of idle codes": (bmp(64, 64, b"\0\2\0\0" * 3_000_000, 1), "run-length"),
        "small rle bmp": (bmp(4, 2, b"\4\7\0\0\4\7\0\1", 1), PHOTO),
    }


def red_for_green() -> bytes:
    """An sRGB profile whose first two colours stand in each other's place."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


def heic(image: Image.Image) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=50)
    return out.getvalue()


def tile(side: int) -> list[tuple[int, int, int, int]]:
    return [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 512), (325, 4, 1, 64)]


def heavy() -> dict[str, tuple[bytes, str | None]]:
    """As large as is allowed, and a little beyond."""
    large = Image.new("RGB", (8192, 6144), "teal")  # the 50 million pixels of a phone

    def part(side: int) -> Image.Image:
        return large.crop((0, 0, side, side))

    half, third = part(5_400), part(3_800)
    jpeg, turned = saved(large, "JPEG"), saved(part(6_200), "JPEG", exif=exif(6))
    return {
        "50 million": (jpeg, PHOTO),
        "50 million turned": (saved(large, "JPEG", exif=exif(6)), PHOTO),
        "turned half": (saved(half, "JPEG", exif=exif(6)), PHOTO),
        "38 million turned": (turned, PHOTO),
        "64 million progressive": (claims(saved(SMOOTH, "JPEG", progressive=True), 8_000, 8_000), "scans"),
        "28 million progressive": (saved(half, "JPEG", progressive=True), PHOTO),
        "22 million progressive 4:4:4": (saved(part(4_700), "JPEG", progressive=True, subsampling=0), PHOTO),
        "cmyk": (saved(half.convert("CMYK"), "JPEG"), PHOTO),
        "cmyk turned": (saved(half.convert("CMYK"), "JPEG", exif=exif(6)), PHOTO),
        "rgba webp turned": (saved(third.convert("RGBA"), "WEBP", method=0, quality=20, exif=exif(6)), PHOTO),
        "grey": (saved(part(6_800).convert("L"), "JPEG"), PHOTO),
        "64 million png": (png(8_000, 8_000), "would take"),
        "50 million png": (png(8_192, 6_144), PHOTO),
        "rgba png": (png(5_400, 5_400, colour=6), PHOTO),
        "rgb png with a transparent colour": (png(5_400, 5_400, chunk(b"tRNS", bytes(6))), PHOTO),
        "16 bit grey png": (png(6_300, 6_300, depth=16, colour=0), PHOTO),
        "grey with alpha png": (png(5_400, 5_400, depth=16, colour=4), PHOTO),
        "webp": (saved(third, "WEBP", method=0, quality=20), PHOTO),
        "25 million webp": (saved(part(5_000), "WEBP", method=0, quality=20), "would take"),
        "108 million": (saved(Image.new("RGB", (12_000, 9_000)), "JPEG", exif=exif(6)), PHOTO),
        "200 million": (saved(Image.new("RGB", (16_320, 12_240)), "JPEG"), PHOTO),
        "270 million": (saved(Image.new("L", (16_500, 16_500)), "JPEG"), "would take"),
        "50 million of another profile": (saved(large, "JPEG", icc_profile=red_for_green()), PHOTO),
        "50 million without an end": (jpeg[:-2], PHOTO),
        "50 million cut": (jpeg[: len(jpeg) // 2], "damaged"),
        "24 million avif": (saved(large.crop((0, 0, 5_712, 4_284)), "AVIF", speed=10), PHOTO),
        "30 million avif": (saved(half, "AVIF", speed=10), "would take"),
        "24 million 4:4:4 avif": (saved(part(4_900), "AVIF", speed=10, subsampling="4:4:4"), "would take"),
        "29 million ppm": (saved(half, "PPM"), PHOTO),
        "24 million heic": (heic(large.crop((0, 0, 5_712, 4_284))), PHOTO),
        "30 million heic": (heic(half), "would take"),
        "turned tiff": (saved(part(4_000), "TIFF", compression="tiff_lzw", exif=exif(6)), PHOTO),
        "turned tiff too large": (saved(part(6_000), "TIFF", compression="tiff_lzw", exif=exif(6)), "would take"),
    }


MEASURE = """
import json, os, resource, sys, time, warnings
from pathlib import Path
from verydeep.data import photo
from verydeep.errors import PhotoError
warnings.simplefilter("ignore")
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
folder = Path(sys.argv[1])
photo.from_file(folder / "warm.jpg")
for path in sorted(folder.glob("*.photo")):
    for smallest_side in (None, 64):
        sys.stdout.flush()
        if child := os.fork():
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, path
            continue
        photo.from_file(folder / "warm.jpg")
        before, began, reason = peak(), time.process_time(), ""
        try:
            assert photo.from_file(path, smallest_side).mode == "RGB"
        except PhotoError as e:
            reason = e.reason
        print(json.dumps([path.stem, reason, time.process_time() - began, peak() - before]), flush=True)
        os._exit(0)
"""


@pytest.mark.parametrize("corpus", [truncated, colours, lies, containers, heavy])
def test_strangers_cost_little(corpus: Callable[[], dict[str, tuple[bytes, str | None]]], tmp_path: Path) -> None:
    """Each file is read in a process of its own: its time, its memory, and what it gave."""
    cases = corpus()
    (tmp_path / "warm.jpg").write_bytes(saved(SMOOTH, "JPEG"))
    names = list(cases)
    for i, name in enumerate(names):
        (tmp_path / f"{i}.photo").write_bytes(cases[name][0])
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=alone)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2 * len(cases)
    wrong = []
    for number, reason, seconds, memory in rows:
        name = names[int(number)]
        expected = cases[name][1]
        as_expected = expected is None or (expected in reason and bool(expected) == bool(reason))
        if seconds > SECONDS or memory > MEMORY or not as_expected:
            cost = f"{seconds:.2f} s, {memory / 1e6:.0f} MB"
            wrong.append(f"{name}: {cost}, {reason or 'a photo'}; expected {expected or 'a photo'}")
    assert not wrong, "\n".join(wrong)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as f:
        f.truncate(1 << 40)  # a hole; reading it would fail
    with pytest.raises(PhotoError, match=r"large\.jpg: has 1048576 MiB, more than the 128 MiB allowed"):
        photo.from_file(path)
    with pytest.raises(PhotoError, match=r"large\.jpg: has 129 MiB, more than the 128 MiB allowed"):
        photo.decode(bytes(photo.MAX_BYTES + 1), "large.jpg")


def test_a_pipe_and_a_device_are_no_photos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(PhotoError, match="not a regular file"):
            photo.from_file(path)


def is_photo(data: bytes, smallest_side: int | None) -> bool:
    try:
        return photo.decode(data, "some.jpg", smallest_side).mode == "RGB"
    except PhotoError:
        return False


def test_seeds_changed_at_random_give_a_photo_or_a_photo_error() -> None:
    """The short form of tests/fuzz/fuzz_photo.py."""
    dice, small = random.Random(3), SMOOTH.resize((40, 30))
    seeds = [*(saved(small, f) for f in photo.FORMATS), heic(small)]
    seeds += [saved(small, f, icc_profile=red_for_green()) for f in ("JPEG", "PNG", "TIFF")]
    seeds += [saved(small, "JPEG", progressive=True), saved(small, "JPEG", exif=exif(6)), gif(b"!\xfe\3abc\0")]
    seeds += [bmp(4, 2, b"\4\7\0\0\4\7\0\1", 1), grey_tiff(4, 4, tail=bytes(16)), png(4, 4, chunk(b"zTXt", b"a\0\0x"))]
    given = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(600):
            data = bytearray(dice.choice(seeds))
            for _ in range(dice.choice((1, 1, 2, 8))):
                place, junk = dice.randrange(len(data)), dice.choice((b"\xff", b"\0", b"\xff\xff", dice.randbytes(2)))
                data[place : place + dice.choice((0, 1, 1, 2))] = junk
            whole, scaled = (is_photo(bytes(data), smallest_side) for smallest_side in (None, 16))
            assert whole == scaled
            given += whole
    assert 50 < given < 550
