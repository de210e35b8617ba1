"""What trainers save around the weights, and under which names: each gives the net that was saved, or says why not."""

import argparse
import json
import os
import pathlib
import pickle
import resource
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import datetime
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import toy
from torch import Tensor, nn
from torch.nn.utils import prune

from verydeep.cli import main
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.model import load

State = dict[str, Tensor]


def state(name: str = "A", batch_norm: bool = False, seed: int = 0) -> State:
    return toy.torchvision_state(toy.net(name, batch_norm, seed=seed))


def saying_nothing(path: Path | str) -> Classifier:
    """A MODEL, whatever is said of it."""
    with pytest.warns(ContractWarning):
        return load(path)


class Config:
    """A class of somebody's training, which nobody else has."""

    def __init__(self) -> None:
        self.lr, self.path, self.inner = 0.1, pathlib.Path("/x"), [datetime(2024, 1, 1)]


Config.__module__ = "their.training"
WRAPS: dict[str, Callable[[State], Any]] = {
    "tutorial": lambda s: {"epoch": 3, "model_state_dict": s, "optimizer_state_dict": adam(), "loss": 0.1},
    "net": lambda s: {"net": s, "acc": 93.1, "epoch": 3},
    "state_dict": lambda s: {"state_dict": OrderedDict(s), "best_acc1": torch.tensor(3.0), "arch": "vgg11"},
    "reference": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, device=torch.device("cpu")), "epoch": 3},
    "lightning": lambda s: {
        "state_dict": {f"model.{n}": t for n, t in s.items()}, "pytorch-lightning_version": "2.1", "epoch": 3,
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.2)}},
        "hyper_parameters": defaultdict(list, lr=[0.1]), "optimizer_states": [adam()], "lr_schedulers": [],
    },
    "numbers": lambda s: {"model": s, "best": np.float64(0.7), "rng": np.arange(9), "at": datetime(2024, 1, 1)},
    "history": lambda s: {"state": s, "losses": [float(i) for i in range(40_000)], "config": Config()},
    "timm": lambda s: {"state_dict": s, "args": SimpleNamespace(a=(1, {2, 3})), "version": 2, "metric": np.float32(1)},
    "deep": lambda s: {"a": [{"b": {"c": s}}]},
    "nothing": lambda s: s,
}  # fmt: skip


def adam() -> dict[str, Any]:
    weights = [nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4))]
    optimizer = torch.optim.Adam(weights)
    for w in weights:
        w.grad = torch.ones_like(w)
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture(autouse=True)
def their_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "their", SimpleNamespace(training=SimpleNamespace(Config=Config)))
    monkeypatch.setitem(sys.modules, "their.training", SimpleNamespace(Config=Config))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrap", WRAPS)
def test_whatever_a_trainer_wraps_around_the_weights(tmp_path, wrap, protocol, old):
    torch.save(
        WRAPS[wrap](state(batch_norm=True)), path := tmp_path / "x.pth", pickle_protocol=protocol,
        _use_new_zipfile_serialization=not old,
    )  # fmt: skip
    toy.same(toy.read(path), toy.tensors(toy.net("A", True)))


PREFIXES = ("_orig_mod.", "model.", "module.", "backbone.", "vgg.", "module._orig_mod.model.vgg.", "a.b.c.d.e.")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("names", ["torchvision", "timm", "caffe", "own head", "one Sequential"])
def test_any_prefix_and_the_names_of_others(tmp_path, prefix, ending, names):
    made = toy.net("B")
    theirs = toy.torchvision_state(made)
    if names == "timm":
        theirs = toy.timm_state(made)
    elif names == "caffe":
        theirs = dict(toy.tensors(made))
    elif names == "own head":
        heads = {"classifier.0": "top.1", "classifier.3": "top.3", "classifier.6": "top.10"}
        theirs = {n.replace("features", "body").replace(k := n[:12], heads.get(k, k)): t for n, t in theirs.items()}
    elif names == "one Sequential":
        places = {"classifier.0": "26", "classifier.3": "29", "classifier.6": "32"}
        theirs = {n.replace("features.", "").replace(k := n[:12], places.get(k, k)): t for n, t in theirs.items()}
    save(theirs := {prefix + n: t for n, t in theirs.items()}, path := tmp_path / f"x{ending}")
    toy.same(toy.read(path), toy.tensors(made))
    assert saying_nothing(path).contract.net == "B"


def save(theirs: State, path: Path) -> None:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({n: t.contiguous() for n, t in theirs.items()}, path)
    else:
        torch.save(theirs, path)


