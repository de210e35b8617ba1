"""A net from inside: what each layer says of a photo, and which layers keep their weights."""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from verydeep.data.reading import Room
from verydeep.errors import ConfigError
from verydeep.near import meant

Step = tuple[str, Callable[[Tensor], Tensor]]  # a layer's name, and what it makes of the one before
FC = ("fc6", "relu6", "fc7", "relu7", "fc8")
AT_ONCE = 8  # photos that frozen blocks see together


def as_it_is(x: Tensor) -> Tensor:
    return x


def activations(
    net: str, steps: Sequence[Step], x: Tensor, names: Iterable[str], each: Callable[[Tensor], Tensor] = as_it_is
) -> dict[str, Tensor]:
    """What `each` makes of the named steps of a net, in the order asked for; nothing behind the last is computed."""
    wanted, known = list(names), [name for name, _ in steps]
    if unknown := sorted(set(wanted) - set(known)):
        raise ConfigError(f"net {net} has no layer {', '.join(unknown)}{meant(unknown[0], known)}")
    found = dict.fromkeys(wanted, x)
    for name, step in steps[: max((known.index(name) + 1 for name in wanted), default=0)]:
        x = step(x)
        if name in found:
            found[name] = each(x.flatten(1) if name in FC and x.shape[2:] == (1, 1) else x)
    return found


def kept_layers(net: str, names: Sequence[str], last: str) -> tuple[str, ...]:
    """All convolutions and FC layers up to `last`, one of these names, and their batch normalisation."""
    if last == "fc8":
        raise ConfigError(f"freeze: fc8 is the last layer of net {net}, so nothing would be left to train; try fc7")
    if last not in names:
        there = [n for n in names[:-1] if n.startswith(("conv", "pool", "fc"))]
        raise ConfigError(f"freeze: {last!r} is no layer of net {net}{meant(last, there)}")
    layers = [n for n in names[: names.index(last) + 1] if n.startswith(("conv", "fc"))]
    return tuple(n for n in names if n.replace("bn", "conv") in layers)


def forgetful(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A memory of nothing."""
    return work(x)


class Memory:
    """What frozen blocks make of photos, kept by the photo's values while there is room, then made each time.

    Kept or made anew, it is the same to the bit: photos go through in groups of one size, so that a value does not
    depend on how many are new.
    """

    def __init__(self, room: Room) -> None:
        self.room, self.kept = room, dict[bytes, Tensor]()

    @torch.no_grad()
    def __call__(self, work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What `work` makes of x, N x C x H x W."""
        keys = [
            hashlib.blake2b(row.numpy().data, digest_size=16).digest() for row in x.permute(0, 2, 3, 1).contiguous()
        ]
        new = [i for i, key in enumerate(keys) if key not in self.kept]
        made = dict[bytes, Tensor]()
        for i in range(0, len(new), AT_ONCE):
            group = (new[i : i + AT_ONCE] * AT_ONCE)[:AT_ONCE]
            made |= {keys[j]: row for j, row in zip(group, work(x[group]), strict=True)}
        for key, row in made.items():
            if self.room.take(row.nbytes):
                self.kept[key] = row.clone()
        rows = [made[key] if key in made else self.kept[key] for key in keys]
        return torch.stack(rows).contiguous(memory_format=torch.channels_last)
