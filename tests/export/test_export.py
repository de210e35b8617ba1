"""Exported files answer as the model in every format, say what they are, and are not left behind when they do not."""

import json
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.errors import ConfigError, ModelError, RunError
from verydeep.export import export, export_model, export_text
from verydeep.export.checking import made_up
from verydeep.export.export import placed
from verydeep.export.formats import FORMATS, Exported, running
from verydeep.export.int8 import fc_weights, in_int8, with_floats, with_weights
from verydeep.net.classifier import build
from verydeep.shape import Shape
from verydeep.weights import load, verify_model

NAMES = ("a 'cat'", 'the "dog"', "鸟", "a,b\nc", "é<&>")
CASES = {
    "A": {}, "A-LRN": {}, "B-BN": {"batch_norm": True}, "C": {}, "D-down": {"pooling": "down"}, "E": {},
    "A-64": {"crop": 64},
}  # fmt: skip


def model_of(case, path, **more):
    torch.manual_seed(5)
    fields = {"crop": 32, "base_width": 8, "fc_width": 24} | CASES[case]
    shape = Shape(case if case == "A-LRN" else case.split("-")[0], len(NAMES), **fields)
    contract = Contract.of(shape, NAMES, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0), scales=(40, 72),
                           origin="a test", licence="MIT; 照片")  # fmt: skip
    net = build(replace(contract, scales=(72, 72)) if fields["crop"] == 64 else contract)
    with torch.no_grad():
        for name, p in net.state_dict().items():
            if "running_var" in name:
                p.uniform_(0.5, 2)
            elif name.endswith(("bias", "running_mean")):
                p.normal_(0, 0.1)
        net.net.fc8.weight *= 4
    net.save(path)
    return str(path)


def exact(model, pixels, dense):
    """Posteriors of one photo of any size in float64, by Pillow and the net."""
    net = load(model).double()
    c, image = net.contract, Image.fromarray(pixels)
    seen = photo.rescale(image, c.test_scale) if dense else photo.centre_crop(image, c.test_scale, c.crop)
    with torch.no_grad():
        return seen, net(torch.from_numpy(seen.copy())[None].permute(0, 3, 1, 2)).softmax(1)[0].numpy()


@pytest.mark.parametrize("dense", [False, True], ids=["crop", "dense"])
@pytest.mark.parametrize(
    ("to", "case"),
    [*product(("onnx", "openvino"), ("A-LRN", "B-BN", "D-down")),
     *(pytest.param("pt2", case, marks=pytest.mark.slow) for case in ("A-LRN", "B-BN", "D-down"))],
)  # fmt: skip
def test_a_file_answers_as_the_model(case, to, dense, tmp_path):
    model = model_of(case, tmp_path / "net.safetensors")
    out = tmp_path / f"it{FORMATS[to].suffix}"
    record = export_model(model, to, out, dense=dense)
    assert max(record["differences"].values()) <= (1e-3 if dense else 1e-4)
    run = running(out, to)
    for i, (height, width) in enumerate([(90, 90), (60, 85), (47, 140), (130, 51), (17, 12)]):
        pixels = made_up(height, width, 100 + i)
        seen, wanted = exact(model, pixels, dense)
        given = np.stack([pixels if dense else seen] * 3)
        found = run(given)
        assert found.shape == (3, len(NAMES))
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() <= 2e-6
        assert np.abs(run(given[:1]) - found[0]).max() < 1e-6
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("net")) == sorted(
        {out.name, "it.bin"} if to == "openvino" else {out.name}
    )
    assert export_text(record).startswith(f"{out}: ")


@pytest.mark.parametrize("case", CASES)
def test_an_onnx_file_is_the_model_again(case, tmp_path):
    model = model_of(case, tmp_path / "net.safetensors")
    export_model(model, "onnx", tmp_path / "it.onnx", dense=case == "C")
    again, first = load(tmp_path / "it.onnx"), load(model)
    assert again.contract == first.contract
    for name, tensor in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("to", FORMATS)
