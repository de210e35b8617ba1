"""Keras' own files: nets built with its functional API on its torch backend, saved by it and loaded by it."""

import json
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
from verydeep.weights.inputs import ContractWarning, Input, input_of
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


K = keras.ops
# What people put before their net, each as (name, what it makes of a symbolic tensor)
STEPS: dict[str, Any] = {
    "/ 255": lambda x, _: x / 255.0, "/ 127.5 - 1": lambda x, _: x / 127.5 - 1.0,
    "* c": lambda x, r: x * few(r, 0.5, 2),
    "- c": lambda x, r: x - few(r, 0, 0.1), "+ c": lambda x, r: x + few(r, 0, 0.1), "c - x": lambda x, _: 1.0 - x,
    "flip": lambda x, _: K.stack([x[..., 2], x[..., 1], x[..., 0]], -1), "ops.flip": lambda x, _: K.flip(x, axis=-1),
    "-x": lambda x, _: -x,
    "cast": lambda x, _: K.cast(x, "float32"), "clip": lambda x, _: K.maximum(x, -1e9),
    "vgg": lambda x, _: keras.applications.vgg16.preprocess_input(x),
    "resnet_v2": lambda x, _: keras.applications.resnet_v2.preprocess_input(x),
    "densenet": lambda x, _: keras.applications.densenet.preprocess_input(x),
    "Rescaling": lambda x, r: keras.layers.Rescaling(few(r, 0.5, 1).tolist(), offset=-0.1)(x),
    "Normalization": lambda x, r: keras.layers.Normalization(mean=few(r, 0, 1), variance=few(r, 1, 2))(x),
    "random": lambda x, _: keras.layers.GaussianNoise(0.1)(keras.layers.RandomFlip()(x)),
    "nested": lambda x, _: keras.Sequential([keras.layers.Rescaling(0.5), keras.layers.Dropout(0.1)])(x),
}  # fmt: skip


def few(random: np.random.Generator, low: float, high: float) -> Any:
    return random.uniform(low, high, 3).astype(np.float32)


def behind(model: Any, steps: list[str], random: np.random.Generator) -> tuple[Any, Any]:
    """A net with steps before it, and the steps alone."""
    x = inputs = keras.Input((toy.CROP, toy.CROP, 3))
    for step in steps:
        x = STEPS[step](x, random)
    return keras.Model(inputs, model(x)), keras.Model(inputs, x)


CHANCE = np.random.default_rng(5)
CHAINS = [[step] for step in STEPS] + [list(CHANCE.choice(list(STEPS), n)) for n in (2, 3, 4, 5, 6) * 4]


@pytest.mark.parametrize("steps", CHAINS, ids=", ".join)
@pytest.mark.parametrize("form", ["x.keras", "x.h5"])
def test_the_operations_before_a_net_say_its_input(tmp_path, steps, form):
    """Whatever affine chain it is, the answers are Keras' own on raw pixels, unless no contract can have its mean."""
    inner = vgg()
    model, chain = behind(inner, steps, np.random.default_rng(len(steps)))
    path, photos = saved(model, tmp_path / form), toy.photo()
    pixels = np.zeros((2, toy.CROP, toy.CROP, 3), np.float32)
    pixels[1] = 255
    with torch.no_grad():
        black, white = (np.asarray(chain(pixels, training=False)[i, 0, 0].cpu(), dtype=np.float64) for i in (0, 1))
        raw = photos.permute(0, 2, 3, 1).float()
        expected = torch.as_tensor(model(raw, training=False)).detach().cpu()
        unchanged = torch.equal(torch.as_tensor(chain(raw, training=False)).cpu(), raw)
    slope = (white - black) / 255
    if np.abs(black / slope).max() > 255:
        with pytest.raises(ModelError, match=r"changes its input before its first convolution .*x\.\w+@NAME"):
            read_foreign(path)
        return
    if unchanged:  # so that nothing is told
        with pytest.warns(ContractWarning, match="does not say what input"):
            read_foreign(path)
        return
    classifier = read_foreign(path)  # without a word, as the file says all
    with torch.no_grad():
        toy.close(classifier(photos), expected)
    assert float((classifier.predict(photos) - expected.softmax(1)).abs().max()) < 1e-4


@pytest.mark.parametrize("form", ["x.keras", "x.h5"])
@pytest.mark.parametrize("step", ["Lambda", "x * x", "grey", "ZeroPadding2D", "BatchNormalization"])
def test_an_operation_that_no_mean_stands_for_is_refused_unless_the_user_says_it(tmp_path, form, step):
    def made(x: Any) -> Any:
        layers = {
            "ZeroPadding2D": lambda: keras.layers.ZeroPadding2D(0),
            "BatchNormalization": keras.layers.BatchNormalization,
        }
        if step == "Lambda":
            return keras.layers.Lambda(lambda t: t / 2)(x)
        return layers[step]()(x) if step in layers else x * x if step == "x * x" else (x + x[..., ::-1]) / 2

    inputs = keras.Input((toy.CROP, toy.CROP, 3))
    path = saved(keras.Model(inputs, vgg()(made(inputs))), tmp_path / form)
    with pytest.raises(ModelError, match=r"changes its input before its first convolution .*; say what .*@NAME"):
        read_foreign(path)
    assert read_features(path, "bgr-255").net == "D"