def test_convolutions_of_a_sequential_alone_are_convolutions(tmp_path):
    theirs = {n.removeprefix("features."): t for n, t in state().items() if n.startswith("features")}
    torch.save(theirs, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match="the convolutions of net A, no fc6, fc7 and fc8"):
        load(f"{path}@rgb-01")


def test_two_nets_are_named_and_one_is_chosen(tmp_path):
    both = {"state_dict": state(), "state_dict_ema": {f"module.{n}": t for n, t in state(seed=1).items()}}
    torch.save(both | {"again": both["state_dict"]}, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"it holds 2 nets; say which: FILE#state_dict, FILE#state_dict_ema"):
        load(path)
    ema = toy.tensors(toy.net("A", seed=1))
    for name in (f"{path}#state_dict_ema@rgb-01", f"{path}@rgb-01#state_dict_ema"):
        found = load(name)
        assert torch.equal(found.net.fc8.weight, ema["fc8.weight"])
        assert found.contract.std == (255, 255, 255)
    assert torch.equal(saying_nothing(f"{path}#state_dict").net.fc8.weight, state()["classifier.6.weight"])
    with pytest.raises(ModelError, match=r"it has no net 'none', only FILE#state_dict, FILE#state_dict_ema"):
        load(f"{path}#none")
    with pytest.raises(ConfigError, match=r"leave #x out"):
        load("builtin:fashion-a#x")


def test_two_nets_in_one_mapping(tmp_path):
    both = {f"student.{n}": t for n, t in state().items()} | {f"teacher.{n}": t for n, t in state("B").items()}
    torch.save(both, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match="FILE#student, FILE#teacher"):
        load(path)
    assert load(f"{path}#teacher@rgb-01").contract.net == "B"


def test_what_was_understood_is_said(tmp_path):
    torch.save({"ckpt": {f"module.{n}": t for n, t in state().items()}}, path := tmp_path / "x.pth")
    with pytest.warns(ContractWarning, match=r"its net is x\.pth#ckpt"):
        load(f"{path}@rgb-01")


def module() -> nn.Module:
    sizes, layers, before = (4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"), [], 3
    for size in sizes:
        if size == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, size, 3, padding=1), nn.ReLU(True)]
            before = size
    net = nn.Module()
    net.features, net.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(2)
    head = [nn.Linear(128, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5)]
    net.classifier = nn.Sequential(*head)
    net.load_state_dict(state())
    return net.eval()


def test_whole_modules_are_taken_apart_and_never_built(tmp_path):
    torch.save({"net": nn.DataParallel(module()), "epoch": 3}, path := tmp_path / "x.pth")
    toy.same(toy.read(path), toy.tensors(toy.net("A")))
    (net := module()).features[1] = nn.LeakyReLU(0.1)
    torch.save(net, path)
    with pytest.raises(ModelError, match=r"other layers than a VGG .layer LeakyReLU"):
        load(f"{path}@rgb-01")


def test_losses_and_what_passes_are_no_layers(tmp_path):
    """A loss with weights of classes, an empty Sequential, and the sigmoid behind a single output."""
    net, path = nn.Module(), tmp_path / "x.pth"
    net.model, net.criterion, net.rest = module(), nn.CrossEntropyLoss(weight=torch.ones(5)), nn.Sequential()
    net.val_loss = nn.BCEWithLogitsLoss(pos_weight=torch.ones(5))
    for saved in ({"state_dict": net.state_dict()}, net):
        torch.save(saved, path)
        toy.same(toy.read(path), toy.tensors(toy.net("A")))
    for outputs in (1, 5):
        (net := module()).classifier[6] = nn.Linear(16, outputs)
        net.classifier.append(nn.Sigmoid())
        torch.save(net, path)
        if outputs == 1:
            with pytest.warns(ContractWarning, match="its one output is a sigmoid's"):
                load(f"{path}@rgb-01-std")
        else:
            with pytest.raises(ModelError, match="layer Sigmoid"):
                load(f"{path}@rgb-01-std")


def test_pruned_weights_are_multiplied(tmp_path):
    net = module()
    for layer in (net.features[0], net.classifier[6]):
        prune.l1_unstructured(layer, "weight", 0.5)
    expected = net.features[0].weight.detach().clone()
    torch.save(net.state_dict(), path := tmp_path / "x.pth")
    found = toy.read(path)["conv1_1.weight"]
    assert torch.equal(found, expected)
    assert 0 < int((found == 0).sum()) < found.numel()


