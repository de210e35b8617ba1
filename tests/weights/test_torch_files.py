"""torchvision's and timm's names in pickles and in safetensors; the numbers of modules were counted by hand."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import toy
from torch import nn

from verydeep.errors import ModelError
from verydeep.net.vgg import VGG
from verydeep.weights import checkpoint, torch_file, torchvision
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.model import load
from verydeep.weights.read import read_features, read_foreign
from verydeep.weights.recognise import recognise


def zipped(state: object, path: Path) -> None:
    torch.save(state, path)


def legacy(state: object, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def bare(state: dict[str, torch.Tensor], path: Path) -> None:
    safetensors.torch.save_file(state, path)


@pytest.mark.parametrize("save", [zipped, legacy, bare])
@pytest.mark.parametrize(("name", "batch_norm"), list(toy.TORCHVISION))
def test_every_number_is_read(tmp_path, name, batch_norm, save):
    made = toy.net(name, batch_norm)
    save(OrderedDict(toy.torchvision_state(made)), path := tmp_path / "x")
    assert recognise(path).origin == "torchvision"
    toy.same(toy.read(path), toy.tensors(made))
    save(toy.timm_state(made), path)
    assert recognise(path).origin == "timm"
    toy.same(toy.read(path), toy.tensors(made))


@pytest.mark.parametrize(
    ("write", "state_of"),
    [(torchvision.write, toy.torchvision_state), (torchvision.write_timm, toy.timm_state)],
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_the_writers_write_the_names_counted_by_hand(tmp_path, write, state_of, ending):
    made = toy.net("D", True)
    wanted = state_of(made)
    write(toy.tensors(made), path := tmp_path / f"x{ending}")
    found = torch.load(path, weights_only=True) if ending == ".pth" else safetensors.torch.load_file(path)
    assert set(found) == set(wanted)
    assert all(torch.equal(found[n], t) for n, t in wanted.items())


@pytest.mark.parametrize(
    "prefix",
    [lambda n: f"module.{n}", lambda n: n.replace("features.", "features.module."), lambda n: f"module.module.{n}"],
)
def test_prefixes_and_checkpoints(tmp_path, prefix):
    made = toy.net("A", True)
    torch.save({"epoch": 3, "state_dict": toy.torchvision_state(made, prefix)}, path := tmp_path / "x")
    assert recognise(path).origin == "torchvision"
    toy.same(toy.read(path), toy.tensors(made))


def of_modules(made: VGG) -> nn.Module:
    """torchvision's net as a Sequential, built from Table 1 by another loop."""
    layers: list[nn.Module] = []
    for block in made.blocks:
        for convolution in (getattr(made, layer.name) for layer in block):
            layers.append(nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, padding=1))
            layers += [nn.BatchNorm2d(convolution.out_channels), nn.ReLU()] if made.batch_norm else [nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    net, width = nn.Module(), toy.FC_WIDTH
    net.features = nn.Sequential(*layers)
    fc6, fc7 = nn.Linear(made.fc6.in_features, width), nn.Linear(width, width)
    last = nn.Linear(width, toy.CLASSES)
    net.classifier = nn.Sequential(fc6, nn.ReLU(), nn.Dropout(), fc7, nn.ReLU(), nn.Dropout(), last)
    return net.double().eval()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_net_answers_as_a_sequential_on_0_to_1_with_mean_and_std(tmp_path, batch_norm):
    made = toy.net("B", batch_norm)
    other = of_modules(made)
    other.load_state_dict(toy.torchvision_state(made))
    torch.save(other.float().state_dict(), path := tmp_path / "x.pth")
    with pytest.warns(ContractWarning, match="rgb-01-std"):
        classifier = load(path)  # a foreign file is a MODEL
    photos, other = toy.photo(), other.double()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        expected = other.classifier(other.features((photos.double() / 255 - mean) / std).flatten(1))
        toy.close(classifier(photos), expected)
    assert classifier.contract.pooling == "down"


def test_the_numbers_of_before_april_2017(tmp_path):
    """Dropout came before the first two FC layers then."""
    made = toy.net("D")
    old = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}
    state = {n if n[:12] not in old else old[n[:12]] + n[12:]: t for n, t in toy.torchvision_state(made).items()}
    assert set(state) > {"classifier.1.weight", "classifier.4.bias", "classifier.6.weight"}
    zipped(state, path := tmp_path / "x.pth")
    found = checkpoint.read(path)
    toy.same(found.tensors, toy.tensors(made))
    assert not found.left
    del state["classifier.6.weight"], state["classifier.6.bias"]
    zipped(state, path)
    assert checkpoint.read(path).left == tuple(f"classifier.{n}.{p}" for n in (1, 4) for p in ("bias", "weight"))


