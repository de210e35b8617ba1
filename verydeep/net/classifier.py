"""A net together with its contract: raw uint8 RGB in, logits out, in one safetensors file."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import safetensors
import torch
from PIL import Image
from torch import Tensor, nn

from verydeep.contract import Contract, from_json, to_json
from verydeep.data import photo
from verydeep.errors import ModelError
from verydeep.files.disk import saying, write_atomically
from verydeep.files.records import Count
from verydeep.files.tensors import LONGEST_HEADER, TYPES, check_header, checksum, cut, write_tensors
from verydeep.near import checked
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

    @overload
    def predict(self, photos: Given, protocol: Protocol = ..., top: None = None) -> Tensor: ...
    @overload
    def predict(self, photos: Given, protocol: Protocol = ..., *, top: int) -> list[Ranked]: ...
    @torch.no_grad()
    def predict(self, photos: Given, protocol: Protocol = "centre", top: int | None = None) -> Tensor | list[Ranked]:
        """Posteriors of photos, float32 N x K in [0, 1], each row of sum 1 (section 3.2).

        photos: a list of paths, bytes or open files of JPEG, PNG and the like, Pillow images, uint8 H x W x 3 arrays;
        each is rescaled to smallest side Q = S. `centre` shows the middle crop, `dense` the whole photo and its mirror
        image, whose posteriors are averaged. Or a tensor, uint8 N x 3 x H x W, which is shown as it is.
        top: instead, for each photo its so many best classes, [(name, posterior), ...], the most probable first.
        Raises ConfigError, ModelError for other tensors, PhotoError naming a bad photo, LongPhotoError one beyond 8:1.
        """
        if self.contract.task != "classes":
            raise ModelError("the net says where things are, not what; use locate(photos, classifier)")
        if isinstance(photos, (str, Path)):
            raise ModelError(f"predict takes a list of photos, not the single path {str(photos)!r}; give [path]")
        if isinstance(photos, Image.Image) or (isinstance(photos, np.ndarray) and photos.ndim < 4):
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

    def locate(self, photos: Sequence[object], classifier: "Classifier", top: int = 1) -> list[Any]:
        """Where things are on photos, of a net that says where: for each its `top` best classes, a list of (name,
        posterior, box), the box (x0, y0, x1, y1) in pixels of the upright photo (appendix A).

        photos: as `predict` takes them; classifier: the net that says what is there. All places of the photo are
        looked at. Raises ModelError for a net that does not say where, and PhotoError naming a bad photo.
        """
        from verydeep.localise import locate

        return locate(self, classifier, photos, top)

    def posteriors_of(self, photos: Given, first: int, protocol: Protocol) -> Tensor:
        if not isinstance(photos, Tensor):
            seen = [self.seen_of(given, f"photo {i}", protocol) for i, given in enumerate(photos, first)]
            photos = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)
        check_pixels(photos)
        photos = photos.to(self.mean.device)
        ways = both_ways(self, photos) if protocol == "dense" else [self(photos)]
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
            raise ModelError(
                f"the names of the {len(contract.classes):,} classes are too long for a model file; shorten them"
            )
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


def read_classifier(path: Path) -> Classifier:
    """The Classifier of a file that `save` wrote, in float32 on the CPU, in eval mode.

    Header, types, shapes and the SHA-256 of every byte are checked before use. Raises ModelError.
    """
    expected = "expected a run folder, a .safetensors file or a built-in name"
    try:
        with saying(f"{path} cannot be read", expected, ModelError):
            classifier, tensors = contents(path)
    except (safetensors.SafetensorError, ValueError) as e:
        raise ModelError(f"{path} cannot be read as safetensors ({cut(e)}); it is damaged or of another format") from e
    if checksum(tensors) != classifier.contract.sha256:
        raise damaged(path, "its tensors do not match their SHA-256")
    colours = [name for name in ("mean", "std") if not torch.equal(tensors[name], getattr(classifier, name))]
    if colours:
        raise damaged(path, f"{colours[0]} in its contract and in its tensors differ")
    classifier.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, assign=True)
    return classifier.eval()


def read_contract(path: Path) -> Contract:
    """The contract in the header of a file that `save` wrote; no tensor is read. Raises ModelError."""
    try:
        check_header(path)
        with safetensors.safe_open(path, framework="pt") as f:
            return contract_in(path, f.metadata() or {})
    except (OSError, safetensors.SafetensorError, ValueError) as e:
        raise ModelError(f"{path} cannot be read ({cut(e)}); expected a .safetensors file that verydeep saved") from e


def contract_in(path: Path, metadata: dict[str, str]) -> Contract:
    """Of a file's header, checked by its SHA-256."""
    if METADATA not in metadata:
        raise ModelError(f"{path} has no contract, so its input is unknown; expected a file that verydeep saved")
    if metadata != sealed_contract(metadata[METADATA]):
        raise damaged(path, "its contract does not match its SHA-256")
    return from_json(metadata[METADATA], str(path))


def contents(path: Path) -> tuple[Classifier, dict[str, Tensor]]:
    """The net of a file's contract, without memory, and tensors of just its names, shapes and types."""
    if check_header(path) > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise ModelError(f"{path} is larger than the {memory / 1e9:.0f} GB of memory of this machine")
    with safetensors.safe_open(path, framework="pt") as f:
        classifier = build(contract_in(path, f.metadata() or {}), "meta")
        wanted = classifier.state_dict()
        if different := sorted(wanted.keys() ^ set(f.keys())):
            shown = ", ".join(f"{name[:40]!r}" for name in different[:3])
            raise damaged(path, f"its layers do not match its contract ({shown})")
        for name, tensor in wanted.items():
            found = f.get_slice(name)
            types = FLOATS if name.startswith("net.") and tensor.is_floating_point() else (TYPES[tensor.dtype],)
            if tuple(found.get_shape()) != tensor.shape or found.get_dtype() not in types:
                raise damaged(path, f"{name} has another shape or type than its contract says")
        # Copies, as the file may change once it was checked.
        return classifier, {name: f.get_tensor(name).clone() for name in wanted}


def damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path}: {why}; the file is damaged, fetch or train it again")