def test_labels_contract_and_licence_are_inside(to, tmp_path):
    from verydeep.weights.exported import told_in

    model = model_of("A", tmp_path / "net.safetensors")
    out = tmp_path / f"it{FORMATS[to].suffix}"
    export_model(model, to, out)
    form, told = told_in(out)
    assert form == to
    assert json.loads(told["labels"]) == list(NAMES)
    assert told["licence"] == "MIT; 照片"
    assert json.loads(told["verydeep"])["sha256"] == load(model).contract.sha256
    assert set(json.loads(told["differences"])) == {"square", "4:3", "3:1", "1:3", "tiny"}
    if to != "onnx":
        with pytest.raises(ModelError, match=r"is net A of 5 classes, exported by verydeep .*; give the model that"):
            load(out)


def test_a_damaged_export_is_not_read(tmp_path):
    model = model_of("A", tmp_path / "net.safetensors")
    export_model(model, "onnx", tmp_path / "it.onnx")
    data = (tmp_path / "it.onnx").read_bytes()
    at = data.index(load(model).net.conv3_1.weight.detach().numpy().tobytes()[:64])
    (tmp_path / "flipped.onnx").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for read in (load, verify_model):
        with pytest.raises(ModelError, match="do not match their SHA-256"):
            read(str(tmp_path / "flipped.onnx"))
    assert {r["check"]: r["ok"] for r in verify_model(str(tmp_path / "it.onnx"))["checks"]}["whole"] is True
    for mark in ("@bgr-255", "#ema"):
        with pytest.raises(ConfigError, match=f"carries its contract, which says what it expects; leave {mark} out"):
            load(f"{tmp_path / 'it.onnx'}{mark}")
    with pytest.raises(ConfigError, match=r"it\.onnx, which would be overwritten; give another name"):
        export_model(str(tmp_path / "it.onnx"), "onnx", tmp_path / "it.onnx")
    assert (tmp_path / "it.onnx").read_bytes() == data
    (tmp_path / "other.onnx").write_bytes(data.replace(b'"A"', b'"B"', 1))
    with pytest.raises(ModelError, match="its contract does not match its SHA-256"):
        load(tmp_path / "other.onnx")
    for n in range(0, len(data), 9_973):
        (tmp_path / "cut.onnx").write_bytes(data[:n])
        with pytest.raises(ModelError):
            load(tmp_path / "cut.onnx")


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("failure", [ModelError, KeyboardInterrupt, OSError])
def test_what_was_there_stays_when_an_export_fails(to, failure, tmp_path, monkeypatch):
    model = model_of("A", tmp_path / "net.safetensors")
    out = tmp_path / f"it{FORMATS[to].suffix}"
    export_model(model, to, out)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def other(*given):
        if failure is ModelError:
            return {"square": 1e-7, "tiny": float("nan")}
        raise failure(28, "No space left on device") if failure is OSError else failure

    monkeypatch.setattr(export, "differences", other)
    expected = RunError if failure is OSError else failure
    said = {ModelError: "answers otherwise", OSError: "No space left"}.get(failure)
    with pytest.raises(expected, match=said):
        export_model(model, to, out)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_cannot_be_made_is_said_before_any_work(tmp_path, monkeypatch):
    model, out = model_of("A", tmp_path / "net.safetensors"), tmp_path / "it.onnx"
    (tmp_path / "w.bin").write_text("precious")
    (tmp_path / "folder.onnx").mkdir()
    for more, said in (
        ({"to": "pt2", "int8": "fc", "out": None}, "a pt2 program computes in floats"),
        ({"int8": "all"}, "give --calibrate DATA"),
        ({"keep": ["fc8"], "int8": "fc"}, "kept in floats with --int8 all"),
        ({"keep": ["conv9_1"], "int8": "all", "calibrate": "x"}, "'conv9_1' is no layer with weights"),
        ({"keep": ["relu1_1"], "int8": "all", "calibrate": "x"}, "'relu1_1' is no layer with weights"),
        ({"to": "openvino", "out": tmp_path / "w.xml"}, r"w\.bin is there, and the numbers would replace it"),
        ({"out": tmp_path / "folder.onnx"}, "is a folder"),
        ({"out": tmp_path / "it.bin"}, r"it\.bin does not end as a file for onnx does; try it\.onnx"),
    ):
        with pytest.raises(ConfigError, match=said):
            export_model(model, **{"to": "onnx", "out": out} | more)
    with pytest.raises(RunError, match=r"nowhere/it\.onnx cannot be written"):
        export_model(model, "onnx", tmp_path / "nowhere/it.onnx")
    monkeypatch.setattr(export, "missing_for", lambda engine: f"{engine} is not installed")
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed; pip install 'verydeep\[fast\]'"):
        export_model(model, "onnx", out)
    torch.manual_seed(0)
    boxes = load(model)
    boxes.contract = replace(boxes.contract, task="SCR")
    boxes.net.replace_last(4)
    boxes.save(tmp_path / "boxes.safetensors")
    with pytest.raises(ModelError, match="says where things are"):
        export_model(str(tmp_path / "boxes.safetensors"), "onnx", out)
    assert not out.exists()


