"""The verbs of `weights`: what they print, and that random, damaged and infinite weights are told from learnt ones."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import test_catalogue
import torch
from PIL import Image

import verydeep
from verydeep.cli import main
from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.net.vgg import VGG
from verydeep.weights import catalogue as module
from verydeep.weights import torchvision
from verydeep.weights.catalogue import Stated, catalogue, digests
from verydeep.weights.randomness import correlation, edge, judged, signs

cache, listed = test_catalogue.cache, test_catalogue.listed


def said(capsys, *words, status=0):
    assert main(["weights", *map(str, words)]) == status
    return capsys.readouterr()


def saved(path, how="glorot", seed=0, change=None):
    contract = Contract("A", ("a", "b"), 32, 8, 4, False, "up", (1, 2, 3), (1, 1, 1), (36, 36))
    made = build(contract)
    initialise(made.net, how, seed)
    if change:
        change(made.net)
    made.save(path)
    return path


def test_list_has_every_name_with_licence_and_protocol(capsys):
    text = said(capsys, "list").out
    assert all(f"{name} " in text for name in catalogue())
    assert "dense at Q = 384: 25.6/8.1" in text
    assert "CC BY 4.0, or CC BY-NC" in text
    rows = {r["name"]: r for r in json.loads(said(capsys, "list", "--json").out)}
    assert rows["builtin:fashion-a"]["at_hand"]
    assert not rows["oxford-e"]["at_hand"]
    assert rows["oxford-d"]["checksums"]["sha1"]["checked"] is False


def test_fetch_of_what_is_at_hand_says_where_and_under_which_licence(capsys, listed):
    assert "licence: BSD 3-Clause (torchvision's own" in said(capsys, "fetch", "torchvision-a").out
    assert (
        "oxford-z is not a published net; see 'verydeep weights list'"
        in said(capsys, "fetch", "oxford-z", status=1).err
    )


def test_show_reckons_as_numpy_does(capsys, tmp_path):
    path = saved(tmp_path / "net.safetensors", change=lambda net: net.fc7.weight.data[:2].zero_())
    r = json.loads(said(capsys, "show", path, "--json").out)
    net = verydeep.load(path).net
    assert r["contract"]["mean"] == [1, 2, 3]
    assert [t["name"] for t in r["tensors"]] == list(net.state_dict())
    for t in r["tensors"]:
        x = net.state_dict()[t["name"]].numpy().astype(np.float64)
        assert t["shape"] == list(x.shape)
        expected = {"mean": x.mean(), "std": x.std(), "least": x.min(), "most": x.max(), "zeros": (x == 0).mean()}
        assert all(math.isclose(t[k], v, rel_tol=1e-9, abs_tol=1e-12) for k, v in expected.items())
    text = said(capsys, "show", path).out
    assert "fc7.weight      8x8" in text
    assert "25.0" in text
    assert "classes     2: a; b" in text


@pytest.mark.parametrize("how", ["glorot", "he", "gaussian"])
def test_a_random_net_is_called_random(capsys, tmp_path, how):
    for seed in range(3):
        r = said(capsys, "verify", saved(tmp_path / f"{seed}.safetensors", how, seed), status=1)
        assert (
            "NO   like random weights: neighbouring weights correlate by more than 6 standard errors in 0 of 8" in r.out
        )


def test_the_net_in_the_box_is_called_learnt_and_known(capsys):
    r = json.loads(said(capsys, "verify", "builtin:fashion-a", "--json").out)
    assert (r["good"], r["published"]) == (True, "builtin:fashion-a")
    assert [c["ok"] for c in r["checks"]] == [True, True, True, None]


def test_a_value_that_is_not_finite_is_named(capsys, tmp_path):
    def break_it(net):
        net.conv4_1.bias.data[1] = torch.nan

    path = saved(tmp_path / "net.safetensors", change=break_it)
    assert "not finite: conv4_1.bias" in said(capsys, "verify", path, status=1).out
    assert "not finite" in said(capsys, "show", path).out
    path = saved(tmp_path / "kernel.safetensors", change=lambda net: net.conv2_1.weight.data[0, 0].fill_(torch.inf))
    out = said(capsys, "verify", path, status=1).out  # whose singular values cannot be reckoned
    assert "not finite: conv2_1.weight" in out
    assert "not judged, as not every value is finite" in out


def test_a_damaged_file_is_an_error(capsys, tmp_path):
    path = saved(tmp_path / "net.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert "do not match their SHA-256" in said(capsys, "verify", path, status=1).err


def test_a_published_file_is_known_wherever_it_lies(capsys, listed, tmp_path):
    _, e = listed
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(e.path.read_bytes())
    out = said(capsys, "verify", copy, status=1).out  # a toy with first weights
    assert "yes  its SHA-256 is that of torchvision-a" in out
    assert "it is torchvision-a" in out


def toy_file(path, spoil=False):
    """A toy net A of torchvision's, always the same bytes; one value of it changed on request."""
    made = build(Contract("A", tuple(map(str, range(1000))), 32, 8, 2, False, "down", (1, 2, 3), (1, 1, 1), (36, 36)))
    initialise(made.net, "glorot", 0)
    made.net.conv2_1.weight.data[1, 1, 1, 1] += 0.5 * spoil
    torchvision.write(
        made.net.state_dict(), plain := path.with_suffix(".safetensors")
    )  # torch.save would write names of its own
    return plain.rename(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("sha256", "SHA-256"), ("sha256_prefix", "SHA-256 (first 8 digits)"), ("sha1", "SHA-1"), ("md5", "MD5")],
)
def test_a_file_is_held_to_the_checksum_of_its_name(capsys, tmp_path, monkeypatch, kind, words):
    path = toy_file(tmp_path / "vgg11-8a719046.pth")
    value = hashlib.new(kind.removesuffix("_prefix"), path.read_bytes()).hexdigest()[: 8 if "_" in kind else None]
    e = replace(catalogue()["torchvision-a"], checksums={kind: Stated(value, "a test", True)})
    for where in ("verydeep.weights.catalogue", "verydeep.weights.published"):
        monkeypatch.setattr(f"{where}.catalogue", lambda: {"torchvision-a": e})
    r = json.loads(said(capsys, "verify", path, "--json", status=1).out)  # a toy with first weights
    assert (r["published"], r["checks"][0]["ok"], r["checks"][0]["words"]) == (
        "torchvision-a", True, f"its {words} is that of torchvision-a"
    )  # fmt: skip
    toy_file(path, spoil=True)
    monkeypatch.setattr("verydeep.weights.published.randomness.judged", lambda signs: (True, "as a test says"))
    r = json.loads(said(capsys, "verify", path, "--json", status=1).out)
    assert (r["published"], r["good"], r["checks"][0]["ok"]) == (None, False, False)
    own = hashlib.new(kind.removesuffix("_prefix"), path.read_bytes()).hexdigest()[: 8 if "_" in kind else None]
    assert (
        f"its name is that of torchvision-a, whose {words} is {value}, and its own is {own}" in r["checks"][0]["words"]
    )
    path.rename(other := tmp_path / "other.pth")
    r = json.loads(said(capsys, "verify", other, "--json").out)  # its name promises nothing
    assert (r["good"], r["checks"][0]["ok"]) == (True, None)


