"""Odd photos: each is a photo or a PhotoError that names its file, never another exception."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.cli import main
from verydeep.data import limits, photo
from verydeep.errors import PhotoError

RANDOM = np.random.default_rng(1)
SMOOTH = np.asarray(
    Image.fromarray(RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((48, 40), Image.Resampling.BICUBIC)
)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG made by hand: colour 0 is grey, 2 RGB, 4 grey and alpha."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    written = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
        for k, d in (header, *chunks, body, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def decoded(data: bytes) -> np.ndarray:
    image = photo.decode(data, "some.jpg")
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def refused(data: bytes) -> PhotoError:
    with pytest.raises(PhotoError) as e:
        photo.decode(data, "some.jpg")
    assert e.value.photo == "some.jpg"
    assert str(e.value) == f"some.jpg: {e.value.reason}"
    return e.value


def photo_or_error(data: bytes) -> None:
    try:
        image = photo.decode(data, "some.jpg")
    except PhotoError as e:
        image, named = None, e.photo == "some.jpg"
    assert named if image is None else image.mode == "RGB"


# Damage


@pytest.mark.parametrize("percent", range(0, 100, 5))
@pytest.mark.parametrize(
    "options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG"}, {"format": "WEBP"}]
)
def test_a_photo_cut_short_is_refused(options: dict[str, object], percent: int) -> None:
    whole = saved(Image.fromarray(SMOOTH), **options)
    refused(whole[: len(whole) * percent // 100])


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(photo.FORMATS),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=8),
)
def test_damaged_bytes_give_a_photo_or_a_photo_error(format: str, place: float, junk: bytes) -> None:
    data = bytearray(saved(Image.fromarray(SMOOTH), format))
    start = int(place * len(data))
    data[start : start + len(junk)] = junk
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        photo_or_error(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"<html><body>404</body></html>", b"%PDF-1.7\n", b"\xff\xd8", b"\0" * 4096, b"GIF89a"]
)
def test_what_is_no_photo_is_refused(data: bytes) -> None:
    refused(data)


def test_an_empty_file_is_called_empty() -> None:
    assert refused(b"").reason == "is empty"


def test_a_vector_drawing_is_no_photo() -> None:
    assert "is not a JPEG" in refused(saved(Image.fromarray(SMOOTH), "EPS")).reason


def test_a_file_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"<html>")
    with pytest.raises(PhotoError, match=r"cat\.jpg"):
        photo.read(tmp_path / "cat.jpg")


@pytest.mark.parametrize("name", ["missing.jpg", "a\0b.jpg", "a\udcffb.jpg", ".", "x" * 300])
def test_a_file_that_cannot_be_read_is_a_photo_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match="cannot be read"):
        photo.read(tmp_path / name)


# Bombs


@pytest.mark.parametrize("side", [8_001, 10_000, 20_000, 65_500])
def test_a_header_that_claims_too_many_pixels_is_refused(side: int) -> None:
    """Also beyond Pillow's own limits, where it warns (89 million; here an error) and where it refuses (179 million)."""
    assert re.fullmatch(
        "has (8001 x 8001 pixels and would take 257|more pixels than the 240) MB .*",
        refused(png(side, side, 8, 2, [b""])).reason,
    )


def test_the_command_line_does_not_pass_on_pillows_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb = png(10_000, 10_000, 8, 2, [b""])
    (tmp_path / "bomb.png").write_bytes(bomb)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert main(["predict", "builtin:fashion-a", str(tmp_path / "bomb.png"), "--json"]) == 1
        assert not seen
        assert "10000 x 10000 pixels and would take" in refused(bomb).reason
    assert [w.category for w in seen] == [Image.DecompressionBombWarning]  # in the library the caller decides
    assert (
        "10000 x 10000 pixels and would take 401 MB to decode, more than the 240 MB allowed" in capsys.readouterr().out
    )