CLASSES = ("ant", "bee", "cat", "dog", "eel")
NUMBERED = {name: i for i, name in enumerate(CLASSES)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_to_idx", dict(reversed(NUMBERED.items()))), ("class_names", list(CLASSES)), ("classes", CLASSES),
        ("idx_to_class", {i: n for n, i in NUMBERED.items()}), ("id2label", {str(i): n for n, i in NUMBERED.items()}),
    ],
)  # fmt: skip
def test_class_names_beside_the_weights(tmp_path, key, value):
    torch.save({"model": state(), "meta": {key: value}}, path := tmp_path / "x.pth")
    with pytest.warns(ContractWarning, match=rf"its classes are those of its meta\.{key}"):
        assert load(f"{path}@rgb-01").contract.classes == CLASSES
    torch.save(state(), path)
    (tmp_path / "config.json").write_text(json.dumps({key: value, "model_type": "vgg"}))
    with pytest.warns(ContractWarning, match=rf"config\.json's {key}"):
        assert load(f"{path}@rgb-01").contract.classes == CLASSES


def test_class_names_that_do_not_fit_or_differ(tmp_path):
    torch.save({"model": state(), "classes": list(CLASSES[:4]), "epoch": 2}, path := tmp_path / "x.pth")
    assert saying_nothing(f"{path}@rgb-01").contract.classes[0] == "class 0"
    torch.save({"model": state(), "classes": [*CLASSES[:4], "ant"]}, path)
    assert saying_nothing(f"{path}@rgb-01").contract.classes[::4] == ("ant (class 0)", "ant (class 4)")
    torch.save({"model": state(), "classes": list(CLASSES), "class_names": list(CLASSES[::-1])}, path)
    with pytest.raises(ModelError, match=r"classes and class_names of one file name its classes differently"):
        load(f"{path}@rgb-01")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ("class 0", "class 1")), (["cat"], ("not cat", "cat")), ({"cat": 0, "dog": 1}, ("cat", "dog")),
    ],
)  # fmt: skip
def test_one_output_is_a_sigmoids(tmp_path, names, expected):
    """softmax([0, z]) = (1 - sigmoid(z), sigmoid(z))."""
    one = {n: t[:1] if n.startswith("classifier.6") else t for n, t in state().items()}
    torch.save({"model": one, **({"classes": names} if names else {})}, path := tmp_path / "x.pth")
    with pytest.warns(ContractWarning, match="its one output is a sigmoid's"):
        found = load(f"{path}@rgb-01-std")
    assert found.contract.classes == expected
    (net := module()).classifier[6] = nn.Linear(16, 1)
    net.load_state_dict(one)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        z = net.classifier(net.features((toy.photo() / 255 - mean) / std).flatten(1))
        toy.close(found.predict(toy.photo()), torch.cat([1 - z.sigmoid(), z.sigmoid()], 1))


def test_what_is_not_read_is_called_what_it_is(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # torch means to leave both
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))).save(str(tmp_path / "script.pt"))
        quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(state()))
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)}, tmp_path / "resnet.pth")
    torch.save({"w": quantised}, tmp_path / "int8.pth")
    for name, said in (
        ("script.pt", r"is TorchScript .*torch\.jit\.load"), ("arrays.npz", r"is a \.npz of NumPy"),
        ("array.npy", "is an array of NumPy"), ("plain.pkl", "is a plain pickle"), ("empty.pth", "it holds nothing"),
        ("resnet.pth", "no net of Table 1 has such layers; it holds layer1"), ("int8.pth", "its weights are quantised"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=said) as caught:
            load(tmp_path / name)
        assert "damaged" not in str(caught.value), name


def test_a_folder_with_one_file_of_weights_is_a_model(tmp_path, capsys):
    folder = tmp_path / "hub"
    folder.mkdir()
    save(state(), folder / "model.safetensors")
    torch.save({"x": 1}, folder / "optimizer.pt")
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(CLASSES))}))
    assert saying_nothing(f"{folder}@rgb-01").contract.classes == CLASSES
    with warnings.catch_warnings(action="always"):
        assert main(["weights", "show", f"{folder}@rgb-01"]) == 0
    said = capsys.readouterr()
    assert "ant; bee" in said.out
    assert "its classes are those of its config.json's id2label" in said.err
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    with pytest.raises(ModelError, match=r"holds 2 files of weights; give one, such as .*a\.safetensors"):
        load(folder)
    (folder / "optimizer.pt").unlink()
    assert saying_nothing(folder).contract.net == "A"


def long_text(size: int) -> bytes:
    return b"X" + struct.pack("<I", size) + b"a" * size


