"""What is drawn for a photo, and that it is the same wherever and whenever it is drawn."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from photo_files import chi_square
from PIL import Image

from verydeep.config import Config
from verydeep.data import augment
from verydeep.data.batches import Batch, Batches, bounds, class_of
from verydeep.data.order import epoch_order
from verydeep.data.photo import rescale
from verydeep.data.record import Photos
from verydeep.data.source import open_data
from verydeep.data.statistics import Statistics
from verydeep.errors import PhotoError
from verydeep.ranks import Ranks

SMALL = Config(crop=32, scale=(32, 48), batch=8, workers=0)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
COLOURS = Statistics((1.0, 2.0, 3.0), tuple(map(tuple, ROTATION.tolist())), (2500.0, 400.0, 9.0), 1)  # type: ignore[arg-type]


def drawn(n: int, height: int = 60, width: int = 40, **given: int) -> list[augment.Geometry]:
    values = {"seed": 3, "epoch": 1, "crop": 32, "scales": (32, 40)} | given
    return [augment.draw(id=i, height=height, width=width, **values) for i in range(n)]


# Geometry


def test_a_draw_depends_on_seed_epoch_and_photo_only() -> None:
    once = drawn(50)
    np.random.default_rng().random(3)
    assert drawn(50) == once
    assert [augment.draw(3, 1, i, 60, 40, 32, (32, 40)) for i in reversed(range(50))] == once[::-1]
    for other in (drawn(50, seed=4), drawn(50, epoch=2), drawn(51)[1:]):
        assert sum(a == b for a, b in zip(other, once, strict=True)) < 5


SIDES = st.integers(1, 300)


@given(SIDES, SIDES, st.integers(0, 2**62), st.integers(0, 500), st.integers(0, 10**9), st.integers(0, 40))
def test_windows_lie_inside(height: int, width: int, seed: int, epoch: int, id: int, jitter: int) -> None:
    scale, top, left, _ = augment.draw(seed, epoch, id, height, width, 32, (32, 32 + jitter))
    assert 32 <= scale <= 32 + jitter
    assert 0 <= top <= height * scale / min(height, width) + 0.5 - 32
    assert 0 <= left <= width * scale / min(height, width) + 0.5 - 32


def test_every_scale_is_as_likely() -> None:
    counts = Counter(g.scale for g in drawn(9000))
    assert sorted(counts) == list(range(32, 41))
    assert chi_square(list(counts.values())) < 3


def test_every_place_is_as_likely() -> None:
    found = drawn(8000, height=40, width=36, scales=(36, 36))
    counts = Counter((g.top, g.left) for g in found)
    assert sorted(counts) == [(top, left) for top in range(9) for left in range(5)]
    assert chi_square(list(counts.values())) < 2


def test_half_are_mirrored_and_none_if_not_asked() -> None:
    assert abs(sum(g.flip for g in drawn(10_000)) - 5000) < 200
    assert not any(g.flip for g in drawn(100, flip=False))
    assert [g[:3] for g in drawn(100, flip=False)] == [g[:3] for g in drawn(100)]


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_is_cut_where_it_was_drawn_and_mirrored(flip: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    photo, step = Image.fromarray(pixels), -1 if flip else 1
    whole = augment.crop_of(photo, augment.Geometry(40, 3, 7, flip), 32)
    assert np.array_equal(whole, pixels[3:35, 7:39][:, ::step])
    scaled, plain = (augment.crop_of(photo, augment.Geometry(36, 1, 9, f), 32) for f in (flip, False))
    assert np.array_equal(scaled, plain[:, ::step])


# Colour


def test_the_steps_are_roots_or_eigenvalues() -> None:
    first = ROTATION[:, 0]
    assert np.allclose(augment.colour_axes(COLOURS, "root")[:, 0], first * 50)
    assert np.allclose(augment.colour_axes(COLOURS, "root")[:, 1], ROTATION[:, 1] * 20)
    # In 0-1 the eigenvalue is 2500 / 255^2 = 0.0384; a step of that in grey levels is 0.0384 * 255 = 9.8.
    assert np.allclose(augment.colour_axes(COLOURS, "literal")[:, 0], first * 9.80392, atol=1e-4)
    assert not augment.colour_axes(COLOURS, "off").any()


def test_shifts_have_the_covariance_of_the_photos_times_the_variance_of_the_factor() -> None:
    axes = augment.colour_axes(COLOURS, "root")
    shifts = np.array([augment.draw_colour(1, 2, id, axes, 0.1) for id in range(20_000)])
    assert shifts.dtype == np.float32
    expected = ROTATION @ np.diag([2500.0, 400.0, 9.0]) @ ROTATION.T * 0.01
    assert np.abs(np.cov(shifts.T) - expected).max() < 0.04 * expected.max()
    assert np.abs(shifts.mean(0)).max() < 0.15


def test_the_factor_is_normal() -> None:
    factors = np.array([augment.draw_colour(1, 2, id, np.eye(3), 1.0) for id in range(20_000)]).ravel()
    assert abs(factors.std() - 1) < 0.02
    assert abs(np.mean(np.abs(factors) < 1) - 0.6827) < 0.01
    assert abs(np.mean(np.abs(factors) < 2) - 0.9545) < 0.005


def test_the_streams_of_a_photo_do_not_meet() -> None:
    every = itertools.product(range(3), range(4), range(3))
    assert len({augment.generator(seed, s, 1, 1, turn).integers(2**60) for seed, s, turn in every}) == 36


def test_a_photo_shown_again_in_an_epoch_is_drawn_anew() -> None:
    turns = [[augment.draw(3, 1, id, 60, 40, 32, (32, 40), turn=turn) for id in range(50)] for turn in range(3)]
    assert turns[0] == drawn(50)
    assert sum(a == b for a, b in zip(turns[1] + turns[2], turns[0] * 2, strict=True)) < 10
    shifts = {tuple(augment.draw_colour(3, 1, 7, np.eye(3), 0.1, turn).tolist()) for turn in range(3)}
    assert len(shifts) == 3
    assert tuple(augment.draw_colour(3, 1, 7, np.eye(3), 0.1).tolist()) in shifts


# Batches


def test_one_photo_left_over_joins_the_batch_before() -> None:
    sizes = {6: [3, 3], 7: [3, 4], 8: [3, 3, 2], 1: [1], 2: [2], 4: [4], 0: []}
    for photos, expected in sizes.items():
        found = bounds(photos, 3)
        assert [end - start for start, end in found] == expected
        assert [p for start, end in found for p in range(start, end)] == list(range(photos))
    assert bounds(3, 1) == [(0, 1), (1, 2), (2, 3)]


@pytest.fixture
def batches(photo_folder: Path) -> Batches:
    photos = open_data(str(photo_folder)).split("all")
    return Batches(photos, SMALL, COLOURS, class_of(photos))


def order_of(photos: Photos, epoch: int) -> list[int]:
    return epoch_order(0, epoch, photos).ids.tolist()


def same(a: Batch, b: Batch) -> bool:
    return a.number == b.number and all(x.equal(y) for x, y in zip(a[1:], b[1:], strict=True))


def test_a_batch_holds_what_was_drawn(batches: Batches) -> None:
    number, photos, targets, shifts = list(batches.epoch(3))[1]
    assert (number, photos.shape, photos.dtype) == (1, (8, 3, 32, 32), torch.uint8)
    assert photos.is_contiguous(memory_format=torch.channels_last)
    assert (targets.dtype, shifts.dtype) == (torch.int64, torch.float32)
    for i, id in enumerate(order_of(batches.photos, 3)[8:16]):
        photo = batches.photos.open(id)
        scale, top, left, flip = augment.draw(0, 3, id, photo.height, photo.width, 32, (32, 48))
        whole = rescale(photo, scale).astype(int)[top : top + 32, left : left + 32]
        assert np.abs((whole[:, ::-1] if flip else whole) - photos[i].permute(1, 2, 0).numpy()).max() <= 2
        assert targets[i] == id // 12
        assert shifts[i].tolist() == augment.draw_colour(0, 3, id, ROTATION * [50, 20, 3], 0.1).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_photo_stops_and_is_named_or_can_be_skipped(batches: Batches, photo_folder: Path, workers: int) -> None:
    whole = list(batches.epoch(0))
    (photo_folder / "2" / "3.jpg").unlink()  # id 15
    bad: list[tuple[int, str]] = []
    batches = replace(batches, config=replace(SMALL, workers=workers))
    with pytest.raises(PhotoError, match=r"2/3\.jpg"):
        list(batches.epoch(0))
    rest = list(replace(batches, on_bad=lambda id, e: bad.append((id, e.photo))).epoch(0))
    assert bad == [(15, str(photo_folder / "2" / "3.jpg"))]
    place = order_of(batches.photos, 0).index(15)
    for before, after in zip(whole, rest, strict=True):
        kept = [i for i in range(len(before.targets)) if before.number * 8 + i != place]
        assert same(Batch(before.number, *(part[kept] for part in before[1:])), after)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_bad_photos_is_empty(batches: Batches, workers: int) -> None:
    whole = list(batches.epoch(0))
    lost = set(order_of(batches.photos, 0)[8:16])

    def content_or_fail(id: int) -> bytes | Image.Image:
        if id in lost:
            raise PhotoError(str(id), "is gone")
        return batches.photos.content(id)

    photos, bad = replace(batches.photos, content=content_or_fail), list[int]()
    config = replace(SMALL, workers=workers)
    found = list(replace(batches, photos=photos, config=config, on_bad=lambda id, e: bad.append(id)).epoch(0))
    assert [batch.number for batch in found] == [0, 1, 2, 3, 4]
    assert [len(batch.targets) for batch in found] == [8, 0, 8, 8, 4]
    assert [(a.shape[1:], a.dtype) for a in found[1][1:]] == [(b.shape[1:], b.dtype) for b in found[0][1:]]
    assert all(same(a, b) for a, b in zip(whole, found, strict=True) if b.number != 1)
    assert sorted(bad) == sorted(lost)


# Ranks


def joined(parts: list[Batch]) -> Batch:
    """What the ranks hold of a batch, one after another."""
    return Batch(parts[0].number, *(torch.cat(rows) for rows in zip(*(part[1:] for part in parts), strict=True)))


RANKED = replace(SMALL, batch=7)  # 36 photos: 7, 7, 7, 7 and 8, because the one left over joins


@pytest.mark.parametrize("balance", ["none", "sampling"])
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_parts_of_the_ranks_make_the_batch_of_one(batches: Batches, size: int, workers: int, balance: str) -> None:
    config = replace(RANKED, balance=balance)
    alone = list(replace(batches, config=config).epoch(2))
    assert [len(batch.targets) for batch in alone] == [7, 7, 7, 7, 8]
    ranked = [
        list(replace(batches, config=replace(config, workers=workers), ranks=Ranks(rank, size)).epoch(2, start))
        for start in range(6)
        for rank in range(size)
    ]
    for start in range(6):
        whole = [joined(list(parts)) for parts in zip(*ranked[start * size : (start + 1) * size], strict=True)]
        assert len(whole) == 5 - start
        assert all(map(same, whole, alone[start:]))
    sizes = [len(batch.targets) for batch in (b for rank in ranked[:size] for b in rank)]
    assert max(sizes) - min(sizes) <= 1 + (size == 1)


def test_a_rank_without_photos_gets_an_empty_batch(batches: Batches) -> None:
    config = replace(SMALL, batch=2)
    parts = [list(replace(batches, config=config, ranks=Ranks(rank, 3)).epoch(0)) for rank in range(3)]
    assert {len(batch.targets) for batch in parts[0]} == {0}
    assert all(map(same, map(joined, map(list, zip(*parts, strict=True))), replace(batches, config=config).epoch(0)))


def test_a_photo_that_one_rank_cannot_read_is_missing_in_its_part_only(batches: Batches, photo_folder: Path) -> None:
    (photo_folder / "2" / "3.jpg").unlink()
    bad: list[list[int]] = [[], []]
    skipping = replace(batches, config=RANKED, on_bad=lambda id, e: None)
    ranked = [replace(skipping, ranks=Ranks(r, 2), on_bad=lambda id, e, r=r: bad[r].append(id)) for r in range(2)]
    parts = [list(own.epoch(0)) for own in ranked]
    assert all(map(same, map(joined, map(list, zip(*parts, strict=True))), skipping.epoch(0)))
    assert sorted(bad) == [[], [15]]


def test_a_photo_shown_twice_in_an_epoch_gets_two_crops(batches: Batches) -> None:
    """Four photos of one class and 32 of the others: each of the four comes three times."""
    few = batches.photos.take(np.concatenate([np.arange(4), np.arange(12, 36)]), "train")
    config = replace(SMALL, balance="sampling", batch=28)
    order = epoch_order(0, 1, few, balanced=True)
    (batch,) = replace(batches, photos=few, config=config, target_of=class_of(few)).epoch(1)
    rows = [row for row, id in enumerate(order.ids.tolist()) if id == 2]
    assert len(rows) >= 2
    assert len({batch.photos[row].numpy().tobytes() for row in rows}) == len(rows)
    assert len({tuple(batch.shifts[row].tolist()) for row in rows}) == len(rows)
    for row in rows:
        photo = few.open(2)
        turn = int(order.turns[row])
        expected = augment.crop_of(photo, augment.draw(0, 1, 2, photo.height, photo.width, 32, (32, 48), turn=turn), 32)
        assert np.array_equal(batch.photos[row].permute(1, 2, 0).numpy(), expected)


def test_what_will_be_asked_for_is_told_in_its_order(batches: Batches) -> None:
    told: list[list[int]] = []
    photos = replace(batches.photos, expect=lambda ids: told.append(ids.tolist()))
    list(replace(batches, photos=photos, config=RANKED, ranks=Ranks(1, 2)).epoch(3, 2))
    order = order_of(photos, 3)
    assert told == [order[17:21] + order[24:28] + order[32:36]]