@pytest.mark.parametrize("form", ["x.keras", "x.h5"])
def test_a_normalization_that_was_adapted_to_photos(tmp_path, form):
    layer = keras.layers.Normalization()
    layer.adapt(toy.photo(16, 4).permute(0, 2, 3, 1).numpy())
    inputs = keras.Input((toy.CROP, toy.CROP, 3))
    model = keras.Model(inputs, vgg()(layer(inputs)))
    classifier = read_foreign(saved(model, tmp_path / form))
    with torch.no_grad():
        expected = torch.as_tensor(model(toy.photo().permute(0, 2, 3, 1).float())).detach().cpu()
        toy.close(classifier(toy.photo()), expected)


def test_what_the_user_says_is_kept_and_the_difference_is_told(tmp_path):
    path = saved(behind(vgg(), ["/ 255"], np.random.default_rng(0))[0], tmp_path / "x.keras")
    with pytest.warns(ContractWarning, match="as was said, but its own first layers make rgb-01"):
        assert read_foreign(path, "bgr-255").contract.std == (1, 1, 1)


def of_keras_2(operations: list[dict[str, Any]]) -> dict[str, Any]:
    """The configuration that TensorFlow's Keras 2 wrote of operations before a net."""
    inner = {"class_name": "InputLayer", "config": {"name": "input_1"}, "name": "input_1", "inbound_nodes": []}
    layers = [inner, *operations]
    last = {"class_name": "Conv2D", "config": {"name": "block1_conv1"}, "name": "block1_conv1"}
    return {
        "class_name": "Functional",
        "config": {"layers": [*layers, last | {"inbound_nodes": [[[operations[-1]["name"], 0, 0, {}]]]}]},
    }


def operation(name: str, function: str, node: list[Any], kind: str = "TFOpLambda") -> dict[str, Any]:
    config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": [node]}


MINUS = [-103.939, -116.779, -123.68]
REVERSED = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
FLIPPED = operation("a", "__operators__.getitem", ["input_1", 0, 0, {"slice_spec": REVERSED}], "SlicingOpLambda")
OF_KERAS_2 = {
    "preprocess_input": (
        [FLIPPED, operation("b", "nn.bias_add", ["a", 0, 0, {"bias": MINUS, "data_format": "channels_last"}])],
        "bgr-255",
    ),
    "x / 255": ([operation("a", "math.truediv", ["input_1", 0, 0, {"y": 255.0, "name": None}])], "rgb-01"),
    "1 - x / 255": (
        [
            operation("a", "math.truediv", ["input_1", 0, 0, {"y": 255.0, "name": None}]),
            operation("b", "math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["a", 0, 0], "name": None}]),
        ],
        Input("RGB", (255.0,) * 3, (-255.0,) * 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_KERAS_2)
def test_the_operations_of_keras_2(tmp_path, name):
    operations, expected = OF_KERAS_2[name]
    path = saved(vgg(), tmp_path / "x.h5")
    with h5py.File(path, "r+") as f:
        f.attrs["model_config"] = json.dumps(of_keras_2(operations))
    found, wanted = ours.read(path).expects, input_of(expected)
    assert found is not None
    assert (found.order, found.mean, found.std) == (wanted.order, pytest.approx(wanted.mean), pytest.approx(wanted.std))


@pytest.mark.parametrize("form", ["x.keras", "x.h5"])
def test_a_net_of_keras_with_one_sigmoid(tmp_path, form):
    """Two classes, whose posteriors are sigmoid(z) and what remains."""
    below = vgg(top=False)
    x = keras.layers.Flatten()(below.output)
    for width, activation in ((8, "relu"), (8, "relu"), (1, "sigmoid")):
        x = keras.layers.Dense(width, activation)(x)
    model = keras.Model(below.input, x)
    model.set_weights([w * 0.3 for w in model.get_weights()])
    path = saved(model, tmp_path / form)
    with pytest.warns(ContractWarning, match="its one output is a sigmoid's"):
        found = read_foreign(path, "bgr-255", classes=["cat"])
    assert found.contract.classes == ("not cat", "cat")
    expected = keras_logits(model, toy.photo())
    assert float((found.predict(toy.photo())[:, 1:] - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("form", ["x.keras", "x.h5"])
def test_activations_that_no_vgg_has(tmp_path, form):
    below = vgg(top=False)
    x = keras.layers.Flatten()(below.output)
    for name, width, activation in (("fc1", 8, "relu"), ("fc2", 8, "tanh"), ("predictions", 3, "sigmoid")):
        x = keras.layers.Dense(width, activation, name=name)(x)
    path = saved(keras.Model(below.input, x), tmp_path / form)
    with pytest.raises(ModelError, match=r"other layers than a VGG .activation tanh, activation sigmoid"):
        read_foreign(path, "bgr-255")


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


def test_a_second_head_is_never_taken_for_the_first(tmp_path):
    with h5py.File(path := saved(vgg(), tmp_path / "x.h5"), "a") as file:
        for n in range(3):
            file[f"model_weights/dense_{n}/dense_{n}/kernel:0"] = np.ones((4, 4), "f4")
    with pytest.raises(ModelError, match=r"other layers than a VGG .dense_0"):
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
