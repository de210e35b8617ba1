"""`weights verify`: random, damaged and infinite weights are told from learnt ones, and files from namesakes."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import test_catalogue
import test_published
import torch
import toy

from verydeep.net.initialise import initialise
from verydeep.net.vgg import VGG
from verydeep.weights import torchvision
from verydeep.weights.catalogue import SUMS, Stated, catalogue, digests
from verydeep.weights.verify import correlation, edge, learnt_or_random

cache, listed = test_catalogue.cache, test_catalogue.listed
A, said, saved = test_published.A, test_published.said, test_published.saved


def report(capsys, source, status):
    """The JSON object, and its checks by name."""
    r = json.loads(said(capsys, "verify", source, "--json", status=status).out)
    return r, {c["check"]: (c["ok"], c["words"]) for c in r["checks"]}


@pytest.mark.parametrize("how", ["glorot", "he", "gaussian"])
def test_a_random_net_is_called_random(capsys, tmp_path, how):
    words = "NO   like random weights: neighbouring weights correlate by more than 6 standard errors in 0 of 8"
    for seed in range(3):
        assert words in said(capsys, "verify", saved(tmp_path / f"{seed}.safetensors", how, seed), status=1).out


def test_the_net_in_the_box_is_called_learnt_and_known(capsys):
    r, checks = report(capsys, "builtin:fashion-a", 0)
    assert (r["good"], r["published"]) == (True, "builtin:fashion-a")
    assert [ok for ok, _ in checks.values()] == [True, True, True, None]


def infinite(value, layer):
    def change(net):
        net.get_parameter(layer).data.view(-1)[1] = value

    return change


@pytest.mark.parametrize(("value", "layer"), [(math.nan, "conv4_1.bias"), (math.inf, "conv2_1.weight")])
def test_a_value_that_is_not_finite_is_named(capsys, tmp_path, value, layer):
    path = saved(tmp_path / "net.safetensors", change=infinite(value, layer))
    r, checks = report(capsys, path, 1)
    assert (r["good"], checks["finite"]) == (False, (False, f"not finite: {layer}"))
    assert checks["learnt"] == (None, "not judged, as not every value is finite")
    assert "not finite" in said(capsys, "show", path).out


@pytest.mark.parametrize("layer", ["fc7.weight", "conv4_1.bias"])
def test_a_value_of_another_toolkits_file_that_is_not_finite_is_named(capsys, tmp_path, layer):
    state = toy.drawn(replace(A, pooling="down")).net.state_dict()
    theirs = {n: t.clone() for n, t in torchvision.theirs(state).items()}  # its writer refuses what is not finite
    next(t for t in theirs.values() if torch.equal(t, state[layer])).view(-1)[1] = torch.nan
    torch.save(theirs, path := tmp_path / "net.pth")
    r, checks = report(capsys, path, 1)
    assert (r["good"], checks["finite"]) == (False, (False, f"not finite: {layer}"))
    assert f"finite  NO   not finite: {layer}" in said(capsys, "verify", path, status=1).out


def test_a_damaged_file_is_an_error(capsys, tmp_path):
    path = saved(tmp_path / "net.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert "do not match their SHA-256" in said(capsys, "verify", path, status=1).err


def toy_file(path, spoil=False):
    """A toy net A of torchvision's, always the same bytes; one value of it changed on request."""
    made = toy.drawn(replace(A, classes=tuple(map(str, range(1000))), base_width=2, pooling="down"))
    initialise(made.net, "glorot", 0)
    made.net.conv2_1.weight.data[1, 1, 1, 1] += 0.5 * spoil
    torchvision.write(made.net.state_dict(), plain := path.with_suffix(".safetensors"))  # torch.save writes a name too
    return plain.rename(path)


@pytest.fixture
def learnt(monkeypatch):
    monkeypatch.setattr("verydeep.weights.verify.learnt_or_random", lambda tensors: (True, "as a test says"))


@pytest.mark.parametrize("kind", SUMS)
def test_a_file_is_held_to_the_checksum_of_its_name(capsys, tmp_path, monkeypatch, kind, learnt):
    def digest():
        return hashlib.new(kind.removesuffix("_prefix"), path.read_bytes()).hexdigest()[: 8 if "_" in kind else None]

    path, words = toy_file(tmp_path / "vgg11-8a719046.pth"), SUMS[kind]
    e = replace(catalogue()["torchvision-a"], checksums={kind: Stated(value := digest(), "a test", True)})
    for where in ("catalogue", "verify"):
        monkeypatch.setattr(f"verydeep.weights.{where}.catalogue", lambda: {"torchvision-a": e})
    (copy := tmp_path / "copy.bin").write_bytes(path.read_bytes())
    for file in (path, copy):  # known wherever it lies
        r, checks = report(capsys, file, 0)
        assert (r["published"], checks["whole"]) == ("torchvision-a", (True, f"its {words} is that of torchvision-a"))
        assert checks["known"] == (None, "it is torchvision-a")
    toy_file(path, spoil=True)
    r, checks = report(capsys, path, 1)
    assert (r["published"], r["good"], checks["whole"][0]) == (None, False, False)
    names = f"its name is that of torchvision-a, whose {words} is {value}, and its own is {digest()}"
    assert names in checks["whole"][1]
    r, checks = report(capsys, path.rename(tmp_path / "other.pth"), 0)  # its name promises nothing
    assert (r["good"], checks["whole"][0]) == (True, None)


