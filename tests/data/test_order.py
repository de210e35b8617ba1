"""The order of an epoch: Philox by hand, classes equally often, shards one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from photo_files import chi_square

from verydeep.data import order
from verydeep.data.order import ORDER, SAMPLE, Order, balanced_sample, epoch_order, generator
from verydeep.data.record import Names, Photos

WORD = (1 << 64) - 1


def photos_of(targets: Sequence[int], shards: Sequence[int] | None = None) -> Photos:
    names = Names.of(str(i) for i in range(len(targets)))
    return Photos(
        "train", names, np.array(targets, np.int64), lambda id: b"", shards=None if shards is None else np.array(shards)
    )


def local(seed: int, epoch: int, n: int) -> list[int]:
    return epoch_order(seed, epoch, photos_of([0] * n)).ids.tolist()


# Philox


def philox(key: int, counter: list[int]) -> Iterator[int]:
    """Philox4x64-10 (Salmon and others 2011, Parallel random numbers), from the block after `counter`."""
    start = sum(word << 64 * i for i, word in enumerate(counter))
    while True:
        start += 1
        a, b, c, d = (start >> 64 * i & WORD for i in range(4))
        k, l = key & WORD, key >> 64  # noqa: E741
        for _ in range(10):
            first, second = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
            a, b, c, d = second >> 64 ^ b ^ k, second & WORD, first >> 64 ^ d ^ l, first & WORD
            k, l = k + 0x9E3779B97F4A7C15 & WORD, l + 0xBB67AE8584CAA73B & WORD  # noqa: E741
        yield from (a, b, c, d)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**63 - 1), st.integers(0, 3), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**20)
)
def test_the_generator_is_philox_by_seed_stream_epoch_photo_and_turn(
    seed: int, stream: int, epoch: int, id: int, turn: int
) -> None:
    by_hand = philox((seed << 2) + stream, [0, turn, epoch, id])
    found = generator(seed, stream, epoch, id, turn).bit_generator.random_raw(12).tolist()  # type: ignore[attr-defined]
    assert found == [next(by_hand) for _ in range(12)]


def shuffled(words: Iterator[int], n: int) -> list[int]:
    """Fisher and Yates from the end; a place by as many bits as it needs until they fit, of 32, low half first."""
    halves = (half for word in words for half in (word & 0xFFFFFFFF, word >> 32))
    found = list(range(n))
    for i in range(n - 1, 0, -1):
        j = next(bits for half in halves if (bits := half & (1 << i.bit_length()) - 1) <= i)
        found[i], found[j] = found[j], found[i]
    return found


@pytest.mark.parametrize(("seed", "epoch", "n"), [(0, 0, 1), (0, 0, 100), (3, 2, 1000), (2**63 - 1, 73, 50), (5, 1, 0)])
def test_local_photos_are_shuffled_by_hand(seed: int, epoch: int, n: int) -> None:
    found = epoch_order(seed, epoch, photos_of([0] * n))
    assert found.ids.tolist() == shuffled(philox((seed << 2) + 2, [0, 0, epoch, 0]), n)
    assert found.turns.tolist() == [0] * n
    assert found.ids.dtype == found.turns.dtype == np.int64


def test_the_order_is_that_of_the_first_release() -> None:
    """Written down from the program as it was when runs could first be begun."""
    assert local(3, 2, 12) == [11, 2, 6, 9, 5, 7, 4, 10, 3, 0, 8, 1]
    assert local(0, 0, 7) == [2, 4, 3, 1, 0, 5, 6]
    assert local(20_260_131, 73, 9) == [3, 7, 8, 5, 0, 4, 6, 2, 1]


# Balanced sampling


TARGETS = st.lists(st.integers(0, 5), min_size=1, max_size=80)


@settings(max_examples=150, deadline=None)
@given(TARGETS, st.integers(0, 50), st.integers(0, 50))
@example([0], 0, 0)
@example([3, 3, 3], 1, 1)
@example([0] * 79 + [5], 0, 0)
@example([5] + [0] * 3, 0, 0)
def test_every_class_comes_equally_often_and_no_photo_before_its_class_is_through(
    targets: list[int], seed: int, epoch: int
) -> None:
    found = epoch_order(seed, epoch, photos_of(targets), balanced=True)
    assert len(found.ids) == len(found.turns) == len(targets)
    shown = Counter(targets[id] for id in found.ids.tolist())
    assert set(shown) == set(targets)
    assert max(shown.values()) - min(shown.values()) <= 1
    per_photo = Counter(found.ids.tolist())
    for c in set(targets):
        own = [per_photo[id] for id, target in enumerate(targets) if target == c]
        assert max(own) - min(own) <= 1
    turns: dict[int, list[int]] = {}
    for id, turn in zip(found.ids.tolist(), found.turns.tolist(), strict=True):
        turns.setdefault(id, []).append(turn)
    assert all(sorted(seen) == list(range(len(seen))) for seen in turns.values())


def pairs(found: Order) -> list[tuple[int, int]]:
    return list(zip(found.ids.tolist(), found.turns.tolist(), strict=True))


def test_a_balanced_epoch_is_a_function_of_seed_and_epoch() -> None:
    photos = photos_of([0] * 50 + [1] * 7 + [2] * 3)
    once = {(s, e): pairs(epoch_order(s, e, photos, True)) for s in range(3) for e in range(3)}
    again = {(s, e): pairs(epoch_order(s, e, photos, True)) for s in reversed(range(3)) for e in reversed(range(3))}
    assert once == again
    assert len({tuple(p) for p in once.values()}) == 9
    assert len({tuple(sorted(p)) for p in once.values()}) == 9  # not only the order differs, but who rests


def test_who_rests_and_which_class_has_one_more_is_left_to_chance() -> None:
    """A class of 30 shows 13 or 14; over 600 epochs each of its photos comes about as often."""
    targets = [0] * 30 + [1] * 7 + [2] * 3
    found = [epoch_order(1, epoch, photos_of(targets), True).ids for epoch in range(600)]
    assert chi_square(np.bincount(np.concatenate(found), minlength=40)[:30].tolist()) < 1.6
    larger = Counter(int(np.argmax(np.bincount(np.array(targets)[ids]))) for ids in found)
    assert sorted(larger) == [0, 1, 2]
    assert chi_square(list(larger.values())) < 5


def test_a_balanced_order_is_the_sample_shuffled_like_any_epoch() -> None:
    photos = photos_of([0] * 9 + [1] * 3)
    sample = balanced_sample(generator(4, SAMPLE, 5, 0), photos.targets())
    places = generator(4, ORDER, 5, 0).permutation(12)
    found = epoch_order(4, 5, photos, True)
    assert found.ids.tolist() == sample.ids[places].tolist()
    assert found.turns.tolist() == sample.turns[places].tolist()


# Shards


SHARDS = np.repeat([4, 0, 2, 1, 5, 3], [40, 10, 25, 60, 1, 64]).tolist()  # as photos of a class can lie


def moved(seed: int, epoch: int, window: int, shards: Sequence[int] = SHARDS) -> list[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "WINDOW", window)
        found = epoch_order(seed, epoch, photos_of([0] * len(shards), shards))
    assert not found.turns.any()
    return found.ids.tolist()


@pytest.mark.parametrize("window", [1, 7, 50, 16_384])
def test_with_shards_every_photo_comes_once_near_its_place(window: int) -> None:
    """Without a window, shard after shard; with one, nobody moves further than that."""
    for epoch in range(20):
        in_turn, found = moved(2, epoch, 1), moved(2, epoch, window)
        assert sum(SHARDS[a] != SHARDS[b] for a, b in pairwise(in_turn)) == 5  # six blocks
        assert sorted(found) == list(range(200))
        place = {id: i for i, id in enumerate(in_turn)}
        distance = [abs(place[id] - i) for i, id in enumerate(found)]
        assert max(distance) < window
        assert window == 1 or sum(d > 0 for d in distance) > 100


def test_a_shard_keeps_its_own_order_before_the_window() -> None:
    in_turn = moved(0, 0, 1)
    for shard in range(6):
        assert [id for id in in_turn if SHARDS[id] == shard] == [id for id, s in enumerate(SHARDS) if s == shard]


def test_a_wide_window_is_a_fair_shuffle() -> None:
    first = Counter(moved(0, epoch, 16_384, [0, 0, 0, 1, 1])[0] for epoch in range(2000))
    assert chi_square(list(first.values())) < 3


def test_shards_come_in_random_order_by_seed_and_epoch() -> None:
    first = Counter(SHARDS[moved(0, epoch, 1)[0]] for epoch in range(600))
    assert sorted(first) == [0, 1, 2, 3, 4, 5]
    assert chi_square(list(first.values())) < 3
    orders = {(seed, epoch): tuple(moved(seed, epoch, 7)) for seed in range(3) for epoch in range(3)}
    assert len(set(orders.values())) == 9
    assert all(tuple(moved(seed, epoch, 7)) == found for (seed, epoch), found in reversed(orders.items()))


def test_balanced_photos_of_shards_stay_near_their_shard() -> None:
    """Each of the sample is within the window of where its shard stands, counted in photos of the sample."""
    targets = [i % 7 == 0 for i in range(200)]
    photos = photos_of(targets, SHARDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "WINDOW", 1)
        in_turn = [SHARDS[id] for id in epoch_order(3, 1, photos, True).ids.tolist()]
        patch.setattr(order, "WINDOW", 10)
        found = epoch_order(3, 1, photos, True)
    assert sum(a != b for a, b in pairwise(in_turn)) <= 5
    assert np.bincount(np.array(targets, int)[found.ids]).tolist() == [100, 100]
    assert sorted(pairs(found)) == sorted(pairs(epoch_order(3, 1, photos_of(targets), True)))
    place = {id: i for i, id in enumerate(moved(3, 1, 1))}
    ahead = np.maximum.accumulate([place[id] for id in found.ids.tolist()])
    assert all(place[id] > ahead[i] - 10 for i, id in enumerate(found.ids.tolist()))
