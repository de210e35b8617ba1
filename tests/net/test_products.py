"""Small maps as matrix products against the direct convolution in fp64."""

import itertools

import fast
import pytest
import torch
from fast import check_frozen, noise

from verydeep.net import products
from verydeep.net.convolution import Convolution


def both_ways(x, weight, bias, upstream):
    return fast.both_ways(products.convolve, x, weight, bias, upstream)


@pytest.mark.parametrize("side", products.SIDES)
@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradients_are_those_of_the_direct_convolution(side, n, format):
    x, weight = (
        noise(n, 5, side, side).contiguous(memory_format=format),
        noise(6, 5, 3, 3).contiguous(memory_format=format),
    )
    quick, direct = both_ways(x, weight, noise(6), noise(n, 6, side, side))
    for a, b in zip(quick, direct, strict=True):
        assert (a - b).abs().max() < 1e-10 * max(1, float(b.abs().max()))


@pytest.mark.parametrize("side", products.SIDES)
def test_gradients_pass_torchs_own_check(side):
    given = [t.requires_grad_() for t in (noise(2, 2, side, side), noise(2, 2, 3, 3), noise(2))]
    assert torch.autograd.gradcheck(products.convolve, given)


def test_an_upstream_gradient_of_any_layout_is_understood():
    x, weight, bias = noise(3, 4, 4, 4), noise(5, 4, 3, 3), noise(5)
    quick, direct = both_ways(x, weight, bias, noise(1, 5, 1, 1))  # expanded: strides of 0
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(quick, direct, strict=True))


@pytest.mark.parametrize("side", products.SIDES)
def test_under_autocast_it_is_as_good_as_the_direct_convolution(side):
    x, weight, bias, upstream = (
        noise(40, 64, side, side),
        noise(64, 64, 3, 3) / 24,
        noise(64),
        noise(40, 64, side, side),
    )
    _, exact = both_ways(x, weight, bias, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        quick, direct = both_ways(x.float(), weight.float(), bias.float(), upstream.float())
    assert quick[0].dtype == direct[0].dtype == torch.bfloat16
    for a, b, truth in zip(quick, direct, exact, strict=True):
        assert a.dtype == b.dtype
        assert (a - truth).abs().max() < 1.5 * (b - truth).abs().max() + 1e-6


@pytest.mark.parametrize("side", products.SIDES)
@pytest.mark.parametrize("learns", list(itertools.product((False, True), repeat=3)), ids=str)
def test_what_is_frozen_costs_no_gradient_and_changes_no_other(side, learns):
    check_frozen(products, side, learns, [((0,), "to_input"), ((1,), "to_weight")])


def test_it_pays_in_bf16_on_many_wide_small_maps():
    weight = torch.empty(64, 64, 3, 3)
    for side in products.SIDES:
        x = torch.empty(32, 64, side, side)
        assert products.pays(x.bfloat16(), weight.bfloat16())
        assert not products.pays(x, weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert products.pays(x, weight)
        with torch.autocast("cpu", torch.float16):
            assert not products.pays(x, weight)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((64, 64, 4, 2), (64, 64, 3, 3)),
        ((64, 64, 8, 8), (64, 64, 3, 3)),
        ((31, 64, 4, 4), (64, 64, 3, 3)),
        ((64, 64, 4, 4), (64, 64, 1, 1)),
        ((64, 64, 4, 4), (64, 64, 5, 5)),
        ((64, 32, 4, 4), (64, 32, 3, 3)),
        ((64, 64, 4, 4), (32, 64, 3, 3)),
    ],
    ids=["oblong", "side 8", "few photos", "1x1", "5x5", "few in", "few out"],
)
def test_it_does_not_pay_elsewhere(x, weight):
    assert not products.pays(torch.empty(x, dtype=torch.bfloat16), torch.empty(weight, dtype=torch.bfloat16))
    assert not products.pays(
        torch.empty(64, 64, 4, 4, dtype=torch.bfloat16, device="meta"), torch.empty(64, 64, 3, 3, device="meta")
    )


def test_training_under_autocast_takes_it_and_testing_does_not(monkeypatch):
    layer, x = Convolution(64, 64, 3), noise(64, 64, 4, 4, dtype=torch.float32)
    taken = []
    monkeypatch.setattr(products, "convolve", lambda *given: taken.append(1) or given[0])
    with torch.autocast("cpu", torch.bfloat16):
        layer.eval()(x)
        assert not taken
        layer.train()(x)
        assert taken