def test_fc_weights_are_int8_with_a_step_for_each_output(tmp_path):
    from onnx.numpy_helper import to_array

    model = load(model_of("A", tmp_path / "net.safetensors"))
    for scale in (None, 40):
        graph = fc_weights(Exported(model, scale).graph())
        there = {t.name: to_array(t) for t in graph.graph.initializer}
        for layer in ("fc6", "fc7", "fc8"):
            weights = getattr(model.net, layer).weight.detach().numpy()
            small, step = there[f"{layer}.weight.int8"], there[f"{layer}.weight.step"]
            assert small.dtype == np.int8
            back = small.reshape(len(small), -1) * step[:, None]
            assert np.abs(back - weights).max(1) == pytest.approx(step / 2, rel=1, abs=1e-7)
            assert (np.abs(back - weights) <= step[:, None] * 0.5001).all()
            assert f"{layer}.weight" not in there


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """A net that knows something, and photos of its classes."""
    folder = tmp_path_factory.mktemp("fashion")
    return "builtin:fashion-a", "builtin:fashion-mini", folder


def test_int8_beside_fp32_on_photos(fashion):
    model, data, folder = fashion
    record = export_model(model, "onnx", folder / "it.onnx", int8="all", calibrate=data, max_drop=2)
    judged = {way["way"]: way for way in record["judged"]["ways"]}
    assert record["judged"]["photos"] == 1000
    assert judged["fp32"] == {"way": "fp32", "errors": 94, "same": 1000}
    assert judged["the file"]["same"] > 950
    assert abs(judged["the file"]["errors"] - 94) <= 20
    assert (folder / "it.onnx").stat().st_size < 1.1e6 < 3.6e6 < load(model).contract.crop * 1e6
    text = export_text(record)  # bf16 stands between them where the machine multiplies it
    assert "fp32 9.40 % (100.0 % answers of fp32), " in text
    assert " % answers of fp32), the file " in text
    with pytest.raises(ModelError, match="in int8; give the model that it was exported from"):
        load(folder / "it.onnx")


def test_int8_that_errs_too_often_is_refused_with_layers_to_keep(fashion, monkeypatch):
    from verydeep.export import own

    model, data, folder = fashion
    monkeypatch.setattr(own, "JUDGED_ON", 200)
    monkeypatch.setattr(own, "CALIBRATED_ON", 8)
    monkeypatch.setattr(export, "drop_of", lambda judged: 3.25)
    said = (
        r"int8 errs on 3\.25 points more than fp32, and max_drop is 0\.5; errors on 200 photos .*; layers that alone "
    )
    with pytest.raises(ModelError, match=said + r"change most answers: .* try --keep \S+,\S+,\S+, or --int8 fc"):
        export_model(model, "onnx", folder / "no.onnx", int8="all", calibrate=data)
    assert not (folder / "no.onnx").exists()


