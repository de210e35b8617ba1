"""Written for another toolkit and read back: the same bits, or the same numbers where something is folded."""

import errno
import math
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, get_args

import pytest
import torch
import toy
from torch import Tensor

from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError, RunError
from verydeep.net.classifier import Classifier
from verydeep.net.vgg import VGG
from verydeep.weights import convert as module
from verydeep.weights.convert import WRITERS, Target, convert
from verydeep.weights.inputs import INPUTS, USUAL
from verydeep.weights.read import Features, open_foreign, read_features, read_foreign

OTHER_ENDINGS = {"keras": "x.weights.h5", "timm": "x.safetensors"}
NAMES = {to: f"x{endings[0]}" for to, (_, endings) in WRITERS.items()} | OTHER_ENDINGS


def classifier(expects: str, batch_norm: bool = False, name: str = "D", **facts: Any) -> Classifier:
    sizes = (toy.CROP, toy.FC_WIDTH, toy.BASE_WIDTH)
    contract = Contract(name, tuple("abcde"), *sizes, batch_norm, "down", *INPUTS[expects].rgb(), (73, 73))
    return Classifier(toy.net(name, batch_norm), replace(contract, **facts)).eval()


def features_file(made: VGG, path: Path) -> Path:
    torch.save({n: t for n, t in toy.torchvision_state(made).items() if n.startswith("features")}, path)
    return path


def spoilt_writer(monkeypatch: pytest.MonkeyPatch, to: str, **changes: Tensor) -> None:
    """A writer that puts other tensors into the file."""
    right, endings = WRITERS[to]

    def write(tensors: dict[str, Tensor], path: Path) -> None:
        right(tensors | {n.replace("__", "."): t for n, t in changes.items()}, path)

    monkeypatch.setitem(WRITERS, to, (write, endings))


@pytest.mark.parametrize("to", get_args(Target))
@pytest.mark.parametrize("expects", INPUTS)
def test_kept_weights_come_back_bit_for_bit(tmp_path, to, expects):
    source = classifier(expects)
    report = convert(source, to, tmp_path / NAMES[to], keep=True)
    assert (report.folded, report.inside, report.border, report.outputs) == ((), 0.0, 0.0, 0.0)
    back = read_foreign(report.path, report.expects)
    for name, t in source.state_dict().items():
        assert torch.equal(back.state_dict()[name], t), name
    assert report.expects.order == INPUTS[USUAL[to.removesuffix("-v1")]].order
    assert back.contract.mean == source.contract.mean


@pytest.mark.parametrize("batch_norm", [False, True])
def test_std_is_folded_exactly(tmp_path, batch_norm):
    """0-1 without a mean for 0-1 with std but no mean would be exact; here the means are alike by choice."""
    source = classifier("rgb-01-std", batch_norm, std=(1.0, 2.0, 4.0))
    report = convert(source, "torchvision", tmp_path / "x.pth")
    assert report.folded == ("std",)
    assert max(report.inside, report.border, report.outputs) < 1e-5
    back = read_foreign(report.path, "rgb-01-std")
    stds = torch.tensor([INPUTS["rgb-01-std"].std, (1.0, 2.0, 4.0)], dtype=torch.float64)
    expected = source.net.conv1_1.weight.double()
    for c, factor in enumerate(stds[0] / stds[1]):
        assert torch.equal(back.net.conv1_1.weight[:, c], (expected[:, c] * factor).float())


