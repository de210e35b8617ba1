"""A net together with its contract: raw uint8 RGB in, logits out, in one safetensors file."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from verydeep.contract import Contract, to_json
from verydeep.data import photo
from verydeep.errors import ModelError
from verydeep.files.disk import write_atomically
from verydeep.files.records import Count
from verydeep.files.tensors import LONGEST_HEADER, TYPES, checksum, write_tensors
from verydeep.near import checked
from verydeep.net.inside import as_it_is
from verydeep.net.pixels import both_ways, check_pixels, is_long, photo_of, too_long
from verydeep.net.vgg import VGG

METADATA, SEAL = "verydeep", "verydeep_sha256"  # the contract, and the SHA-256 of its text
AT_ONCE = 32  # photos of a list that go through together
FLOATS = ("F32", "F16", "BF16")
Protocol = Literal["centre", "dense"]
Given = Tensor | Sequence[object]
Ranked = list[tuple[str, float]]  # classes with their posteriors


class Classifier(nn.Module):
    """A VGG that takes photos as they are: uint8, N x 3 x H x W, RGB, 0-255 (decision 1).

    Mean and standard deviation, in 0-255 units, are buffers of its first step and travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: VGG, contract: Contract) -> None:
        super().__init__()
        self.net, self.contract = net, contract
        self.register_buffer("mean", torch.tensor(contract.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(contract.std).view(1, 3, 1, 1))

    def normalise(self, photos: Tensor) -> Tensor:
        """N x 3 x H x W with the mean subtracted (section 2.1). Raises ModelError for anything but raw pixels."""
        check_pixels(photos)
        return photos.to(self.mean.dtype).sub_(self.mean).div_(self.std)

    def forward(self, photos: Tensor) -> Tensor:
        """Float32 logits, N x K, of uint8 photos, N x 3 x H x W: at crop size the FC form, else dense and averaged."""
        return self.dense(photos).mean((2, 3))

    def dense(self, photos: Tensor) -> Tensor:
        """The class score map, float32 N x K x h x w, of whole photos, uint8 N x 3 x H x W (section 3.2).

        At crop size h = w = 1. In float64 where the weights are.
        """
        x, crop = self.normalise(photos), self.net.crop
        found: Tensor = self.net(x)[:, :, None, None] if x.shape[-2:] == (crop, crop) else self.net.dense(x)
        return found if found.dtype == torch.float64 else found.float()

    def taps(
        self, photos: Tensor, names: Iterable[str], each: Callable[[Tensor], Tensor] = as_it_is
    ) -> dict[str, Tensor]:
        """Maps of layers by name (`net.tap_names()`), N x C x h x w, of uint8 photos, N x 3 x H x W; behind pool5 the
        photos are at least crop pixels a side; or what `each` makes of them. Raises ConfigError and ModelError."""
        found = self.net.taps(self.normalise(photos), names, each)
        return {name: x if x.dtype == torch.float64 else x.float() for name, x in found.items()}

    @overload
    def predict(self, photos: Given, protocol: Protocol = ..., top: None = None) -> Tensor: ...
    @overload
    def predict(self, photos: Given, protocol: Protocol = ..., *, top: int) -> list[Ranked]: ...
    @torch.no_grad()
    def predict(self, photos: Given, protocol: Protocol = "centre", top: int | None = None) -> Tensor | list[Ranked]:
        """Posteriors of photos, float32 N x K in [0, 1], each row of sum 1 (section 3.2).

        photos: a list of paths, bytes or open files of JPEG, PNG and the like, Pillow images, uint8 H x W x 3 arrays;
        each is rescaled to smallest side Q = S. `centre` shows the middle crop, `dense` the whole photo and its mirror
        image, whose posteriors are averaged, or without it where it was not trained on such. Or a tensor, uint8
        N x 3 x H x W, which is shown as it is.
        top: instead, for each photo its so many best classes, [(name, posterior), ...], the most probable first.
        Raises ConfigError, ModelError for other tensors, PhotoError naming a bad photo, LongPhotoError one beyond 8:1.
        """
        if self.contract.task != "classes":
            raise ModelError("the net says where things are, not what; use locate(photos, classifier)")
        if isinstance(photos, (str, Path)):
            raise ModelError(f"predict takes a list of photos, not the single path {str(photos)!r}; give [path]")
        if isinstance(photos, Image.Image) or (isinstance(photos, np.ndarray) and photos.ndim in (2, 3)):
            raise ModelError("predict takes a list of photos, not a single one; give [photo]")
        checked("protocol", protocol, Protocol)
        if top is not None:
            checked("top", top, Count)
        at_once = AT_ONCE if isinstance(photos, Tensor) or protocol == "centre" else 1  # whole photos differ in size
        was_training = self.training
        self.eval()
        try:
            parts = [self.posteriors_of(photos[i : i + at_once], i, protocol) for i in range(0, len(photos), at_once)]
        finally:
            self.train(was_training)
        found = torch.cat(parts) if parts else torch.empty(0, len(self.contract.classes))
        return found if top is None else ranked(found, self.contract.classes, top)

    def locate(self, photos: Sequence[object], classifier: "Classifier | None" = None, top: int = 1) -> list[Any]:
        """Of a net of boxes: for each photo, given as to `predict`, its best classes, [(name, posterior, box), ...].

        Boxes are (x0, y0, x1, y1) in pixels of the upright photo; of several classes, `classifier` says which are
        there (appendix A). Raises ModelError and PhotoError.
        """
        from verydeep.localise import places_on

        return places_on(self, classifier, photos, top)

    def posteriors_of(self, photos: Given, first: int, protocol: Protocol) -> Tensor:
        if not isinstance(photos, Tensor):
            seen = [self.seen_of(given, f"photo {i}", protocol) for i, given in enumerate(photos, first)]
            photos = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)
        check_pixels(photos)
        photos = photos.to(self.mean.device)
        ways = both_ways(self, photos) if protocol == "dense" and self.contract.flip else [self(photos)]
        return torch.stack([way.softmax(1) for way in ways]).mean(0).cpu()

    def seen_of(self, given: object, name: str, protocol: Protocol) -> photo.Pixels:
        """What the net sees of a photo that is given in some way, uint8 H x W x 3."""
        opened, scale = photo_of(given, name, self.contract.reading), self.contract.test_scale
        if protocol == "centre":
            return photo.centre_crop(opened, scale, self.contract.crop)
        if is_long(opened):
            raise too_long(opened, str(given) if isinstance(given, (str, Path)) else name)
        return photo.rescale(opened, scale)

    def save(self, path: Path | str, dtype: torch.dtype | None = None) -> None:
        """Writes one safetensors file, whole or not at all, the contract in its header; dtype float16 halves it."""
        if dtype is not None and TYPES.get(dtype) not in FLOATS:
            raise ModelError(f"dtype is {dtype}; expected torch.float32, torch.float16 or torch.bfloat16")
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        for name in (n for n, t in tensors.items() if dtype and n.startswith("net.") and t.is_floating_point()):
            tensors[name] = tensors[name].to(dtype)
        contract = dataclasses.replace(self.contract, sha256=checksum(tensors))
        blob = sealed_contract(to_json(contract))
        if len(json.dumps(blob)) > LONGEST_HEADER // 2:
            raise ModelError(f"the {len(contract.classes):,} class names are too long for a model file; shorten them")
        write_atomically(Path(path), lambda temporary: write_tensors(tensors, temporary, blob))


def ranked(posteriors: Tensor, classes: Sequence[str], top: int) -> list[Ranked]:
    """The classes of each photo from the most probable on, at most so many, of posteriors N x K."""
    best = posteriors.topk(min(top, len(classes)))
    numbered = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[(classes[c], p) for c, p in zip(*row, strict=True)] for row in numbered]


def build(contract: Contract, device: torch.device | str | None = None, drawn: bool = True) -> Classifier:
    """A Classifier of a contract with first weights, or without where others follow. Raises ConfigError."""
    return Classifier(VGG(**vars(contract.shape), device=device, drawn=drawn), contract)


def sealed_contract(text: str) -> dict[str, str]:
    """The metadata of a file: the contract has a SHA-256 of its own."""
    return {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
