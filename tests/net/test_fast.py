"""The fast convolutions of small maps, each against the direct one in fp64, whole and with frozen parts."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from verydeep.net.fast import Convolution, ResponseNorm, convolution, faster, products, winograd
from verydeep.net.fast.products import by_products
from verydeep.net.fast.winograd import by_winograd
from verydeep.net.vgg import response_norm

WAYS = [(by_winograd, side) for side in winograd.LEAST_TILES] + [(by_products, side) for side in products.SIDES]
each_way = pytest.mark.parametrize(("way", "side"), WAYS)
# What is called for which parts (0: x, 1: weights) alone.
UNNEEDED = {
    by_winograd: (winograd, {"summed_tiles": {0}, "weights_of": {1}, "output_tiles_of": {0, 1}}),
    by_products: (products, {"to_input": {0}, "to_weight": {1}}),
}


def noise(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def both_ways(way, x, weight, bias, upstream):
    """(value, gradients) of a fast and of the direct convolution."""
    found = []
    for convolve in (way, lambda *given: F.conv2d(*given, padding=1)):
        given = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, weight, bias)]
        y = convolve(*given)
        (y * upstream).sum().backward()
        found.append([y.detach(), *(t.grad for t in given)])
    return found


@each_way
@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chunk", [1, 20_000, 20 << 20])
def test_value_and_gradients_are_those_of_the_direct_convolution(way, side, n, format, chunk, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", chunk)  # Winograd's alone
    x, weight = (noise(*s).contiguous(memory_format=format) for s in ((n, 5, side, side), (6, 5, 3, 3)))
    quick, direct = both_ways(way, x, weight, noise(6), noise(n, 6, side, side))
    for a, b in zip(quick, direct, strict=True):
        assert (a - b).abs().max() < 1e-10 * max(1, float(b.abs().max()))


@each_way
def test_an_upstream_gradient_of_any_layout_is_understood(way, side):
    x, weight, bias = noise(3, 4, side, side), noise(5, 4, 3, 3), noise(5)
    quick, direct = both_ways(way, x, weight, bias, noise(1, 5, 1, 1))  # expanded: strides of 0
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(quick, direct, strict=True))


@pytest.mark.parametrize(("way", "side"), [way for way in WAYS if way[1] < 16])
def test_gradients_pass_torchs_own_check(way, side):
    given = [t.requires_grad_() for t in (noise(2, 2, side, side), noise(2, 2, 3, 3), noise(2))]
    assert torch.autograd.gradcheck(way, given)


@each_way
@pytest.mark.parametrize("learns", list(itertools.product((False, True), repeat=3)), ids=str)
def test_what_is_frozen_costs_no_gradient_and_changes_no_other(way, side, learns, monkeypatch):
    whole = [noise(*shape).requires_grad_() for shape in ((3, 5, side, side), (6, 5, 3, 3), (6,))]
    partly = [t.detach().clone().requires_grad_(needed) for t, needed in zip(whole, learns, strict=True)]
    upstream = noise(3, 6, side, side)
    way(*whole).backward(upstream)
    module, called = UNNEEDED[way]
    for name in (name for name, parts in called.items() if not any(learns[i] for i in parts)):
        monkeypatch.setattr(module, name, None)  # a call would fail
    y = way(*partly)
    if any(learns):
        y.backward(upstream)
    for found, expected, needed in zip(partly, whole, learns, strict=True):
        assert torch.equal(found.grad, expected.grad) if needed else found.grad is None


def wide(side, n=8):
    return noise(n, 64, side, side), noise(64, 64, 3, 3) / 24, noise(64), noise(n, 64, side, side)


@pytest.mark.parametrize("side", winograd.LEAST_TILES)
def test_winograd_in_fp32_is_good_to_one_part_in_ten_thousand(side):
    given = wide(side)
    _, expected = both_ways(by_winograd, *given)
    found, _ = both_ways(by_winograd, *(t.float() for t in given))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


@pytest.mark.parametrize("side", products.SIDES)
def test_products_under_autocast_are_as_good_as_the_direct_convolution(side):
    given = wide(side, 40)
    _, exact = both_ways(by_products, *given)
    with torch.autocast("cpu", torch.bfloat16):
        quick, direct = both_ways(by_products, *(t.float() for t in given))
    assert quick[0].dtype == direct[0].dtype == torch.bfloat16
    for a, b, truth in zip(quick, direct, exact, strict=True):
        assert a.dtype == b.dtype
        assert (a - truth).abs().max() < 1.5 * (b - truth).abs().max() + 1e-6


def test_a_small_chunk_cuts_the_batch_into_parts_that_cover_it(monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 2 * 9 * 4 * 8)
    assert [(s.start, s.stop) for s in winograd.cached_parts(noise(5, 4, 2, 2))] == [(0, 2), (2, 4), (4, 5)]


def test_which_pays_on_many_wide_small_maps():
    weight = torch.empty(64, 64, 3, 3)
    for side in winograd.LEAST_TILES:
        x = torch.empty(64, 64, side, side)
        in_bf16 = by_products if side in products.SIDES else None
        assert faster(x, weight) is faster(x.double(), weight.double()) is by_winograd
        assert faster(x.bfloat16(), weight.bfloat16()) is in_bf16
        assert faster(x.half(), weight.half()) is faster(x.to("meta"), weight.to("meta")) is None
        assert faster(x.bfloat16().to("meta"), weight.bfloat16().to("meta")) is None
        with torch.autocast("cpu", torch.bfloat16):
            assert faster(x, weight) is in_bf16
        with torch.autocast("cpu", torch.float16):
            assert faster(x, weight) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((64, 64, 4, 2), (64, 64, 3, 3)), ((64, 64, 2, 4), (64, 64, 3, 3)), ((64, 64, 6, 6), (64, 64, 3, 3)),
        ((4, 64, 32, 32), (64, 64, 3, 3)), ((64, 64, 4, 4), (64, 64, 1, 1)), ((64, 64, 4, 4), (64, 64, 5, 5)),
        ((64, 32, 4, 4), (64, 32, 3, 3)), ((64, 64, 4, 4), (32, 64, 3, 3)), ((15, 64, 2, 2), (64, 64, 3, 3)),
        ((31, 64, 4, 4), (64, 64, 3, 3)), ((15, 64, 8, 8), (64, 64, 3, 3)),
    ],
)  # fmt: skip
def test_neither_pays_elsewhere(x, weight, dtype):
    assert faster(torch.empty(x, dtype=dtype), torch.empty(weight, dtype=dtype)) is None


def test_each_needs_enough_photos():
    weight = torch.empty(64, 64, 3, 3)
    for side, least in ((2, 16), (4, 64), (8, 16), (16, 4)):
        photos = torch.empty(least, 64, side, side)
        assert faster(photos, weight) is by_winograd
        assert faster(photos[1:], weight) is None
    for side in products.SIDES:
        photos = torch.empty(32, 64, side, side, dtype=torch.bfloat16)
        assert faster(photos, weight) is by_products
        assert faster(photos[1:], weight) is None


@pytest.mark.parametrize("autocast", [False, True])
def test_training_takes_the_fast_way_and_testing_does_not(autocast, monkeypatch):
    layer, x, taken = Convolution(64, 64, 3), noise(64, 64, 4, 4, dtype=torch.float32), []
    name = "by_products" if autocast else "by_winograd"
    monkeypatch.setattr(convolution, name, lambda *given: taken.append(name) or given[0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(layer.eval()(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
        assert not taken
        layer.train()(x)
        assert taken == [name]


@pytest.mark.parametrize("channels", [3, 5, 16])
def test_response_norm_and_its_gradient_are_those_of_the_definition(channels):
    """Channel by channel in fp64, and by differences; torch's own in fp32 and bf16."""
    torch.manual_seed(0)
    x = 60 * torch.randn(2, channels, 3, 4, dtype=torch.float64)
    for i in range(channels):
        sums = sum(x[:, j] ** 2 for j in range(max(0, i - 2), min(channels, i + 3)))
        assert torch.allclose(ResponseNorm.apply(x)[:, i], x[:, i] / (2 + 1e-4 * sums) ** 0.75, rtol=1e-12)
    assert torch.autograd.gradcheck(ResponseNorm.apply, x.requires_grad_())
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 0.01)):
        own = x.detach().to(dtype).to(memory_format=torch.channels_last).requires_grad_()
        theirs = own.detach().float().requires_grad_()
        found, expected = response_norm(own, training=True), F.local_response_norm(theirs, 5, 5e-4, 0.75, 2.0)
        found.float().square().sum().backward()
        expected.square().sum().backward()
        assert found.dtype == own.grad.dtype == dtype
        assert found.is_contiguous(memory_format=torch.channels_last)
        for a, b in ((found, expected), (own.grad, theirs.grad)):
            assert torch.allclose(a.float(), b, rtol=tolerance, atol=tolerance * b.abs().max().item())
