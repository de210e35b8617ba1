"""The living page: one HTML file, offline, with a net inside that the browser computes with."""

import base64
import hashlib
import json
import re
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import verydeep
from verydeep.data.builtin import CLASSES, open_builtin
from verydeep.data.photo import encode
from verydeep.errors import ConfigError, ModelError
from verydeep.files.disk import write_text
from verydeep.net.classifier import Classifier, build
from verydeep.net.sizes import sizes
from verydeep.paper import LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE
from verydeep.weights import check_task, load

Stored = Literal["fp16", "int8"]
Array = npt.NDArray[Any]
MOST: dict[Stored, int] = {"fp16": 3_000_000, "int8": 40_000_000}  # bytes of a page
LRN = {"size": LRN_SIZE, "alpha": LRN_ALPHA, "beta": LRN_BETA, "k": LRN_K}
SCRIPTS = ("vgg", "draw", "living", "controls")
EXAMPLES = ((20,), (9,), (94,), (24,), (10, 9, 20), (11, 94, 31))  # test photos of fashion-mini, side by side


def write_living_page(model: str, out: Path | None = None) -> dict[str, Any]:
    """Writes the page of a model, whole or not at all; returns what is in it. Raises ConfigError and ModelError."""
    net, path = load(model).eval(), Path(model)
    check_task(model, net, "classes")
    stem = path.resolve().name if path.is_dir() else re.sub(r"\.(safetensors|pth?|onnx|h5|keras)$", "", path.name)
    out = out or Path(stem.replace(":", "-") + ".html")
    if out.suffix != ".html" or out.is_dir():
        raise ConfigError(f"out: {out} is no name of a page; try {out.with_suffix('.html').name}")
    page, stored, found = living_page(net, stem)
    write_text(out, page)
    use = f"open it in a browser: no network is needed, no photo leaves it; its weights are in {stored}"
    return {"model": model, "to": "page", "file": str(out), "bytes": len(page.encode()), "weights": stored,
            "classes": len(net.contract.classes), "differences": found, "use": use}  # fmt: skip


def living_page(net: Classifier, name: str) -> tuple[str, Stored, dict[str, float]]:
    """The page of a net, how its weights are stored, and by how much that changes a posterior, by the photo's shape.

    In fp16 while the page has at most 3 MB, then in int8, a scale for each output channel, up to 40 MB.
    Raises ConfigError for a larger net, ModelError for weights that cannot be stored.
    """
    count = sum(p.numel() for p in net.net.parameters())
    for (stored, most), width in zip(MOST.items(), (2, 1), strict=True):
        if count * width * 4 / 3 <= most:  # in base64
            page, exact = page_of(net, name, stored)
            if len(page.encode()) <= most:
                return page, stored, rounding_differences(net, exact)
    raise ConfigError(
        f"to: a page of {name} would have {count * 4e-6 / 3:,.0f} MB in int8, and a browser is given at most "
        f"{most // 10**6}; train a narrower net, such as --base_width 32 --fc_width 512, or export to onnx"
    )


def page_of(net: Classifier, name: str, stored: Stored) -> tuple[str, dict[str, Tensor]]:
    """The page, and the weights and biases that are in it, by their names."""
    lrn = {layer.name: LRN for block in net.net.blocks for layer in block if layer.lrn}
    listed, numbers, exact = [], b"", dict[str, Tensor]()
    for row in sizes(net.net):
        layer: dict[str, Any] = {"name": row.name, "sees": row.sees, "lrn": lrn.get(row.name)}
        if row.parameters:
            weight, bias = folded(net, row.name)
            exact[f"{row.name}.weight"], data = stored_as(stored, weight, row.name)
            exact[f"{row.name}.bias"], numbers = bias, numbers + in_fours(bias.numpy()).tobytes() + data
            layer |= dict(zip(("outputs", "inputs", "kernel"), weight.shape, strict=False))
        listed.append(layer)
    about = {"name": name, "stored": stored, "layers": listed, "examples": examples(net.contract.classes)}
    model = asdict(net.contract) | about | {"made": f"verydeep {verydeep.__version__}"}
    style, scripts = asset("look.css") + asset("living.css"), {n: asset(f"{n}.js") for n in SCRIPTS}
    facts = {"model": safe(model), "words": safe(json.loads(asset("living.json"))), "style": style, **scripts}
    policy = f"script-src {' '.join(map(hashed, scripts.values()))}; style-src {hashed(style)}"
    weights = base64.b64encode(numbers).decode()
    return Template(asset("living.html")).substitute(facts, policy=policy, weights=weights), exact


