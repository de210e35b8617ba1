"""LPIPS, DISTS, content and style against numpy in fp64, written otherwise; wrong pictures; heads; strips."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import verydeep
from tests.net import oracle
from verydeep import perceptual
from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.perceptual import strips
from verydeep.shape import Shape
from verydeep.weights import load_describing

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
KINDS = (perceptual.LPIPS, perceptual.DISTS, perceptual.Content, perceptual.Style)


def toy(net="D", base_width=4, pooling="up", batch_norm=False, origin=""):
    about = Contract.of(
        Shape(net, 2, 32, 4, base_width, batch_norm, pooling), ("a", "b"), mean=MEAN, std=STD, scales=(32, 32),
        origin=origin,
    )  # fmt: skip
    made = build(about)
    initialise(made.net, "he", 0)
    with torch.no_grad():
        for layer in made.net.convolutions():
            layer.bias.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    return made


def lpips_heads(folder, widths=(4, 8, 16, 32, 32), name="vgg.pth"):
    drawn = torch.Generator().manual_seed(2)
    tensors = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=drawn) for i, c in enumerate(widths)}
    torch.save(tensors, folder / name)
    return folder / name


def dists_heads(folder, channels=3 + 92, name="weights.pt"):
    drawn = torch.Generator().manual_seed(3)
    torch.save({n: torch.rand(1, channels, 1, 1, generator=drawn) for n in ("alpha", "beta")}, folder / name)
    return folder / name


def picture(height=48, width=64, count=1, seed=4):
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / random.uniform(2, 9) + columns / random.uniform(2, 9)) for _ in range(3 * count)]
    found = (
        0.5
        + 0.3 * np.stack(waves).reshape(count, 3, height, width)
        + random.uniform(-0.2, 0.2, (count, 3, height, width))
    )
    return torch.from_numpy(found.clip(0, 1)).float()


def made(kind, net, tmp_path, **how):
    base = net.net.base_width
    if kind is perceptual.LPIPS:
        return kind(net, lpips_heads(tmp_path, [n * base for n in (1, 2, 4, 8, 8)]), **how)
    return kind(net, dists_heads(tmp_path, 3 + 23 * base), **how) if kind is perceptual.DISTS else kind(net, **how)


# An independent computation: numpy, fp64, sums over shifted arrays, loops over channels


def maps_of(net, pixels, wanted, pool):
    """{layer: C x h x w} of pixels of 0-255, C x H x W."""
    x = (pixels - net.mean[0].double().numpy()) / net.std[0].double().numpy()
    x, found, parameters = x[None], {}, {n: t.double().numpy() for n, t in net.net.state_dict().items()}
    for name, _ in oracle.names("D"):
        if name == "pool":
            x = pool(x)
        else:
            x, _ = oracle.convolution(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
            x = np.maximum(x, 0)
            found[name.replace("conv", "relu")] = x[0]
        if len(found.keys() & set(wanted)) == len(wanted):
            return [found[n] for n in wanted]
    raise ValueError(wanted)


def halved(x):
    return oracle.max_pool(x, False)[0]


def raised(x):
    return oracle.max_pool(x, True)[0]


def hanning(x):
    """Each output one by one: the root of the sum of squares under [1 2 1] x [1 2 1] / 16."""
    squares = np.pad(x * x, ((0, 0), (0, 0), (1, 2), (1, 2)))
    height, width = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    total = np.zeros((*x.shape[:2], height, width))
    for i, down in enumerate((1, 2, 1)):
        for j, across in enumerate((1, 2, 1)):
            total += down * across / 16 * squares[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2]
    return np.sqrt(total + 1e-12)


def lpips_of(net, heads, x, y):
    total = 0.0
    both = (maps_of(net, 255 * p.double().numpy(), LAYERS, halved) for p in (x, y))
    for i, (a, b) in enumerate(zip(*both, strict=True)):
        weight = heads[f"lin{i}.model.1.weight"].double().numpy().ravel()
        places = np.array(
            [[np.linalg.norm(m[:, r, c]) for r in range(m.shape[1]) for c in range(m.shape[2])] for m in (a, b)]
        )
        a, b = (m.reshape(len(m), -1) / (n + 1e-10) for m, n in zip((a, b), places, strict=True))
        total += float(weight @ ((a - b) ** 2).mean(1))
    return total


def dists_of(net, heads, x, y):
    alpha, beta = (heads[n].double().numpy().ravel() for n in ("alpha", "beta"))
    whole, likeness, at = alpha.sum() + beta.sum(), 0.0, 0
    of_x, of_y = ([p.double().numpy(), *maps_of(net, 255 * p.double().numpy(), LAYERS, hanning)] for p in (x, y))
    for a, b in zip(of_x, of_y, strict=True):
        for one, other in zip(a, b, strict=True):
            covariance = np.cov(one.ravel(), other.ravel(), bias=True)
            texture = (2 * one.mean() * other.mean() + 1e-6) / (one.mean() ** 2 + other.mean() ** 2 + 1e-6)
            structure = (2 * covariance[0, 1] + 1e-6) / (covariance[0, 0] + covariance[1, 1] + 1e-6)
            likeness += alpha[at] / whole * texture + beta[at] / whole * structure
            at += 1
    return 1 - likeness


def style_of(net, x, y):
    found = []
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    both = (maps_of(net, 255 * p.double().numpy(), layers, raised) for p in (x, y))
    for a, b in zip(*both, strict=True):
        grams = [np.einsum("chw,dhw->cd", m, m) / m[0].size for m in (a, b)]
        found.append(((grams[0] - grams[1]) ** 2).mean())
    return np.mean(found)


@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
@pytest.mark.parametrize("pooling", ["up", "down"])
def test_all_are_those_of_an_independent_computation_in_fp64(tmp_path, size, pooling):
    net, (x, y) = toy(pooling=pooling), (picture(*size, seed=5), picture(*size, seed=6))
    lpips, dists = torch.load(lpips_heads(tmp_path)), torch.load(dists_heads(tmp_path))
    fp64 = {k: made(k, net, tmp_path).double()(x.double(), y.double()) for k in KINDS}
    fp32 = {k: made(k, net, tmp_path)(x, y) for k in KINDS}
    pool = raised if pooling == "up" else halved
    content = [maps_of(net, 255 * p[0].double().numpy(), ["relu4_2"], pool)[0] for p in (x, y)]
    expected = {
        perceptual.LPIPS: lpips_of(net, lpips, x[0], y[0]), perceptual.DISTS: dists_of(net, dists, x[0], y[0]),
        perceptual.Content: ((content[0] - content[1]) ** 2).mean(),
    }  # fmt: skip
    expected |= {perceptual.Style: style_of(net, x[0], y[0])} if pooling == "up" else {}
    for kind, value in expected.items():
        assert fp64[kind].item() == pytest.approx(value, rel=1e-9), kind
        assert fp32[kind].item() == pytest.approx(value, rel=1e-5), kind
    assert fp32[perceptual.DISTS].item() == pytest.approx(expected[perceptual.DISTS], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences_in_fp64(tmp_path, kind):
    distance = made(kind, toy(), tmp_path).double()
    x, y = (picture(20, 18, seed=s).double().requires_grad_() for s in (7, 8))
    assert torch.autograd.gradcheck(lambda a: distance(a, y.detach()), x, fast_mode=True, atol=1e-6)
    assert torch.autograd.gradcheck(lambda b: distance(x.detach(), b), y, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(96, 40), (83, 31)])
def test_a_checkpoint_by_strips_changes_neither_value_nor_gradient(tmp_path, kind, size, monkeypatch):
    monkeypatch.setattr(strips, "VALUES", 1)
    net, found = toy(pooling="down"), []
    y = picture(*size, seed=10).double()
    for checkpoint in (False, True):
        x = picture(*size, seed=9).double().requires_grad_()
        value = made(kind, net, tmp_path, checkpoint=checkpoint).double()(x, y)
        found.append((value.detach(), *torch.autograd.grad(value.sum(), x)))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12 * float(a.abs().max())) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("net", ["A-LRN", "C", "E", "shallow-B"])
def test_taps_by_strips_are_whole_maps(net, monkeypatch):
    monkeypatch.setattr(strips, "VALUES", 1)
    classifier = toy(net, batch_norm=net == "E")
    names = [n for n in classifier.net.tap_names() if not n.startswith(("fc", "relu6", "relu7"))]
    x = picture(83, 35)
    whole, parts = (perceptual.Taps(classifier, names, checkpoint=c)(x) for c in (False, True))
    assert list(whole) == list(parts) == names
    assert all(torch.allclose(whole[n], parts[n], rtol=1e-4, atol=1e-4 * float(whole[n].abs().max())) for n in names)


def test_taps_are_those_of_the_classifier_whatever_the_range():
    net, pixels = toy().eval(), torch.randint(0, 256, (2, 3, 40, 33), dtype=torch.uint8)
    names, floats = ["relu1_1", "pool2", "relu5_3"], pixels.float()
    wanted = net.taps(pixels, names)
    for kind, given in (("0-255", floats), ("0-1", floats / 255), ("-1-1", floats / 127.5 - 1)):
        found = perceptual.Taps(net, names, kind)(given)
        assert all(torch.allclose(found[n], wanted[n], rtol=1e-4, atol=1e-4) for n in names)
    fc = perceptual.Taps(net, ["relu7"], "0-255")(floats)["relu7"]
    assert torch.allclose(fc, net.taps(pixels, ["relu7"])["relu7"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_pictures_and_one_may_stand_for_all(tmp_path, kind):
    distance, x, y = made(kind, toy(), tmp_path), picture(40, 44, 3), picture(40, 44, seed=11)
    found = distance(x, y)
    assert found.shape == (3,)
    assert torch.allclose(found, torch.cat([distance(one[None], y) for one in x]), rtol=1e-4)
    assert torch.allclose(found, distance(x, y.expand(3, -1, -1, -1)), rtol=1e-4)
    assert torch.allclose(distance(x, x), torch.zeros(3), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_within_one_percent(tmp_path, kind):
    distance = made(kind, toy(base_width=16), tmp_path)
    x, y = picture(64, 64, 2), picture(64, 64, 2, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found = distance(x.requires_grad_(), y)
    assert found.dtype == torch.float32
    assert torch.allclose(found, distance(x, y), rtol=0.01)
    found.sum().backward()
    assert x.grad is not None


def test_a_target_is_computed_once():
    net, x, y = toy(), picture(), picture(seed=13)
    for kind in (perceptual.Content, perceptual.Style):
        distance = kind(net)
        assert torch.equal(distance(x, y), distance(x, distance.of(y)))
    assert perceptual.Style(net)(x, picture(30, 90)).shape == (1,)  # of another size


def test_gradients_are_finite_where_all_channels_are_0(tmp_path):
    net = toy()
    with torch.no_grad():
        for layer in net.net.convolutions():
            layer.weight.zero_()
            layer.bias.fill_(-1)
    for kind in (perceptual.LPIPS, perceptual.DISTS):
        x = torch.zeros(1, 3, 32, 32, requires_grad=True)
        made(kind, net, tmp_path)(x, picture(32, 32)).sum().backward()
        assert torch.isfinite(x.grad).all()


def test_the_net_that_was_given_is_left_as_it_was():
    net = toy().train()
    before = {n: t.data_ptr() for n, t in net.state_dict().items()}
    taps = perceptual.Taps(net, "relu3_3").train().double().float()
    assert not taps.training
    assert not any(p.requires_grad for p in taps.parameters())
    assert net.training
    assert net.net.fc8 is not None
    assert all(p.requires_grad for p in net.parameters())
    assert {n: t.data_ptr() for n, t in net.state_dict().items()} == before


# Wrong pictures


def wrong_pictures():
    """100 of the mistakes that people make, by what was done and the range that is declared."""
    found = []
    for seed in range(6):
        x = picture(40 + seed, 50, 2, seed)
        x[0, 0, 0, 0], x[0, 0, 0, 1] = 0.01, 0.99
        pixels, mean, std = x * 255, torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        normalised = (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        caffe = (pixels - torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)).flip(1)
        nan, infinite = x.clone(), x.clone()
        nan[1, 2, 3, 4], infinite[0, 0, 0, 0] = float("nan"), float("inf")
        found += [("uint8", r, pixels.to(torch.uint8)) for r in ("0-1", "0-255", "-1-1")]
        found += [("0-255", "0-1", pixels), ("0-255", "-1-1", pixels), ("0-1", "0-255", x), ("0-1", "-1-1", x)]
        found += [("-1..1", "0-1", 2 * x - 1), ("-1..1", "0-255", 2 * x - 1), ("int64", "0-255", pixels.long())]
        found += [
            ("normalised", "0-1", normalised),
            ("normalised", "0-255", normalised),
            ("normalised", "-1-1", normalised),
        ]
        found += [("mean subtracted", r, caffe) for r in ("0-1", "0-255", "-1-1")]
        found += [("NaN", "0-1", nan), ("infinite", "0-1", infinite)]
    x = picture(40, 50)
    of_shapes = {
        "colours last": x.permute(0, 2, 3, 1), "grey": x[:, :1], "transparent": torch.cat([x, x[:, :1]], 1),
        "no batch": x[0], "no batch, colours last": x[0].permute(1, 2, 0), "numpy": x.numpy(), "empty": x[:0],
        "a list": [x], "flat": x.flatten(), "video": x[:, None], "bool": x > 0.5, "a path": "cat.jpg",
    }  # fmt: skip
    found += [(what, "0-1", given) for what, given in of_shapes.items()]
    return found


def test_wrong_pictures_are_refused_and_told():
    wrong = wrong_pictures()
    assert len(wrong) >= 100
    taps = {r: perceptual.Taps(toy(), "relu1_1", r) for r in ("0-1", "0-255", "-1-1")}
    said = set()
    for what, declared, given in wrong:
        with pytest.raises(ModelError, match="expected float N x 3 x H x W in RGB") as told:
            taps[declared](given)
        said.add((what, str(told.value).split(";")[0][:60]))
    assert len(said) > 20


RIGHT = {
    "black": ("0-255", torch.zeros(1, 3, 32, 32)), "white": ("0-1", torch.ones(1, 3, 32, 32)),
    "middle grey": ("-1-1", torch.zeros(1, 3, 32, 32)), "rounding": ("0-1", torch.full((1, 3, 32, 32), 1.0005)),
    "float16": ("0-255", (255 * picture()).half()), "dark": ("0-255", 3 * picture()),
}  # fmt: skip


@pytest.mark.parametrize(("declared", "given"), RIGHT.values(), ids=RIGHT)
def test_right_pictures_pass(declared, given):
    assert perceptual.Taps(toy(), "relu1_1", declared)(given)["relu1_1"].shape[1] == 4


@pytest.mark.parametrize(
    ("given", "declared", "said"),
    [
        (255 * picture(), "0-1", "look like range='0-255'"),
        (2 * picture() - 1, "0-1", "look like range='-1-1'"),
        (picture(), "-1-1", "look like range='0-1'"),
        (5 * picture() - 2, "0-1", "as if a mean were subtracted"),
        (1.01 * picture(), "0-1", r"if only just beyond: pictures.clamp\(0, 1\)"),
        ((255 * picture()).to(torch.uint8), "-1-1", r"pictures.float\(\) / 127.5 - 1"),
        (picture().permute(0, 2, 3, 1), "0-1", "permute"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_pictures(given, declared, said):
    with pytest.raises(ModelError, match=said):
        perceptual.Taps(toy(), "relu1_1", declared)(given)


def test_wrong_words():
    with pytest.raises(ConfigError, match="no layer 'relu3_4'; did you mean relu"):
        perceptual.Taps(toy(), "relu3_4")
    with pytest.raises(ConfigError, match="range: "):
        perceptual.Taps(toy(), "relu3_3", "0..1")


def test_pictures_of_two_sizes_or_too_small_are_told(tmp_path):
    lpips = made(perceptual.LPIPS, toy(), tmp_path)
    for other in (picture(48, 63), picture(48, 64, 2)[:0].new_zeros(3, 3, 48, 64)):
        with pytest.raises(ModelError, match="cannot be compared; expected one size"):
            lpips(picture(48, 64, 2), other)
    with pytest.raises(ModelError, match="15 pixels a side; expected 16 or more"):
        lpips(picture(15, 64), picture(15, 64))
    assert lpips(picture(16, 16), picture(16, 16, seed=3)).item() > 0
    with pytest.raises(ModelError, match="cannot be compared"):
        perceptual.Content(toy())(picture(64, 64), picture(48, 64))


# Heads


def changed(tensors, **more):
    return {**tensors, **more}


def test_heads_that_are_not_what_they_should_be_are_refused(tmp_path):
    good, net = torch.load(lpips_heads(tmp_path)), toy()
    first = "lin0.model.1.weight"
    wrong = {
        "a missing one": ({n: t for n, t in good.items() if n != first}, f"lacks {first}"),
        "one more": (changed(good, **{"lin5.model.1.weight": torch.ones(1)}), "holds beside them lin5"),
        "other names": ({n.replace("model.1.", ""): t for n, t in good.items()}, "lin0"),
        "another net's": (changed(good, **{first: torch.ones(1, 5, 1, 1)}), r"is \(1, 5, 1, 1\); expected \(1, 4,"),
        "random ones": (changed(good, **{first: torch.randn(1, 4, 1, 1) - 3}), "not fitted"),
        "NaN": (changed(good, **{first: torch.full((1, 4, 1, 1), torch.nan)}), "not fitted"),
        "zeros": (changed(good, **{first: torch.zeros(1, 4, 1, 1)}), "not fitted"),
        "a list": ([*good.values()], "other things than tensors"),
        "more than tensors": (changed(good, epoch=3), "other things than tensors"),
        "nothing": ({}, "lacks lin0"),
    }  # fmt: skip
    for held, said in wrong.values():
        torch.save(held, tmp_path / "wrong.pth")
        with pytest.raises(ModelError, match=said):
            perceptual.LPIPS(net, tmp_path / "wrong.pth")
    (tmp_path / "wrong.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read as a file of heads"):
        perceptual.LPIPS(net, tmp_path / "wrong.pth")
    for heads in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(ModelError, match=r"cannot be read .*lpips/weights/v0\.1/vgg\.pth"):
            perceptual.DISTS(net, heads)
    with pytest.raises(ModelError, match=r"lacks alpha; expected alpha, beta"):
        perceptual.DISTS(net, lpips_heads(tmp_path))


@pytest.mark.parametrize(("net", "batch_norm"), [("E", False), ("A", False), ("D", True)])
def test_another_net_than_d_is_refused(tmp_path, net, batch_norm):
    for kind in (perceptual.LPIPS, perceptual.DISTS):
        with pytest.raises(ModelError, match="expected net D without batch norm"):
            made(kind, toy(net, batch_norm=batch_norm), tmp_path)


def test_it_is_said_whose_heads_and_whose_vgg_these_are(tmp_path):
    net = toy(origin="torchvision VGG16_Weights.IMAGENET1K_V1")
    net.contract = dataclasses.replace(net.contract, licence="BSD-3-Clause")
    about = made(perceptual.LPIPS, net, tmp_path).about
    assert about["heads"] == "not published heads"
    assert (about["vgg"], about["vgg_licence"]) == ("torchvision VGG16_Weights.IMAGENET1K_V1", "BSD-3-Clause")
    assert "fitted on torchvision's VGG-16; on another VGG the values differ" in about["note"]
    assert "of unknown origin" in made(perceptual.DISTS, toy(), tmp_path).about["vgg"]


def test_from_the_package():
    assert verydeep.perceptual is perceptual


# The real files, where they are: VERYDEEP_WEIGHTS, VERYDEEP_LPIPS, VERYDEEP_DISTS


@pytest.fixture(scope="module")
def real():
    found = [os.environ.get(name) for name in ("VERYDEEP_WEIGHTS", "VERYDEEP_LPIPS", "VERYDEEP_DISTS")]
    if not all(found):
        pytest.skip("the real convolutions and heads are not here")
    return load_describing("oxford-d-convolutions"), Path(found[1]), Path(found[2])


def test_the_published_heads_on_real_convolutions_in_fp64(real):
    net, lpips, dists = real
    x, y = picture(45, 40, seed=20), picture(45, 40, seed=21)
    for kind, file, oracle_of in ((perceptual.LPIPS, lpips, lpips_of), (perceptual.DISTS, dists, dists_of)):
        distance = kind(net, file)
        assert distance.about["heads"].startswith(kind.__name__)
        heads = torch.load(file, map_location="cpu")
        expected = oracle_of(net, heads, x[0], y[0])
        assert distance(x, y).item() == pytest.approx(expected, abs=1e-6)
        assert distance.double()(x.double(), y.double()).item() == pytest.approx(expected, rel=1e-9)
        assert distance(x.double(), (x * 0.9).double()).item() < expected / 2
