"""Toy nets, and files of other toolkits written by encoders that share nothing with the readers."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.net.classifier import Classifier
from verydeep.net.vgg import VGG
from verydeep.weights.read import take

CROP, FC_WIDTH, BASE_WIDTH, CLASSES = 64, 16, 4, 5  # the last map is 2 x 2, so that its order matters
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red


def net(name: str = "D", batch_norm: bool = False, crop: int = CROP, seed: int = 0) -> VGG:
    made = VGG(name, classes=CLASSES, crop=crop, fc_width=FC_WIDTH, base_width=BASE_WIDTH, batch_norm=batch_norm)
    torch.manual_seed(seed)
    for parameter_name, t in made.state_dict().items():
        if t.is_floating_point():
            t.copy_(torch.rand(t.shape) + 0.5 if "running_var" in parameter_name else torch.randn(t.shape) * 0.2)
    return made.eval()


def drawn(contract: Contract) -> Classifier:
    """A Classifier of a contract, with random weights."""
    return Classifier(VGG(**vars(contract.shape)), contract).eval()


def tensors(made: VGG) -> dict[str, Tensor]:
    return {n: t for n, t in made.state_dict().items() if not n.endswith("tracked")}


def photo(crop: int = CROP, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, crop, crop), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def caffe_pixels(photos: Tensor) -> Tensor:
    """RGB photos as the paper's nets expect them: float64, colours turned by hand, the mean subtracted."""
    return photos.double()[:, [2, 1, 0]] - torch.tensor(CAFFE_MEAN, dtype=torch.float64).view(1, 3, 1, 1)


# Protocol buffers, by hand


def number(value: int) -> bytes:
    groups = []
    while True:
        groups.append(value % 128)
        value //= 128
        if not value:
            return bytes([g + 128 for g in groups[:-1]] + groups[-1:])


