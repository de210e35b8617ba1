"""What the net sees: windows, grids, long photos, and that pixels do not depend on what else is asked."""

import numpy as np
import pytest
from PIL import Image
from slow import noise

from verydeep.data import photo
from verydeep.errors import PhotoError
from verydeep.evaluate.views import View, frames, grid, inputs, windows


def see(image, view, crop=32, **options):
    return inputs(frames(image, [(view, crop)], **options), view, crop)


@pytest.mark.parametrize(
    ("side", "places"),
    [
        (32, (0, 0, 0, 0, 0)),
        (36, (0, 1, 2, 3, 4)),
        (48, (0, 4, 8, 12, 16)),
        (38, (0, 2, 3, 4, 6)),
        (35, (0, 1, 1, 2, 3)),
        (33, (0, 0, 0, 1, 1)),
    ],
)
def test_the_grid_goes_from_edge_to_edge_and_stays_where_it_is_when_mirrored(side, places):
    assert [left for _, left in grid(32, side, 32)[:5]] == list(places)
    assert [top for top, _ in grid(side, 32, 32)[::5]] == list(places)
    space = side - 32
    assert all(a + b == space for a, b in zip(places[:2], places[:2:-1], strict=True))


def test_the_25_crops_are_cut_from_the_rescaled_photo_row_by_row():
    image = noise(80, 120)
    whole = np.asarray(image.resize((60, 40), Image.Resampling.BILINEAR))
    crops = see(image, View("crops", 40))
    assert len(crops) == 25
    for n, (top, left) in enumerate((t, w) for t in (0, 2, 4, 6, 8) for w in (0, 7, 14, 21, 28)):
        assert np.array_equal(crops[n], whole[top : top + 32, left : left + 32])


def test_the_centre_crop_is_the_middle_of_the_rescaled_photo():
    image = noise(80, 120)
    rescaled = np.asarray(image.resize((60, 40), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(see(image, View("centre", 40))[0].astype(int) - rescaled[4:36, 14:46]).max() <= 1
    assert np.array_equal(see(image, View("dense", 40))[0], rescaled)


@pytest.mark.parametrize("size", [(50, 70), (40, 330), (2, 90)])
def test_pixels_do_not_depend_on_what_else_is_asked(size):
    image = noise(*size)
    asked = [(View(name, q), crop) for name in ("centre", "dense", "crops") for q in (64, 70) for crop in (32, 64)]
    together = frames(image, asked, "middle")
    for view, crop in asked:
        alone = see(image, view, crop, long_photos="middle")
        assert all(np.array_equal(a, b) for a, b in zip(alone, inputs(together, view, crop), strict=True))


def test_what_views_share_is_made_once():
    asked = [(View(name, 40), crop) for name in ("dense", "crops") for crop in (32, 64)]
    assert len(frames(noise(50, 70), asked).pixels) == 1


@pytest.mark.parametrize(("height", "width"), [(32, 257), (257, 32), (1, 9)])
def test_dense_refuses_photos_longer_than_8_to_1_or_takes_the_middle(height, width):
    with pytest.raises(PhotoError, match=r"longer than 8:1"):
        see(noise(height, width), View("dense", 32))
    assert max(see(noise(height, width), View("dense", 32), long_photos="middle")[0].shape) == 256


@pytest.mark.parametrize(("height", "width"), [(32, 257), (257, 32), (1, 9), (1, 65_500), (8_000, 2)])
def test_crops_of_long_photos_are_windows_of_the_whole(height, width):
    image = noise(height, width)
    centre, crops = see(image, View("centre", 36))[0], see(image, View("crops", 36))
    assert len(crops) == 25
    assert all(c.shape == (32, 32, 3) for c in [centre, *crops])
    assert np.array_equal(crops[12], centre)
    last = photo.rescale(image, 36, (*grid(*photo.scaled_size(height, width, 36), 32)[24], 32, 32))
    assert np.array_equal(crops[24], last)


def test_dense_takes_exactly_8_to_1():
    assert see(noise(10, 80), View("dense", 32))[0].shape == (32, 256, 3)


@pytest.mark.parametrize(("height", "width"), [(60, 91), (77, 50), (40, 700)])
def test_the_windows_of_cells_are_what_the_net_saw_there(height, width):
    """Cut out of the upright photo by Pillow and rescaled, they are the inputs, or the cell's part of the whole."""
    ramp = np.add.outer(np.arange(height) * 2, np.arange(width) // 4)[:, :, None] + np.array([0, 20, 40])
    image, crop = Image.fromarray(ramp.clip(0, 255).astype(np.uint8)), 32
    for view in (View("centre", 40), View("dense", 64), View("crops", 40)):
        for number, pixels in enumerate(see(image, view, crop, long_photos="middle")):
            cells = tuple(1 + (side - crop) // 32 for side in pixels.shape[:2])
            boxes = windows(view, crop, (height, width), number, cells)
            assert boxes.shape == (*cells, 4)
            for i, j in np.ndindex(cells):
                cut = image.resize((crop, crop), Image.Resampling.BILINEAR, box=tuple(boxes[i, j].clip(0, None)))
                saw = pixels[32 * i : 32 * i + crop, 32 * j : 32 * j + crop].astype(int)
                assert np.abs(saw - np.asarray(cut)).max() <= 3