def test_eight_digits_in_a_name_are_those_of_the_sha256(capsys, tmp_path, learnt):
    data = toy_file(tmp_path / "net.pth").read_bytes()
    digits = hashlib.sha256(data).hexdigest()[:8]
    assert not digits.isdecimal()
    for name, status, mark in [
        (f"net-{digits}.pth", 0, "yes  its SHA-256 (first 8 digits) is that in its name"),
        ("net-deadbeef.pth", 1, "NO   its name ends in deadbeef, as torchvision's end in their SHA-256"),
        ("net-20240612.pth", 0, "-    it carries no checksum"),
        (f"net-{digits}0.pth", 0, "-    it carries no checksum"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(data)
        assert f"whole   {mark}" in said(capsys, "verify", tmp_path / name, status=status).out
    saved(own := tmp_path / "mine-deadbeef.pth")
    assert "whole   yes  contract and tensors match the SHA-256 they carry" in said(capsys, "verify", own).out
    own.rename(named := tmp_path / "vgg11-8a719046.pth")
    assert "whole   NO   its name is that of torchvision-a" in said(capsys, "verify", named, status=1).out


def test_a_file_of_a_published_name_that_cannot_be_read_is_not_whole(capsys, cache):
    cache.mkdir(parents=True)
    (cache / "vgg16-397923af.pth").write_bytes(b"an error page")
    r, checks = report(capsys, "torchvision-d", 1)
    assert "its name is that of torchvision-d" in checks["whole"][1]
    assert (r["good"], list(checks), checks["finite"][0]) == (False, ["whole", "finite"], None)
    assert "vgg16-397923af.pth is no file that can be read" in checks["finite"][1]


def test_verify_hashes_a_file_once(capsys, listed, tmp_path, monkeypatch):
    hashed = []

    def counting(path, *kinds):
        hashed.append(path)
        return digests(path, *kinds)

    for where in ("catalogue", "verify"):
        monkeypatch.setattr(f"verydeep.weights.{where}.digests", counting)
    own, unknown = saved(tmp_path / "own.safetensors"), toy_file(tmp_path / "unknown.pth")
    (known := tmp_path / "known.safetensors").write_bytes(listed[1].path.read_bytes())
    for source in ("torchvision-a", own, unknown, known):
        hashed.clear()
        said(capsys, "verify", source, status=1)
        assert len(hashed) == 1, source


def test_the_correlation_of_neighbours_by_a_slow_loop():
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = (w - w.mean()).numpy()
    products = []
    for kernel in x.reshape(-1, 3, 3):
        for i in range(3):
            for j in range(2):
                products += [kernel[i, j] * kernel[i, j + 1], kernel[j, i] * kernel[j + 1, i]]
    assert len(products) == 6 * 12
    assert correlation(w) == pytest.approx(np.mean(products) / np.mean(x**2) * math.sqrt(72))
    assert correlation(torch.randn(3, 2, 1, 1)) == 0
    smooth = torch.arange(3.0).view(1, 1, 1, 3).expand(16, 4, 3, 3)
    assert correlation(smooth.double()) > 6


def test_the_edge_is_that_of_numpys_singular_values():
    w = torch.randn(12, 5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    m = (w - w.mean()).flatten(1).numpy()
    expected = np.linalg.svd(m, compute_uv=False)[0] / np.sqrt((m**2).mean()) / (math.sqrt(12) + math.sqrt(45))
    assert edge(w) == pytest.approx(expected)
    assert edge(torch.linspace(-1, 1, 3).expand(4, 3, 3, 3).double()) > 1.25


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_equal_weights_tell_nothing(value):
    net = VGG("A", classes=2, crop=32, fc_width=4, base_width=2)
    assert learnt_or_random({n: torch.full_like(t, value) for n, t in net.state_dict().items()})[0] is False


@pytest.mark.parametrize("seed", range(3))
def test_what_a_batch_norm_multiplied_in_is_not_learnt(seed):
    net = VGG("D", classes=2, crop=32, fc_width=4, base_width=8)
    initialise(net, "he", seed)
    gains = torch.Generator().manual_seed(seed)
    for layer in net.convolutions():
        layer.weight.data *= torch.exp(torch.randn(len(layer.weight), 1, 1, 1, generator=gains))
    assert learnt_or_random(net.state_dict())[0] is False
