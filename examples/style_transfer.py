"""One photo in the style of another, by the convolutions of a VGG (Gatys, Ecker and Bethge 2015).

    python examples/style_transfer.py photo.jpg painting.jpg out.png --model oxford-d-convolutions

The photo is changed step by step until relu4_2 looks like its own and the Gram matrices like the painting's. Any net of
'verydeep weights list' will do, convolutions are enough.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep import perceptual
from verydeep.data import photo
from verydeep.errors import VeryDeepError
from verydeep.progress import Progress
from verydeep.weights import load_describing


def opened(file: str, longest: int) -> Tensor:
    """The upright photo, 1 x 3 x H x W, 0 to 1."""
    image = photo.from_file(Path(file))
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def stylised(net: object, of: Tensor, like: Tensor, weight: float, steps: int, progress: Progress) -> Tensor:
    """`of` in the style of `like`; weight: of style against content, each as a part of what it was at first."""
    content, style = (kind(net, checkpoint=True) for kind in (perceptual.Content, perceptual.Style))
    with torch.no_grad():
        wanted, manner = content.of(of), style.of(like)
        at_first = content(of, torch.full_like(of, 0.5)), style(of, manner)  # of a grey picture, of the photo as it is
        scale = [value.clamp(min=1e-12) for value in at_first]
    x = of.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.02)
    with progress.bar(steps, "painting", unit="steps") as advance:
        for _ in range(steps):
            optimizer.zero_grad()
            lost = content(x, wanted) / scale[0], style(x, manner) / scale[1]
            (lost[0] + weight * lost[1]).sum().backward()
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
            advance(1, f"content {lost[0].item():.3f}, style {lost[1].item():.4f}")
    return x.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("painting")
    parser.add_argument("out")
    parser.add_argument("--model", default="oxford-d-convolutions")
    parser.add_argument("--longest", type=int, default=384, help="pixels of the longer side")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--weight", type=float, default=20.0, help="of style against content")
    asked = parser.parse_args()
    try:
        net = load_describing(asked.model)
        of, like = (opened(file, asked.longest) for file in (asked.photo, asked.painting))
    except VeryDeepError as e:
        raise SystemExit(f"style_transfer: {e}") from e
    found = stylised(net, of, like, asked.weight, asked.steps, Progress())
    Image.fromarray((found[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(asked.out)


if __name__ == "__main__":
    main()
