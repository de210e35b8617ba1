"""Nets of torchvision and timm, as those packages build them, read and written here: largest difference of logits.

    python -m pip install torchvision timm
    python benchmarks/parity_torchvision.py --packages torchvision timm --nets A B D E

Both ways, with random weights and random running statistics: their net is saved by its own package and read here, and
a net built here is written in their layout and loaded by their `load_state_dict`, which refuses a missing or a spare
key. Their net is fed what its documentation says (RGB in 0-1, minus the mean, by the standard deviation), ours the
raw pixels. A difference is told relative to the largest logit. Neither package is needed by verydeep, so neither is
installed with it.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from verydeep.hardware import machine
from verydeep.net.classifier import Classifier
from verydeep.weights.convert import convert
from verydeep.weights.read import read_foreign
from verydeep.words import aligned

CALLED = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB of 0-1, as both packages document them
OPERATORS = ("nms(Tensor a, Tensor b, float c) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor")


def package(name: str) -> Any:
    """torchvision or timm. A CUDA build beside a CPU torch lacks operators; nets need none, so they are declared."""
    try:
        return importlib.import_module(name)
    except RuntimeError as e:
        if "operator torchvision::" not in str(e):
            raise
        missing = torch.library.Library("torchvision", "DEF")
        for signature in OPERATORS:
            missing.define(signature)
        KEPT.append(missing)  # what it declares lives as long as it does
        return importlib.import_module(name)


KEPT: list[torch.library.Library] = []


def theirs(name: str, net: str, batch_norm: bool) -> nn.Module:
    called = CALLED[net] + ("_bn" if batch_norm else "")
    made = package(name)
    built: nn.Module = (
        made.models.get_model(called, weights=None) if name == "torchvision" else made.create_model(called)
    )
    return built.eval()


def settle(made: nn.Module, seed: int) -> None:
    """Random weights under which the logits neither fade nor grow, and running statistics that are not 0 and 1."""
    random = torch.Generator().manual_seed(seed)
    for name, t in made.state_dict().items():
        if not t.is_floating_point():
            continue
        if t.ndim > 1:
            t.copy_(torch.randn(t.shape, generator=random) * (2 / t[0].numel()) ** 0.5)
        else:
            t.copy_(
                torch.rand(t.shape, generator=random) + 0.5
                if "running_var" in name
                else torch.randn(t.shape, generator=random) * 0.1
            )


def save(made: nn.Module, name: str, folder: Path) -> Path:
    """As each package's files come: torchvision's as .pth, timm's as safetensors."""
    if name == "torchvision":
        torch.save(made.state_dict(), folder / "theirs.pth")
        return folder / "theirs.pth"
    importlib.import_module("safetensors.torch").save_file(made.state_dict(), folder / "theirs.safetensors")
    return folder / "theirs.safetensors"


def load(made: nn.Module, name: str, path: Path) -> None:
    read = importlib.import_module("safetensors.torch").load_file if path.suffix == ".safetensors" else torch.load
    made.load_state_dict(read(path))


def logits(made: nn.Module, pixels: Tensor) -> Tensor:
    if isinstance(made, Classifier):
        return made(pixels)  # type: ignore[no-any-return]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return made((pixels / 255 - mean) / std)  # type: ignore[no-any-return]


def difference(a: nn.Module, b: nn.Module, pixels: Tensor) -> float:
    with torch.no_grad():
        first, second = logits(a, pixels), logits(b, pixels)
    return float((first - second).abs().max() / second.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", nargs="+", choices=("torchvision", "timm"), default=["torchvision", "timm"])
    parser.add_argument("--nets", nargs="+", choices=tuple(CALLED), default=list(CALLED))
    args = parser.parse_args()
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows = []
    for name in args.packages:
        for net in args.nets:
            for batch_norm in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    made = theirs(name, net, batch_norm)
                    settle(made, 0)
                    ours = read_foreign(save(made, name, Path(folder)), "rgb-01-std").eval()
                    inward = difference(ours, made, pixels)
                    settle(ours.net, 2)
                    out = Path(folder) / ("ours.pth" if name == "torchvision" else "ours.safetensors")
                    convert(ours, "torchvision" if name == "torchvision" else "timm", out)
                    load(made, name, out)
                    rows.append(
                        (
                            name,
                            CALLED[net] + ("_bn" if batch_norm else ""),
                            f"{inward:.1e}",
                            f"{difference(made, ours, pixels):.1e}",
                        )
                    )
                    print(" ".join(rows[-1]), flush=True)
    print(aligned(("package", "net", "theirs read here", "ours loaded there"), rows))
    print({name: package(name).__version__ for name in args.packages} | machine())


if __name__ == "__main__":
    main()
