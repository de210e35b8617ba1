"""torchvision's names and timm's: features.N, by place in a Sequential; A, B, D, E, also with batch norm.

Others put a prefix before them, call the Sequential something else, or name layers as Caffe does.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from verydeep.data.naming import natural
from verydeep.net.vgg import as_kernel, column
from verydeep.weights import shapes, torch_file
from verydeep.weights.shapes import FC, NORM, Found, Unlike, by_theirs, flat, matched, with_counters, without_fc

HEAD = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}  # a ReLU and dropout between each
TIMM = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
FROM_TIMM = {theirs: HEAD[fc] for fc, theirs in TIMM.items()}
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch's, wherever they stand


def names(net: str, batch_norm: bool, head: Mapping[str, str] = HEAD) -> dict[str, str]:
    """conv1_1.weight <-> features.0.weight: convolutions, batch norms, ReLUs and poolings take a number each."""
    found, n = dict[str, str](), 0
    for block in column(net):
        for layer in block:
            found |= {f"{layer.name}.{p}": f"features.{n}.{p}" for p in NORM[:2]}
            if batch_norm:
                found |= {f"{layer.name.replace('conv', 'bn')}.{p}": f"features.{n + 1}.{p}" for p in NORM}
            n += 3 if batch_norm else 2
        n += 1
    return found | {f"{fc}.{p}": f"{there}.{p}" for fc, there in head.items() for p in NORM[:2]}


timm_names = partial(names, head=TIMM)


def fused_names(net: str, _: bool) -> dict[str, str]:
    """conv1_2.weight <-> features.3.weight: the numbers count a batch norm that was multiplied in and is gone."""
    return {ours: theirs for ours, theirs in names(net, True).items() if not ours.startswith("bn")}


class Candidate(NamedTuple):
    """A net among named tensors: the prefix of its names, the names there by ours, and what else stands beside it."""

    key: str
    taken: dict[str, str]
    left: tuple[str, ...]


def nets_in(found: Mapping[str, Any]) -> list[Candidate]:
    """The nets among tensors, or what has their shapes, by name: each begins with a kernel of three colours.

    Raises Unlike where there is none, and ValueError where one lacks layers.
    """
    nets, why = list[Candidate](), list[ValueError]()
    bare = {".".join(part for part in n.split(".") if part not in WRAPPERS): n for n in found}
    bare = bare if len(bare) == len(found) else {n: n for n in found}
    roots = [n for n, theirs in bare.items() if tuple(found[theirs].shape[1:]) == (3, 3, 3)]
    if len(roots) > 20:
        raise Unlike(f"it holds {len(roots)} layers of three colours, expected one net")
    for root in roots:
        container, _, layer = root.removesuffix(".weight").rpartition(".")
        numbered = layer == "0"
        prefix = container.rpartition(".")[0] if numbered else container
        there = {short(name, prefix, container if numbered else None): theirs for name, theirs in bare.items()}
        there = headed(there, {n: tuple(found[t].shape) for n, t in there.items()}, HEAD.values() if numbered else HEAD)
        for scheme in (names, fused_names) if numbered else (shapes.own_names,):
            try:
                taken, left = matched(there, scheme)
            except ValueError as e:
                why.append(e)
                continue
            if scheme is not fused_names or not any(n.startswith("features.") for n in left):  # half a batch norm
                nets.append(Candidate(prefix, {o: there[t] for o, t in taken.items()}, tuple(there[t] for t in left)))
                break
    if not nets:
        raise why[0] if why else shapes.no_net(found)
    return [net._replace(left=tuple(n for n in net.left if not elsewhere(n, net, nets))) for net in nets]


def short(name: str, prefix: str, container: str | None) -> str:
    """A name without its net's prefix; what is numbered in the container of convolutions is in `features`."""
    inside = "" if container is None else name.removeprefix(f"{container}." if container else "")
    if re.match(r"\d+\.", inside) and (inside != name or not container):
        return f"features.{inside}"
    if prefix and not name.startswith(f"{prefix}."):
        return f"/{name}"
    layer, dot, p = name.removeprefix(f"{prefix}." if prefix else "").rpartition(".")
    return FROM_TIMM.get(layer, layer) + dot + p


def headed(there: dict[str, str], sizes: Mapping[str, tuple[int, ...]], head: Iterable[str]) -> dict[str, str]:
    """FC layers under other names: just three matrices with biases, each of which takes what the one before gives."""
    matrices = {n.removesuffix(".weight"): sides for n, sides in sizes.items() if len(sides) == 2 and n[0] != "/"}
    layers = sorted(matrices, key=natural)
    chained = all(matrices[one][0] == matrices[two][1] for one, two in pairwise(layers))
    if len(layers) != len(HEAD) or not chained or not all(f"{layer}.bias" in there for layer in layers):
        return there
    new = {f"{layer}.{p}": f"{fc}.{p}" for layer, fc in zip(layers, head, strict=True) for p in NORM[:2]}
    return {new.get(name, name): theirs for name, theirs in there.items()}


def elsewhere(name: str, net: Candidate, nets: list[Candidate]) -> bool:
    """Whether a tensor belongs to another net of the same file."""
    return any(name in o.taken.values() or (o.key and name.startswith(f"{o.key}.")) for o in nets if o is not net)


def only(nets: list[Candidate], key: str = "") -> Candidate:
    """The one net of a file, or the one that is asked for. Raises Unlike."""
    chosen = [net for net in nets if net.key == key] if key else nets
    if len(chosen) != 1:
        there = ", ".join(f"FILE#{net.key}" for net in nets)
        what = f"it has no net {key[:60]!r}, only" if key else f"it holds {len(nets)} nets; say which:"
        raise Unlike(f"{what} {there}")
    return chosen[0]


def taken_from(found: Mapping[str, Any], net: Candidate) -> Found:
    """The tensors of a net. FC layers of NaN, as torchvision ships them with a D of features only, are left out."""
    tensors = {ours: found[theirs] for ours, theirs in net.taken.items()}
    taken = {name: flat(name, t if isinstance(t, Tensor) else t.load()) for name, t in tensors.items()}
    fc = {name: t for name, t in taken.items() if name.startswith(FC) and t.numel()}
    if not fc or any(map(shapes.all_finite, fc.values())):
        return Found(taken, net.left, inside=net.key)
    weights = (net.taken[name] for name in fc if name.endswith("weight"))
    return Found(without_fc(taken), (*net.left, *weights), inside=net.key)


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return with_counters(by_theirs(tensors, names)[1])


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, for net.load_state_dict of torchvision. Raises OSError."""
    torch_file.write(theirs(tensors), path)


def write_timm(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A state dict of our tensors, FC layers as kernels of crop / 32 and of 1. Raises OSError."""
    net, found = by_theirs(tensors, timm_names)
    for fc, side in (("fc6", net.map), ("fc7", 1)):
        if (name := f"{TIMM[fc]}.weight") in found:
            found[name] = as_kernel(found[name], side)
    torch_file.write(with_counters(found), path)
