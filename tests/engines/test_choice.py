"""Which engine `auto` and `measure` mean, said once, and remembered where it can be."""

import json

import pytest
import torch
from test_scorers import toy

from verydeep.engines import choice, chosen
from verydeep.errors import ConfigError


@pytest.fixture(autouse=True)
def told(monkeypatch, tmp_path):
    lines = []
    monkeypatch.setattr(choice, "tell", lines.append)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lines


@pytest.fixture
def without(monkeypatch):
    def gone(*engines):
        monkeypatch.setattr(choice, "missing_for", lambda e: f"{e} is not installed" if e in engines else "")

    return gone


@pytest.mark.parametrize(
    ("missing", "precision", "device", "engine"),
    [
        ((), "fp32", "cpu", "openvino"),
        ((), "bf16", "cpu", "openvino"),
        (("openvino",), "fp32", "cpu", "onnxruntime"),
        (("openvino",), "bf16", "cpu", "torch"),
        (("openvino", "onnxruntime"), "fp32", "cpu", "torch"),
        ((), "fp32", "cuda", "torch"),
        ((), "fp64", "cpu", "torch"),
    ],
)
def test_auto_goes_by_what_is_there(without, told, missing, precision, device, engine):
    without(*missing)
    found = chosen("auto", device, precision)
    assert found[:2] == (engine, precision)
    lacks = "openvino" in missing and engine == "torch"
    assert ("pip install 'verydeep[fast]'" in found.line) == lacks
    assert told == [found.line]


def test_a_precision_that_is_left_open_is_the_fast_one_that_the_engine_has(monkeypatch, without, told):
    without()
    monkeypatch.setattr(choice, "multiplies_bf16", lambda device: True)
    assert chosen("auto", "cpu")[:2] == ("openvino", "bf16")
    assert chosen("auto", "cpu", photos=1) == ("torch", "bf16", "which starts first")
    assert chosen("onnxruntime", "cpu")[:2] == ("onnxruntime", "fp32")
    assert chosen("onnxruntime", "cpu", photos=1)[:2] == ("onnxruntime", "fp32")
    assert chosen("torch", "cpu", "fp32")[:2] == ("torch", "fp32")
    assert len(told) == 2  # a named engine is not told


def test_a_named_engine_that_is_not_there_is_an_error(without):
    without("openvino")
    with pytest.raises(ConfigError, match=r"openvino is not installed; pip install 'verydeep\[fast\]'"):
        chosen("openvino", "cpu", "fp32")


def test_what_lacks_is_found_by_importing(monkeypatch):
    def broken(name):
        if name == "onnx":
            raise TypeError("Descriptors cannot be created directly.")
        if name == "torch":
            return
        if name == "openvino":
            raise ImportError("libtbb.so.12: cannot open it\nand more")
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(choice, "import_module", broken)
    choice.missing_for.cache_clear()
    assert choice.missing_for("openvino") == "openvino cannot be loaded here: libtbb.so.12: cannot open it"
    assert choice.missing_for("onnxruntime") == "onnxruntime is not installed"
    assert choice.missing_for("torch") == "onnx cannot be loaded here: Descriptors cannot be created directly."
    choice.missing_for.cache_clear()


@pytest.fixture
def slow_engines(monkeypatch, without):
    """Engines of which the named ones take longer; and what was asked of them."""
    without()
    asked = []

    def made(net, engine="torch", *others, **more):
        def score(photos):
            asked.append(engine)
            sum(range({"torch": 200_000, "openvino": 400_000, "onnxruntime": 20}[engine]))
            return torch.zeros(1)

        return score

    monkeypatch.setattr(choice, "scorer_for", made)
    return asked


def test_measuring_is_remembered(slow_engines, tmp_path, told):
    net = toy()
    assert chosen("measure", "cpu", "fp32", [net]).engine == "onnxruntime"
    [kept] = (tmp_path / "cache/verydeep/engines").iterdir()
    assert json.loads(kept.read_text()) == {"engine": "onnxruntime"}
    n = len(slow_engines)
    assert chosen("measure", "cpu", "fp32", [net]).line == "engine: ONNX Runtime in fp32 (as measured before)"
    assert len(slow_engines) == n
    kept.write_text("{")
    assert "crops a second: PyTorch" in chosen("measure", "cpu", "fp32", [net]).why
    assert json.loads(kept.read_text()) == {"engine": "onnxruntime"}
    kept.write_text('{"engine": "abacus"}')
    assert chosen("measure", "cpu", "fp32", [net]).engine == "onnxruntime"
    assert chosen("measure", "cpu", "bf16", [net]).engine == "torch"  # ONNX Runtime has none
    assert chosen("measure", "cpu", "fp32", [toy("D")]).why.startswith("crops")  # another net


def test_a_cache_that_cannot_be_written_is_said(slow_engines, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = chosen("measure", "cpu", "fp32", [toy()])
    assert found.engine == "onnxruntime"
    assert "; not remembered, " in found.why