@pytest.mark.parametrize("scale", [None, 36])
def test_layers_that_are_kept_compute_in_floats(scale, tmp_path):
    from verydeep.engines import run_file

    exported = Exported(load("builtin:fashion-a"), scale)
    floats = exported.graph()
    seen = [made_up(36 if scale else 32, 44 if scale else 32, i)[None] for i in range(6)]
    whole, layers = in_int8(exported.graph(), seen), with_weights(floats)
    assert layers[0] == "conv1_1"
    assert layers[-1] == "fc8"
    answers = {}
    for name, kept in {"none": [], "some": ["conv1_1", "conv4_2", "fc6"], "all": layers}.items():
        graph = with_floats(whole, floats, kept)
        answers[name] = np.concatenate([run_file(graph.SerializeToString(), "onnxruntime")(x)[0] for x in seen])
    wanted = np.concatenate([run_file(floats.SerializeToString(), "onnxruntime")(x)[0] for x in seen])
    far = {name: np.abs(x - wanted).max() for name, x in answers.items()}
    assert far["all"] < 1e-6 < 1e-4 < far["some"]
    assert far["none"] != far["some"]


def test_files_are_named_by_their_models(tmp_path):
    (tmp_path / "v1.2").mkdir()
    names = {
        (str(tmp_path / "v1.2"), False, None): "v1.2.onnx", ("nets/a.safetensors", True, "fc"): "a-dense-int8-fc.onnx",
        ("builtin:fashion-a", False, "all"): "builtin-fashion-a-int8-all.onnx",
        ("torchvision-vgg16.imagenet1k_v1", False, None): "torchvision-vgg16.imagenet1k_v1.onnx",
    }  # fmt: skip
    for (model, dense, int8), name in names.items():
        assert export.file_for(model, "onnx", None, dense, int8).name == name


def test_hostile_archives_are_no_exports(tmp_path):
    from verydeep.weights.exported import told_in

    for i, kind in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(path := tmp_path / f"{i}.pt2", "w", kind) as archive:
            for name in ("verydeep", "verydeep_sha256", "labels", "licence", "int8", "differences"):
                archive.writestr(f"x/extra/{name}", "{}" * (1 if i == 0 else 8_000_000))
        data = bytearray(path.read_bytes())
        assert told_in(path)[0] == ("pt2" if i == 0 else "")  # too large together
        for at in range(6, len(data), max(1, len(data) // 97)):
            broken = bytes(data[:at]) + bytes([data[at] ^ 0xFF]) + bytes(data[at + 1 :])
            (tmp_path / "broken.pt2").write_bytes(broken)
            with pytest.raises(ModelError):
                load(tmp_path / "broken.pt2")


def test_sigterm_leaves_nothing(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from verydeep.export import export, export_model
export.differences = lambda *given: os.kill(os.getpid(), signal.SIGTERM)
export_model("builtin:fashion-a", "onnx", Path("it.onnx"))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert not list(tmp_path.iterdir())


def test_two_exports_at_once_do_not_mix_their_files(tmp_path, monkeypatch):
    """A second one ends between the first one's numbers and what reads them, or would."""
    out, replace_file, others = tmp_path / "net.xml", Path.replace, []

    def write(words):
        with placed(out) as there:
            there.write_text(words)
            there.with_suffix(".bin").write_text(words)

    def replacing(path, target):
        replace_file(path, target)
        if not others:
            others.append(threading.Thread(target=write, args=("second",)))
            others[0].start()
            others[0].join(0.5)
        return target

    monkeypatch.setattr(Path, "replace", replacing)
    write("first")
    others[0].join()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"net.bin": "second", "net.xml": "second"}