def test_eight_digits_in_a_name_are_those_of_the_sha256(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.weights.published.randomness.judged", lambda signs: (True, "as a test says"))
    data = toy_file(tmp_path / "net.pth").read_bytes()
    digits = hashlib.sha256(data).hexdigest()[:8]
    assert not digits.isdecimal()
    for name, status, mark in [
        (f"net-{digits}.pth", 0, "yes  its SHA-256 (first 8 digits) is that in its name"),
        ("net-deadbeef.pth", 1, "NO   its name ends in deadbeef, as torchvision's end in their SHA-256"),
        ("net-20240612.pth", 0, "-    the file carries no checksum"),
        (f"net-{digits}0.pth", 0, "-    the file carries no checksum"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(data)
        assert f"whole   {mark}" in said(capsys, "verify", tmp_path / name, status=status).out
    saved(own := tmp_path / "mine-deadbeef.pth")
    assert "whole   yes  contract and tensors match the SHA-256 they carry" in said(capsys, "verify", own).out
    own.rename(named := tmp_path / "vgg11-8a719046.pth")
    assert "whole   NO   its name is that of torchvision-a" in said(capsys, "verify", named, status=1).out


def test_verify_hashes_a_file_once(capsys, listed, tmp_path, monkeypatch):
    hashed = []

    def counted(path, *kinds):
        hashed.append(path)
        return digests(path, *kinds)

    for where in ("verydeep.weights.catalogue", "verydeep.weights.published"):
        monkeypatch.setattr(f"{where}.digests", counted)
    _, e = listed
    saved(tmp_path / "own.safetensors")
    toy_file(tmp_path / "unknown.pth")
    (tmp_path / "known.safetensors").write_bytes(e.path.read_bytes())
    for source in (
        "torchvision-a",
        *(tmp_path / name for name in ("own.safetensors", "unknown.pth", "known.safetensors")),
    ):
        hashed.clear()
        said(capsys, "verify", source, status=1)
        assert len(hashed) == 1, source
    assert module.digests is counted


def test_convert_keeps_the_contract_of_a_published_file(capsys, listed, tmp_path):
    made, e = listed
    out = tmp_path / "out.safetensors"
    assert (
        "1,000 classes, mean [123.675, 116.28, 103.53]"
        in said(capsys, "convert", e.path, "--to", "safetensors", out).out
    )
    found = verydeep.load(out)
    assert found.contract.licence == e.licence
    assert found.contract.classes[1] == "n01443537 goldfish, Carassius auratus"
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(found(x), made(x), atol=1e-5)
    back = tmp_path / "back.pth"
    assert "largest difference" in said(capsys, "convert", out, "--to", "torchvision", back).out
    assert back.exists()


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        ([], 2, "required: VERB"),
        (["fly"], 2, "'fly'"),
        (["convert", "builtin:fashion-a", "x.safetensors"], 2, "--to"),
        (["convert", "builtin:fashion-a", "x.h5", "--to", "safetensors"], 2, "must end in .safetensors"),
        (["convert", "builtin:fashion-a", "x.safetensors", "--to", "safetensors", "--eats", "bgr-255"], 2, "carries its contract"),
        (["convert", "builtin:fashion-a", "x.pth", "--to", "torchvision"], 1, "give --fold-mean"),
        (["convert", "builtin:fashion-a", "x.safetensors", "--to", "safetensors", "--keep", "--fold-mean"], 2, "fold_mean and keep: a"),
        (["convert", "builtin:fashion-a", "x.safetensors", "--to", "safetensors", "--keep"], 2, "weights: keep: a safetensors file"),
        (["convert", "torchvision-a", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 2, "carries its contract"),
        (["convert", "run", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 2, "carries its contract"),
        (["convert", "run/best.safetensors", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 2, "carries its contract"),
        (["convert", "nowhere.pth", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 1, "nowhere.pth does not exist"),
        (["convert", "rubbish.pth", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 1, "rubbish.pth is no file that can be read"),
        (["convert", "empty", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 1, "empty is not a run folder"),
        (["convert", "builtin:b", "x.pth", "--to", "torchvision", "--eats", "bgr-255"], 1, "builtin:b is not a built-in net"),
        (["convert", "builtin:fashion-a", "no/x.safetensors", "--to", "safetensors"], 1, "as there is no folder no; make it first"),
        (["convert", "builtin:fashion-a", "no/x.pth", "--to", "torchvision", "--keep"], 1, "as there is no folder no; make it first"),
        (["convert", "builtin:fashion-a", "no/x", "--to", "torchvision"], 2, "out: no/x is for torchvision, so its name must end in .pth"),
        (["convert", "rubbish.pth@rgb-01", "x.pth", "--to", "torchvision", "--eats", "rgb-01"], 2, "give one of @NAME and --eats"),
        (["show", ""], 1, "the name of the model is empty; expected a run folder"),
        (["show", "rubbish.pth@bgr-255"], 1, "rubbish.pth is no file that can be read; expected a model of verydeep"),
        (["show", "nowhere.pth@bgr-255"], 1, "weights: nowhere.pth does not exist; expected a run folder, a .safetensors file, another"),
        (["show", "nowhere@home"], 1, "weights: nowhere@home does not exist"),
        (["verify", "torchvision-d@bgr-255"], 2, "torchvision-d is no such file, so leave @bgr-255 out"),
        (["show", "builtin:fashion-a@bgr-255"], 2, "builtin:fashion-a is no such file, so leave @bgr-255 out"),
        (["show", "run@RGB:1,2,3"], 2, "run is no such file, so leave @RGB:1,2,3 out"),
        (["show", "empty"], 1, "expected a run folder, a .safetensors file, another toolkit's file, builtin:fashion-a or a name of"),
        (["show", "nowhere.pth"], 1, "nowhere.pth does not exist"),
        (["verify", "nowhere.pth"], 1, "nowhere.pth does not exist"),
        (["verify", "rubbish.pth"], 1, "rubbish.pth is no file that can be read"),
        (["verify", "empty"], 1, "empty is not a run folder"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(capsys, tmp_path, monkeypatch, words, status, expected):
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "empty"):
        (tmp_path / folder).mkdir()
    saved(tmp_path / "run" / "best.safetensors")
    (tmp_path / "rubbish.pth").write_bytes(b"rubbish")
    err = said(capsys, *words, status=status).err
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"run", "empty", "rubbish.pth"}


@pytest.mark.parametrize("name", ["x.pth", "x.onnx", "x.safetensors", "x.caffemodel"])
def test_an_empty_file_is_called_empty(capsys, tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    for model in (tmp_path / name, f"{tmp_path / name}@bgr-255"):
        assert (
            said(capsys, "show", model, status=1).err
            == f"verydeep weights: {tmp_path / name} is empty; fetch or write it again\n"
        )


@pytest.mark.parametrize("out", ["net.safetensors", "./a/../net.safetensors", "soft.safetensors", "hard.safetensors"])
@pytest.mark.parametrize("to", ["safetensors", "torchvision"])
def test_nothing_is_written_over_what_is_read(capsys, tmp_path, monkeypatch, out, to):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    before = saved(tmp_path / "net.safetensors").read_bytes()
    (tmp_path / "soft.safetensors").symlink_to("net.safetensors")
    (tmp_path / "hard.safetensors").hardlink_to(tmp_path / "net.safetensors")
    err = said(capsys, "convert", "net.safetensors", out, "--to", to, *["--keep"] * (to != "safetensors"), status=2).err
    assert len(err.splitlines()) == 1
    assert "is the file of net.safetensors, which would be overwritten; give another name" in err
    assert (tmp_path / "net.safetensors").read_bytes() == before
    assert (tmp_path / "soft.safetensors").is_symlink()
    (tmp_path / "other.safetensors").write_bytes(b"old")
    said(capsys, "convert", "net.safetensors", "other.safetensors", "--to", "safetensors")
    assert verydeep.load("other.safetensors").contract.classes == ("a", "b")


def test_the_file_behind_a_run_or_a_published_name_or_a_colour_is_not_written_over(
    capsys, listed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    saved(tmp_path / "run" / "best.safetensors")
    _, e = listed
    for source, out in (("run", "run/best.safetensors"), ("torchvision-a", e.path), (f"{e.path}@rgb-01", e.path)):
        before = (tmp_path / out).read_bytes()
        assert "would be overwritten" in said(capsys, "convert", source, out, "--to", "timm", "--keep", status=2).err
        assert (tmp_path / out).read_bytes() == before


def test_convert_says_what_is_lost_and_how_to_read_the_file_here(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mean, std = (1 / 3 + 70, 100.1, 255), (0.1, 1 / 7, 2)
    made = build(Contract("A", ("cat", "dog"), 32, 8, 4, False, "up", mean, std, (40, 80)))
    initialise(made.net, "glorot", 0)
    made.save(tmp_path / "net.safetensors")
    first, lost, word = said(
        capsys, "convert", "net.safetensors", "x.pth", "--to", "torchvision", "--keep"
    ).out.splitlines()
    assert "no weight changed" in first
    assert (
        lost == "the file does not keep the pooling (up; read as down), the names of 2 classes, S ([40;80]; read as 36)"
    )
    model = word.removeprefix("to use it here: ")
    assert model.startswith("x.pth@RGB:")
    found = verydeep.load(model)
    assert (found.contract.mean, found.contract.std) == (mean, std)
    x = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(found(x), made.eval()(x))
    r = json.loads(
        said(capsys, "convert", "net.safetensors", "x.caffemodel", "--to", "caffe", "--fold-mean", "--json").out
    )
    assert r["notes"] == ["the file does not keep the names of 2 classes, S ([40;80]; read as 36)"]


def test_convert_says_what_of_another_head_is_left_out(capsys, tmp_path):
    state = torchvision.theirs(
        build(Contract("A", ("a",), 32, 8, 4, False, "down", (1, 2, 3), (1, 1, 1), (36, 36))).net.state_dict()
    )
    state = {n: t for n, t in state.items() if n.startswith("features")} | {
        f"head.{i}": torch.ones(2) for i in range(5)
    }
    torch.save(state, tmp_path / "x.pth")
    out = said(capsys, "convert", f"{tmp_path}/x.pth@rgb-01-std", tmp_path / "y.pth", "--to", "torchvision").out
    assert out.splitlines()[1:] == ["5 tensors of another head left out (head.0, head.1, head.2, ...)"]


def test_a_file_of_a_published_name_that_cannot_be_read_is_not_whole(capsys, cache):
    cache.mkdir(parents=True)
    (cache / "vgg16-397923af.pth").write_bytes(b"an error page")
    out = said(capsys, "verify", "torchvision-d", status=1).out
    assert "whole   NO   its name is that of torchvision-d" in out
    assert "finite  -    not judged: " in out
    assert "vgg16-397923af.pth is no file that can be read" in out
    row = next(line for line in said(capsys, "list").out.splitlines() if line.startswith("torchvision-d "))
    assert "  wrong size  " in row
    assert not next(r for r in json.loads(said(capsys, "list", "--json").out) if r["name"] == "torchvision-d")[
        "at_hand"
    ]


@pytest.mark.parametrize(
    ("exact", "more", "there"),
    [(True, 0, True), (True, 1, False), (False, 1 << 20, True), (False, -(1 << 20) - 1, False)],
)
def test_a_file_is_at_hand_if_its_size_may_be_right(capsys, cache, monkeypatch, exact, more, there):
    e = replace(catalogue()["torchvision-a"], file="x.pth", size=3 << 20, exact=exact)
    monkeypatch.setattr("verydeep.weights.published.catalogue", lambda: {"torchvision-a": e})
    cache.mkdir(parents=True)
    (cache / "x.pth").write_bytes(bytes((3 << 20) + more))
    (r,) = json.loads(said(capsys, "list", "--json").out)
    assert r["at_hand"] is there


def test_classes_with_commas_in_their_names_are_told_apart(capsys, tmp_path):
    made = build(
        Contract("A", ("tench, Tinca tinca", "goldfish"), 32, 8, 4, False, "up", (1, 2, 3), (1, 1, 1), (36, 36))
    )
    made.save(tmp_path / "net.safetensors")
    assert "classes     2: tench, Tinca tinca; goldfish\n" in said(capsys, "show", tmp_path / "net.safetensors").out


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
    assert correlation(torch.randn(3, 2, 1, 1)) is None
    smooth = torch.arange(3.0).view(1, 1, 1, 3).expand(16, 4, 3, 3)
    assert correlation(smooth.double()) > 6


def test_the_edge_is_that_of_numpys_singular_values():
    w = torch.randn(12, 5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    m = (w - w.mean()).flatten(1).numpy()
    expected = np.linalg.svd(m, compute_uv=False)[0] / np.sqrt((m**2).mean()) / (math.sqrt(12) + math.sqrt(45))
    assert edge(w) == pytest.approx(expected)
    assert edge(w.transpose(0, 1)) > 0
    assert edge(torch.linspace(-1, 1, 3).expand(4, 3, 3, 3).double()) > 1.25


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_equal_weights_tell_nothing(value):
    net = VGG("A", classes=2, crop=32, fc_width=4, base_width=2)
    for layer in net.convolutions():
        torch.nn.init.constant_(layer.weight, value)
    assert judged(signs(net))[0] is False


@pytest.mark.parametrize("seed", range(3))
def test_what_a_batch_norm_multiplied_in_is_not_learnt(seed):
    net = VGG("D", classes=2, crop=32, fc_width=4, base_width=8)
    initialise(net, "he", seed)
    gains = torch.Generator().manual_seed(seed)
    for layer in net.convolutions():
        layer.weight.data *= torch.exp(torch.randn(len(layer.weight), 1, 1, 1, generator=gains))
    assert judged(signs(net))[0] is False


def test_a_published_net_is_tested_on_ilsvrcs_own_layout(capsys, listed, tmp_path):
    """Three validation photos, their classes by Caffe's list; the answers against the toy net itself."""
    made, _ = listed
    photos = np.random.default_rng(0).integers(
        0, 256, (3, 40, 40, 3), np.uint8
    )  # the catalogue's S here is [40;80], so Q = 60
    truth = []
    for i, pixels in enumerate(photos, 1):
        path = tmp_path / "ilsvrc" / "val" / f"ILSVRC2012_val_{i:08d}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        crop = torch.from_numpy(photo.centre_crop(Image.fromarray(pixels), 60, 32).copy()).permute(2, 0, 1)[None]
        truth.append(int(made(crop).argmax()) if i < 3 else 7)
    (tmp_path / "ilsvrc" / "val.txt").write_text(
        "".join(f"ILSVRC2012_val_{i:08d}.PNG {c}\n" for i, c in enumerate(truth, 1))
    )
    assert main(["evaluate", "torchvision-a", str(tmp_path / "ilsvrc"), "--protocol", "centre", "--json"]) == 0
    (r,) = json.loads(capsys.readouterr().out)["results"]
    wrong = int(made(crop).argmax()) != 7
    assert (r["split"], r["photos"], r["top1_errors"], r["scales"]) == ("val", 3, int(wrong), [60])
