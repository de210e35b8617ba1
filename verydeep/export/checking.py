"""An exported file beside the model it was made from, on made-up photos of many shapes and on a user's."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep.data import photo
from verydeep.data.reading import workers_for
from verydeep.data.record import Photos
from verydeep.evaluate.passes import Settings, Shown, passes, scorer_of
from verydeep.evaluate.views import View
from verydeep.export.formats import Exported, Run
from verydeep.hardware import multiplies_bf16
from verydeep.progress import Progress

SHAPES = {"square": (9, 9), "4:3": (9, 12), "3:1": (6, 18), "1:3": (18, 6), "tiny": (2, 3)}  # in sixths of the crop
BATCHES = (1, 5)


def made_up(height: int, width: int, seed: int) -> photo.Pixels:
    """A picture of soft colours, uint8 H x W x 3."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 9 + 3, width // 9 + 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@torch.no_grad()
def differences(exported: Exported, run: Run) -> dict[str, float]:
    """By shape the largest difference of a posterior between a file and the Classifier, in batches of 1 and 5.

    Photos of any size go into the file as they are, crops after `photo.centre_crop`.
    """
    net, found = exported.net.eval(), {}
    crop, scale = net.contract.crop, exported.scale or net.contract.test_scale
    cut = photo.rescale if exported.scale else partial(photo.centre_crop, crop=crop)
    for name, sixths in SHAPES.items():
        height, width = (max(4, crop * side // 6) for side in sixths)
        own = [made_up(height, width, seed) for seed in range(max(BATCHES))]
        seen = np.stack([cut(Image.fromarray(one), scale) for one in own])
        wanted = net(torch.from_numpy(seen).permute(0, 3, 1, 2)).softmax(1).numpy()
        given = np.stack(own) if exported.scale else seen
        found[name] = float(np.max([np.abs(run(given[:n]) - wanted[:n]).max() for n in BATCHES]))
    return found


def posteriors(
    exported: Exported, runs: Mapping[str, Run], photos: Photos, label: str
) -> tuple[list[int], dict[str, Tensor]]:
    """(ids, what files say of these photos, N x K, beside the net in fp32 and, where the processor has it, in bf16).

    Photos that cannot be read are left out.
    """
    net, settings = exported.net, Settings(mirror=False, long_photos="middle")
    view = View("dense" if exported.scale else "centre", exported.scale or net.contract.test_scale)
    precisions = ["fp32", *["bf16"] * multiplies_bf16(torch.device("cpu"))]
    own = {p: scorer_of(net, settings._replace(precision=p)) for p in precisions}  # type: ignore[arg-type]
    shown = [Shown(score, net.contract.crop, [view], lambda x, seen: x.mean((2, 3)).softmax(1), i)
             for i, score in enumerate(own.values())]  # fmt: skip
    shown += [Shown(partial(as_scorer, run), net.contract.crop, [view], lambda x, seen: x) for run in runs.values()]
    found, read = [list[Tensor]() for _ in shown], list[int]()
    with Progress().bar(len(photos), label) as advance:
        for ids, by_net in passes(
            shown, photos.open, range(len(photos)), settings, workers=workers_for(-1, photos.in_memory),
            on_bad=lambda id, e: None, progress=lambda n: advance(n, ""),
        ):  # fmt: skip
            read += ids
            for rows, by_view in zip(found, by_net, strict=True):
                rows.append(by_view[view])
    named = zip([*own, *runs], found, strict=True)
    return read, {name: torch.cat(rows) if rows else torch.empty(0, 1) for name, rows in named}


def as_scorer(run: Run, photos: Tensor) -> Tensor:
    return torch.from_numpy(run(photos.permute(0, 2, 3, 1).contiguous().numpy()))
