"""What a photo looks like once it is read: colours, orientation, sizes; damage is a PhotoError."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import chunk, exif, png, saved
from PIL import Image

from verydeep.cli import main
from verydeep.data import limits, photo, turning
from verydeep.errors import PhotoError

RANDOM = np.random.default_rng(1)
PATCHES = Image.fromarray(RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8))
SMOOTH = np.asarray(PATCHES.resize((48, 40), Image.Resampling.BICUBIC))
IMAGE = Image.fromarray(SMOOTH)


def decoded(data: bytes) -> np.ndarray:
    image = photo.decode(data, "some.jpg")
    assert type(image) is Image.Image  # which keeps neither its file nor its decoder
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def refused(data: bytes, smallest_side: int | None = None) -> str:
    with pytest.raises(PhotoError) as e:
        photo.decode(data, "some.jpg", smallest_side)
    assert e.value.photo == "some.jpg"
    assert str(e.value) == f"some.jpg: {e.value.reason}"
    return e.value.reason


# Bombs; what is damaged in other ways is in test_strangers.py


@pytest.mark.parametrize("name", ["missing.jpg", "a\0b.jpg", "a\udcffb.jpg", ".", "x" * 300])
def test_a_file_that_cannot_be_read_is_a_photo_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match="cannot be read"):
        photo.from_file(tmp_path / name)


@pytest.mark.parametrize("side", [8_001, 10_000, 20_000, 65_500])
def test_a_header_that_claims_too_many_pixels_is_refused(side: int) -> None:
    """Also where Pillow itself warns (89 million; here an error) or refuses (179 million)."""
    expected = "has (8001 x 8001 pixels and would take 257|more pixels than the 240) MB .*"
    assert re.fullmatch(expected, refused(png(side, side, rows=b"\0")))


def test_the_command_line_does_not_pass_on_pillows_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb = png(10_000, 10_000, rows=b"\0")
    said = "10000 x 10000 pixels and would take 401 MB to decode, more than the 240"
    (tmp_path / "bomb.png").write_bytes(bomb)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert main(["predict", "builtin:fashion-a", str(tmp_path / "bomb.png"), "--json"]) == 1
        assert not seen
        assert said in refused(bomb)
    assert [w.category for w in seen] == [Image.DecompressionBombWarning]  # in the library the caller decides
    assert said in capsys.readouterr().out


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
    # The file holds Y = Cb = Cr = 0, which is R, B below 0 and G = 128 (0.344 + 0.714) = 135 by ITU-T T.871, no black.
    assert np.abs(decoded(bytes(data))[8, 8] - [255, 255 - 135, 255]).max() < 4


@pytest.mark.parametrize(
    ("depth", "colour", "row", "chunks", "expected"),
    [
        (1, 0, bytes([0b01010000]), b"", [0, 255, 0, 255]),
        (16, 0, struct.pack(">6H", 0, 65535, 32768, 257, 128, 129), b"", [0, 255, 128, 1, 0, 1]),  # not clipped
        (16, 0, struct.pack(">3H", 1000, 1001, 65535), chunk(b"tRNS", struct.pack(">H", 1000)), [255, 4, 255]),
        (8, 4, bytes([0, 255, 9, 0]), b"", [0, 255]),
        (16, 4, bytes([0, 0, 255, 255, 9, 9, 0, 0]), b"", [0, 255]),
    ],
    ids=["1 bit", "16 bits", "16 bits, one value transparent", "alpha", "16 bits, alpha"],
)
def test_grey_of_any_depth_lies_on_white(
    depth: int, colour: int, row: bytes, chunks: bytes, expected: list[int]
) -> None:
    data = png(len(expected), 1, chunks, depth=depth, colour=colour, rows=b"\0" + row)
    assert decoded(data)[0].tolist() == [[v] * 3 for v in expected]


def test_pixels_of_an_unknown_range_are_refused() -> None:
    assert "70000" in refused(saved(Image.new("I", (2, 2), 70_000), "TIFF"))
    assert "floating-point" in refused(saved(Image.new("F", (2, 2), 5.5), "TIFF"))


def test_hidden_colours_do_not_show_through() -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    for format in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if format == "WEBP" else {}
        assert decoded(saved(image, format, **options))[0].tolist() == [[255] * 3, [255, 0, 0], [204] * 3], format


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
@pytest.mark.parametrize("orientation", [*range(10), 65535])
def test_photos_are_turned_upright(format: str, orientation: int) -> None:
    """An unknown number leaves the photo alone."""
    found = decoded(saved(IMAGE, format, exif=exif(orientation)))
    assert np.array_equal(found, STORED_TO_UPRIGHT.get(orientation, STORED_TO_UPRIGHT[1])(SMOOTH))


@pytest.mark.parametrize("how", list(Image.Transpose))
@pytest.mark.parametrize("size", [(7, 5), (5, 7), (1, 9), (64, 64)])
def test_turning_through_a_file_is_turning(
    how: Image.Transpose, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(how).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    monkeypatch.setattr(turning, "STRIP", 2 * size[0])
    turned = turning.turned_through_file(Image.fromarray(pixels), how)
    assert np.array_equal(np.asarray(turned), np.asarray(Image.fromarray(pixels).transpose(how)))


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
    image = IMAGE.resize((480, 400), Image.Resampling.BICUBIC).convert(mode)
    data = saved(image, "JPEG", exif=exif(6), quality=95, progressive=progressive)
    scaled, whole = photo.decode(data, "some.jpg", 100), photo.decode(data, "some.jpg")
    assert (scaled.mode, scaled.size, whole.size) == ("RGB", (100, 120), (400, 480))
    assert np.abs(np.asarray(scaled).astype(int) - photo.rescale(whole, 100)).mean() < 2
    assert np.abs(np.asarray(whole).astype(int) - np.rot90(np.asarray(image.convert("RGB")), -1)).mean() < 5


def test_a_scaled_photo_obeys_the_limits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.new("CMYK", (400, 400)), "TIFF", exif=exif(6))
    monkeypatch.setattr(limits, "MEMORY", 1_000_000)
    for smallest_side in (None, 50):
        assert "400 x 400 pixels and would take" in refused(data, smallest_side)


@pytest.mark.parametrize(("smallest_side", "size"), [(None, (200, 200)), (150, (200, 200)), (50, (50, 50))])
def test_a_jpeg_beyond_the_limits_comes_smaller(
    smallest_side: int | None, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(Image.new("CMYK", (400, 400)), "JPEG", exif=exif(6))
    monkeypatch.setattr(limits, "MEMORY", 1_000_000)
    assert photo.decode(data, "some.jpg", smallest_side).size == size
    assert "would take" in refused(saved(Image.new("CMYK", (400, 400)), "JPEG", progressive=True), smallest_side)


@pytest.mark.parametrize("progressive", [False, True])
def test_the_end_of_a_jpeg_is_its_own(progressive: bool) -> None:
    image = Image.effect_noise((64, 48), 40).convert("RGB")
    data = saved(image, "JPEG", progressive=progressive)
    thumbnail = b"\xff\xe1" + (len(small := saved(image.resize((16, 12)), "JPEG")) + 2).to_bytes(2, "big") + small
    for whole in (data, data[:2] + thumbnail + data[2:], data[:2] + b"\xff" + data[2:]):
        assert not photo.lacks_end(whole)
        assert not photo.lacks_end(whole + b"film \xff\xda and no end")
        assert photo.lacks_end(whole[:-2])
    assert not photo.lacks_end(saved(image, "PNG"))


# Sizes


def test_a_side_that_the_resizer_cannot_place_is_refused() -> None:
    assert "no side may be longer than 65,535" in refused(saved(Image.new("L", (1, 65_536)), "PNG"))


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_the_smallest_side_is_exactly_s(height: int, width: int, s: int) -> None:
    rows, columns = photo.scaled_size(height, width, s)
    assert min(rows, columns) == s
    assert abs(rows * width - columns * height) <= max(height, width) / 2 + 1e-6  # isotropic, but for half a pixel


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(1, 90), width=st.integers(1, 90), s=st.integers(4, 80))
def test_a_window_is_the_same_part_of_the_whole_photo(data: st.DataObject, height: int, width: int, s: int) -> None:
    pixels = np.random.default_rng(height * 91 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
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
    windows = np.lib.stride_tricks.sliding_window_view(grey, (4, 4))[1:13:2, 1:13:2]
    expected = np.einsum("rcij,i,j->rc", windows, weights, weights)
    assert np.abs(photo.rescale(image, 8)[1:7, 1:7, 0] - expected).max() <= 1.5


def test_an_unscaled_photo_is_unchanged_and_cropped_in_the_middle() -> None:
    assert np.array_equal(photo.rescale(IMAGE, 40), SMOOTH)
    assert np.array_equal(photo.centre_crop(IMAGE, 40, 32), SMOOTH[4:36, 8:40])


def test_of_a_long_photo_the_middle_is_taken() -> None:
    pixels = np.zeros((2, 100, 3), np.uint8)
    pixels[:, 42:58] = 255
    assert np.array_equal(photo.middle(Image.fromarray(pixels), 2), np.full((2, 16, 3), 255))
    assert photo.middle(IMAGE, 20).shape == (20, 24, 3)


def test_thin_photos_are_never_rescaled_whole() -> None:
    """1 x 65,500 at S = 256 would be 13 GB; the process may have one."""
    code = """
        import resource
        from PIL import Image
        from verydeep.data import photo
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        for size in ((1, 65_500), (65_500, 1)):
            thin = Image.new("RGB", size, "red")
            print(photo.centre_crop(thin, 256, 224).mean(), photo.middle(thin, 256).shape)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "85.0 (2048, 256, 3)\n85.0 (256, 2048, 3)\n", done.stderr


