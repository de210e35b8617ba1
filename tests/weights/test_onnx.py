"""ONNX, from an encoder written here by hand, in the names of three exporters."""

import struct
import warnings

import pytest
import torch
import toy

from verydeep.errors import ModelError
from verydeep.weights.inputs import ContractWarning, input_of
from verydeep.weights.model import load
from verydeep.weights.read import read_features, read_foreign
from verydeep.weights.recognise import recognise


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", ["D", "E"])
@pytest.mark.parametrize("names", ["zoo", "torch"])
def test_the_names_of_the_zoo_and_of_torch(tmp_path, name, names, raw):
    made = toy.net(name)
    state = toy.zoo_state(made) if names == "zoo" else toy.torchvision_state(made)
    path = toy.put(tmp_path / "x", toy.onnx_model(state, raw))
    assert (recognise(path), recognise(path).usual) == (("onnx", names), "rgb-01-std")
    toy.same(toy.read(path), toy.tensors(made))


def keras_state(made: torch.nn.Module, bias: str = "Squeeze:0") -> dict[str, torch.Tensor]:
    """As tf2onnx writes a Keras net: kernels channels first, FC weights in x out on inputs of channels last."""
    found = {}
    for n, t in made.state_dict().items():
        layer, p = n.split(".")
        if layer.startswith("conv"):
            end = "convolution/ReadVariableOp:0" if p == "weight" else bias
            found[f"functional_1/block{layer[4]}_conv{layer[6]}_1/{end}"] = t
            continue
        label = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}[layer]
        if n == "fc6.weight":
            t = t.reshape(toy.FC_WIDTH, -1, 2, 2).permute(0, 2, 3, 1).flatten(1)
        end = "MatMul" if p == "weight" else "BiasAdd"
        found[f"functional_1/{label}_1/{end}/ReadVariableOp:0"] = t.T.contiguous() if t.ndim == 2 else t
    return found


@pytest.mark.parametrize("bias", ["Squeeze:0", "BiasAdd/ReadVariableOp:0"])
def test_the_names_of_keras(tmp_path, bias):
    made = toy.net("D")
    path = toy.put(tmp_path / "x", toy.onnx_model(keras_state(made, bias)))
    assert (recognise(path), recognise(path).usual) == (("onnx", "keras"), "bgr-255")
    toy.same(toy.read(path), toy.tensors(made))


def test_another_head_is_told_and_never_replaced(tmp_path):
    head = "functional_1/dense_1/MatMul/ReadVariableOp:0"
    state = {n: t for n, t in keras_state(toy.net("D")).items() if "conv" in n} | {head: torch.ones(512, 4)}
    path = toy.put(tmp_path / "x", toy.onnx_model(state))
    with pytest.raises(ModelError, match="no fc6, fc7 and fc8 but functional_1/dense_1"):
        read_foreign(path, "bgr-255")
    assert read_features(path, "bgr-255").left == (head,)


def test_an_extra_layer_is_not_left_out_silently(tmp_path):
    state = toy.torchvision_state(toy.net("D")) | {"attention.weight": torch.ones(3)}
    with pytest.raises(ModelError, match="attention"):
        read_foreign(toy.put(tmp_path / "x", toy.onnx_model(state)), "rgb-01-std")


@pytest.mark.parametrize("kept", [0.5, 0.99, 60])
def test_a_model_that_is_cut_off_is_called_an_onnx_model(tmp_path, kept):
    data = toy.onnx_model(toy.torchvision_state(toy.net("A")))
    path = toy.put(tmp_path / "x.onnx", data[: int(kept if kept > 1 else kept * len(data))])
    with pytest.raises(ModelError, match=r"as an ONNX model \(a field is longer than what holds it\); it is damaged"):
        load(path)


# A graph before and after the net: nodes by hand, as exporters write them


def node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(toy.field(1, name) for name in inputs) + toy.field(2, output) + toy.field(4, kind)
    return toy.field(1, named + b"".join(toy.field(5, one) for one in attributes))


def small(values: list[float], *sides: int, name: str = "") -> bytes:
    dims = b"".join(toy.field(1, side) for side in sides)
    return dims + toy.field(2, 1) + toy.field(8, name) + toy.field(9, toy.floats(torch.tensor(values)))


def whole_numbers(values: list[int]) -> bytes:
    return toy.field(1, len(values)) + toy.field(2, 7) + toy.field(9, struct.pack(f"<{len(values)}q", *values))


def constant(tensor: bytes, output: str) -> bytes:
    return node("Constant", [], output, toy.field(1, "value") + toy.field(5, tensor))


