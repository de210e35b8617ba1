"""Written for another toolkit and read back: the same bits where nothing is folded, the same numbers where something is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
import toy

from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights import convert as module
from verydeep.weights.convert import Target, convert
from verydeep.weights.eats import EATS
from verydeep.weights.read import Features, open_foreign, read_features, read_foreign

NAMES = {"caffe": "x.caffemodel", "caffe-v1": "x.caffemodel", "keras": "x.weights.h5", "torchvision": "x.pth", "timm": "x.safetensors"}


def classifier(eats: str, batch_norm: bool = False, name: str = "D") -> Classifier:
    mean, std = EATS[eats].rgb()
    contract = Contract(name, tuple("abcde"), toy.CROP, toy.FC_WIDTH, toy.BASE_WIDTH, batch_norm, "down", mean, std, (73, 73))
    return Classifier(toy.net(name, batch_norm), contract).eval()


@pytest.mark.parametrize("to", get_args(Target))
@pytest.mark.parametrize("eats", EATS)
def test_kept_weights_come_back_bit_for_bit(tmp_path: Path, to: Target, eats: str) -> None:
    source = classifier(eats)
    report = convert(source, to, tmp_path / NAMES[to], keep=True)
    assert (report.folded, report.inside, report.border, report.outputs) == ((), 0.0, 0.0, 0.0)
    back = read_foreign(report.path, report.eats)
    for name, t in source.state_dict().items():
        assert torch.equal(back.state_dict()[name], t), name
    assert (report.eats.order, back.contract.mean) == (EATS[module.USUAL[to]].order, source.contract.mean)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_std_is_folded_exactly(tmp_path: Path, batch_norm: bool) -> None:
    """0-1 without a mean for 0-1 with std but no mean would be exact; here the means are alike by choice."""
    source = classifier("rgb-01-std", batch_norm)
    source = Classifier(source.net, replace(source.contract, std=(1.0, 2.0, 4.0))).eval()
    report = convert(source, "torchvision", tmp_path / "x.pth")
    assert report.folded == ("std",)
    assert max(report.inside, report.border, report.outputs) < 1e-5
    back = read_foreign(report.path, "rgb-01-std")
    factor = torch.tensor(EATS["rgb-01-std"].std, dtype=torch.float64) / torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    expected = source.net.conv1_1.weight.double()  # type: ignore[operator]
    for c in range(3):
        assert torch.equal(back.net.conv1_1.weight[:, c], (expected[:, c] * factor[c]).float())  # type: ignore[index]


def test_another_mean_is_folded_only_on_request_and_the_border_is_reported(tmp_path: Path) -> None:
    source = classifier("rgb-01-std")
    with pytest.raises(ModelError, match=r"give --fold-mean.*or --keep"):
        convert(source, "caffe", tmp_path / "x.caffemodel")
    assert not (tmp_path / "x.caffemodel").exists()
    source = Classifier(source.net, replace(source.contract, mean=(10.0, 200.0, 90.0))).eval()
    report = convert(source, "caffe", tmp_path / "x.caffemodel", fold_mean=True)
    assert report.folded == ("std", "mean")
    assert report.inside < 1e-5
    assert report.border > 1e-2
    assert "border" in str(report)
    back, photos = read_foreign(report.path, "bgr-255"), toy.photo()
    with torch.no_grad():
        a, b = (net.net.taps(net.normalise(photos), ["conv1_1"])["conv1_1"] for net in (source, back))
    assert torch.allclose(a[..., 1:-1, 1:-1], b[..., 1:-1, 1:-1], rtol=0, atol=1e-4 * float(a.abs().max()))


def test_from_file_to_file_and_around(tmp_path: Path) -> None:
    path = toy.put(tmp_path / "first.caffemodel", toy.caffe_v1(toy.tensors(toy.net("E"))))
    eats: object = "bgr-255"
    for i, to in enumerate(("caffe", "keras", "torchvision", "timm", "caffe-v1")):
        report = convert(path, to, tmp_path / f"{i}{NAMES[to]}", eats=eats, keep=True)  # type: ignore[arg-type]
        path, eats = report.path, report.eats
    toy.same(module.parts(read_foreign(path, "bgr-255"))[0], module.turn(toy.tensors(toy.net("E")), "BGR"))


def test_features_stay_features(tmp_path: Path) -> None:
    weights = {n: t for n, t in toy.tensors(toy.net("D")).items() if not n.startswith("fc")}
    path = toy.put(tmp_path / "first.caffemodel", toy.caffe_v2(weights))
    for to in get_args(Target):
        report = convert(path, to, tmp_path / NAMES[to], eats="bgr-255", keep=True)
        assert report.outputs == 0.0
        with pytest.raises(ModelError, match="no fc6, fc7 and fc8"):
            read_foreign(report.path, report.eats)
        back = open_foreign(report.path, report.eats)
        assert isinstance(back, Features)
        toy.same(back.tensors, module.turn(weights, "BGR"))


def test_features_for_taps_and_for_fine_tuning(tmp_path: Path) -> None:
    made = toy.net("A", batch_norm=True)
    state = {n: t for n, t in toy.torchvision_state(made).items() if n.startswith("features")}
    torch.save(state, path := tmp_path / "x.pth")
    features = read_features(path, "rgb-01-std", licence="BSD")
    photos = toy.photo()
    mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in (features.mean, features.std))
    with torch.no_grad():
        wanted = made.taps((photos.float() - mean) / std, ["conv1_1", "bn3_2", "pool5"])
    for name, t in features.taps(photos, wanted).items():
        assert torch.allclose(t, wanted[name], rtol=0, atol=1e-4 * float(wanted[name].abs().max()))
    with pytest.raises(ConfigError, match="fc6 is an FC layer"):
        features.taps(photos, ["fc6"])
    begun = features.classifier(["cat", "dog"], crop=32, fc_width=8)
    assert begun.contract.classes == ("cat", "dog")
    assert "FC layers random" in begun.contract.origin
    assert begun.contract.licence == "BSD"
    assert torch.equal(begun.net.conv5_2.weight, made.conv5_2.weight)  # type: ignore[arg-type]
    begun.save(tmp_path / "own.safetensors")


def test_a_file_that_does_not_compute_the_same_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "turn", lambda tensors, order: tensors)
    with pytest.raises(ModelError, match="does not compute what its source does"):
        convert(classifier("bgr-255"), "caffe", tmp_path / "x.caffemodel")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    source = classifier("bgr-255", batch_norm=True)
    for to in ("caffe", "keras"):
        with pytest.raises(ModelError, match="no batch norm"):
            convert(source, to, tmp_path / NAMES[to])  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="A-LRN"):
        convert(classifier("bgr-255", name="A-LRN"), "caffe", tmp_path / "x.caffemodel")
    with pytest.raises(ConfigError, match="must end in"):
        convert(source, "keras", tmp_path / "x.caffemodel")
    with pytest.raises(ConfigError, match="not known"):
        convert(source, "theano", tmp_path / "x")  # type: ignore[arg-type]
