"""Rescaling inside exported files is Pillow's, to the bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from verydeep.data import photo
from verydeep.export.checking import made_up
from verydeep.export.rescale import rescaled, rounded

sides = st.integers(1, 300)


@settings(max_examples=150, deadline=None)
@given(height=sides, width=sides, scale=st.sampled_from([32, 36, 64, 96]), noise=st.booleans(), seed=st.integers(0, 9))
def test_torch_rescales_as_pillow(height, width, scale, noise, seed):
    if max(height, width) > 12 * min(height, width):
        return
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8) if noise else made_up(height, width, seed)
    wanted = photo.rescale(Image.fromarray(pixels), scale)
    found = rescaled(torch.from_numpy(pixels.copy())[None].permute(0, 3, 1, 2).float(), scale)
    assert np.array_equal(found[0].permute(1, 2, 0).numpy(), wanted)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_fractions_are_rounded_as_python_does(product, divisor):
    assert rounded(product, divisor) == round(product / divisor)


@pytest.mark.parametrize(("height", "width"), [(50, 41), (97, 200), (36, 36), (9, 31), (400, 300), (1200, 907)])
def test_a_graph_rescales_as_pillow(height, width, rescaler):
    pixels = made_up(height, width, 1)
    wanted = photo.rescale(Image.fromarray(pixels), 36).astype(np.float32)
    for name, run in rescaler.items():
        assert np.array_equal(run(pixels[None])[0][0].transpose(1, 2, 0), wanted), name


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides, seed=st.integers(0, 9))
def test_graphs_rescale_as_pillow_at_any_size(height, width, seed, rescaler):
    if max(height, width) > 12 * min(height, width):
        return
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    wanted = photo.rescale(Image.fromarray(pixels), 36).astype(np.float32)
    for name, run in rescaler.items():
        assert np.array_equal(run(pixels[None])[0][0].transpose(1, 2, 0), wanted), name


@pytest.fixture(scope="module")
def rescaler():
    from onnx import helper

    from verydeep.engines import run_file
    from verydeep.export.rescale import rescaling

    nodes = [helper.make_node("Cast", ["photos"], ["floats"], to=1)]
    nodes += [helper.make_node("Transpose", ["floats"], ["colours_first"], perm=[0, 3, 1, 2])]
    nodes += [helper.make_node(n.kind, list(n.inputs), [n.name], name=n.name, **n.attributes) for n in rescaling(36)]
    given = [helper.make_tensor_value_info("photos", 2, ["n", "h", "w", 3])]
    graph = helper.make_graph(nodes, "rescale", given, [helper.make_tensor_value_info(nodes[-1].output[0], 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    return {engine: run_file(model, engine) for engine in ("onnxruntime", "openvino")}