def test_another_mean_is_folded_only_on_request_as_reckoned_by_hand(tmp_path):
    """The file, fed as its users feed it, against the sums over kernels in fp64; what the border changes is told."""
    source, path = classifier("rgb-01-std", mean=(10.0, 200.0, 90.0)), tmp_path / "x.pth"
    with pytest.raises(ModelError, match=r"give --fold-mean.*or --keep"):
        convert(source, "torchvision", path)
    assert not list(tmp_path.iterdir())
    report = convert(source, "torchvision", path, fold_mean=True)
    assert report.folded == ("mean",)
    assert report.inside < 1e-5 < 1e-2 < min(report.border, report.outputs)
    assert convert(source, "caffe", tmp_path / "x.caffemodel", fold_mean=True).folded == ("std", "mean")
    made, old_std = toy.net("D").double(), source.contract.std
    mean, std = INPUTS["rgb-01-std"].rgb()
    with torch.no_grad():
        for out in range(toy.BASE_WIDTH):
            for c in range(3):
                kernel = made.conv1_1.weight[out, c]
                made.conv1_1.bias[out] += kernel.sum() * (mean[c] - source.contract.mean[c]) / old_std[c]
                kernel *= std[c] / old_std[c]
        x = (toy.photo().double() - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
        toy.close(read_foreign(path, "rgb-01-std")(toy.photo()), made(x))


def test_features_stay_features(tmp_path):
    weights = {n: t for n, t in toy.tensors(toy.net("D")).items() if not n.startswith("fc")}
    path = toy.put(tmp_path / "first.caffemodel", toy.caffe_v2(weights))
    for to in get_args(Target):
        report = convert(path, to, tmp_path / NAMES[to], expects="bgr-255", keep=True)
        assert report.outputs == 0.0
        back = open_foreign(report.path, report.expects)
        assert isinstance(back, Features)
        toy.same(back.tensors, weights | {"conv1_1.weight": weights["conv1_1.weight"].flip(1)})


def test_features_for_taps_and_for_fine_tuning(tmp_path):
    made = toy.net("A", batch_norm=True)
    path = features_file(made, tmp_path / "x.pth")
    features = read_features(path, "rgb-01-std", licence="BSD")
    photos = toy.photo()
    mean, std = (torch.tensor(c).view(1, 3, 1, 1) for c in (features.mean, features.std))
    with torch.no_grad():
        wanted = made.taps((photos.float() - mean) / std, ["conv1_1", "bn3_2", "pool5"])
    for name, t in features.taps(photos, wanted).items():
        toy.close(t, wanted[name])
    with pytest.raises(ConfigError, match="fc6 is an FC layer"):
        features.taps(photos, ["fc6"])
    begun = features.classifier(["cat", "dog"], crop=32, fc_width=8)
    assert (begun.contract.classes, begun.contract.licence) == (("cat", "dog"), "BSD")
    assert "FC layers random" in begun.contract.origin
    assert torch.equal(begun.net.conv5_2.weight, made.conv5_2.weight)
    begun.save(tmp_path / "own.safetensors")


@pytest.mark.parametrize("to", get_args(Target))
@pytest.mark.parametrize("spoilt", ["conv1_1.weight", "fc7.weight", "conv5_3.weight", "fc7.bias", "conv5_3.bias"])
def test_a_bad_file_never_gets_its_name(tmp_path, monkeypatch, to, spoilt):
    """A writer that spoils a layer, with a mean folded: the old file stays, and nothing beside it."""
    source, path = classifier("rgb-255-rounded"), tmp_path / NAMES[to]
    convert(source, to, path, fold_mean=True)
    before = path.read_bytes()
    spoilt_writer(monkeypatch, to, **{spoilt: -source.net.state_dict()[spoilt]})
    with pytest.raises(ModelError, match=rf"not what its source is .*in {spoilt}\).* before is unchanged") as e:
        convert(source, to, path, fold_mean=True)
    assert str(e.value).count(str(path)) == 1
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_right_weights_that_expect_otherwise_are_not_right(tmp_path, monkeypatch):
    """The same bits, but read back as a net of the target's mean with another std."""
    right = module.open_foreign
    monkeypatch.setattr(module, "open_foreign", lambda path, its: right(path, its._replace(std=(1.0, 1.0, 1.001))))
    with pytest.raises(ModelError, match="other numbers in no tensor"):
        convert(classifier("rgb-255-rounded"), "caffe", tmp_path / "x.caffemodel", fold_mean=True)
    assert not list(tmp_path.iterdir())


def test_features_are_compared_to_their_end(tmp_path, monkeypatch):
    made = toy.net("D", True)
    path = features_file(made, tmp_path / "x.pth")
    report = convert(path, "torchvision", tmp_path / "y.pth", expects="rgb-255-rounded", fold_mean=True)
    assert report.folded == ("std", "mean")
    found = read_features(report.path, "rgb-01-std").tensors
    behind = [n for n in toy.tensors(made) if n[:2] != "fc"][2:]
    toy.same({n: found[n] for n in behind}, {n: made.state_dict()[n] for n in behind})
    spoilt_writer(monkeypatch, "torchvision", bn5_3__bias=made.bn5_3.bias + 1)
    with pytest.raises(ModelError, match=r"is not what its source is .*other numbers in bn5_3\.bias"):
        convert(path, "torchvision", tmp_path / "z.pth", expects="rgb-255-rounded", fold_mean=True)
    assert not (tmp_path / "z.pth").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e-3])
@pytest.mark.parametrize(("fold_mean", "place"), [(False, 0), (False, 1), (False, 2), (True, 0)])
def test_no_difference_is_passed_over(tmp_path, monkeypatch, fold_mean, place, value):
    found = [0.0, 0.0, 0.0]
    monkeypatch.setattr(module, "nets_apart", lambda *nets: found)
    source = classifier("rgb-255-rounded" if fold_mean else "rgb-01-std")
    convert(source, "torchvision", path := tmp_path / "x.pth", fold_mean=fold_mean)
    path.unlink()
    found[place] = value
    with pytest.raises(ModelError, match="is not what its source is"):
        convert(source, "torchvision", path, fold_mean=fold_mean)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_saved_or_read_back_leaves_the_old_file(tmp_path, monkeypatch):
    def full(state: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    source, path = classifier("rgb-01-std"), toy.put(tmp_path / "x.pth", b"old")
    with monkeypatch.context() as m:
        m.setattr(torch, "save", full)
        with pytest.raises(RunError, match=rf"^{path} cannot be saved .No space left on device.*before is unchanged$"):
            convert(source, "torchvision", path)
    with monkeypatch.context() as m:
        m.setitem(WRITERS, "torchvision", (lambda tensors, where: toy.put(where, b"something else"), (".pth",)))
        with pytest.raises(ModelError, match=rf"^{path} was not written: what was to lie there is no file that"):
            convert(source, "torchvision", path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


@pytest.mark.parametrize(
    ("source", "to", "name", "words", "kind", "why"),
    [
        ("bn", "caffe", "x.caffemodel", {}, ModelError, "no batch norm"),
        ("bn", "keras", "x.h5", {}, ModelError, "no batch norm"),
        ("A-LRN", "caffe", "x.caffemodel", {}, ModelError, "A-LRN"),
        ("D", "keras", "x.caffemodel", {}, ConfigError, r"must end in \.h5"),
        ("D", "theano", "x", {}, ConfigError, "'theano' is not known; try one of caffe, "),
        ("D", "torchvision", "x.pth", {"keep": True, "fold_mean": True}, ConfigError, "keep and fold_mean"),
        ("D", "torchvision", "nowhere/x.pth", {}, RunError, "there is no folder .*nowhere; make it first"),
    ],
)
def test_what_cannot_be_written(tmp_path, source, to, name, words, kind, why):
    net = classifier("bgr-255", batch_norm=source == "bn", name="D" if source == "bn" else source)
    with pytest.raises(kind, match=why):
        convert(net, to, tmp_path / name, **words)
    assert not list(tmp_path.iterdir())