# Photos already in memory


def test_arrays_and_images_in_memory_are_photos() -> None:
    for pixels in (SMOOTH, SMOOTH[:, ::-1]):
        assert np.array_equal(np.asarray(photo.from_memory(pixels, "x")), pixels)
    assert np.asarray(photo.from_memory(np.full((2, 3), 7, np.uint8), "x")).tolist() == [[[7] * 3] * 3] * 2
    assert photo.from_memory(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "x").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "given",
    [
        SMOOTH / 255, SMOOTH[..., :2], SMOOTH[None], np.zeros((0, 5, 3), np.uint8), np.zeros(5, np.uint8),
        Image.new("RGB", (0, 5)), Image.new("La", (2, 2)), Image.new("F", (2, 2), 7), [[1], [1, 2]], "cat.jpg", None,
    ],
)  # fmt: skip
def test_other_things_in_memory_are_refused(given: object) -> None:
    with pytest.raises(PhotoError, match="upload"):
        photo.from_memory(given, "upload")


def test_a_damaged_image_opened_by_the_caller_is_refused() -> None:
    whole = saved(IMAGE, "JPEG")
    with pytest.raises(PhotoError, match="upload"), Image.open(io.BytesIO(whole[: len(whole) * 3 // 4])) as opened:
        photo.from_memory(opened, "upload")


def test_what_was_encoded_is_decoded() -> None:
    assert np.array_equal(decoded(photo.encode(SMOOTH)), SMOOTH)
