"""Every net against an independent fp64 computation, and the counts of the paper."""

import numpy as np
import oracle
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from verydeep.config import Config
from verydeep.contract import Contract
from verydeep.errors import ConfigError
from verydeep.net.classifier import build
from verydeep.net.fast import convolution
from verydeep.net.initialise import initialise
from verydeep.net.sizes import sizes
from verydeep.net.vgg import VGG
from verydeep.shape import Shape

PARAMETERS = {
    "A": 132_863_336, "A-LRN": 132_863_336, "B": 133_047_848, "C": 133_638_952,
    "D": 138_357_544, "E": 143_667_240, "shallow-B": 134_503_528,
}  # fmt: skip
BILLIONS = {"A": 7.61, "A-LRN": 7.61, "B": 11.31, "C": 11.77, "D": 15.47, "E": 19.63, "shallow-B": 9.36}
NETS = list(PARAMETERS)


def small(net, classes=7, crop=64, fc_width=12, base_width=4, seed=0, **options):
    """A narrow net with weights that keep the signal's size, in eval mode, fp32."""
    random = torch.Generator().manual_seed(seed)
    made = VGG(net, classes=classes, crop=crop, fc_width=fc_width, base_width=base_width, dropout=0.0, **options)
    with torch.no_grad():
        for p in made.parameters():
            fan = p[0].numel() if p.ndim > 1 else 100
            p.copy_(torch.randn(p.shape, generator=random) * (2 / fan) ** 0.5)
        for m in made.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.fill_(0.9)
                m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=random) / 10)
                m.running_var.copy_(torch.rand(m.running_var.shape, generator=random) + 0.5)
    return made.eval()


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(net):
    return {k: v.double().numpy() for k, v in net.state_dict().items()}


