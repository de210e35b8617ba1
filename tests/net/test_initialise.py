"""First weights: spreads, copies from a shallower net, and the gain table (section 3.1)."""

import math
from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch
from torch import nn

from verydeep.data.builtin import open_builtin
from verydeep.data.photo import centre_crop
from verydeep.errors import ConfigError
from verydeep.net.initialise import Gain, copy_layers, gain_table, gain_warning, gains, initialise
from verydeep.net.vgg import VGG


def made(net="A", how="glorot", seed=0, sigma=None, classes=10, crop=32, **options):
    built = VGG(net, classes=classes, crop=crop, **{"fc_width": 64, "base_width": 16} | options)
    initialise(built, how, seed, sigma)
    return built


def fans(layer):
    area = layer.kernel_size[0] ** 2 if isinstance(layer, nn.Conv2d) else 1
    return layer.weight.shape[1] * area, layer.weight.shape[0] * area


def check_spread(net, variance):
    """Mean 0 and the variance asked for, within five standard errors of a normal sample."""
    for name, layer in net.named_children():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        weight, expected = layer.weight.detach().double(), variance(name, *fans(layer))
        n = weight.numel()
        assert abs(float(weight.mean())) < 5 * math.sqrt(expected / n), name
        assert abs(float(weight.var()) / expected - 1) < 5 * math.sqrt(2 / n), name
        assert not layer.bias.any()


def test_glorot_is_uniform_with_variance_two_by_fan_in_and_out():
    net = made()
    check_spread(net, lambda name, fan_in, fan_out: 2 / (fan_in + fan_out))
    for layer in net.convolutions():
        bound = math.sqrt(6 / sum(fans(layer)))
        assert 0.9 * bound < layer.weight.abs().max() <= bound


def test_he_has_variance_two_by_fan_in_and_one_by_fan_in_at_the_end():
    check_spread(made(how="he"), lambda name, fan_in, _: (1 if name == "fc8" else 2) / fan_in)


def test_gaussian_has_the_papers_variance_of_a_hundredth_or_another_sigma():
    check_spread(made(how="gaussian"), lambda *_: 1e-2)
    check_spread(made(how="gaussian", sigma=0.01), lambda *_: 1e-4)
    with pytest.raises(ConfigError, match=r"init: 'zeros'.*glorot"):
        made(how="zeros")


def same(a, b):
    return [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]


@pytest.mark.parametrize("how", ["glorot", "gaussian", "he"])
def test_the_seed_decides_and_the_global_generator_is_left_alone(how):
    first = made(how=how)
    before = torch.get_rng_state()
    initialise(first, how)
    assert torch.equal(before, torch.get_rng_state())
    assert all(same(first, made(how=how)))
    assert not any(same(first, made(how=how, seed=1))[::2])


def weights(net, name):
    layer = getattr(net, name)
    return layer.weight, layer.bias


# "By shape, in order" as shared/paper.md spells it out.
PLACES = [("conv1_1", "conv1_1"), ("conv2_1", "conv2_1"), ("conv3_1", "conv3_1"), ("conv3_2", "conv3_2")]
FC = [(fc, fc) for fc in ("fc6", "fc7", "fc8")]


@pytest.mark.parametrize("net", ["B", "C", "D", "E"])
def test_four_convolutions_and_three_fc_layers_of_a_go_to_deeper_nets(net):
    a, deep = made("A", seed=1), made(net, seed=2)
    with torch.no_grad():
        for layer in a.children():
            layer.bias.fill_(0.5)
    random = {k: v.clone() for k, v in deep.state_dict().items()}
    assert copy_layers(deep, a) == [f"{source} -> {target}" for source, target in PLACES + FC]
    for source, target in PLACES + FC:
        assert all(map(torch.equal, weights(deep, target), weights(a, source)))
    copied = {target for _, target in PLACES + FC}
    for name, value in deep.state_dict().items():
        if name.split(".")[0] not in copied:
            assert torch.equal(value, random[name]), name


@pytest.mark.parametrize("net", ["A", "E"])
def test_the_same_net_gives_everything(net):
    first, other = made(net, seed=1, batch_norm=True), made(net, seed=2, batch_norm=True)
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor += 1
    pairs = copy_layers(other, first)
    assert [p.split(" -> ")[0] for p in pairs if p.startswith("conv")] == [
        layer.name for block in first.blocks for layer in block
    ]
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("start", ["A", "D"])
def test_fc6_stays_random_where_crops_differ_and_fc8_where_classes_do(start):
    net, before = made("D", seed=2, classes=3, crop=64), made("D", seed=2, classes=3, crop=64)
    pairs = copy_layers(net, made(start, seed=1, classes=10))
    assert [p for p in pairs if p.startswith("fc")] == ["fc7 -> fc7"]
    assert all(torch.equal(getattr(net, fc).weight, getattr(before, fc).weight) for fc in ("fc6", "fc8"))
    assert torch.equal(net.conv5_3.weight, before.conv5_3.weight) == (start == "A")
    assert "fc8 -> fc8" not in copy_layers(net, made(start, classes=3), last=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"base_width": 32}, "conv1_1 of the net D"), ({"batch_norm": True}, "the net D .* has batch_norm")],
)
def test_the_same_net_of_another_width_is_refused_and_nothing_copied(options, said):
    net, before = made("D", seed=2), made("D", seed=2)
    with pytest.raises(ConfigError, match=f"init_from: {said}"):
        copy_layers(net, made("D", seed=1, **options))
    assert all(same(net, before))


