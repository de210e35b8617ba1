"""ONNX, from an encoder written here by hand, in the names of three exporters."""

import pytest
import torch
import toy

from verydeep.errors import ModelError
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