def field(index: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return number(index * 8) + number(value)
    data = value.encode() if isinstance(value, str) else value
    return number(index * 8 + 2) + number(len(data)) + data


def floats(t: Tensor, kind: str = "f") -> bytes:
    return t.detach().numpy().astype({"f": "<f4", "d": "<f8"}[kind]).tobytes()


def caffe_v2(weights: dict[str, Tensor], doubles: bool = False) -> bytes:
    out = field(1, "VGG_ILSVRC_16_layers") + field(100, field(1, "data") + field(2, "Input"))
    for name in dict.fromkeys(n.split(".")[0] for n in weights):
        blobs = b""
        for p in ("weight", "bias"):
            t = weights[f"{name}.{p}"]
            shape = field(7, field(1, b"".join(number(side) for side in t.shape)))
            blobs += field(7, shape + (field(8, floats(t, "d")) if doubles else field(5, floats(t))))
        says = field(1, name) + field(2, "Convolution") + field(3, "below") + field(4, name)
        out += field(100, says + blobs + field(10, 1))
    return out


def caffe_v1(weights: dict[str, Tensor]) -> bytes:
    out = field(1, "VGG_ILSVRC_16_layers") + field(3, "data")
    for name in dict.fromkeys(n.split(".")[0] for n in weights):
        blobs = b""
        for p in ("weight", "bias"):
            t = weights[f"{name}.{p}"]
            sides = (1,) * (4 - t.ndim) + tuple(t.shape)
            blobs += field(6, b"".join(field(i, side) for i, side in enumerate(sides, 1)) + field(5, floats(t)))
        out += field(2, field(2, "below") + field(3, name) + field(4, name) + field(5, 14) + blobs)
    return out


def onnx_model(found: dict[str, Tensor], raw: bool = True) -> bytes:
    graph = field(1, field(1, "input") + field(4, "Conv")) + field(2, "torch-jit-export")
    for name, t in found.items():
        dims = b"".join(field(1, side) for side in t.shape)
        graph += field(5, dims + field(2, 1) + field(8, name) + (field(9, floats(t)) if raw else field(4, floats(t))))
    graph += field(5, field(1, 1) + field(2, 7) + field(8, "shape_of_something") + field(9, struct.pack("<q", 3)))
    return field(1, 8) + field(2, "pytorch") + field(7, graph) + field(8, field(2, 13))


def onnx_beside(found: dict[str, Tensor], data: str, kind: str = "<f4", small: int = 0) -> tuple[bytes, bytes]:
    """A model and its external data, as PyTorch's newer exporter writes them; `small` tensors stay in the model."""
    graph, beside = b"", b""
    for name, t in found.items():
        packed = t.detach().numpy().astype(kind).tobytes()
        dims = b"".join(field(1, side) for side in t.shape)
        tensor = dims + field(2, {"<f4": 1, "<f2": 10, "<f8": 11}[kind]) + field(8, name)
        if t.numel() > small:
            tensor += place(location=data, offset=str(len(beside)), length=str(len(packed)))
            beside += packed
        else:
            tensor += field(9, packed)
        graph += field(5, tensor)
    return onnx_graph(graph), beside


def place(**said: str) -> bytes:
    return b"".join(field(13, field(1, key) + field(2, value)) for key, value in said.items()) + field(14, 1)


def onnx_graph(graph: bytes) -> bytes:
    return field(1, 10) + field(2, "pytorch") + field(7, field(2, "main_graph") + graph) + field(8, field(2, 20))


# The names of others, counted out by hand

TORCHVISION = {
    ("A", False): [0, 3, 6, 8, 11, 13, 16, 18],
    ("B", False): [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    ("D", False): [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    ("E", False): [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    ("A", True): [0, 4, 8, 11, 15, 18, 22, 25],
    ("B", True): [0, 3, 7, 10, 14, 17, 21, 24, 28, 31],
    ("D", True): [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40],
    ("E", True): [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49],
}


def torchvision_state(made: VGG, prefix: Callable[[str], str] = lambda name: name) -> dict[str, Tensor]:
    found, state = {}, made.state_dict()
    layers = [layer.name for block in made.blocks for layer in block]
    for n, layer in zip(TORCHVISION[made.name, made.batch_norm], layers, strict=True):
        found |= {f"features.{n}.{p}": state[f"{layer}.{p}"] for p in ("weight", "bias")}
        if made.batch_norm:
            norm = layer.replace("conv", "bn")
            found |= {f"features.{n + 1}.{k.split('.')[1]}": t for k, t in state.items() if k.startswith(f"{norm}.")}
    for n, fc in ((0, "fc6"), (3, "fc7"), (6, "fc8")):
        found |= {f"classifier.{n}.{p}": state[f"{fc}.{p}"] for p in ("weight", "bias")}
    return {prefix(name): t for name, t in found.items()}


def timm_state(made: VGG) -> dict[str, Tensor]:
    found = {n: t for n, t in torchvision_state(made).items() if n.startswith("features")}
    state, side = made.state_dict(), made.map
    found["pre_logits.fc1.weight"] = state["fc6.weight"].reshape(made.fc_width, -1, side, side)
    found["pre_logits.fc2.weight"] = state["fc7.weight"].reshape(made.fc_width, made.fc_width, 1, 1)
    found |= {"pre_logits.fc1.bias": state["fc6.bias"], "pre_logits.fc2.bias": state["fc7.bias"]}
    return found | {"head.fc.weight": state["fc8.weight"], "head.fc.bias": state["fc8.bias"]}


def zoo_state(made: VGG) -> dict[str, Tensor]:
    found, state = {}, made.state_dict()
    for i, layer in enumerate(layer.name for block in made.blocks for layer in block):
        found |= {f"vgg0_conv{i}_{p}": state[f"{layer}.{p}"] for p in ("weight", "bias")}
    return found | {f"vgg0_dense{i}_{p}": state[f"fc{6 + i}.{p}"] for i in range(3) for p in ("weight", "bias")}


def mat_variables(made: VGG, old: bool = False) -> dict[str, object]:
    """What vl_simplenn's nets hold, for scipy.io.savemat; FC layers are convolutions."""
    layers: list[object] = []
    for name in dict.fromkeys(n.split(".")[0] for n in made.state_dict()):
        weight, bias = (made.state_dict()[f"{name}.{p}"].numpy() for p in ("weight", "bias"))
        if name == "fc6":
            weight = weight.reshape(made.fc_width, -1, made.map, made.map)
        kernel = np.transpose(weight if weight.ndim == 4 else weight[:, :, None, None], (2, 3, 1, 0))
        cell = np.empty((1, 2), dtype=object)
        cell[0, 0], cell[0, 1] = np.asfortranarray(kernel), bias[None, :]
        weights = {"filters": cell[0, 0], "biases": bias[None]} if old else {"weights": cell}
        layers.append({"name": name, "type": "conv", **weights})
        layers.append({"name": f"relu{name}", "type": "relu"})
    layers.append({"name": "pool5", "type": "pool", "pad": np.array([[0.0, 1.0, 0.0, 1.0]]), "method": "max"})
    cells = np.empty((1, len(layers)), dtype=object)
    cells[0, :] = layers
    names = np.empty((1, made.classes), dtype=object)
    names[0, :] = ["tench, Tinca tinca", "goldfish", "great white shark", "tiger shark", "hammerhead"][: made.classes]
    mean = np.tile(np.array([123.68, 116.779, 103.939], dtype=np.float32), (CROP, CROP, 1))
    described = {
        "normalization": {"averageImage": mean, "imageSize": np.array([[64.0, 64.0, 3.0]])},
        "classes": {"description": names},
    }
    return {"layers": cells, **(described if old else {"meta": described})}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, t in wanted.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], t), name


def close(found: Tensor, expected: Tensor, most: float = 1e-4) -> None:
    """To rounding, relative to the largest value."""
    assert float((found.double() - expected.double()).abs().max()) <= most * float(expected.abs().max())


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by our names, as the door takes them."""
    return take(path)[0].tensors


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