def distance(found, expected):
    """Largest difference as a share of the largest expected value."""
    expected = torch.as_tensor(expected)
    return float((found.detach().double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("net", NETS)
def test_parameters_and_multiply_adds_are_the_papers_in_the_order_of_the_net(net):
    built = VGG(net, device="meta")
    assert sum(p.numel() for p in built.parameters()) == PARAMETERS[net]
    assert round(sum(row.multiply_adds for row in sizes(built)) / 1e9, 2) == BILLIONS[net]
    layers = [name for name, _ in oracle.names(net) if name.startswith("conv")] + ["fc6", "fc7", "fc8"]
    expected = [f"{layer}.{what}" for layer in layers for what in ("weight", "bias")]
    assert [name for name, _ in built.named_parameters()] == expected


def test_the_net_of_the_papers_title_takes_224_pixels_to_1000_classes():
    built = VGG(device="meta")
    assert built.name == "D"
    assert built(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("net", NETS)
def test_forward_is_the_independent_computation(net):
    model, x = small(net), noise(2, 3, 64, 64)
    expected = oracle.scores(net, plain(model), x.double().numpy(), 64)[0][:, :, 0, 0]
    assert distance(model(x), expected) < 1e-4
    assert distance(model.double()(x.double()), expected) < 1e-10


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("pooling", ["up", "down"])
def test_dense_is_the_independent_computation(net, pooling):
    model, x = small(net, pooling=pooling), noise(2, 3, 109, 141)
    expected = oracle.scores(net, plain(model), x.double().numpy(), 64, pooling == "up")[0]
    assert expected.shape[2:] == ((3, 4) if pooling == "up" else (2, 3))
    assert distance(model.dense(x), expected) < 1e-4
    assert distance(model.double().dense(x.double()), expected) < 1e-10


def gradients(model, scored, x, upstream):
    x = x.clone().requires_grad_()
    model.zero_grad()
    (scored(x) * upstream.to(x.dtype)).sum().backward()
    return {"x": x.grad, **{name: p.grad.clone() for name, p in model.named_parameters()}}


def compare_gradients(found, expected, tolerance):
    assert set(found) == set(expected)
    far = {name: distance(found[name], expected[name]) for name in expected}
    assert max(far.values()) < tolerance, far


@pytest.mark.parametrize("net", NETS)
def test_gradients_of_forward_are_the_independent_ones(net):
    model, x, upstream = small(net), noise(2, 3, 64, 64), noise(2, 7, seed=2).double()
    to = upstream.numpy()[:, :, None, None]
    _, expected, _ = oracle.scores(net, plain(model), x.double().numpy(), 64, upstream=to)
    compare_gradients(gradients(model, model, x, upstream), expected, 1e-4)
    compare_gradients(gradients(model.double(), model, x.double(), upstream), expected, 1e-10)


@pytest.mark.parametrize("pooling", ["up", "down"])
def test_gradients_of_dense_are_the_independent_ones(pooling):
    model = small("C", pooling=pooling).double()
    x = noise(1, 3, 75, 99).double()
    upstream = torch.randn(model.dense(x).shape, dtype=torch.float64)
    _, expected, _ = oracle.scores("C", plain(model), x.numpy(), 64, pooling == "up", upstream=upstream.numpy())
    compare_gradients(gradients(model, model.dense, x, upstream), expected, 1e-10)


def test_batch_norm_in_eval_mode_is_the_independent_computation():
    model, x = small("A", batch_norm=True).double(), noise(2, 3, 64, 64).double()
    p, upstream = plain(model), noise(2, 7, seed=2).double()
    expected, to, _ = oracle.scores("A", p, x.numpy(), 64, bn=True, upstream=upstream.numpy()[:, :, None, None])
    assert distance(model(x), expected[:, :, 0, 0]) < 1e-10
    compare_gradients(gradients(model, model, x, upstream), to, 1e-10)


@pytest.fixture
def fast_calls(monkeypatch):
    """Counts the convolutions that take the Winograd path."""
    sides, convolve = [], convolution.by_winograd
    monkeypatch.setattr(convolution, "by_winograd", lambda x, w, b: sides.append(x.shape[-1]) or convolve(x, w, b))
    return sides


@pytest.mark.parametrize("net", ["B", "C"])
def test_training_takes_the_fast_path_to_the_same_numbers(net, fast_calls):
    model = small(net, crop=32, base_width=16, seed=3)
    x, upstream = noise(64, 3, 32, 32), noise(64, 7, seed=2).double()
    given = plain(model), x.double().numpy(), 32
    expected, to, _ = oracle.scores(net, *given, upstream=upstream.numpy()[:, :, None, None])
    model(x)
    assert fast_calls == []  # in eval mode the direct convolution
    assert distance(model.train()(x), expected[:, :, 0, 0]) < 1e-4
    assert fast_calls == [8, 4, 4, 2, 2]
    compare_gradients(gradients(model.double(), model, x.double(), upstream), to, 1e-9)


@pytest.mark.parametrize("crop", [32, 64, 96])
def test_dense_at_crop_size_is_the_fc_form(crop):
    model, x = small("A", crop=crop).double(), noise(2, 3, crop, crop).double()
    scores = model.dense(x)
    assert scores.shape == (2, 7, 1, 1)
    assert distance(scores.flatten(1), model(x).detach()) < 1e-12


def test_pooling_differs_only_at_odd_sides():
    up, down = small("A", pooling="up"), small("A", pooling="down")
    assert torch.equal(up(noise(1, 3, 64, 64)), down(noise(1, 3, 64, 64)))
    assert up.dense(noise(1, 3, 90, 90)).shape[2:] == (2, 2)
    assert down.dense(noise(1, 3, 90, 90)).shape[2:] == (1, 1)


def test_dense_is_not_the_average_of_crops():
    model, x = small("A"), noise(1, 3, 64, 96)
    crop = model.dense(x[..., :64])
    assert not torch.allclose(model.dense(x)[..., :1], crop, rtol=1e-3)


@pytest.mark.parametrize("side", [(63, 64), (64, 65), (96, 96)])
def test_forward_refuses_another_size_and_dense_one_below_the_crop(side):
    with pytest.raises(ConfigError, match=r"64 x 64 .* dense"):
        small("A")(noise(1, 3, *side))
    for side in (1, 8, 63):
        with pytest.raises(ConfigError, match="at least 64 pixels"):
            small("A").dense(noise(1, 3, 100, side))


def test_dropout_acts_in_training_only():
    model = VGG("A", classes=5, crop=32, fc_width=64, base_width=4, dropout=0.9)
    x = noise(1, 3, 32, 32)
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


@pytest.mark.parametrize("net", ["A-LRN", "C"])
@pytest.mark.parametrize("bn", [False, True])
def test_taps_are_the_independent_activations(net, bn):
    model, x = small(net, batch_norm=bn).double(), noise(2, 3, 75, 64).double()
    _, _, expected = oracle.scores(net, plain(model), x.numpy(), 64, bn=bn)
    found = model.taps(x, model.tap_names())
    assert set(found) == set(expected)
    far = {name: distance(found[name], expected[name]) for name in expected}
    assert max(far.values()) < 1e-10, far


def test_tap_names_are_in_the_order_of_the_net():
    assert VGG("A-LRN", device="meta").tap_names()[:5] == ["conv1_1", "relu1_1", "norm1_1", "pool1", "conv2_1"]
    last = VGG("shallow-B", device="meta").tap_names()[-7:]
    assert last == ["relu5_1", "pool5", "fc6", "relu6", "fc7", "relu7", "fc8"]
    assert VGG("A", batch_norm=True, device="meta").tap_names()[:3] == ["conv1_1", "bn1_1", "relu1_1"]


@pytest.mark.parametrize("net", NETS)
def test_taps_compute_what_forward_computes(net):
    model, x = small(net).double(), noise(2, 3, 64, 64).double()
    found = model.taps(x, ["pool5", "fc8"])
    assert distance(found["pool5"], model.features(x).detach()) < 1e-12
    assert found["fc8"].shape == (2, 7)
    assert distance(found["fc8"], model(x).detach()) < 1e-12


def test_an_unknown_tap_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"conv3_3.*conv3_2"):
        small("A").taps(noise(1, 3, 64, 64), ["conv3_3"])


def test_the_last_layer_can_be_replaced():
    model = small("A").double()
    before = model.fc7.weight.clone()
    model.replace_last(3)
    assert model.classes == 3
    assert model.fc8.weight.dtype == torch.float64
    assert model(noise(4, 3, 64, 64).double()).shape == (4, 3)
    assert torch.equal(model.fc7.weight, before)
    assert [name for name, _ in model.named_parameters()][-2:] == ["fc8.weight", "fc8.bias"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"net": "F"}, {"crop": 33}, {"crop": 0}, {"crop": -32}, {"classes": 0}, {"fc_width": 0}, {"base_width": 0},
        {"pooling": "sideways"}, {"dropout": 1.0}, {"dropout": -0.1},
        {"classes": ["a", "b"]}, {"classes": "ten"}, {"crop": 32.0}, {"fc_width": None}, {"base_width": 1 << 17},
        {"batch_norm": 1},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: "):
        VGG(**wrong, device="meta")


def test_a_shape_says_what_to_try_and_takes_numpys_whole_numbers():
    with pytest.raises(ConfigError, match=r"crop: 100 is not a multiple of 32; .* try 96"):
        Shape(crop=100)
    with pytest.raises(ConfigError, match=r"net: 'F' is not one of A, A-LRN, B, C, D, E, shallow-B"):
        Shape("F")
    shape = Shape("A", classes=np.int64(7), crop=np.int32(64), fc_width=12, base_width=4)
    assert shape == Shape("A", 7, 64, 12, 4)
    assert [type(value) for value in vars(shape).values()] == [str, int, int, int, int, bool, str]
    assert Config(net="A", crop=64, fc_width=12, base_width=4).shape(7) == shape
    assert VGG(**vars(shape)).fc8.weight.shape == (7, 12)


def test_channels_last_photos_give_the_same_scores():
    model, x = small("A", crop=64), noise(2, 3, 64, 64)
    expected = model(x)
    found = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(found, expected, atol=1e-5)


class Draws(TorchDispatchMode):
    """Counts the random numbers that are drawn into memory."""

    count = 0

    def __torch_dispatch__(self, operation, types, given=(), named=None):
        if (
            operation.overloadpacket.__name__ in ("uniform_", "normal_", "bernoulli_", "random_")
            and not given[0].is_meta
        ):
            self.count += given[0].numel()
        return operation(*given, **(named or {}))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_weights_are_drawn_once_and_none_for_who_fills_them(batch_norm):
    contract = Contract("A", tuple("abcde"), 32, 16, 4, batch_norm, "up", (0, 0, 0), (1, 1, 1), (32, 32))
    with Draws() as first:
        net = VGG("A", classes=5, crop=32, fc_width=16, base_width=4, batch_norm=batch_norm)
    weights = [layer.weight for layer in net.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert first.count == sum(w.numel() for w in weights)
    assert all(w.std() > 0 for w in weights)
    with Draws() as last:
        net.replace_last(3)
    assert last.count == 3 * 16
    with Draws() as none:
        built = build(contract, drawn=False)
    assert none.count == 0
    with Draws() as again:
        initialise(built.net, seed=1)
    assert again.count == first.count
    initialise(net, seed=1)
    fresh = net.state_dict()
    assert all(torch.equal(t, fresh[n]) for n, t in built.net.state_dict().items() if not n.startswith("fc8"))


@pytest.mark.parametrize(("names", "layers"), [(["conv1_1"], 1), (["relu2_1", "pool1"], 2), (["pool5"], 8), ([], 0)])
def test_taps_stop_at_the_last_layer_that_is_wanted(names, layers):
    model, called = small("A"), []
    for layer in model.children():
        layer.register_forward_hook(lambda layer, *_: called.append(layer))
    assert list(model.taps(noise(1, 3, 64, 64), names)) == names
    assert called == list(model.children())[:layers]
