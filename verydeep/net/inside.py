"""A net from inside: what each layer says of a photo, and which layers keep their weights."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from torch import Tensor

from verydeep.errors import ConfigError

Step = tuple[str, Callable[[Tensor], Tensor]]  # a layer's name, and what it makes of the one before
FC = ("fc6", "relu6", "fc7", "relu7", "fc8")


def activations(net: str, steps: Sequence[Step], x: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """Those of the named steps of a net, in the order asked for; nothing behind the last of them is computed."""
    wanted, known = list(names), [name for name, _ in steps]
    if unknown := sorted(set(wanted) - set(known)):
        raise ConfigError(f"{net} has no layer {', '.join(unknown)}; it has {', '.join(known)}")
    found = dict.fromkeys(wanted, x)
    for name, step in steps[: max((known.index(name) + 1 for name in wanted), default=0)]:
        x = step(x)
        if name in found:
            found[name] = x.flatten(1) if name in FC and x.shape[2:] == (1, 1) else x
    return found


def kept_layers(net: str, names: Sequence[str], last: str) -> tuple[str, ...]:
    """All convolutions and FC layers up to `last`, one of these names, and their batch normalisation."""
    if last == "fc8":
        raise ConfigError(f"freeze: fc8 is the last layer of net {net}, so nothing would be left to train; try fc7")
    if last not in names:
        near = get_close_matches(last.lower(), names[:-1], 1, 0.8)
        there = [n for n in names[:-1] if n.startswith(("conv", "pool", "fc"))]
        hint = f"try {near[0]}" if near else f"layers are {', '.join(there)}"
        raise ConfigError(f"freeze: {last!r} is no layer of net {net}; {hint}")
    layers = [n for n in names[: names.index(last) + 1] if n.startswith(("conv", "fc"))]
    return tuple(n for n in names if n.replace("bn", "conv") in layers)