def folded(net: Classifier, name: str) -> tuple[Tensor, Tensor]:
    """Weights O x I x k x k and biases of a layer, with its batch normalisation, which is one scale and shift more."""
    layer = getattr(net.net, name)
    weight, bias = layer.weight.detach().double().cpu(), layer.bias.detach().double().cpu()
    if net.net.batch_norm and name.startswith("conv"):
        norm = getattr(net.net, name.replace("conv", "bn"))
        gain, shift, mean, var = (t.detach().double().cpu() for t in (*norm.parameters(), *list(norm.buffers())[:2]))
        scale = gain / (var + norm.eps).sqrt()
        weight, bias = weight * scale.view(-1, 1, 1, 1), (bias - mean) * scale + shift
    side = net.net.map if name == "fc6" else 1
    return (weight if weight.ndim == 4 else weight.view(len(weight), -1, side, side)).float(), bias.float()


def in_fours(values: Array) -> Array:
    """With zeros to a multiple of four outputs, and four of them side by side, as the page's loops meet them."""
    shape = (*values.shape, 1, 1, 1)[:4]
    full = np.zeros((-(-shape[0] // 4) * 4, *shape[1:]), values.dtype)
    full[: shape[0]] = values.reshape(shape)
    return full.reshape(-1, 4, *shape[1:]).transpose(0, 3, 4, 2, 1)


def stored_as(stored: Stored, weight: Tensor, name: str) -> tuple[Tensor, bytes]:
    """What the page has of weights, and its bytes. Raises ModelError where they are not what they were."""
    values = weight.numpy()
    scale = (np.abs(values).max((1, 2, 3), keepdims=True) / 127).clip(1e-30).astype("<f4")
    with np.errstate(over="ignore"):
        kept = values.astype("<f2") if stored == "fp16" else np.rint(values / scale).astype("i1")
    read = np.float32(kept) * (1 if stored == "fp16" else scale)
    if not (np.abs(read - values) <= (np.abs(values) / 2048 + 2**-25 if stored == "fp16" else scale * 0.5001)).all():
        raise ModelError(f"{name} has weights that {stored} does not hold, beyond 65,504 or no numbers; export to onnx")
    scales = b"" if stored == "fp16" else in_fours(scale).tobytes()
    return torch.from_numpy(read), scales + in_fours(kept).tobytes()


def rounding_differences(net: Classifier, exact: dict[str, Tensor]) -> dict[str, float]:
    """How far posteriors of two noisy photos are from those with the page's weights, by the photo's shape."""
    of_page = build(replace(net.contract, batch_norm=False)).eval()
    shapes = {n: p.shape for n, p in of_page.net.named_parameters()}
    of_page.net.load_state_dict({n: t.view(shapes[n]) for n, t in exact.items()})
    crop, found, random = net.contract.crop, dict[str, float](), torch.Generator().manual_seed(0)
    for shape in ((crop, crop), (crop, 2 * crop + 9)):
        coarse = torch.rand(2, 3, 8, 8, generator=random)
        photos = (torch.nn.functional.interpolate(coarse, shape) * 255).byte()
        with torch.no_grad():
            far = (net.float()(photos).softmax(1) - of_page(photos).softmax(1)).abs().max()
        found[f"{shape[0]} x {shape[1]}"] = float(f"{far:.2g}")
    return found


def examples(classes: tuple[str, ...]) -> list[dict[str, str]]:
    """Photos for a net of Fashion-MNIST's classes, to look at before one's own; of others none are at hand."""
    if classes != CLASSES:
        return []
    photos, found = open_builtin("fashion-mini").splits["test"], []
    for ids in EXAMPLES:
        pixels = np.concatenate([np.asarray(photos.open(i).convert("L")) for i in ids], 1)
        names = ", ".join(CLASSES[photos.targets()[i]] for i in ids)
        found.append({"name": names, "bmp": base64.b64encode(encode(pixels, "BMP")).decode()})  # PNGs differ by zlib
    return found


def asset(name: str) -> str:
    return resources.files("verydeep.serve").joinpath("web", name).read_text("utf-8")


def safe(value: object) -> str:
    """JSON that ends no script."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
