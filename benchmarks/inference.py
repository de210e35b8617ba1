"""Engines side by side on this machine: a net as users run it, by hand in each runtime, and as verydeep runs it.

    python benchmarks/inference.py --out runs/inference

All ways of a table take turns in one process; medians of so many turns, in photos a second. Nets have random weights
(seed 0), photos are noise: neither changes the time. Beside them stands what the machine reaches in a product of
matrices. Parts: crops (batch 1 and 16), dense (whole photos of many shapes at Q = 256), files (`predict` on JPEG files,
against the bare engine), start (one photo in a new process). A JSON line for each figure goes to results.jsonl.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.engines import run_file, scorer_for
from verydeep.export.checking import made_up
from verydeep.export.formats import Exported
from verydeep.export.int8 import fc_weights, in_int8
from verydeep.hardware import machine, multiplies_bf16
from verydeep.net.classifier import Classifier, build
from verydeep.predict import predictions
from verydeep.shape import Shape

BF16 = multiplies_bf16(torch.device("cpu"))
Work = Callable[[], Any]


def classifier(net: str, base_width: int = 64) -> Classifier:
    torch.manual_seed(0)
    names = [f"class {i}" for i in range(1000)]
    contract = Contract.of(
        Shape(net, base_width=base_width), names, mean=(123.7, 116.8, 103.9), std=(58.4, 57.1, 57.4), scales=(256, 256)
    )
    return build(contract).eval()


def plain(c: Classifier) -> nn.Sequential:
    """The same net as everybody writes it, from normalised floats on."""
    layers: list[nn.Module] = []
    for block in c.net.blocks:
        for layer in block:
            own = getattr(c.net, layer.name)
            conv = nn.Conv2d(own.weight.shape[1], own.weight.shape[0], layer.kernel, padding=layer.kernel // 2)
            conv.load_state_dict(own.state_dict())
            layers += [conv, nn.ReLU()]
        layers.append(nn.MaxPool2d(2, 2))
    fc6, fc7, fc8 = (copy.deepcopy(fc) for fc in (c.net.fc6, c.net.fc7, c.net.fc8))
    layers += [nn.Flatten(), fc6, nn.ReLU(), nn.Dropout(), fc7, nn.ReLU(), nn.Dropout(), fc8]
    return nn.Sequential(*layers).eval()


def in_turns(ways: dict[str, Work], turns: int, wait: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Median seconds of each; the first turn prepares."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, turns):
        for name, work in ways.items():
            wait()
            began = time.perf_counter()
            work()
            wait()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(all_of_it) for name, all_of_it in seconds.items()}


def ceiling(turns: int) -> dict[str, float]:
    """What a product of matrices 4096 x 4096 reaches, in T operations a second."""
    a = torch.rand(4096, 4096)
    ways: dict[str, Work] = {"fp32": lambda: a @ a}
    if BF16:
        half = a.bfloat16()
        ways["bf16"] = lambda: half @ half
    small = (100 * a).to(torch.int8)
    ways["int8"] = lambda: torch._int_mm(small, small)
    return {name: 2 * 4096**3 / s / 1e12 for name, s in in_turns(ways, turns).items()}


@torch.no_grad()
def crops(c: Classifier, batch: int, turns: int, compile: bool, keras: bool) -> dict[str, float]:
    photos = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2)
    floats, net = pixels.float() / 255, plain(c)
    last = floats.contiguous(memory_format=torch.channels_last)
    graph = Exported(c, None).graph()
    openvino, ort = (run_file(graph.SerializeToString(), e) for e in ("openvino", "onnxruntime"))
    ways: dict[str, Work] = {
        "PyTorch, as users run it": lambda: net(floats),
        "PyTorch, channels last": lambda: net(last),
        "ONNX Runtime": lambda: ort(photos),
        "OpenVINO": lambda: openvino(photos),
        "OpenVINO, of PyTorch by its own converter": by_its_converter(net, floats),
    }
    if BF16:
        bf16 = run_file(graph.SerializeToString(), "openvino", "bf16")
        ways["OpenVINO, bf16"] = lambda: bf16(photos)
    if compile:
        import torch._inductor.config as inductor

        inductor.freezing = True
        made = torch.compile(net)
        ways["torch.compile, frozen"] = lambda: made(floats)
    if keras:
        ways["Keras 3 on PyTorch"] = by_keras(c.contract.net, floats)
    own, auto = scorer_for(c), scorer_for(c, "openvino", "bf16" if BF16 else "fp32")
    ways |= {"verydeep, torch": lambda: own(pixels), "verydeep, auto": lambda: auto(pixels)}
    whole = in_int8(Exported(c, None).graph(), [photos[i % batch : i % batch + 1] for i in range(4)])
    for engine in ("openvino", "onnxruntime"):
        run = run_file(whole.SerializeToString(), engine)
        ways[f"verydeep, int8 in {engine}"] = lambda run=run: run(photos)
    fc = run_file(fc_weights(Exported(c, None).graph()).SerializeToString(), "openvino")
    ways["verydeep, FC weights in int8"] = lambda: fc(photos)
    return {name: batch / s for name, s in in_turns(ways, turns).items()}


def by_its_converter(net: nn.Module, floats: torch.Tensor) -> Work:
    import openvino as ov

    from verydeep.engines import openvino_core

    model = ov.convert_model(net, example_input=floats)
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    return lambda: compiled(floats.numpy())


def by_keras(net: str, floats: torch.Tensor) -> Work:
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    if net != "D":
        raise SystemExit("Keras has nets D and E")
    model, photos = keras.applications.VGG16(weights=None), floats.permute(0, 2, 3, 1).contiguous()
    return lambda: model(photos, training=False)


def dense(c: Classifier, photos: int, turns: int) -> dict[str, float]:
    """Whole photos at Q = 256, one at a time, all of another shape, counted in crops of 224 x 224."""
    random = np.random.default_rng(0)
    sides = [(256, int(w)) if i % 2 else (int(w), 256) for i, w in enumerate(random.integers(257, 420, photos))]
    seen = [torch.from_numpy(random.integers(0, 256, (1, *s, 3), dtype=np.uint8)).permute(0, 3, 1, 2) for s in sides]
    ways: dict[str, Work] = {}
    for engine in ("torch", "openvino", "onnxruntime"):
        score = scorer_for(c, engine)
        ways[engine] = lambda score=score: [score(x) for x in seen]
    if BF16:
        score = scorer_for(c, "openvino", "bf16")
        ways["openvino, bf16"] = lambda score=score: [score(x) for x in seen]
    crops = sum(h * w for h, w in sides) / 224**2
    return {name: crops / s for name, s in in_turns(ways, turns).items()}


def files(c: Classifier, photos: int, turns: int) -> dict[str, float]:
    """`predict` on JPEG files of 640 x 427, and the bare engine on pixels that lie ready, batches of 32."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{i}.jpg")) for i in range(photos)]
        for i, path in enumerate(paths):
            Image.fromarray(made_up(427, 640, i)).save(path, quality=90)
        ready = np.stack([photo.centre_crop(Image.open(path), 256, 224) for path in paths])
        batches = [torch.from_numpy(ready[i : i + 32]).permute(0, 3, 1, 2) for i in range(0, photos, 32)]
        bare = scorer_for(c, "openvino", "bf16" if BF16 else "fp32")
        ways: dict[str, Work] = {
            "bare engine": lambda: [bare(x) for x in batches],
            "predict, auto": lambda: list(predictions(c, paths)),
            "predict, torch": lambda: list(predictions(c, paths, engine="torch")),
        }
        return {name: photos / s for name, s in in_turns(ways, turns).items()}