def test_a_jpeg_of_many_scans_is_refused() -> None:
    whole = saved(Image.fromarray(SMOOTH), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    assert "scans" in refused(whole[:-2] + scan * 300 + whole[-2:]).reason


def test_an_ordinary_progressive_jpeg_is_a_photo() -> None:
    assert np.abs(decoded(saved(Image.fromarray(SMOOTH), "JPEG", progressive=True, quality=95)) - SMOOTH).mean() < 5


def test_text_that_unpacks_to_a_gigabyte_is_refused() -> None:
    squeezer = zlib.compressobj(9)
    bomb = b"".join([squeezer.compress(bytes(1 << 20)) for _ in range(100)]) + squeezer.flush()
    row = bytes(3)
    assert refused(png(1, 1, 8, 2, [row], (b"zTXt", b"Comment\0\0" + bomb)))


# Colours


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_has_the_right_colours(adobe: bool) -> None:
    """Inks are stored inverted, as Adobe does; a file without Adobe's marker is read likewise (Pillow assumes it)."""
    data = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    place = data.index(b"\xff\xee")
    size = int.from_bytes(data[place + 2 : place + 4], "big")
    assert data[place + 4 : place + 9] == b"Adobe"
    found = decoded(data if adobe else data[:place] + data[place + 2 + size :])[8, 8]
    assert np.abs(found - [255, 0, 0]).max() < 4


def test_ycck_jpeg_has_the_right_colours() -> None:
    """Transform 2 in Adobe's marker (Adobe TN 5116): the stored inks are 255 minus the RGB of the stored YCC."""
    data = bytearray(saved(Image.new("CMYK", (16, 16), (255, 255, 255, 0)), "JPEG", quality=100))
    place = data.index(b"Adobe")
    assert data[place + 11] == 0
    data[place + 11] = 2
    # The file holds Y = Cb = Cr = 0, which is R, B below 0 and G = 128 (0.344 + 0.714) = 135 by ITU-T T.871, and no black.
    assert np.abs(decoded(bytes(data))[8, 8] - [255, 255 - 135, 255]).max() < 4


def test_one_bit_photos_are_black_and_white() -> None:
    assert decoded(png(4, 1, 1, 0, [bytes([0b01010000])]))[0, :, 1].tolist() == [0, 255, 0, 255]


def test_16_bit_grey_is_divided_and_not_clipped() -> None:
    row = struct.pack(">6H", 0, 65535, 32768, 257, 128, 129)
    assert decoded(png(6, 1, 16, 0, [row]))[0].tolist() == [[v] * 3 for v in (0, 255, 128, 1, 0, 1)]


def test_16_bit_grey_with_a_transparent_value_shows_white_there() -> None:
    row = struct.pack(">3H", 1000, 1001, 65535)
    found = decoded(png(3, 1, 16, 0, [row], (b"tRNS", struct.pack(">H", 1000))))
    assert found[0].tolist() == [[255] * 3, [4] * 3, [255] * 3]


def test_32_bit_grey_out_of_range_is_refused() -> None:
    assert "70000" in refused(saved(Image.new("I", (2, 2), 70_000), "TIFF")).reason


def test_floating_point_pixels_are_refused() -> None:
    assert "floating-point" in refused(saved(Image.new("F", (2, 2), 0.5), "TIFF")).reason


def test_lab_tiff_is_a_photo_or_refused() -> None:
    data = saved(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF")
    photo_or_error(data)


def test_hidden_colours_do_not_show_through() -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    for format in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if format == "WEBP" else {}
        assert decoded(saved(image, format, **options))[0].tolist() == [
            [255, 255, 255],
            [255, 0, 0],
            [204, 204, 204],
        ], format


@pytest.mark.parametrize(("depth", "values"), [(8, bytes([0, 255, 9, 0])), (16, bytes([0, 0, 255, 255, 9, 9, 0, 0]))])
def test_grey_with_alpha_lies_on_white(depth: int, values: bytes) -> None:
    assert decoded(png(2, 1, depth, 4, [values]))[0].tolist() == [[0] * 3, [255] * 3]


def test_palette_with_transparency_lies_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decoded(saved(image, "PNG", transparency=0))[0].tolist() == [[255, 255, 255], [0, 0, 255]]
    assert decoded(saved(image, "PNG", transparency=bytes([255, 51])))[0].tolist() == [[255, 0, 0], [204, 204, 255]]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3
    assert decoded(data)[4, 4].tolist() == [255, 0, 0]


# Orientation

STORED_TO_UPRIGHT = {  # EXIF 2.32, tag 274: where row 0 and column 0 of the stored pixels belong
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    found = decoded(saved(Image.fromarray(SMOOTH), format, exif=exif))
    assert np.array_equal(found, STORED_TO_UPRIGHT[orientation](SMOOTH))


def test_a_jpeg_from_a_phone_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    found = decoded(saved(Image.fromarray(SMOOTH), "JPEG", exif=exif, quality=95))
    assert np.abs(found - np.rot90(SMOOTH, -1)).mean() < 5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_leaves_the_photo_alone(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    assert np.array_equal(decoded(saved(Image.fromarray(SMOOTH), "PNG", exif=exif)), SMOOTH)


def test_a_damaged_exif_block_leaves_the_photo_alone() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(Image.fromarray(SMOOTH), "JPEG", exif=exif)
    place = data.index(b"Exif\0\0") + 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = decoded(data[:place] + b"\xff" * 8 + data[place + 8 :])
    assert found.shape == SMOOTH.shape


# Scaled decoding


@pytest.mark.parametrize(
    ("size", "smallest_side", "expected"),
    [
        ((640, 427), 256, (640, 427)),
        ((640, 512), 256, (320, 256)),
        ((511, 700), 256, (511, 700)),
        ((1030, 4100), 256, (258, 1025)),
        ((2400, 1600), 200, (300, 200)),
        ((1600, 6400), 100, (200, 800)),
        ((90, 60), 256, (90, 60)),
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_asked(
    size: tuple[int, int], smallest_side: int, expected: tuple[int, int]
) -> None:
    data = saved(Image.new("RGB", size), "JPEG")
    assert photo.decode(data, "some.jpg", smallest_side).size == expected
    assert photo.decode(data, "some.jpg").size == size
    assert photo.decode(saved(Image.new("RGB", size), "PNG"), "some.png", smallest_side).size == size


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_scaled_jpeg_shows_the_same_photo_upright(mode: str, progressive: bool) -> None:
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(SMOOTH).resize((480, 400), Image.Resampling.BICUBIC).convert(mode)
    data = saved(image, "JPEG", exif=exif, quality=95, progressive=progressive)
    scaled, whole = photo.decode(data, "some.jpg", 100), photo.decode(data, "some.jpg")
    assert (scaled.mode, scaled.size, whole.size) == ("RGB", (100, 120), (400, 480))
    assert np.abs(np.asarray(scaled).astype(int) - photo.rescale(whole, 100)).mean() < 2


def test_a_scaled_photo_obeys_the_limits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(Image.new("CMYK", (400, 400)), "JPEG", exif=exif)
    monkeypatch.setattr(limits, "MEMORY", 1_000_000)  # 0.64 MB to decode it, 1.28 to turn it
    for smallest_side in (None, 50):
        with pytest.raises(PhotoError, match="400 x 400 pixels and would take 2 MB"):
            photo.decode(data, "some.jpg", smallest_side)


@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_jpeg_cut_short_is_refused_at_any_scale(percent: int) -> None:
    whole = saved(Image.fromarray(SMOOTH).resize((480, 400)), "JPEG")
    with pytest.raises(PhotoError):
        photo.decode(whole[: len(whole) * percent // 100], "some.jpg", 50)


def test_a_photo_does_not_keep_its_file_or_decoder() -> None:
    for format in photo.FORMATS:
        assert type(photo.decode(saved(Image.fromarray(SMOOTH), format), "some.jpg")) is Image.Image


# Sizes


@pytest.mark.parametrize("size", [(1, 1), (1, 65_500), (65_500, 1)])
def test_tiny_and_thin_files_are_photos(size: tuple[int, int]) -> None:
    assert photo.decode(saved(Image.new("RGB", size, "lime"), "PNG"), "some.png").size == size


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_the_smallest_side_is_exactly_s(height: int, width: int, s: int) -> None:
    rows, columns = photo.scaled_size(height, width, s)
    assert min(rows, columns) == s
    assert (
        abs(rows * width - columns * height) <= max(height, width) / 2 + 1e-6
    )  # isotropic, but for rounding half a pixel


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(1, 90), width=st.integers(1, 90), s=st.integers(4, 80))
def test_a_window_is_the_same_part_of_the_whole_photo(data: st.DataObject, height: int, width: int, s: int) -> None:
    image = Image.fromarray(
        np.random.default_rng(height * 91 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
    whole = photo.rescale(image, s)
    assert whole.dtype == np.uint8
    assert whole.shape[:2] == photo.scaled_size(height, width, s)
    size = data.draw(st.integers(1, s))
    top, left = (data.draw(st.integers(0, n - size)) for n in whole.shape[:2])
    window = photo.rescale(image, s, (top, left, size, size))
    assert window.shape == (size, size, 3)
    different = np.abs(window.astype(int) - whole[top : top + size, left : left + size])
    assert different.max() <= 2  # Pillow rounds after each direction


def test_rescaling_averages_the_pixels_it_joins() -> None:
    """Halving with a triangle filter: an inner pixel is (1 3 3 1) / 8 of its neighbours each way."""
    grey = np.random.default_rng(2).integers(0, 256, (16, 16)).astype(float)
    image = Image.fromarray(np.repeat(grey[:, :, None], 3, 2).astype(np.uint8))
    weights = np.array([1, 3, 3, 1]) / 8
    expected = [
        [weights @ grey[2 * r - 1 : 2 * r + 3, 2 * c - 1 : 2 * c + 3] @ weights for c in range(1, 7)]
        for r in range(1, 7)
    ]
    assert np.abs(photo.rescale(image, 8)[1:7, 1:7, 0] - np.array(expected)).max() <= 1.5


def test_an_unscaled_photo_is_unchanged() -> None:
    assert np.array_equal(photo.rescale(Image.fromarray(SMOOTH), 40), SMOOTH)


def test_the_centre_crop_is_in_the_middle() -> None:
    assert np.array_equal(photo.centre_crop(Image.fromarray(SMOOTH), 40, 32), SMOOTH[4:36, 8:40])


def test_of_a_long_photo_the_middle_is_taken() -> None:
    pixels = np.zeros((2, 100, 3), np.uint8)
    pixels[:, 42:58] = 255
    assert np.array_equal(photo.middle(Image.fromarray(pixels), 2), np.full((2, 16, 3), 255))
    assert photo.middle(Image.fromarray(SMOOTH), 20).shape == (20, 24, 3)


def test_thin_photos_are_never_rescaled_whole() -> None:
    """1 x 65,500 at S = 256 would be 13 GB; the process may have one."""
    code = """
        import resource
        from PIL import Image
        from verydeep.data import limits, photo
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        for size in ((1, 65_500), (65_500, 1)):
            thin = Image.new("RGB", size, "red")
            print(photo.centre_crop(thin, 256, 224).mean(), photo.middle(thin, 256).shape)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "85.0 (2048, 256, 3)\n85.0 (256, 2048, 3)\n", done.stderr


# Photos already in memory


def test_arrays_and_images_in_memory_are_photos() -> None:
    assert np.array_equal(np.asarray(photo.from_memory(SMOOTH, "x")), SMOOTH)
    assert np.array_equal(np.asarray(photo.from_memory(SMOOTH[:, ::-1], "x")), SMOOTH[:, ::-1])
    assert np.asarray(photo.from_memory(np.full((2, 3), 7, np.uint8), "x")).tolist() == [[[7] * 3] * 3] * 2
    assert photo.from_memory(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "x").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "given",
    [
        SMOOTH / 255,
        SMOOTH[..., :2],
        SMOOTH[None],
        np.zeros((0, 5, 3), np.uint8),
        Image.new("RGB", (0, 5)),
        Image.new("La", (2, 2)),
        [[1], [1, 2]],
        "cat.jpg",
        None,
    ],
)
def test_other_things_in_memory_are_refused(given: object) -> None:
    with pytest.raises(PhotoError, match="upload"):
        photo.from_memory(given, "upload")


def test_a_damaged_image_opened_by_the_caller_is_refused() -> None:
    whole = saved(Image.fromarray(SMOOTH), "JPEG")
    with pytest.raises(PhotoError, match="upload"), Image.open(io.BytesIO(whole[: len(whole) * 3 // 4])) as opened:
        photo.from_memory(opened, "upload")


def test_what_was_encoded_is_decoded() -> None:
    assert np.array_equal(decoded(photo.encode(SMOOTH)), SMOOTH)


def test_a_side_that_the_resizer_cannot_place_is_refused() -> None:
    with pytest.raises(PhotoError, match="no side may be longer than 65,535"):
        photo.decode(saved(Image.new("L", (1, 65_536)), "PNG"), "long.png")


@pytest.mark.parametrize("how", list(Image.Transpose))
@pytest.mark.parametrize("size", [(7, 5), (5, 7), (1, 9), (64, 64)])
def test_turning_through_a_file_is_turning(how, size, monkeypatch):
    pixels = np.random.default_rng(how).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    monkeypatch.setattr(photo, "STRIP", 2 * size[0])
    expected = Image.fromarray(pixels).transpose(how)
    turned = photo.turned_through_file(Image.fromarray(pixels), how)
    assert np.array_equal(np.asarray(turned), np.asarray(expected))
