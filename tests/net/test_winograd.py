"""The fast convolution against the direct one in fp64."""

import itertools

import fast
import pytest
import torch
import torch.nn.functional as F
from fast import check_frozen, noise

from verydeep.net import winograd
from verydeep.net.convolution import Convolution


def both_ways(x, weight, bias, upstream):
    return fast.both_ways(winograd.convolve, x, weight, bias, upstream)


@pytest.mark.parametrize("side", winograd.SIDES)
@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk", [1, 20_000, 20 << 20])
def test_value_and_gradients_are_those_of_the_direct_convolution(side, n, format, chunk, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", chunk)
    x, weight = (
        noise(n, 5, side, side).contiguous(memory_format=format),
        noise(6, 5, 3, 3).contiguous(memory_format=format),
    )
    quick, direct = both_ways(x, weight, noise(6), noise(n, 6, side, side))
    for a, b in zip(quick, direct, strict=True):
        assert (a - b).abs().max() < 1e-10 * max(1, float(b.abs().max()))


def test_a_small_chunk_cuts_the_batch_into_parts_that_cover_it(monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 2 * 9 * 4 * 8)
    assert [(s.start, s.stop) for s in winograd.parts(noise(5, 4, 2, 2))] == [(0, 2), (2, 4), (4, 5)]


@pytest.mark.parametrize("side", winograd.SIDES)
def test_fp32_is_good_to_one_part_in_ten_thousand(side):
    x, weight, bias, upstream = noise(8, 64, side, side), noise(64, 64, 3, 3) / 24, noise(64), noise(8, 64, side, side)
    _, expected = both_ways(x, weight, bias, upstream)
    found, _ = both_ways(x.float(), weight.float(), bias.float(), upstream.float())
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


@pytest.mark.parametrize("side", [2, 4, 8])
def test_gradients_pass_torchs_own_check(side):
    given = [t.requires_grad_() for t in (noise(2, 2, side, side), noise(2, 2, 3, 3), noise(2))]
    assert torch.autograd.gradcheck(winograd.convolve, given)


def test_an_upstream_gradient_of_any_layout_is_understood():
    x, weight, bias = noise(3, 4, 8, 8), noise(5, 4, 3, 3), noise(5)
    quick, direct = both_ways(x, weight, bias, noise(1, 5, 1, 1))  # expanded: strides of 0
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(quick, direct, strict=True))


@pytest.mark.parametrize("side", winograd.SIDES)
@pytest.mark.parametrize("learns", list(itertools.product((False, True), repeat=3)), ids=str)
def test_what_is_frozen_costs_no_gradient_and_changes_no_other(side, learns):
    check_frozen(winograd, side, learns, [((0,), "summed_tiles"), ((1,), "weights_of"), ((0, 1), "output_tiles_of")])


def test_it_pays_on_many_wide_small_maps():
    weight = torch.empty(64, 64, 3, 3)
    assert all(winograd.pays(torch.empty(64, 64, s, s), weight) for s in winograd.SIDES)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((64, 64, 8, 16), (64, 64, 3, 3)),
        ((64, 64, 6, 6), (64, 64, 3, 3)),
        ((4, 64, 32, 32), (64, 64, 3, 3)),
        ((64, 64, 8, 8), (64, 64, 1, 1)),
        ((64, 64, 8, 8), (64, 64, 5, 5)),
        ((64, 3, 8, 8), (64, 3, 3, 3)),
        ((64, 64, 8, 8), (32, 64, 3, 3)),
        ((15, 64, 2, 2), (64, 64, 3, 3)),
        ((63, 64, 4, 4), (64, 64, 3, 3)),
        ((15, 64, 8, 8), (64, 64, 3, 3)),
    ],
    ids=["oblong", "side 6", "side 32", "1x1", "5x5", "few in", "few out", "few of 2", "few of 4", "few of 8"],
)
def test_it_does_not_pay_elsewhere(x, weight):
    assert not winograd.pays(torch.empty(x), torch.empty(weight))


def test_it_does_not_pay_in_half_precision_on_other_devices_or_under_autocast():
    x, weight = torch.empty(64, 64, 8, 8), torch.empty(64, 64, 3, 3)
    assert not winograd.pays(x.bfloat16(), weight.bfloat16())
    assert not winograd.pays(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.pays(x, weight)


def test_eval_mode_takes_the_direct_convolution(monkeypatch):
    layer, x = Convolution(64, 64, 3), noise(64, 64, 4, 4, dtype=torch.float32)
    taken = []
    monkeypatch.setattr(winograd, "convolve", lambda *given: taken.append(1) or given[0])
    with torch.no_grad():
        assert torch.equal(layer.eval()(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
        assert not taken
        layer.train()(x)
        assert taken
