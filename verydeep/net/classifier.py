"""A net together with its contract: raw uint8 RGB in, logits out, in one safetensors file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import safetensors
import torch
from PIL import Image
from torch import Tensor, nn

from verydeep.contract import Contract, from_json, to_json
from verydeep.data import photo
from verydeep.errors import ConfigError, ModelError
from verydeep.files.disk import write_atomically
from verydeep.files.tensors import LONGEST_HEADER, TYPES, check_header, checksum, cut, write_tensors
from verydeep.net.vgg import VGG

METADATA, SEAL = "verydeep", "verydeep_sha256"  # the contract, and the SHA-256 of its text
AT_ONCE = 32  # photos of a list that go through together
FLOATS = ("F32", "F16", "BF16")


class Classifier(nn.Module):
    """A VGG that eats photos as they are: uint8, N x 3 x H x W, RGB, 0-255 (decision 1).

    Mean and standard deviation, in 0-255 units, are buffers of its first step and travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: VGG, contract: Contract) -> None:
        super().__init__()
        self.net = net
        self.contract = contract
        self.register_buffer("mean", torch.tensor(contract.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(contract.std).view(1, 3, 1, 1))

    def normalise(self, photos: Tensor) -> Tensor:
        """N x 3 x H x W with the mean subtracted (section 2.1), of the type of the mean. Raises ModelError for anything but raw pixels."""
        if not isinstance(photos, Tensor):
            raise ModelError(
                f"photos are a {type(photos).__name__}; expected a tensor, uint8 of shape N x 3 x H x W in RGB: torch.from_numpy"
            )
        if photos.ndim != 4 or photos.shape[1] != 3 or photos.dtype != torch.uint8:
            given = f"{str(photos.dtype).removeprefix('torch.')} of shape {tuple(photos.shape)}"
            raise ModelError(
                f"photos are {given}; expected raw pixels, uint8 of shape N x 3 x H x W in RGB; {looks_like(photos)}"
            )
        return photos.to(self.mean.dtype).sub_(self.mean).div_(self.std)

    def forward(self, photos: Tensor) -> Tensor:
        """Float32 logits, N x K, of uint8 photos, N x 3 x H x W: the FC form at crop size, dense and averaged over space elsewhere."""
        return self.score_map(photos).mean((2, 3))

    def score_map(self, photos: Tensor) -> Tensor:
        """Float32 class scores, N x K x h x w, of uint8 photos, N x 3 x H x W; h = w = 1 at crop size (section 3.2).

        In float64 where the weights are.
        """
        x = self.normalise(photos)
        found: Tensor = (
            self.net(x)[:, :, None, None] if photos.shape[-2:] == (self.net.crop, self.net.crop) else self.net.dense(x)
        )
        return found if found.dtype == torch.float64 else found.float()

    @torch.no_grad()
    def predict(self, photos: Tensor | Sequence[object]) -> Tensor:
        """Posteriors, float32 N x K, of a uint8 batch N x 3 x H x W or of a list of paths, Pillow images or uint8 H x W x 3 arrays.

        Listed photos are rescaled to smallest side Q = S and cropped in the middle. Raises PhotoError naming a bad one.
        """
        if isinstance(photos, (str, Path)):
            raise ModelError(
                f"predict takes a list of photos, not the single path {str(photos)!r}; give [{str(photos)!r}]"
            )
        if isinstance(photos, Image.Image) or (isinstance(photos, np.ndarray) and photos.ndim < 4):
            raise ModelError("predict takes a list of photos, not a single one; give [photo]")
        was_training = self.training
        self.eval()
        try:
            parts = [self.posteriors_of(photos[i : i + AT_ONCE], i) for i in range(0, len(photos), AT_ONCE)]
        finally:
            self.train(was_training)
        return torch.cat(parts) if parts else torch.empty(0, len(self.contract.classes))

    def posteriors_of(self, photos: Tensor | Sequence[object], first: int) -> Tensor:
        if not isinstance(photos, Tensor):
            photos = torch.stack([self.crop_of(p, f"photo {i}") for i, p in enumerate(photos, first)])
        return self(photos.to(self.mean.device)).softmax(1).cpu()  # type: ignore[no-any-return]

    def crop_of(self, given: object, name: str) -> Tensor:
        """The middle crop, uint8 3 x crop x crop, of a path, Pillow image or uint8 array."""
        opened = photo.read(Path(given)) if isinstance(given, (str, Path)) else photo.from_memory(given, name)
        return torch.tensor(photo.centre_crop(opened, self.contract.test_scale, self.contract.crop)).permute(2, 0, 1)

    def save(self, path: Path | str, dtype: torch.dtype | None = None) -> None:
        """Writes one safetensors file with the contract in its header; dtype float16 halves it. Old or new, never half a file."""
        if dtype is not None and TYPES.get(dtype) not in FLOATS:
            raise ModelError(f"dtype is {dtype}; expected torch.float32, torch.float16 or torch.bfloat16")
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        if dtype is not None:
            tensors = {
                n: t.to(dtype) if n.startswith("net.") and t.is_floating_point() else t for n, t in tensors.items()
            }
        contract = dataclasses.replace(self.contract, sha256=checksum(tensors))
        text = to_json(contract)
        blob = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
        if len(json.dumps(blob)) > LONGEST_HEADER // 2:
            raise ModelError(
                f"the names of the {len(contract.classes):,} classes are too long for a model file; shorten them"
            )
        write_atomically(Path(path), lambda temporary: write_tensors(tensors, temporary, blob))


def looks_like(photos: Tensor) -> str:
    """What a tensor that is no batch of raw pixels probably is, by its shape and values, and what to do."""
    if photos.ndim == 3:
        return "one photo: add a batch dimension with photo[None]" + ("" if photos.shape[0] == 3 else ", colours first")
    if photos.ndim == 4 and photos.shape[1] != 3 and photos.shape[3] == 3:
        return "its colours stand last: photos.permute(0, 3, 1, 2) puts them first"
    if photos.ndim != 4 or photos.shape[1] != 3:
        return "grey photos need three equal colours, transparent ones no fourth; stack photos of one size as N x 3 x H x W"
    if photos.is_complex() or not photos.numel() or photos.is_meta:
        return "convert the photos as they were decoded"
    low, high = float(photos.min()), float(photos.max())
    values = f"values from {low:.4g} to {high:.4g} look like"
    if not (math.isfinite(low) and math.isfinite(high)):
        return "some values are no finite numbers, so they are no pixels"
    if -0.1 < low < 0 and 0.5 < high < 1.1:
        return f"{values} pixels of 0-1 that were rescaled: (photos * 255).round().clamp(0, 255).to(torch.uint8)"
    if low >= 0 and 1 < high < 20:
        return f"{values} very dark pixels of 0-255, or pixels with a mean subtracted; give them as they were decoded, uint8 of 0-255"
    if low < 0:
        how = "divided by a standard deviation" if max(-low, high) < 20 else "in 0-255 units"
        return f"{values} normalised pixels, a mean subtracted and {how}; give the pixels before that, the net subtracts its own mean"
    if high > 255:
        return f"{values} pixels of more than 8 bits; scale them to 0-255 and convert to uint8"
    if high <= 1:
        return f"{values} pixels of 0-1: (photos * 255).round().to(torch.uint8)"
    return f"{values} pixels of 0-255: photos.round().to(torch.uint8)"


def build(contract: Contract, device: torch.device | str | None = None) -> Classifier:
    """An uninitialised Classifier of a contract."""
    net = VGG(
        contract.net, classes=len(contract.classes), crop=contract.crop, fc_width=contract.fc_width,
        base_width=contract.base_width, batch_norm=contract.batch_norm, pooling=contract.pooling, device=device,
    )  # fmt: skip
    return Classifier(net, contract)


def read_classifier(path: Path) -> Classifier:
    """The Classifier of a file that `save` wrote, in float32 on the CPU, in eval mode.

    Header, types, shapes and the SHA-256 of every byte are checked before use. Raises ModelError.
    """
    try:
        if check_header(path) > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
            raise ModelError(f"{path} is larger than the {memory / 1e9:.0f} GB of memory of this machine")
        with safetensors.safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            if METADATA not in metadata:
                raise ModelError(
                    f"{path} has no contract, so what it eats is unknown; expected a file that verydeep saved"
                )
            check_seal(path, metadata)
            contract = from_json(metadata[METADATA], str(path))
            wanted = build(contract, "meta").state_dict()
            check_names(path, wanted, f.keys())
            for name, tensor in wanted.items():
                found = f.get_slice(name)
                types = FLOATS if name.startswith("net.") and tensor.is_floating_point() else (TYPES[tensor.dtype],)
                if tuple(found.get_shape()) != tensor.shape or found.get_dtype() not in types:
                    raise ModelError(
                        f"{path}: {name} has another shape or type than its contract says; the file is damaged"
                    )
            tensors = {
                name: f.get_tensor(name).clone() for name in wanted
            }  # a copy, as the file may change once it was checked
    except FileNotFoundError as e:
        raise ModelError(f"{path} does not exist; expected a run folder, a .safetensors file or a built-in name") from e
    except OSError as e:
        raise ModelError(
            f"{path} cannot be read ({e.strerror or e}); expected a run folder or a .safetensors file"
        ) from e
    except (ConfigError, TypeError, RecursionError) as e:
        raise ModelError(f"{path}: its contract describes no net ({e}); the file is damaged or not of verydeep") from e
    except (safetensors.SafetensorError, ValueError) as e:
        raise ModelError(f"{path} cannot be read as safetensors ({cut(e)}); it is damaged or of another format") from e
    if checksum(tensors) != contract.sha256:
        raise ModelError(
            f"{path}: its tensors do not match their SHA-256; the file is damaged, fetch or train it again"
        )
    classifier = build(contract, "meta")  # no first weights are drawn only to be overwritten
    classifier.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, assign=True)
    for name in ("mean", "std"):
        if getattr(classifier, name).flatten().tolist() != torch.tensor(getattr(contract, name)).tolist():
            raise ModelError(f"{path}: {name} in its contract and in its tensors differ; the file is damaged")
    return classifier.eval()


def read_contract(path: Path) -> Contract:
    """The contract in the header of a file that `save` wrote, checked by its SHA-256; no tensor is read. Raises ModelError."""
    try:
        check_header(path)
        with safetensors.safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
    except (OSError, safetensors.SafetensorError, ValueError) as e:
        raise ModelError(f"{path} cannot be read ({cut(e)}); expected a .safetensors file that verydeep saved") from e
    check_seal(path, metadata)
    return from_json(metadata[METADATA], str(path))


def check_seal(path: Path, metadata: dict[str, str]) -> None:
    """The contract has a SHA-256 of its own."""
    good = {METADATA, SEAL, "format"} == set(metadata) and metadata[SEAL] == hashlib.sha256(
        metadata[METADATA].encode()
    ).hexdigest()
    if not good or metadata["format"] != "pt":
        raise ModelError(
            f"{path}: its contract does not match its SHA-256; the file is damaged, fetch or train it again"
        )


def check_names(path: Path, wanted: Iterable[str], found: Iterable[str]) -> None:
    different = sorted(set(wanted) ^ set(found))
    if different:
        shown = ", ".join(f"{name[:40]!r}" for name in different[:3])
        raise ModelError(f"{path}: its layers do not match its contract ({shown}); the file is damaged")