def test_shallow_b_has_no_place_for_a_and_is_left_as_it_was():
    a, shallow = made("A", seed=1), made("shallow-B", seed=2)
    before = [p.clone() for p in shallow.parameters()]
    with pytest.raises(ConfigError, match=r"init_from: conv1_1 .*A.* shallow-B"):
        copy_layers(shallow, a)
    assert all(map(torch.equal, shallow.parameters(), before))


def photos(n=8, crop=32, seed=0):
    """Fashion photos as a net meets them: mean subtracted, 0-255."""
    train = open_builtin("fashion-mini").split("train")
    pixels = np.stack([centre_crop(train.open(i), crop, crop) for i in range(n)]).astype(np.float32)
    return torch.from_numpy(pixels - pixels.mean()).permute(0, 3, 1, 2)


def test_gains_are_the_independent_ones():
    net, x = made("A", base_width=4, fc_width=8).double(), photos(3)
    _, _, taps = oracle.scores("A", {k: v.numpy() for k, v in net.state_dict().items()}, x.double().numpy(), 32)
    rows = gains(net.float(), x)
    expected = [float(np.sqrt((x.double().numpy() ** 2).mean()))]
    expected += [float(np.sqrt((taps[name] ** 2).mean())) for name in taps if name.startswith(("conv", "fc"))]
    assert [r.name for r in rows] == ["input", *(n for n in taps if n.startswith(("conv", "fc")))]
    assert [r.rms for r in rows] == pytest.approx(expected, rel=1e-4)
    assert [r.gain for r in rows[1:]] == pytest.approx([b / a for a, b in pairwise(expected)], rel=1e-4)


def test_gains_leave_the_net_as_it_was():
    net = made("A", batch_norm=True).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    gains(net, photos(2))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_gain_after_silence_is_not_a_number_and_not_an_error():
    net = made()
    with torch.no_grad():
        net.conv1_1.weight.zero_()
    row = gains(net, photos(1))[2]
    assert row.rms == 0
    assert math.isnan(row.gain)


def full(how, sigma=None):
    """Net A at its real width but on small crops, where the literature's traps show."""
    return made("A", how, sigma=sigma, base_width=64, fc_width=512)


@pytest.mark.parametrize(
    ("how", "sigma", "said"), [("gaussian", None, "NaN in the first epoch"), ("gaussian", 0.01, "ln(10) = 2.3026")]
)
def test_what_the_literature_warns_of_is_warned_of_on_real_photos(how, sigma, said):
    warning = gain_warning(gains(full(how, sigma), photos()), 10, how)
    assert said in warning
    assert "--init glorot" in warning


def test_glorot_needs_no_warning_on_real_photos():
    assert gain_warning(gains(full("glorot"), photos()), 10, "glorot") is None
    assert "NaN" in gain_warning([Gain("fc8", math.nan, 1.0)], 10, "glorot")


def test_a_start_that_is_silent_is_not_told_to_do_what_it_did():
    assert gain_warning([Gain("fc8", 1e-4, 1.0)], 10, "glorot").endswith("try --init he")


@torch.no_grad()
def test_gains_of_a_normalised_net_are_those_of_its_training():
    net, x = made("D", batch_norm=True, base_width=8, fc_width=32), photos(64) / 70
    expected, value = [], x
    for layer in net.convolutions():
        value = torch.nn.functional.conv2d(value, layer.weight, layer.bias, padding=1)
        expected.append(float(value.square().mean().sqrt()))
        mean, spread = value.mean((0, 2, 3), keepdim=True), value.var((0, 2, 3), unbiased=False, keepdim=True)
        value = ((value - mean) / (spread + 1e-5).sqrt()).relu()
        if layer in (net.conv1_2, net.conv2_2, net.conv3_3, net.conv4_3, net.conv5_3):
            value = torch.nn.functional.max_pool2d(value, 2)
    rows = gains(net, x)
    assert [r.rms for r in rows[1:14]] == pytest.approx(expected, rel=1e-4)
    assert gain_warning(rows, 10, "glorot") is None


def test_the_gain_table_has_a_row_for_each_layer_and_its_columns_never_touch():
    lines = gain_table(gains(made(), photos(1))).splitlines()
    assert [line.split()[0] for line in (lines[1], lines[-1])] == ["input", "fc8"]
    assert len(lines) == 1 + 1 + 8 + 3
    for rms, gain in [(0.041779, 96877.37), (1.23456e-12, 1e9), (3.0, float("nan"))]:
        name, *numbers = gain_table([Gain("conv1_1", rms, gain)]).splitlines()[1].split()
        assert name == "conv1_1"
        assert [float(n) for n in numbers] == pytest.approx([rms, gain], rel=1e-3, nan_ok=True)


def test_batch_normalisation_goes_with_its_convolution():
    shallow, deep = (VGG(name, classes=3, crop=32, fc_width=8, base_width=4, batch_norm=True) for name in ("A", "B"))
    shallow.bn1_1.running_mean.fill_(2.0)
    shallow.bn2_1.weight.data.fill_(3.0)
    pairs = copy_layers(deep, shallow)
    assert pairs[:4] == ["conv1_1 -> conv1_1", "bn1_1 -> bn1_1", "conv2_1 -> conv2_1", "bn2_1 -> bn2_1"]
    assert float(deep.bn1_1.running_mean.min()) == 2.0
    assert float(deep.bn2_1.weight.detach().max()) == 3.0
    with pytest.raises(ConfigError, match="net A to start from has batch_norm; give the same"):
        copy_layers(VGG("B", classes=3, crop=32, fc_width=8, base_width=4), shallow)
