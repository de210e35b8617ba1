"""The one net among all that a training saved, and the names of its classes.

Trainers wrap a state dict ({"model_state_dict": ...}), keep several (state_dict, state_dict_ema) or save modules.
"""

import math
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verydeep.weights.classes import CLASS_KEYS, names_in
from verydeep.weights.pickles import SAVE, Named
from verydeep.weights.shapes import Found, Unlike, no_net
from verydeep.weights.torch_file import Piece, contents_of
from verydeep.weights.torchvision import Candidate, nets_in, only, taken_from

DEEPEST, MOST = 40, 50_000  # of the lists, mappings and objects that a file holds
MOST_TENSORS, LONGEST_KEY = 5_000, 100  # of one mapping
# What a module may consist of beside the layers that are judged by their tensors
PASSING = {
    "Conv2d", "Linear", "BatchNorm2d", "ReLU", "MaxPool2d", "AdaptiveAvgPool2d", "Dropout", "Dropout2d", "Flatten",
    "Identity", "Softmax", "LogSoftmax", "Sequential",
}  # fmt: skip
LOSS = re.compile(r"(.*\.)?(criterion|\w*loss\w*)\.(weight|pos_weight)")  # of classes, which a trainer may keep


def read(path: Path, key: str = "") -> Found:
    """The net of a file of PyTorch; key: which, where there are several. Raises Unlike and ValueError."""
    nets, said, why = dict[Any, tuple[Candidate, dict[str, Piece]]](), list[tuple[str, Any]](), list[ValueError]()
    for place, value in values_in(contents_of(path)):
        if isinstance(value, Named) and "qtensor" in value.name:
            raise Unlike("its weights are quantised; save the net as it was before")
        if place.rpartition(".")[2] in CLASS_KEYS:
            said.append((place, value))
        pieces, strange = tensors_of(value)
        try:
            found = nets_in(pieces) if pieces else []
        except ValueError as e:
            why.append(e)
            continue
        for net in found:
            one = net.taken.get("fc8.bias", "")
            lone = one and pieces[one].shape == (1,) and strange.count("layer Sigmoid") == 1
            passing = "layer Sigmoid" if lone else ""
            left = tuple(n for n in (*net.left, *strange) if not (n == passing or LOSS.fullmatch(n)))
            net = net._replace(key=".".join(filter(None, (place, net.key))), left=left)
            nets.setdefault(tuple(pieces[name].where for name in net.taken.values()), (net, pieces))  # not twice
    if not nets:  # that layers are lacking says more than that there are none
        raise next((e for e in why if not isinstance(e, Unlike)), why[0] if why else no_net(()))
    chosen = only([net for net, _ in nets.values()], key)
    pieces = next(pieces for net, pieces in nets.values() if net is chosen)
    if sum(2 * math.prod(pieces[name].shape) for name in chosen.taken.values()) > path.stat().st_size:
        raise ValueError("its tensors are larger than the file")
    classes = tuple((place, names) for place, value in said if (names := names_in(value)))
    return taken_from(pieces, chosen)._replace(classes=classes)


def values_in(value: Any) -> Iterator[tuple[str, Any]]:
    """(where, mapping or object) of all that a file holds, the outermost first; modules as wholes. Raises Unlike."""
    ahead, seen = deque([("", value, 0)]), dict[int, Any]()
    while ahead:
        place, value, depth = ahead.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        yield place, value
        if depth == DEEPEST or (isinstance(value, Named) and "_modules" in value.held):
            continue
        below = [*value.items, value.held] if isinstance(value, Named) else value
        for name, one in below.items() if isinstance(below, dict) else (("", one) for one in below):
            if type(one) in (dict, list, tuple, Named):
                ahead.append((".".join(filter(None, (place, str(name)[:LONGEST_KEY]))), one, depth + 1))
            if len(ahead) + len(seen) > MOST:
                raise Unlike(f"it holds more than {MOST:,} lists and mappings; {SAVE}")


def tensors_of(value: Any) -> tuple[dict[str, Piece], list[str]]:
    """The tensors of a mapping by name, or of a whole module with those below it, and its layers that no VGG has."""
    found, strange, ahead, steps = dict[str, Piece](), list[str](), [("", value)], 0
    while ahead:
        prefix, one = ahead.pop()
        holders = [one]
        if isinstance(one, Named) and isinstance(below := one.held.get("_modules"), dict):
            if not below and not (kind := one.name.split(" ")[-1]).endswith("Loss") and kind not in PASSING:
                strange.append(f"layer {kind}")
            ahead += [(f"{prefix}{name}."[-LONGEST_KEY * 9 :], inner) for name, inner in below.items()]
            holders = [one.held.get(key) for key in ("_parameters", "_buffers")]
        for tensors in holders:
            if isinstance(tensors, dict):
                found |= {prefix + n: t for n, t in tensors.items() if isinstance(n, str) and isinstance(t, Piece)}
        steps += 1
        if len(found) + len(ahead) + steps > MOST_TENSORS:
            raise Unlike(f"it holds more than {MOST_TENSORS:,} tensors or layers; {SAVE}")
    return multiplied(found), strange


def multiplied(pieces: dict[str, Piece]) -> dict[str, Piece]:
    """Pruned weights: what torch.nn.utils.prune keeps of weight, weight_orig and weight_mask, is their product."""
    found = dict(pieces)
    for name in [n.removesuffix("_orig") for n in pieces if n.endswith("_orig")]:
        weight, mask = pieces[f"{name}_orig"], pieces.get(f"{name}_mask")
        if mask and mask.shape == weight.shape:
            del found[f"{name}_orig"], found[f"{name}_mask"]
            product = lambda a=weight, b=mask: a.load().mul_(b.load())  # noqa: E731
            found[name] = Piece(weight.shape, (weight.where, mask.where), product)
    return found