def start(c: Classifier, turns: int) -> dict[str, float]:
    """Seconds of one photo in a new process, and of importing alone."""
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder, "net.safetensors"), Path(folder, "photo.jpg")
        c.save(model)
        Image.fromarray(made_up(427, 640, 0)).save(file)
        run = [sys.executable, "-m", "verydeep", "predict", str(model), str(file)]
        imports = "import torch, verydeep.predict, verydeep.weights"
        ways = {
            "predict, auto": run, "predict, openvino": [*run, "--engine", "openvino"],
            "the imports": [sys.executable, "-c", imports],
            "the imports and OpenVINO": [sys.executable, "-c", f"{imports}, openvino, onnx"],
            "--help": [sys.executable, "-m", "verydeep", "--help"],
        }  # fmt: skip
        calls = {name: lambda words=words: subprocess.run(words, capture_output=True, check=True)
                 for name, words in ways.items()}  # fmt: skip
        return in_turns(calls, turns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", default=["A", "D"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--parts", nargs="+", default=["crops", "dense", "files", "start"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--photos", type=int, default=40, help="of dense; files takes five times as many")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no_compile", action="store_true", help="torch.compile takes minutes")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.threads:
        torch.set_num_threads(given.threads)
    about = machine()
    print(about)

    def tell(what: str, unit: str, found: dict[str, float]) -> None:
        print(f"\n{what}, {unit}")
        for name, value in found.items():
            print(f"  {name:<45}{value:10.3g}", flush=True)
        with (given.out / "results.jsonl").open("a") as f:
            f.write(json.dumps({"what": what, "unit": unit, "found": found, "machine": about}) + "\n")

    tell("products of matrices", "T operations a second", ceiling(given.turns))
    for net in given.nets:
        c = classifier(net)
        for batch in given.batches if "crops" in given.parts else ():
            many = max(given.turns, 3 * given.turns // batch)
            found = crops(c, batch, many, not given.no_compile, net in "DE")
            tell(f"net {net}, crops of 224, batch {batch}", "photos a second", found)
        if "dense" in given.parts:
            tell(f"net {net}, whole photos at Q = 256", "crops of 224 a second", dense(c, given.photos, 2))
        if "files" in given.parts and net == given.nets[-1]:
            tell(f"net {net}, JPEG files of 640 x 427", "photos a second", files(c, 5 * given.photos, 2))
        if "start" in given.parts and net == given.nets[-1]:
            tell(f"net {net}, one photo in a new process", "seconds", start(c, given.turns))
