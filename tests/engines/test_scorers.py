"""Engines against torch in float64: every net of Table 1, crops and whole photos, odd sides, layers inside."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from verydeep.contract import Contract
from verydeep.engines import scorer_for, scorers
from verydeep.errors import ConfigError, ModelError
from verydeep.net.classifier import build
from verydeep.paper import TABLE_1
from verydeep.shape import Shape

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
ENGINES = ("openvino", "onnxruntime")


def toy(net="A", seed=0, **more):
    torch.manual_seed(seed)
    shape = Shape(net, 5, 32, **{"base_width": 8, "fc_width": 24} | more)
    made = build(
        Contract.of(shape, tuple("abcde"), mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0), scales=(36, 36))
    )
    for name, p in made.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            p.normal_(0, 0.1)
        elif name.endswith("running_var"):
            p.uniform_(0.5, 2)
    return made.eval()


def photos(*sizes, seed=1):
    random = np.random.default_rng(seed)
    for n, height, width in sizes:
        yield torch.from_numpy(random.integers(0, 256, (n, height, width, 3), dtype=np.uint8)).permute(0, 3, 1, 2)


def close(a, b):
    assert a.shape == b.shape
    assert a.dtype == torch.float32
    assert (a.double() - b).abs().max() <= 2e-5 * b.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("net", "more"),
    [*((net, {}) for net in TABLE_1), ("A", {"batch_norm": True}), ("D", {"pooling": "down"})],
    ids=str,
)
def test_an_engine_answers_as_float64(net, more, engine):
    model = toy(net, **more)
    score, exact = scorer_for(model, engine), scorer_for(model, precision="fp64")
    for x in photos((3, 32, 32), (1, 32, 32), (2, 36, 51), (1, 75, 33), (1, 64, 97), (2, 36, 51)):
        close(score(x), exact(x))


@pytest.mark.parametrize("engine", ENGINES)
def test_pooling_can_be_another(engine):
    model = toy()
    for way in ("up", "down"):
        score, exact = (scorer_for(model, e, p, pooling=way) for e, p in ((engine, "fp32"), ("torch", "fp64")))
        [x] = photos((1, 61, 75))
        close(score(x), exact(x))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("each", [lambda x: x.flatten(1), lambda x: x.mean((2, 3)) if x.ndim > 2 else x])
def test_layers_inside_are_those_of_torch(engine, each):
    model, taps = toy("A-LRN", batch_norm=True), ("conv1_1", "bn2_1", "norm1_1", "relu3_2", "pool4", "fc6", "relu7")
    score, exact = (scorer_for(model, e, p, taps=taps, each=each) for e, p in ((engine, "fp32"), ("torch", "fp64")))
    for x in photos((2, 32, 32), (1, 40, 67)):
        close(score(x), exact(x))


@pytest.mark.parametrize("engine", ENGINES)
def test_convolutions_alone_have_their_maps(engine):
    model = toy()
    exact = scorer_for(model, precision="fp64", taps=["pool5"])
    [x] = photos((1, 40, 67))
    wanted = exact(x)
    model.net.fc6 = model.net.fc7 = model.net.fc8 = None
    close(scorer_for(model, engine, taps=["pool5"])(x), wanted)


def test_what_an_engine_does_not_compute_is_said():
    for engine, precision, device in (
        ("openvino", "fp32", "cuda"),
        ("openvino", "fp64", "cpu"),
        ("onnxruntime", "bf16", "cpu"),
    ):
        with pytest.raises(ConfigError, match=f"{engine} computes no {precision} on {device}"):
            scorer_for(toy(), engine, precision, device)


def test_weights_that_are_no_numbers_are_not_hidden():
    for name in ("conv3_1.bias", "bn3_1.running_mean"):
        model = toy(batch_norm=True)
        model.net.state_dict()[name][0] = float("nan")
        for engine in ENGINES:
            with pytest.raises(ModelError, match="some weights are no finite numbers"):
                scorer_for(model, engine)


def test_threads_of_openvino_are_torchs_and_tied_to_no_core(monkeypatch):
    asked, core = [], scorers.openvino_core()
    compiled = lambda *given: asked.append(core.compile_model(*given)) or asked[-1]  # noqa: E731
    other = SimpleNamespace(read_model=core.read_model, compile_model=compiled)
    monkeypatch.setattr(scorers, "openvino_core", lambda: other)
    [x] = photos((1, 32, 32))
    scorer_for(toy(), "openvino")(x)
    assert asked[0].get_property("ENABLE_CPU_PINNING") is False
    assert asked[0].get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads()


def test_telemetry_is_off_before_it_begins(tmp_path):
    script = "from verydeep.engines import missing_for; missing_for('onnxruntime'); import onnxruntime"
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 0
    assert not list(tmp_path.rglob("*"))


def test_signals_arrive_after_nets_have_come_and_gone():
    """Of several cores of OpenVINO the last to go leaves a stack for signals that is freed."""
    script = """
import gc, os, signal
import torch
from test_scorers import toy
from verydeep.engines import scorer_for, scorers
held = [scorer_for(toy(seed=i), "openvino") for i in range(3)]
x = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
[score(x) for score in held]
for i in (0, 1, 0):
    del held[min(i, len(held) - 1)]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *a: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
