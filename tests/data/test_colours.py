"""Colour profiles, ranges, backgrounds and layouts, against computations made another way."""

from __future__ import annotations

import io
import struct
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from photo_files import saved
from PIL import Image, ImageCms

from verydeep.colours import BEFORE, PLAINLY, Reading
from verydeep.data import photo
from verydeep.errors import ConfigError, PhotoError

RANDOM = np.random.default_rng(3)
D50 = (0.9642, 1.0, 0.8249)
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 563 / 256
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.2
SRGB = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]).T


def profile(primaries: tuple[tuple[float, ...], ...] = (), gamma: float = 2.2, space: bytes = b"RGB ") -> bytes:
    """An ICC profile of version 2.4, of primaries adapted to D50 or of grey (ICC.1, sections 7 and 10)."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78), b"wtpt": xyz(D50)}
    tags |= {name + b"XYZ": xyz(p) for name, p in zip((b"r", b"g", b"b"), primaries, strict=False)}
    tags |= {name + b"TRC": curve for name in ((b"r", b"g", b"b") if primaries else (b"k",))}
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + xyz(D50)[8:] + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def in_srgb(pixels: np.ndarray, primaries: tuple[tuple[float, ...], ...], gamma: float) -> np.ndarray:
    """IEC 61966-2-1, in floating point."""
    linear = (pixels / 255) ** gamma @ np.array(primaries) @ np.linalg.inv(SRGB).T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decoded(data: bytes, reading: Reading = PLAINLY) -> np.ndarray:
    image = photo.decode(data, "x", reading=reading)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


SMOOTH = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * i) for i in range(3)])
COLOURS = RANDOM.integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("space", [ADOBE, P3], ids=["Adobe RGB", "Display P3"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_profile_is_converted_to_srgb(space: tuple, format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(Image.fromarray(COLOURS), format, icc_profile=profile(*space), **options)
    found = decoded(data)
    assert np.abs(found - in_srgb(COLOURS.astype(float), *space)).max() <= 4  # of few dark colours; integers inside
    assert np.abs(found - in_srgb(COLOURS.astype(float), *space)).mean() < 0.5
    assert np.array_equal(decoded(data, BEFORE), COLOURS)


def test_the_red_of_a_camera() -> None:
    data = saved(Image.new("RGB", (64, 64), (200, 60, 60)), "JPEG", quality=100, icc_profile=profile(*ADOBE))
    assert np.abs(decoded(data)[9, 9] - (230, 58, 58)).max() <= 2


def test_srgb_by_any_name_changes_no_bit() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decoded(saved(Image.fromarray(COLOURS), "PNG", icc_profile=own)), COLOURS)


def test_grey_profiles_and_transparency() -> None:
    """Grey of gamma 1 is linear light; what lies under transparency is converted before it is mixed."""
    ramp = np.arange(256, dtype=np.uint8)[None]
    expected = in_srgb(np.repeat(ramp[..., None], 3, 2).astype(float), tuple(map(tuple, SRGB.T)), 1.0)
    linear = profile(gamma=1.0, space=b"GRAY")
    grey = Image.fromarray(ramp)
    assert np.abs(decoded(saved(grey, "PNG", icc_profile=linear)) - expected).max() <= 2
    wide = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert np.abs(decoded(saved(wide, "PNG", icc_profile=linear)) - expected).max() <= 2
    half = Image.merge("LA", (grey, Image.new("L", grey.size, 51)))
    mixed = 0.2 * expected + 0.8 * 255
    assert np.abs(decoded(saved(half, "PNG", icc_profile=linear)) - mixed).max() <= 2
    clear = Image.merge("RGBA", (*Image.fromarray(COLOURS).split(), Image.new("L", (40, 30), 51)))
    found = decoded(saved(clear, "PNG", icc_profile=profile(*ADOBE)), Reading(background="black"))
    assert np.abs(found - 0.2 * in_srgb(COLOURS.astype(float), *ADOBE)).max() <= 2


PRESS = Path("/usr/share/color/icc/ghostscript/default_cmyk.icc")


@pytest.mark.skipif(not PRESS.exists(), reason="no profile of a press on this machine")
def test_cmyk_is_converted_by_its_profile() -> None:
    inks = Image.fromarray(RANDOM.integers(0, 256, (16, 16, 4), dtype=np.uint8), "CMYK")
    data = saved(inks, "TIFF", icc_profile=PRESS.read_bytes())
    expected = ImageCms.profileToProfile(inks, str(PRESS), ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert np.array_equal(decoded(data), np.asarray(expected))
    assert np.array_equal(decoded(data, BEFORE), np.asarray(inks.convert("RGB")))


@pytest.mark.parametrize(
    "bad",
    [b"rubbish", profile(*ADOBE)[:200], profile(gamma=1.0, space=b"GRAY"), bytes(4 << 20), profile(*ADOBE, b"CMYK")],
)
def test_a_profile_that_does_not_fit_is_passed_over(bad: bytes) -> None:
    assert np.array_equal(decoded(saved(Image.fromarray(COLOURS), "TIFF", icc_profile=bad)), COLOURS)


def test_what_a_caller_holds_is_not_changed() -> None:
    image = Image.fromarray(COLOURS)
    image.info["icc_profile"] = profile(*ADOBE)
    found = np.asarray(photo.from_memory(image, "x"))
    assert np.array_equal(np.asarray(image), COLOURS)
    assert not np.array_equal(found, COLOURS)


# Ranges

TWELVE = np.array([[0, 1000, 2048, 4095]], np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "32 bits"])
def test_a_range_says_what_is_black_and_white(kind: str) -> None:
    image = Image.fromarray(TWELVE.astype(np.int32)) if kind == "32 bits" else Image.fromarray(TWELVE)
    data = saved(image, kind if kind == "PNG" else "TIFF")
    assert decoded(data)[0, :, 0].tolist() == [0, 4, 8, 16]  # all bits
    for reading in (Reading(range=(0, 4095)), Reading(range="auto")):
        assert decoded(data, reading)[0, :, 0].tolist() == [0, 62, 128, 255]
    assert decoded(data, Reading(range=(1000, 2048)))[0, :, 0].tolist() == [0, 0, 255, 255]


def floats(*values: float) -> bytes:
    return saved(Image.fromarray(np.array([values], np.float32)), "TIFF")


def test_floats_are_recognised_or_refused() -> None:
    assert decoded(floats(0, 0.5, 1))[0, :, 0].tolist() == [0, 128, 255]
    assert decoded(floats(0, 128, 255))[0, :, 0].tolist() == [0, 128, 255]
    for values in ((0, 0.5, 1.02), (-0.1, 1), (0, 300), (0, 4000)):
        with pytest.raises(PhotoError, match=f"--range {values[0]:g},{values[-1]:g}"):
            decoded(floats(*values))
        assert decoded(floats(*values), Reading(range=(values[0], values[-1])))[0, -1, 0] == 255
    for reading in (PLAINLY, Reading(range=(0, 1))):
        with pytest.raises(PhotoError, match="no numbers"):
            decoded(floats(0, float("nan")), reading)


def test_a_range_for_16_bits_in_several_colours_is_refused() -> None:
    data = tiff(np.zeros((4, 4, 3), "u2"), "rgb")
    with pytest.raises(PhotoError, match="grey alone"):
        decoded(data, Reading(range=(0, 4095)))


def test_a_reading_is_checked() -> None:
    with pytest.raises(ConfigError, match="range: 5 is not below 5"):
        Reading(range=(5, 5))
    with pytest.raises(ConfigError, match="background"):
        Reading(background=(0, 0, 256))


# Layouts of TIFF


def tiff(pixels: np.ndarray, photometric: str, **how: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, photometric=photometric, metadata=None, **how)  # type: ignore[arg-type]
    return out.getvalue()


def eight(values: np.ndarray, photometric: str) -> np.ndarray | None:
    """H x W x 3 of H x W x S stored values, None where it is not known what they mean."""
    kind, samples = values.dtype, values.shape[2]
    if kind.kind == "i" or kind.itemsize > 4 or samples == 5 or (samples > 1 and photometric != "rgb"):
        return None
    v = values.astype(float) * (255 / np.iinfo(kind).max if kind.kind == "u" else 255)
    v = 255 - v if photometric == "miniswhite" else v
    if samples == 4:
        v = v[..., :3] * v[..., 3:] / 255 + 255 - v[..., 3:]
    return np.repeat(v, 3, 2) if samples == 1 else v


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize(
    ("photometric", "samples"),
    [
        ("minisblack", 1),
        ("miniswhite", 1),
        ("rgb", 3),
        ("rgb", 4),
        ("minisblack", 2),
        ("minisblack", 3),
        ("minisblack", 5),
    ],
)
def test_every_layout_of_a_tiff_is_read_right_or_refused(kind: str, photometric: str, samples: int) -> None:
    shape, random = (48, 64, samples), np.random.default_rng(samples)  # whatever other tests drew
    values = random.random(shape) if kind[0] == "f" else random.integers(0, 1 << 8 * int(kind[1]), shape, np.uint64)
    values = values.astype(kind) if kind[0] != "i" else values.astype(kind.replace("i", "u")).view(kind)
    expected, read = eight(values, photometric), 0
    ways = product(("contig", "separate") if samples > 1 else (None,), (None, "zlib"), (None, (16, 16)), "<>", (0, 1))
    for planes, packing, tile, order, predictor in ways:
        given = values[..., 0] if samples == 1 else np.moveaxis(values, 2, 0) if planes == "separate" else values
        if predictor and (packing is None or kind[0] == "f"):
            continue
        data = tiff(given, photometric, planarconfig=planes, compression=packing, tile=tile, byteorder=order,
                    predictor=bool(predictor))  # fmt: skip
        assert np.array_equal(tifffile.imread(io.BytesIO(data)), given)
        try:
            found = decoded(data)
        except PhotoError as error:
            reason = error.reason
        else:
            read, reason = read + 1, ""
        assert "not a JPEG" not in reason
        if reason:
            continue
        assert expected is not None, (planes, packing, tile, order)
        most = 2.3 if (kind, samples) == ("u2", 4) else 2  # high bytes of alpha and of a colour, blended and rounded
        assert np.abs(found - expected).max() <= most, (planes, packing, tile, order)
    usual = kind in ("u1", "u2") and (photometric, samples) not in [("minisblack", n) for n in (2, 3, 5)]
    usual |= (kind, photometric, samples) == ("f4", "minisblack", 1)
    assert bool(read) == usual


def test_12_bits_of_a_tiff_are_its_whole_range() -> None:
    """Two values in three bytes; tag 258 says so."""
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00])  # 0, 2048, 4095, 0
    entries = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 1), (279, 6)]
    head = (
        b"II*\0" + struct.pack("<LH", 8, len(entries)) + b"".join(struct.pack("<HHLL", t, 3, 1, v) for t, v in entries)
    )
    assert decoded(head + bytes(4) + packed)[0, :, 0].tolist() == [0, 128, 255, 0]


# Other formats, and none


@pytest.mark.parametrize("suffix", [".ppm", ".pgm", ".pbm", ".avif"])
def test_more_formats(suffix: str) -> None:
    image = Image.fromarray(COLOURS).convert({".pgm": "L", ".pbm": "1"}.get(suffix, "RGB"))
    image = SMOOTH if suffix == ".avif" else image
    data = saved(image, "AVIF" if suffix == ".avif" else "PPM", **({"quality": 95} if suffix == ".avif" else {}))
    assert suffix in photo.SUFFIXES
    assert np.abs(decoded(data) - np.asarray(image.convert("RGB"))).mean() < (4 if suffix == ".avif" else 0.01)


def test_heic() -> None:
    heif = pytest.importorskip("pillow_heif")
    image, out = SMOOTH, io.BytesIO()
    heif.from_pillow(image).save(out, quality=95)
    assert np.abs(decoded(out.getvalue()) - np.asarray(image)).mean() < 4


def test_heic_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"is a HEIC photo; pip install 'verydeep\[heic\]' reads it"):
        decoded(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7", "a PDF document"), (b"\n<!DOCTYPE html>", "a web page"), (b"8BPS\0\1", "a Photoshop file"),
        (b"\0\0\0\x20ftypisom", "a film"), (b"<svg xmlns=", "an SVG drawing"), (b"\xff\x0a", "a JPEG XL photo"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL photo"), (b"PK\3\4", "a ZIP archive"), (b"RIFF\0\0\0\0AVI ", "a film"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera's raw file"), (b"\x1aE\xdf\xa3", "a film"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
    ],
)  # fmt: skip
def test_what_a_wrongly_named_file_is(data: bytes, what: str) -> None:
    with pytest.raises(PhotoError, match=rf"is {what}.*, not a JPEG, .* photo"):
        decoded(data)


# JPEGs that are too large, or lack an end


def test_a_jpeg_too_large_for_the_memory_comes_smaller() -> None:
    """As of a phone with 108 million pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = photo.decode(saved(Image.new("RGB", (12_000, 9_000), (9, 99, 199)), "JPEG"), "x")
    assert image.size == (6_000, 4_500)
    assert np.abs(np.array(image.getpixel((99, 99))) - (9, 99, 199)).max() <= 3


@pytest.mark.parametrize("size", [(160, 120), (33, 70)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_may_lack_its_end_and_nothing_else(size: tuple[int, int], mode: str) -> None:
    image = Image.fromarray(COLOURS).resize(size, Image.Resampling.BICUBIC).convert(mode)
    whole = saved(image, "JPEG", quality=90)
    for side in (None, 16):
        found = photo.decode(whole[:-2], "x", side)
        assert np.array_equal(np.asarray(found), np.asarray(photo.decode(whole, "x", side)))
        for lost in (6, 10, 40, len(whole) // 3):
            with pytest.raises(PhotoError, match="damaged or cut short"):
                photo.decode(whole[:-lost], "x", side)
    with pytest.raises(PhotoError, match="damaged or cut short"):
        photo.decode(saved(image, "JPEG", progressive=True)[:-2], "x")


# Backgrounds


@pytest.mark.parametrize(("background", "found"), [("white", 255), ("black", 0), ((9, 9, 9), 9)])
def test_a_background(background: str | tuple[int, int, int], found: int) -> None:
    drawing = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    drawing.putpixel((0, 0), (255, 255, 255, 255))
    assert decoded(saved(drawing, "PNG"), Reading(background=background))[0].tolist() == [[255] * 3, [found] * 3]