def text(said: str) -> bytes:
    return b"X" + struct.pack("<I", len(said)) + said.encode()


KEYS = b"}q\x01(" + b"".join(text(str(i)) + b"N" for i in range(100_000)) + b"u"
PAIRS = b"]q\x01(" + b"".join(text(str(i)) + b"N\x86" for i in range(50_000)) + b"e"
DOUBLING = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(200))
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n%s" + text("cpu") + b"K\x1btQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\nq\x03" + STORAGE % text("0") + b"q\x04"
MODULE = b"cm\nNet\n)\x81q\x01}" + text("_modules") + b"}("
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
BOMBS = {
    "deep tuples as a key": b"}" + b")" + b"\x85" * 300_000 + b"K\x01s",
    "deep objects": b"cm\nC\nq\x00)" + b"\x85q\x010h\x00h\x01R" * 60_000,
    "itself": b"]q\x00h\x00ah\x00ah\x00a",
    "doubling": DOUBLING,
    "many steps": b"N" * 2_000_000,
    "many lists": b"(" + b"]" * 390_000 + b"t",
    "many dicts": b"(" + b"}" * 390_000 + b"l",
    "many names": b"".join(b"ca\n%d\n" % i for i in range(390_000)),
    "many objects": b"cm\nC\nq\x00(" + b"h\x00)R" * 130_000 + b"t",
    "many memos": b"N" + b"\x94" * 390_000,
    "a long number": b"I" + b"9" * 1_000_000 + b"\n",
    "a long name": long_text(4_000_000) + b"q\x00" + b"h\x00h\x00\x93" * 10_000,
    "long keys": long_text(4_000_000) + b"q\x00" + b"}h\x00" * 38 + b"](" + b"]" * 10_000 + b"e" + b"s" * 38,
    "states": KEYS + b"cm\nC\nq\x02" + b"h\x02h\x01b0" * 45_000,
    "pairs": PAIRS + b"h\x01\x85q\x01ccollections\nOrderedDict\nq\x02" + b"h\x02h\x01R" * 50_000,
    "arguments": b"(" + b"N" * 200_000 + b"tq\x01cm\nC\nq\x02(" + b"h\x02h\x01R" * 60_000 + b"t",
    "a storage of no name": DOUBLING + STORAGE % b"hB",
    "tensors of many sides": b"(" + b"\x8a\xff" + b"\x7f" * 255 + b"q\x05" + b"h\x05" * 100_000 + b"tq\x06" + TENSOR
    + b"h\x03(h\x04K\x00h\x06h\x06tR" * 9_000,
    "many tensors": TENSOR + b"h\x03(h\x04K\x00(K\x01K\x03K\x03K\x03t(K\x00K\x00K\x00K\x00ttRq\x05}("
    + b"".join(text(f"{i}.0.weight") + b"h\x05" for i in range(150_000)) + b"u",
    "a module in itself": MODULE + text("a") + b"h\x01usb",
    "modules twice": b"N" + b"".join(
        b"cm\nNet\n)\x81}" + text("_modules") + b"}(" + text("a") + b"h%c" % i + text("b") + b"h%cusbq%c" % (i, i + 1)
        for i in range(1, 60)
    ).replace(b"h\x01", b"N"),
}  # fmt: skip


def bombs_open(folder: Path) -> None:
    """Prints each bomb that was not refused in 2 s, and all of them if they took much memory."""

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    torch.save(state(), path := folder / "x.pth")
    saying_nothing(path)
    for (name, bomb), old in product(BOMBS.items(), (False, True)):
        pickled = b"\x80\x02" + bomb + b"."
        if old:
            path.write_bytes(
                MAGIC + pickled * 3 + b"\x80\x02]" + text("0") + b"a." + struct.pack("<q", 27) + bytes(108)
            )
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x/data.pkl", pickled)
                archive.writestr("x/data/0", bytes(108))
        before, began = peak(), time.process_time()
        with pytest.raises(ModelError) as caught:
            load(path)
        seconds, memory = time.process_time() - began, peak() - before
        bad = seconds > 2 or memory > 100e6 + 2 * path.stat().st_size
        print("BAD" * bad, name, f"{seconds:.1f} s, {memory / 1e6:.0f} MB", str(caught.value)[-150:])


def test_pickles_that_are_no_checkpoint_end_soon_and_small(tmp_path):
    code = f"from test_checkpoints import Path, bombs_open; bombs_open(Path({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n") == 2 * len(BOMBS)
    assert "BAD" not in done.stdout, done.stdout