def test_fc_layers_of_nan_are_no_fc_layers(tmp_path):
    """torchvision's features-only D has the keys and shapes of D, and NaN in its classifier."""
    made = toy.net("D")
    state = {n: t * torch.nan if n.startswith("classifier") else t for n, t in toy.torchvision_state(made).items()}
    torch.save(state, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"no fc6, fc7 and fc8.*read_features"):
        read_foreign(path, "rgb-255-rounded")
    features = read_features(path, "rgb-255-rounded")
    assert not any(n.startswith("fc") for n in features.tensors)
    assert features.mean == pytest.approx((122.99925, 116.9991, 103.9992))
    begun = features.classifier(["a", "b"], 32, 8)  # to be trained, so of memory of its own
    weight = features.tensors["conv1_1.weight"]
    assert torch.equal(begun.net.conv1_1.weight, weight)
    assert begun.net.conv1_1.weight.data_ptr() != weight.data_ptr()
    assert all(p.requires_grad and not p.is_meta for p in begun.parameters())
    assert begun.net.fc6.weight.std() > 0 == begun.net.fc6.bias.abs().max()
    state["features.0.weight"] = state["features.0.weight"] * torch.inf
    torch.save(state, path)
    with pytest.raises(ModelError, match="not finite"):
        read_features(path, "rgb-255-rounded")


def test_a_parameter_with_attributes_of_its_own_is_a_tensor(tmp_path):
    state = toy.torchvision_state(made := toy.net("A"))
    weight = torch.nn.Parameter(state["features.0.weight"])
    weight.decays = False  # type: ignore[attr-defined]  # as trainers mark them
    torch.save(state | {"features.0.weight": weight}, path := tmp_path / "x.pth")
    toy.same(toy.read(path), toy.tensors(made))


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [zipped, legacy])
def test_a_pickle_that_does_anything_else_is_not_opened(tmp_path, save):
    state = toy.torchvision_state(toy.net("A"))
    save(state | {"features.99": Canary(tmp_path / "canary")}, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"mkdir.*nothing of it was run"):
        read_foreign(path, "rgb-01-std")
    path.write_bytes(pickle.dumps(state | {"a": Canary(tmp_path / "canary")}, 4))
    with pytest.raises(ModelError, match=r"a plain pickle, which runs what it likes"):
        load(path)
    assert not (tmp_path / "canary").exists()


def test_a_tensor_that_repeats_one_number_is_refused(tmp_path):
    """A pickle of a kilobyte can describe a tensor of a terabyte."""
    state = toy.torchvision_state(toy.net("A"))
    torch.save(state | {"classifier.0.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match="larger than its numbers"):
        read_foreign(path, "rgb-01-std")


def test_longer_pickles_are_not_walked_through(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "LONGEST_PICKLE", 1000)
    for save in (zipped, legacy):
        save(toy.torchvision_state(toy.net("A")), path := tmp_path / "x.pth")
        with pytest.raises(ModelError):
            toy.read(path)


def test_what_python_is_told_to_say_works(tmp_path):
    torch.save(toy.torchvision_state(toy.net("A")), path := tmp_path / "x.pth")
    with pytest.warns(ContractWarning, match=r"write x\.pth@NAME, also in verydeep\.load.*expects= of read_foreign"):
        load(path)
    assert load(f"{path}@rgb-255").contract == read_foreign(path, expects="rgb-255").contract
    torch.save({n: t for n, t in toy.torchvision_state(toy.net("A")).items() if n.startswith("features")}, path)
    with pytest.raises(ModelError, match=r"in Python verydeep\.weights\.read\.read_features reads them"):
        load(f"{path}@rgb-255")
    torch.save({"a" * 41: torch.ones(1), "b" * 40: torch.ones(1)}, path)
    with pytest.raises(ModelError, match=f"it holds {'a' * 40}\\.\\.\\., {'b' * 40}$"):
        load(path)
