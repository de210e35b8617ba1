"""The paper's descriptor and any other layers against an independent computation in fp64."""

import numpy as np
import pytest
import torch
from seen import layer, noise, small, without_fc

from verydeep.describe import described, descriptors, last_hidden, own_scales
from verydeep.errors import ConfigError
from verydeep.evaluate.passes import Settings
from verydeep.weights import convolutions_at_hand, load_describing

FP64 = Settings(precision="fp64", batch=3)
PHOTOS = [noise(36, 50, 0), noise(50, 36, 1), noise(36, 50, 2), noise(40, 40, 3)]


def said_of(nets, scales, settings=FP64, **how):
    """What each net says of all photos, N x Q x D."""
    parts = list(described(nets, scales, PHOTOS.__getitem__, range(len(PHOTOS)), settings, **how))
    assert [id for ids, _ in parts for id in ids] == list(range(len(PHOTOS)))
    return [np.concatenate(own) for own in zip(*(rows for _, rows in parts), strict=True)]


def unit(rows):
    return rows / np.sqrt((rows**2).sum(1))[:, None]


def by_hand(net, tap, qs, **how):
    """N x Q x D."""
    return np.array([[layer(net, photo, tap, q, **how) for q in qs] for photo in PHOTOS])


def test_the_descriptor_is_the_last_hidden_layer_averaged_over_space_mirror_and_scales():
    nets, scales = [small("A", 0), small("B", 1, 9)], [(32, 40), (36,)]
    found = said_of(nets, scales)
    wanted = [by_hand(net, "relu7", qs) for net, qs in zip(nets, scales, strict=True)]
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()
    one, two = (unit(rows.mean(1)) for rows in wanted)
    assert descriptors(found) == pytest.approx(unit(np.concatenate([one, two], 1)), rel=1e-6, abs=1e-7)
    stacked = unit(wanted[0].reshape(len(PHOTOS), -1))
    assert descriptors(found, "stack") == pytest.approx(unit(np.concatenate([stacked, two], 1)), rel=1e-6, abs=1e-7)
    assert descriptors(found[:1], "average", False) == pytest.approx(wanted[0].mean(1), rel=1e-6, abs=1e-7)
    assert np.linalg.norm(descriptors(found), axis=1) == pytest.approx(1)
    alone = by_hand(nets[0], "relu7", (32,), mirror=False)
    assert np.abs(alone - wanted[0][:, :1]).max() > 1e-3  # the mirror image matters
    assert said_of(nets[:1], [(32,)], FP64._replace(mirror=False))[0] == pytest.approx(alone, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("pool", ["mean", "max", "none"])
def test_any_layers_stand_side_by_side(pool):
    net, taps, mirror = small(), ("conv1_1", "relu3_2", "pool4", "conv5_2", "fc6", "fc8"), pool != "none"
    (found,) = said_of([net], [(32, 40)], FP64._replace(mirror=mirror), taps=taps, pool=pool)
    wanted = np.concatenate([by_hand(net, tap, (32, 40), pool=pool, mirror=mirror) for tap in taps], 2)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_convolutions_alone_describe_by_their_last_map():
    whole, alone = small(), without_fc(small())
    assert (last_hidden(whole), last_hidden(alone)) == ("relu7", "pool5")
    (found,) = said_of([alone], [(36,)])
    assert found == pytest.approx(by_hand(whole, "pool5", (36,)), rel=1e-6, abs=1e-7)
    assert (own_scales(alone, "single"), own_scales(alone, "several")) == ((256,), (256, 384, 512))
    assert own_scales(alone, (64,)) == (64,)
    (found,) = said_of([alone], [(72, 80)], FP64._replace(mirror=False), taps=("pool2",), pool="none")
    wanted = by_hand(whole, "pool2", (72, 80), pool="none", mirror=False, crop=63)  # 7/8 of the smallest Q
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    with pytest.raises(ConfigError, match="smaller than the crop"):
        own_scales(alone, (16,))


@pytest.mark.parametrize(("value", "length"), [(0, 0), (3e-18, 1), (np.nan, np.nan)])
def test_zeros_stay_and_what_is_no_number_stays_none(value, length):
    rows = np.zeros((1, 1, 4), np.float32)
    rows[0, 0, 2] = value
    found = descriptors([rows])
    assert np.array_equal(np.linalg.norm(found.astype(np.float64), axis=1), [length], equal_nan=True)


def test_maps_are_averaged_in_fp32_whatever_the_arithmetic():
    net = small()
    for precision, most in (("fp32", 1e-5), ("bf16", 0.05)):
        (found,) = said_of([net], [(40,)], Settings(precision=precision), taps=("relu2_1",))
        wanted = by_hand(net, "relu2_1", (40,))
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() < most * np.abs(wanted).max()
    maps = torch.full((1, 2, 300, 300), 257.0, dtype=torch.bfloat16)
    from verydeep.describe.descriptor import POOLS

    assert POOLS["mean"](maps).dtype == torch.float32


def test_the_papers_own_convolutions_describe_as_an_independent_computation_does():
    if not convolutions_at_hand():
        pytest.skip("the real convolutions are not here")
    net = load_describing("oxford-d-convolutions")
    photo = noise(72, 64, 5)
    settings = Settings(precision="fp64")
    taps = ("conv1_2", "conv3_3", "relu4_2", "pool5")
    ((_, [found]),) = described([net], [(64,)], lambda id: photo, [0], settings, taps)
    found = np.split(found[0, 0], np.cumsum([64, 256, 512]))
    mean = net.contract.mean
    for tap, own in zip(taps, found, strict=True):
        wanted = layer(net, photo, tap, 64, mean=np.array(mean)[:, None, None], std=1)
        assert own == pytest.approx(wanted, rel=1e-6, abs=1e-6 * np.abs(wanted).max())
