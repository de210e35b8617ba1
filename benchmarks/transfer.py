"""Real convolutions of net D, the same net with random weights, and raw pixels: a linear SVM on each, the same splits.

    verydeep weights fetch oxford-d-convolutions
    python benchmarks/transfer.py /usr/share/tuxpaint/stamps --out runs/transfer --scales 112

The pictures are those of finetuning.py, as a folder of classes, of links. Random weights are Glorot's; pixels are the
32 x 32 of the photo's middle as they are; all rows are of length 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetuning import pictures

from verydeep.data.photo import centre_crop
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import scales_in
from verydeep.net.vgg import first_weights
from verydeep.transfer import protocol, transfer_models, transfer_text
from verydeep.weights import load_describing


def link_folder(stamps: Path, out: Path) -> Path:
    for category, files in pictures(stamps, 0).items():
        (out / category).mkdir(parents=True, exist_ok=True)
        for file in files:
            if not (link := out / category / file.name).exists():
                link.symlink_to(file)
    return out


def randomly(name: str) -> Any:
    """The net with weights drawn anew."""
    net = load_describing("oxford-d-convolutions")
    torch.manual_seed(0)
    for layer in net.net.convolutions():
        first_weights(layer)
    return net


def by_pixels(nets: Any, scales: Any, open_photo: Any, ids: Any, settings: Any, **how: Any) -> Any:
    """In place of what a net says: the photo's middle at 32 x 32."""
    for id in ids:
        yield [id], [np.float32(centre_crop(open_photo(id), 32, 32)).reshape(1, 1, -1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stamps", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scales", default="single")
    parser.add_argument("--arms", nargs="+", default=["real", "random", "pixels"])
    args = parser.parse_args()
    folder, usual = str(link_folder(args.stamps, args.out / "stamps")), (protocol.load_describing, protocol.described)
    for arm in args.arms:
        protocol.load_describing = randomly if arm == "random" else usual[0]
        protocol.described = by_pixels if arm == "pixels" else usual[1]
        scales = scales_in(args.scales if arm != "pixels" else "256")
        record = transfer_models(["oxford-d-convolutions"], folder, scales, Settings(workers=1))
        print(f"\n{arm}:\n{transfer_text(record)}", flush=True)


if __name__ == "__main__":
    main()