def model_of(nodes: bytes, *extra: bytes, last: bool = False, prefix: str = "", after: bytes = b"") -> bytes:
    sides = (1, 64, 64, 3) if last else (1, 3, 64, 64)
    shape = toy.field(2, b"".join(toy.field(1, toy.field(1, side)) for side in sides))
    graph = toy.field(11, toy.field(1, "photo") + toy.field(2, toy.field(1, toy.field(1, 1) + shape))) + nodes
    graph += node("Conv", ["x", "w"], "y") + node("Relu", ["y"], "z") + after
    for name, t in toy.torchvision_state(toy.net("D"), lambda n: prefix + n).items():
        dims = b"".join(toy.field(1, side) for side in t.shape)
        graph += toy.field(5, dims + toy.field(2, 1) + toy.field(8, name) + toy.field(9, toy.floats(t)))
    return toy.onnx_graph(graph + b"".join(toy.field(5, one) for one in extra))


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TORCHS = [small(MEAN, 1, 3, 1, 1, name="mean"), small(STD, 1, 3, 1, 1, name="std")]
DIVIDED = constant(small([255.0], name=""), "k") + node("Div", ["photo", "k"], "a")
PERM = toy.field(1, "perm") + b"".join(toy.field(8, i) for i in (0, 3, 1, 2))
AXIS_1 = toy.field(1, "axis") + toy.field(3, 1)
BGR_MEAN = [103.939, 116.779, 123.68]
BEFORE = {
    "(x / 255 - mean) / std": (
        DIVIDED + node("Sub", ["a", "mean"], "b") + node("Div", ["b", "std"], "x"), TORCHS, False, "rgb-01-std",
    ),
    "x / 255, channels last": (
        node("Cast", ["photo"], "f") + node("Transpose", ["f"], "t", PERM)
        + constant(small([1 / 255.0]), "k") + node("Mul", ["t", "k"], "x"), [], True, "rgb-01",
    ),
    "x[:, [2, 1, 0]] - mean": (
        constant(whole_numbers([2, 1, 0]), "i") + node("Gather", ["photo", "i"], "g", AXIS_1)
        + constant(small(BGR_MEAN, 1, 3, 1, 1), "m") + node("Sub", ["g", "m"], "x"), [], False, "bgr-255",
    ),
    "x[:, ::-1] - mean": (
        b"".join(constant(whole_numbers([v]), n) for n, v in {"s": -1, "e": -(1 << 62), "d": 1, "t": -1}.items())
        + node("Slice", ["photo", "s", "e", "d", "t"], "g")
        + constant(small(BGR_MEAN, 3, 1, 1), "m") + node("Sub", ["g", "m"], "x"), [], False, "bgr-255",
    ),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "net.model."])
@pytest.mark.parametrize("chain", BEFORE)
def test_what_a_graph_does_before_its_first_convolution(tmp_path, chain, prefix):
    """The file says all, so nothing is assumed, and a soft-max behind changes nothing."""
    nodes, extra, last, expected = BEFORE[chain]
    path = toy.put(tmp_path / "x", model_of(nodes, *extra, last=last, prefix=prefix, after=node("Softmax", ["z"], "p")))
    with warnings.catch_warnings(action="ignore" if prefix else "error", category=ContractWarning):
        found = read_foreign(path)
    mean, std = input_of(expected).rgb()
    assert found.contract.mean == pytest.approx(mean, rel=1e-5)
    assert found.contract.std == pytest.approx(std, rel=1e-5)
    weight = toy.net("D").conv1_1.weight
    assert torch.equal(found.net.conv1_1.weight, weight.flip(1) if expected[:3] == "bgr" else weight)


def test_a_graph_that_is_no_mean_or_no_vgg_is_refused(tmp_path):
    path = toy.put(tmp_path / "x", model_of(node("LpNormalization", ["photo"], "x")))
    with pytest.raises(ModelError, match=r"before its first convolution .*lpnormalization.*; say what .*x@NAME"):
        read_foreign(path)
    assert read_foreign(path, "rgb-01").contract.net == "D"
    for kind in ("Sigmoid", "LeakyRelu", "LRN", "GlobalAveragePool"):
        toy.put(path, model_of(node("Identity", ["photo"], "x"), after=node(kind, ["z"], "p")))
        with pytest.raises(ModelError, match=f"other layers than a VGG .node {kind}"):
            read_foreign(path, "rgb-01")


@pytest.mark.parametrize("kernel", [1, 2])
def test_an_average_of_several_cells_is_no_maximum(tmp_path, kernel):
    """Exporters make one of one cell of torchvision's avgpool."""
    shape = toy.field(1, "kernel_shape") + b"".join(toy.field(8, kernel) for _ in "hw") + toy.field(20, 7)
    after = node("AveragePool", ["z"], "p", shape)
    path = toy.put(tmp_path / "x", model_of(node("Identity", ["photo"], "x"), after=after))
    if kernel == 1:
        assert read_foreign(path, "rgb-01").contract.net == "D"
    else:
        with pytest.raises(ModelError, match=r"other layers than a VGG .node AveragePool"):
            read_foreign(path, "rgb-01")


def test_two_graphs_are_refused(tmp_path):
    """Other readers would merge them, or take the last."""
    made = toy.onnx_model(toy.torchvision_state(toy.net("A")))
    with pytest.raises(ModelError, match=r"as an ONNX model.*damaged"):
        toy.read(toy.put(tmp_path / "x.onnx", made + made))
