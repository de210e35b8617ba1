"""Boxes follow what is done to photos, exactly, and IoU is what rendered boxes share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from verydeep.data.augment import crop_of, draw
from verydeep.localise.boxes import area, boxes_said, in_crop, in_photo, iou, said_as

numbers = st.integers(0, 2**31)


@st.composite
def whole_boxes(draw, side=24):
    x0, y0 = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
    return [x0, y0, draw(st.integers(x0 + 1, side)), draw(st.integers(y0 + 1, side))]


def rendered(box, side=24):
    mask = np.zeros((side, side), bool)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


@given(whole_boxes(), whole_boxes())
def test_iou_is_what_rendered_boxes_share(a, b):
    one, other = rendered(a), rendered(b)
    found = iou(np.array(a, float), np.array(b, float))
    assert found == pytest.approx((one & other).sum() / (one | other).sum())
    assert iou(np.array([b], float)[:, None], np.array([a, b], float)[None]).shape == (1, 2)


def test_iou_is_that_of_coco():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 60, (2, 50, 2, 2))
    a, b = np.sort(corners, 2).reshape(2, 50, 4)
    as_coco = [np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1) for boxes in (a, b)]
    assert iou(a[:, None], b[None]) == pytest.approx(coco_mask.iou(*as_coco, [0] * 50), abs=1e-12)


def test_iou_of_boxes_without_area_is_none():
    flat = np.array([3.0, 3, 3, 9])
    assert iou(flat, flat) == 0
    assert iou(flat, np.array([0.0, 0, 9, 9])) == 0


@given(numbers, st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_box_of_a_crop_is_that_of_the_rendered_thing_there(seed, flip):
    """A white thing on black is rescaled, cut and mirrored as training does; its edge is where grey is 128."""
    random = np.random.default_rng(seed)
    height, width = random.integers(40, 120, 2).tolist()
    x0, y0 = random.integers(0, [width - 12, height - 12]).tolist()
    x1, y1 = x0 + int(random.integers(10, width - x0 + 1)), y0 + int(random.integers(10, height - y0 + 1))
    photo = np.zeros((height, width, 3), np.uint8)
    photo[y0:y1, x0:x1] = 255
    geometry = draw(seed, 0, 3, height, width, 32, (32, 60), flip)
    seen = crop_of(Image.fromarray(photo), geometry, 32)[..., 0] >= 128
    box = in_crop(np.array([[x0, y0, x1, y1]], float), geometry, 32, (height, width))
    inside = np.clip(box[0], 0, 1) * 32
    if not seen.any():
        assert area(np.clip(box, 0, 1))[0] / area(box)[0] * 32 * 32 < 64  # less than a pixel wide, or outside
        return
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(inside - found).max() <= 1.01


@given(numbers, st.booleans())
def test_what_a_net_says_is_the_box_again(seed, log_size):
    random = np.random.default_rng(seed)
    low = random.uniform(-0.5, 1, (5, 2))
    boxes = np.concatenate([low, low + random.uniform(0.02, 1.5, (5, 2))], 1)
    said = said_as(boxes, log_size)
    assert said[:, :2] == pytest.approx((boxes[:, :2] + boxes[:, 2:]) / 2)
    if not log_size:
        assert said[:, 2:] == pytest.approx(boxes[:, 2:] - boxes[:, :2])
    assert boxes_said(torch.from_numpy(said), log_size).numpy() == pytest.approx(boxes)


def test_a_net_may_say_any_number():
    wild = torch.tensor([[0.5, 0.5, -3.0, 1e9], [0.5, 0.5, 300.0, -300.0]])
    for log_size in (False, True):
        found = boxes_said(wild, log_size)
        assert found.isfinite().all()
        assert (found[:, 2:] >= found[:, :2]).all()


@given(numbers, st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_box_goes_from_the_photo_to_a_crop_and_back(seed, flip):
    random = np.random.default_rng(seed)
    height, width = random.integers(33, 200, 2).tolist()
    boxes = np.sort(random.uniform(0, min(height, width), (3, 2, 2)), 1).reshape(3, 4)
    geometry = draw(seed, 1, 2, height, width, 32, (32, 80), flip)
    seen = in_crop(boxes, geometry, 32, (height, width))
    rows, columns = (round(side * geometry.scale / min(height, width)) for side in (height, width))
    across, down = width / columns, height / rows
    left, top = geometry.left * across, geometry.top * down
    window = torch.tensor([[left, top, left + 32 * across, top + 32 * down]], dtype=torch.float64)
    back = in_photo(torch.from_numpy(seen)[None], window, geometry.flip)
    assert back[0].numpy() == pytest.approx(boxes, abs=max(across, down))
