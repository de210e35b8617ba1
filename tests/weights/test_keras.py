"""Keras' own files: nets built with its functional API on its torch backend, saved by it and loaded by it."""

import os
import re
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from verydeep.errors import ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights import keras as ours
from verydeep.weights.convert import convert
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.read import Features, open_foreign, read_features, read_foreign
from verydeep.weights.recognise import recognise

h5py = pytest.importorskip("h5py")
os.environ["KERAS_BACKEND"] = "torch"
keras: Any = pytest.importorskip("keras")

IN_KERAS = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = pytest.mark.filterwarnings(IN_KERAS)
PLANS = {"D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
FORMS = ("x.weights.h5", "x.keras", "x.h5")


def vgg(
    name: str = "D", *, crop: int = toy.CROP, named: bool = True, top: bool = True, first: tuple[Any, ...] = ()
) -> Any:
    """keras.applications' VGG16 or VGG19 at a small width, with random weights and logits instead of posteriors."""
    layers = keras.layers
    x = inputs = keras.Input((crop, crop, 3))
    for layer in first:
        x = layer(x)
    for b, count in enumerate(PLANS[name], 1):
        for i in range(1, count + 1):
            label = {"name": f"block{b}_conv{i}"} if named else {}
            x = layers.Conv2D(toy.BASE_WIDTH * min(8, 2 ** (b - 1)), 3, padding="same", activation="relu", **label)(x)
        x = layers.MaxPooling2D(2, 2, **({"name": f"block{b}_pool"} if named else {}))(x)
    if top:
        x = layers.Flatten()(x)
        for label, width in (("fc1", toy.FC_WIDTH), ("fc2", toy.FC_WIDTH), ("predictions", toy.CLASSES)):
            x = layers.Dense(width, None if label == "predictions" else "relu", **({"name": label} if named else {}))(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(0, 0.2, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def saved(model: Any, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        with warnings.catch_warnings(action="ignore"):  # Keras calls the older form a legacy
            model.save(path)
    return path


def keras_logits(model: Any, photos: torch.Tensor) -> torch.Tensor:
    """Of RGB pixels, as keras.applications.vgg16.preprocess_input prepares them."""
    bgr = toy.caffe_pixels(photos).float().permute(0, 2, 3, 1).contiguous()
    with torch.no_grad():
        return torch.as_tensor(model(bgr)).detach().cpu()


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("named", [True, False])
def test_logits_of_a_keras_net(tmp_path, name, form, named):
    keras.utils.clear_session()
    path = saved(model := vgg(name, named=named), tmp_path / form)
    assert recognise(path).origin == "keras"
    if not named:  # the first layer of the next net has a higher number
        path = saved(model := vgg(name, named=named), tmp_path / form)
    with pytest.warns(ContractWarning, match="bgr-255"):
        classifier = read_foreign(path)
    assert classifier.contract.net == name
    with torch.no_grad():
        toy.close(classifier(toy.photo()), keras_logits(model, toy.photo()))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("form", ["x.weights.h5", "x.h5"])
def test_keras_loads_what_is_written(tmp_path, name, form):
    made = saved(vgg(name), tmp_path / "y.weights.h5")
    classifier = open_foreign(made, "bgr-255")
    assert isinstance(classifier, Classifier)
    report = convert(classifier, "keras", path := tmp_path / form)
    assert (report.folded, report.inside, report.outputs) == ((), 0.0, 0.0)
    model = vgg(name)
    model.set_weights([w * 0 for w in model.get_weights()])
    model.load_weights(path)
    with torch.no_grad():
        toy.close(classifier(toy.photo()), keras_logits(model, toy.photo()))


FORMATS = ("{0}/{0}_{1}_1:0", "{0}/{0}/{2}:0", "model_weights/{0}/{0}/{2}:0", "model_weights/vgg16/{0}/{2}:0")


@pytest.mark.parametrize("form", FORMATS)
def test_the_names_of_the_files_of_2016_and_2017(tmp_path, form):
    """block1_conv1_W_1:0 in a group of the layer, and block1_conv1/block1_conv1/kernel:0."""
    weights = toy.tensors(toy.net("D"))
    with h5py.File(path := tmp_path / "x", "w") as f:
        for name, value in ours.theirs(weights).items():
            layer, p = name.split("/")
            f[form.format(layer, {"kernel": "W", "bias": "b"}[p], p)] = value
    toy.same(toy.read(path), weights)


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_layers_without_names_in_the_files_of_2_13(tmp_path, separator):
    """_layer_checkpoint_dependencies/conv2d_3/vars/0, on Windows with backslashes."""
    weights = toy.tensors(toy.net("E"))
    found, counts = ours.theirs(weights), Counter[tuple[str, str]]()
    with h5py.File(path := tmp_path / "x", "w") as f:
        for name, value in found.items():
            layer, p = name.split("/")
            kind = "conv2d" if layer.startswith("block") else "dense"
            number = f"_{counts[kind, p]}" if counts[kind, p] else ""
            counts[kind, p] += 1
            f[f"_layer_checkpoint_dependencies{separator}{kind}{number}/vars/{int(p == 'bias')}"] = value
        f["optimizer/vars/1"] = np.ones(3, np.float32)
    toy.same(toy.read(path), weights)


@pytest.mark.parametrize("form", FORMS)
def test_no_top(tmp_path, form):
    path = saved(vgg(top=False), tmp_path / form)
    with pytest.raises(ModelError, match="no fc6, fc7 and fc8"):
        read_foreign(path, "bgr-255")
    assert isinstance(open_foreign(path, "bgr-255"), Features)
    assert read_features(path, "bgr-255").net == "D"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("external", "lies elsewhere"), ("virtual", "lies elsewhere"), ("packed", "lies elsewhere"),
        ("link", r"other layers than a VGG \(no fc6\)"), ("unwritten", "larger than the file"),
    ],
)  # fmt: skip
def test_sets_that_lie_elsewhere_are_not_followed(tmp_path, how, said):
    found = ours.theirs(toy.tensors(toy.net("D")))
    secret = toy.put(tmp_path / "secret", bytes(found["fc1/kernel"].nbytes))
    place, shape = "fc1/fc1/kernel:0", found["fc1/kernel"].shape
    with h5py.File(path := tmp_path / "x", "w") as f:
        for name, value in found.items():
            if name != "fc1/kernel":
                f[f"{name.split('/')[0]}/{name}:0"] = value
        if how == "external":
            f.create_dataset(place, shape, "f4", external=[(str(secret), 0, secret.stat().st_size)])
        elif how == "virtual":
            layout = h5py.VirtualLayout(shape, "f4")
            layout[...] = h5py.VirtualSource(str(secret), "x", shape)
            f.create_virtual_dataset(place, layout)
        elif how == "link":
            f[place] = h5py.ExternalLink(str(secret), "/x")
        elif how == "unwritten":
            f.create_dataset(place, (1 << 20, 1 << 20), "f4", chunks=(16, 16))
        else:
            f.create_dataset(place, shape, "f4", data=found["fc1/kernel"], compression="lzf")
    with pytest.raises(ModelError, match=said):
        read_foreign(path, "bgr-255")


@pytest.mark.parametrize("form", ["x.keras", "x.h5"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_before_the_net_is_found_wherever_it_stands(tmp_path, form, nested):
    """In a whole model of the older form too, and in a net within the net."""
    before = keras.layers.Rescaling(1 / 255)
    before = keras.Sequential([before], name="preprocessing") if nested else before
    path = saved(vgg(first=(before,)), tmp_path / form)
    with pytest.raises(ModelError, match="layer Rescaling"):
        read_foreign(path, "bgr-255")
    with pytest.raises(ModelError, match=r"layer Rescaling, which changes the input of its convolutions; say .*@NAME"):
        read_features(path)
    assert read_features(path, "bgr-255").net == "D"


def test_channels_that_come_first_in_the_older_form(tmp_path):
    path = saved(vgg(), tmp_path / "x.h5")
    with h5py.File(path, "r+") as f:
        f.attrs["model_config"] = f.attrs["model_config"].replace("channels_last", "channels_first")
    with pytest.raises(ModelError, match="channels come first"):
        read_foreign(path, "bgr-255")


@pytest.mark.parametrize("form", FORMS)
def test_another_head_of_dense_layers_leaves_the_convolutions(tmp_path, form):
    """What most people make of keras.applications: its convolutions and two dense layers without names."""
    below = vgg(top=False)
    x = keras.layers.Dense(7, "relu")(keras.layers.Flatten()(below.output))
    path = saved(keras.Model(below.input, keras.layers.Dense(3)(x)), tmp_path / form)
    found = read_features(path, "bgr-255")
    assert found.net == "D"
    weight = torch.as_tensor(np.asarray(below.get_layer("block1_conv2").get_weights()[0])).permute(3, 2, 0, 1)
    assert torch.equal(found.tensors["conv1_2.weight"], weight)
    with pytest.raises(ModelError):
        read_foreign(path, "bgr-255")


def test_a_compressed_archive_is_refused(tmp_path):
    path = saved(vgg(), tmp_path / "x.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other := tmp_path / "y.keras", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ModelError, match="compressed"):
        read_foreign(other, "bgr-255")


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = saved(vgg(), tmp_path / "x.weights.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ModelError, match=re.escape("verydeep[weights]")):
        read_foreign(path, "bgr-255")


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_keras_applications_at_full_width(tmp_path, name):
    make = {"D": keras.applications.VGG16, "E": keras.applications.VGG19}[name]
    model = make(weights=None, classes=7, input_shape=(64, 64, 3), classifier_activation=None)
    photos = toy.photo(64, 1)
    for form in FORMS:
        classifier = read_foreign(saved(model, tmp_path / form), "bgr-255")
        with torch.no_grad():
            toy.close(classifier(photos), keras_logits(model, photos))
        (tmp_path / form).unlink()
