"""A net together with its contract: raw uint8 RGB in, logits out, in one safetensors file."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from verydeep.contract import Contract, from_json, to_json
from verydeep.data import photo
from verydeep.errors import ConfigError, ModelError
from verydeep.net.vgg import VGG
from verydeep.run import write_atomically

METADATA, SEAL = "verydeep", "verydeep_sha256"  # the contract, and the SHA-256 of its text
AT_ONCE = 32  # photos of a list that go through together


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
        """Float32 N x 3 x H x W with the mean subtracted (section 2.1). Raises ModelError for anything but raw pixels."""
        if photos.ndim != 4 or photos.shape[1] != 3 or photos.dtype != torch.uint8:
            given = f"{str(photos.dtype).removeprefix('torch.')} of shape {tuple(photos.shape)}"
            hint = (
                "multiply 0-1 floats by 255 and convert to uint8; do not subtract a mean"
                if photos.is_floating_point()
                else "add a batch dimension, colours first"
            )
            raise ModelError(f"photos are {given}; expected raw pixels, uint8 of shape N x 3 x H x W in RGB; {hint}")
        return (photos.float() - self.mean) / self.std

    def forward(self, photos: Tensor) -> Tensor:
        """Float32 logits, N x K, of uint8 photos, N x 3 x H x W: the FC form at crop size, dense and averaged over space elsewhere."""
        return self.score_map(photos).mean((2, 3))

    def score_map(self, photos: Tensor) -> Tensor:
        """Float32 class scores, N x K x h x w, of uint8 photos, N x 3 x H x W; h = w = 1 at crop size (section 3.2)."""
        x = self.normalise(photos)
        if photos.shape[-2:] == (self.net.crop, self.net.crop):
            return self.net(x).float()[:, :, None, None]  # type: ignore[no-any-return]
        return self.net.dense(x).float()

    @torch.no_grad()
    def predict(self, photos: Tensor | Sequence[object]) -> Tensor:
        """Posteriors, float32 N x K, of a uint8 batch N x 3 x H x W or of a list of paths, Pillow images or uint8 H x W x 3 arrays.

        Listed photos are rescaled to smallest side Q = S and cropped in the middle. Raises PhotoError naming a bad one.
        """
        if isinstance(photos, (str, Path)):
            raise ModelError(f"predict takes a list of photos, not the single path {str(photos)!r}; give [{str(photos)!r}]")
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
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        if dtype is not None:
            tensors = {n: t.to(dtype) if n.startswith("net.") and t.is_floating_point() else t for n, t in tensors.items()}
        contract = dataclasses.replace(self.contract, sha256=checksum(tensors))
        text = to_json(contract)
        blob = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
        write_atomically(Path(path), lambda temporary: write_tensors(tensors, temporary, blob))


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """A safetensors file. Raises OSError, also where safetensors wraps a full disk in an error of its own."""
    try:
        safetensors.torch.save_file(tensors, path, metadata)
    except safetensors.SafetensorError as e:
        raise OSError(str(e)) from e


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def build(contract: Contract, device: torch.device | str | None = None) -> Classifier:
    """An uninitialised Classifier of a contract."""
    net = VGG(
        contract.net, classes=len(contract.classes), crop=contract.crop, fc_width=contract.fc_width,
        base_width=contract.base_width, batch_norm=contract.batch_norm, pooling=contract.pooling, device=device,
    )  # fmt: skip
    return Classifier(net, contract)


def read_classifier(path: Path) -> Classifier:
    """The Classifier of a file that `save` wrote, in float32 on the CPU, in eval mode.

    Header, shapes and the SHA-256 of every byte are checked before use. Raises ModelError.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            if METADATA not in metadata:
                raise ModelError(f"{path} has no contract, so what it eats is unknown; expected a file that verydeep saved")
            check_seal(path, metadata)
            contract = from_json(metadata[METADATA], str(path))
            wanted = {n: tuple(t.shape) for n, t in build(contract, "meta").state_dict().items()}
            check_names(path, wanted, f.keys())
            for name, shape in wanted.items():
                if tuple(f.get_slice(name).get_shape()) != shape:
                    raise ModelError(f"{path}: {name} has another shape than its contract says; the file is damaged")
            tensors = {name: f.get_tensor(name) for name in wanted}
    except FileNotFoundError as e:
        raise ModelError(f"{path} does not exist; expected a run folder, a .safetensors file or a built-in name") from e
    except (ConfigError, TypeError, RecursionError) as e:
        raise ModelError(f"{path}: its contract describes no net ({e}); the file is damaged or not of verydeep") from e
    except (safetensors.SafetensorError, OSError) as e:
        raise ModelError(f"{path} cannot be read as safetensors ({e}); it is damaged or of another format") from e
    if checksum(tensors) != contract.sha256:
        raise ModelError(f"{path}: its tensors do not match their SHA-256; the file is damaged, fetch or train it again")
    classifier = build(contract, "meta")  # no first weights are drawn only to be overwritten
    classifier.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, assign=True)
    for name in ("mean", "std"):
        if getattr(classifier, name).flatten().tolist() != torch.tensor(getattr(contract, name)).tolist():
            raise ModelError(f"{path}: {name} in its contract and in its tensors differ; the file is damaged")
    return classifier.eval()


def check_seal(path: Path, metadata: dict[str, str]) -> None:
    """The contract has a SHA-256 of its own."""
    good = {METADATA, SEAL, "format"} == set(metadata) and metadata[SEAL] == hashlib.sha256(metadata[METADATA].encode()).hexdigest()
    if not good or metadata["format"] != "pt":
        raise ModelError(f"{path}: its contract does not match its SHA-256; the file is damaged, fetch or train it again")


def check_names(path: Path, wanted: Iterable[str], found: Iterable[str]) -> None:
    different = sorted(set(wanted) ^ set(found))
    if different:
        raise ModelError(f"{path}: its layers do not match its contract ({', '.join(different[:3])}); the file is damaged")
