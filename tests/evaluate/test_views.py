"""What the net sees, as section 3.2 says: scales, the ladder and its views, windows, grids and long photos."""

import numpy as np
import pytest
from PIL import Image
from slow import noise

from verydeep.cli import main
from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.errors import ConfigError, PhotoError
from verydeep.evaluate import views
from verydeep.evaluate.frames import frames, inputs, spread, windows
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import PROTOCOLS, Step, View, grid

SCALES = [  # crop, trained at, asked, expected, the single one
    (224, (256, 256), "single", (256,), 256),
    (224, (256, 512), "single", (384,), 384),
    (224, (256, 256), "several", (224, 256, 288), 256),
    (224, (384, 384), "several", (352, 384, 416), 384),
    (224, (256, 512), "several", (256, 384, 512), 384),
    (224, (224, 224), "several", (224, 256), 224),
    (32, (36, 36), "several", (32, 36, 41), 36),
    (64, (72, 128), "several", (72, 100, 128), 100),
    (224, (256, 256), (512, 256, 384), (256, 384, 512), 256),
    (224, (256, 256), (512, 384), (384, 512), 512),
    (224, (256, 256), (300,), (300,), 300),
]
NO_SCALES = ["", "many", "256,", "0", "-256", "256.5", "1e3", "256 384", "²", "2049", "9" * 11, ",".join(["256"] * 99)]
NO_PROTOCOLS = ["", "ten", "centre,", "centre dense", "Dense", "[]"]


def contract(crop=224, scales=(256, 256)):
    return Contract("D", ("a", "b"), crop, 8, 8, False, "up", (0.0,) * 3, (1.0,) * 3, scales)


@pytest.mark.parametrize(("crop", "trained", "asked", "expected", "single"), SCALES)
def test_the_scales_are_the_papers(crop, trained, asked, expected, single):
    assert views.scales_for(contract(crop, trained), asked) == expected
    assert [v.scale for v in views.components(Step("centre"), contract(crop, trained), asked)] == [single]


def test_a_scale_below_the_crop_is_refused():
    with pytest.raises(ConfigError, match="Q = 200 is smaller than the crop of 224; give 224 or more"):
        views.scales_for(contract(), (256, 200))


def test_words_for_scales():
    assert [views.scales_in(t) for t in ("single", "several", "256,384")] == ["single", "several", (256, 384)]


@pytest.mark.parametrize(("flag", "text"), [("scales", t) for t in NO_SCALES] + [("protocol", t) for t in NO_PROTOCOLS])
def test_other_words_are_refused(flag, text, capsys):
    assert main(["evaluate", "builtin:fashion-a", "nowhere", f"--{flag}", text]) == 2
    said = capsys.readouterr().err
    assert f" {flag}: {text[:60]!r} is not " in said
    assert {"scales": "single, several, or", "protocol": ", ".join(PROTOCOLS)}[flag] in said


def test_the_ladder_its_components_and_its_mirror_images():
    single, several = ([Step(p, s) for p in PROTOCOLS] for s in (False, True))
    assert views.ladder(PROTOCOLS, "several") == [*single[:2], *several[1:]]
    assert views.ladder(PROTOCOLS, "single") == views.ladder(PROTOCOLS, (256,)) == single
    assert views.ladder(["both", "dense", "dense"], (256, 384)) == [
        Step("dense"),
        Step("dense", True),
        Step("both", True),
    ]
    net = contract(scales=(256, 512))
    found = [views.components(step, net, "several") for step in views.ladder(PROTOCOLS, "several")]
    dense, crops = (tuple(View(name, q) for q in (256, 384, 512)) for name in ("dense", "crops"))
    assert found == [(View("centre", 384),), (View("dense", 384),), dense, crops, dense + crops]
    assert [Settings().mirrors(p) for p in PROTOCOLS] == [False, True, True, True]


def see(image, view, crop=32, **options):
    return inputs(frames(image, [(view, crop)], **options), view, crop)


GRIDS = {32: (0, 0, 0, 0, 0), 36: (0, 1, 2, 3, 4), 48: (0, 4, 8, 12, 16), 38: (0, 2, 3, 4, 6), 35: (0, 1, 1, 2, 3),
         33: (0, 0, 0, 1, 1)}  # fmt: skip


@pytest.mark.parametrize(("side", "places"), GRIDS.items())
def test_the_grid_goes_from_edge_to_edge_and_stays_where_it_is_when_mirrored(side, places):
    assert [left for _, left in grid(32, side, 32)[:5]] == list(places)
    assert [top for top, _ in grid(side, 32, 32)[::5]] == list(places)
    assert all(a + b == side - 32 for a, b in zip(places[:2], places[:2:-1], strict=True))


def test_views_are_cut_from_the_rescaled_photo_and_crops_row_by_row():
    image = noise(80, 120)
    whole = np.asarray(image.resize((60, 40), Image.Resampling.BILINEAR))
    assert np.array_equal(see(image, View("dense", 40))[0], whole)
    assert np.abs(see(image, View("centre", 40))[0].astype(int) - whole[4:36, 14:46].astype(int)).max() <= 1
    corners = [(top, left) for top in (0, 2, 4, 6, 8) for left in (0, 7, 14, 21, 28)]
    for crop, (top, left) in zip(see(image, View("crops", 40)), corners, strict=True):
        assert np.array_equal(crop, whole[top : top + 32, left : left + 32])


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
    assert see(noise(10, 80), View("dense", 32))[0].shape == (32, 256, 3)  # exactly 8:1


@pytest.mark.parametrize(("height", "width"), [(32, 257), (257, 32), (1, 9), (1, 65_500), (8_000, 2)])
def test_crops_of_long_photos_are_windows_of_the_whole(height, width):
    image = noise(height, width)
    centre, crops = see(image, View("centre", 36))[0], see(image, View("crops", 36))
    assert len(crops) == 25
    assert all(c.shape == (32, 32, 3) for c in [centre, *crops])
    assert np.array_equal(crops[12], centre)
    last = photo.rescale(image, 36, (*grid(*photo.scaled_size(height, width, 36), 32)[24], 32, 32))
    assert np.array_equal(crops[24], last)


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


def test_a_map_is_spread_between_the_centres_of_its_windows() -> None:
    """A plane through the centres is that plane at the middle of each pixel, and level beyond the outermost."""
    x, y = np.meshgrid([10.0, 20.0, 40.0], [5.0, 35.0])
    boxes = np.stack([x - 4, y - 4, x + 4, y + 4], -1).reshape(-1, 4)
    found = spread(boxes, (2 * x + 3 * y).ravel(), (0, 0, 50, 40), (20, 100))
    columns, rows = np.meshgrid((np.arange(100) + 0.5) / 2, (np.arange(20) + 0.5) * 2)
    assert found == pytest.approx(2 * columns.clip(10, 40) + 3 * rows.clip(5, 35))
    part = spread(boxes, (2 * x + 3 * y).ravel(), (20, 10, 30, 20), (5, 10))
    assert part == pytest.approx(2 * (20.5 + np.arange(10)) + 3 * (11 + 2 * np.arange(5))[:, None])
