"""Writes a net in another toolkit's layout, and checks on the spot that what was written computes the same."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError, RunError
from verydeep.files.disk import write_atomically
from verydeep.net.classifier import Classifier, build
from verydeep.weights import caffe, keras, timm, torchvision
from verydeep.weights.catalogue import catalogue
from verydeep.weights.eats import Colours, ContractWarning, Eats, eats_of, spelled, turned
from verydeep.weights.model import file_of, load, load_or_features, located, with_eats
from verydeep.weights.read import Features, column, open_foreign
from verydeep.weights.recognise import layout_of
from verydeep.weights.shapes import shown
from verydeep.words import several

Target = Literal["caffe", "caffe-v1", "keras", "torchvision", "timm"]
USUAL: dict[str, str] = {
    "caffe": "bgr-255",
    "caffe-v1": "bgr-255",
    "keras": "bgr-255",
    "torchvision": "rgb-01-std",
    "timm": "rgb-01-std",
}
ENDINGS = {
    "caffe": (".caffemodel",),
    "caffe-v1": (".caffemodel",),
    "keras": (".h5",),
    "torchvision": (".pth", ".pt", ".safetensors"),
}
CLOSE = 1e-4  # of the largest value: float32, and a convolution that adds in another order
SAME = 1e-6  # two means that print alike


class Report(NamedTuple):
    """What was written, and how far it was found from its source on a random photo, relative to the largest value."""

    path: Path
    to: str
    eats: Eats  # what the written net eats
    folded: tuple[str, ...]  # of std and mean, what went into conv1_1
    inside: float  # conv1_1 away from the border
    border: float  # conv1_1 with the border
    outputs: float  # the logits; of Features the last convolution
    written: float  # the largest of these three, but from a net of the weights that were to be written: what is folded costs nothing here
    notes: tuple[str, ...] = ()  # what the file does not keep, what was left out, and how to use it here

    def __str__(self) -> str:
        what = f"{' and '.join(self.folded)} folded into conv1_1" if self.folded else "no weight changed"
        return (
            f"{self.path}: {self.to}, {what}; eats {self.eats.order}, mean {short(self.eats.mean)}, std {short(self.eats.std)} of 0-255; "
            f"largest difference {self.inside:.1e} in conv1_1, {self.border:.1e} at its border, {self.outputs:.1e} at the end"
        )


def convert(
    source: Path | str | Classifier | Features, to: Target, out: Path | str, *, eats: str | Eats | None = None,
    keep: bool = False, fold_mean: bool = False,
) -> Report:  # fmt: skip
    """Writes a net for Caffe (V2 or V1), Keras, torchvision or timm, to eat what nets of that layout usually eat.

    source: a model or its path; `eats` says what a foreign file eats, as in `read_foreign`. The source's std is folded into conv1_1
    exactly: each weight is its fp64 product rounded once. Another mean can be folded too, with fold_mean, but the border is padded
    with zeros, which then mean another colour; the report has the difference. With keep nothing is folded, no bit of a weight
    changes, and the user of the file must feed it the source's mean and std. The file is read back and compared before it gets its
    name, so that a bad one is never seen. Raises ModelError, ConfigError and RunError.
    """
    path = Path(out)
    check_target(to, path)
    check_out(source if isinstance(source, (str, Path)) else None, path)
    if keep and fold_mean:
        raise ConfigError(
            "keep and fold_mean: with keep no weight changes, with fold_mean those of conv1_1 do; give one of them"
        )
    net = source if isinstance(source, (Classifier, Features)) else opened(source, eats)
    if (name := net.net.name if isinstance(net, Classifier) else net.net) == "A-LRN":
        raise ModelError(
            f"net {name} normalises its responses, which the nets of that layout do not; it would answer otherwise"
        )
    tensors, mean, std = parts(net)
    usual = eats_of(USUAL[to])
    wanted = (
        Eats(usual.order, *((mean, std) if usual.order == "RGB" else (turned(mean), turned(std)))) if keep else usual
    )
    new_mean, new_std = wanted.rgb()
    folded = tuple(n for n, old, new in (("std", std, new_std), ("mean", mean, new_mean)) if not alike(old, new))
    if "mean" in folded and not fold_mean:
        raise ModelError(
            f"its mean is {short(mean)}, nets of {to} have {short(new_mean)} (RGB, 0-255); give --fold-mean to fold the difference into "
            "conv1_1, which changes what the border sees, or --keep to leave all weights as they are and feed the net its own mean"
        )
    if folded:
        tensors = fold(tensors, mean, std, new_mean, new_std)
    meant = with_weights(net, tensors, new_mean, new_std)

    def fill(temporary: Path) -> Report:
        with TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            trial = Path(folder) / path.name  # by whose ending the writers choose the form
            back = written(turn(tensors, wanted.order), to, trial, path, wanted)
            report = Report(
                path,
                to,
                wanted,
                folded,
                *compare(net, back),
                largest(compare(meant, back)),
                notes(net, back, path, wanted, usual),
            )
            check(report, changed(tensors, parts(back)[0]))
            trial.replace(temporary)
            return report

    return write_atomically(path, fill)


def written(tensors: dict[str, Tensor], to: Target, trial: Path, path: Path, eats: Eats) -> Classifier | Features:
    """Writes what is to lie at `path` to another place, and reads it back from there."""
    try:
        write(tensors, to, trial)
    except ValueError as e:
        raise ModelError(f"{path} cannot be written for {to}: {e}") from e
    except RunError as e:
        raise RunError(str(e).replace(str(trial), str(path))) from e
    try:
        with warnings.catch_warnings(
            action="ignore", category=ContractWarning
        ):  # the names of its classes are the source's
            return open_foreign(trial, eats)
    except ModelError as e:
        raise ModelError(f"{path} was not written: {str(e).replace(str(trial), 'what was to lie there')}") from e


def notes(
    net: Classifier | Features, back: Classifier | Features, path: Path, eats: Eats, usual: Eats
) -> tuple[str, ...]:
    """What is not read back from the file as it was in the net, and the word by which it eats here what it should."""
    was, now = ((n.contract if isinstance(n, Classifier) else n) for n in (net, back))
    lost = [f"the pooling ({was.pooling}; read as {now.pooling})"] if was.pooling != now.pooling else []
    if isinstance(was, Contract) and isinstance(now, Contract):
        lost += [f"the names of {several(len(was.classes), 'classes')}"] if was.classes != now.classes else []
        lost += [f"S ([{was.scales[0]};{was.scales[1]}]; read as {now.scales[0]})"] if was.scales != now.scales else []
    found = [f"the file does not keep {', '.join(lost)}"] if lost else []
    if isinstance(was, Features) and (left := was.left):
        found += [
            f"{several(len(left), 'tensors')} of another head left out ({shown(left[:3])}{', ...' if len(left) > 3 else ''})"
        ]
    with suppress(ConfigError):  # the mean of a net may be one that nobody writes
        if eats != usual and eats_of(word := spelled(eats)) == eats:
            found += [f"to use it here: {path}@{word}"]
    return tuple(found)


def changed(meant: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """The tensors that are not the same: a bias can be lost among pixels of 0-255 without a trace in the logits."""
    same = {name for name in meant.keys() & found.keys() if torch.equal(meant[name], found[name])}
    return sorted((meant.keys() | found.keys()) - same)


def check(report: Report, different: list[str]) -> None:
    """Raises ModelError where the file holds or computes something else than it should, at the border and the end too."""
    apart = (
        (report.written, report.inside)
        if "mean" in report.folded
        else (report.written, report.inside, report.border, report.outputs)
    )
    if different or not all(d <= CLOSE for d in apart):  # which NaN is not
        raise ModelError(
            f"what was written does not compute what its source does ({report.written:.1e} from what was meant, other numbers in "
            f"{', '.join(different[:3]) or 'no tensor'}), so it was deleted, and what was at its place before is unchanged: {report}"
        )


def with_weights(
    net: Classifier | Features, tensors: dict[str, Tensor], mean: Colours, std: Colours
) -> Classifier | Features:
    """The same net with other weights, mean and std."""
    if isinstance(net, Features):
        return replace(net, tensors=tensors, mean=mean, std=std)
    made = build(replace(net.contract, mean=mean, std=std), "meta")
    made.load_state_dict(
        {f"net.{n}": t for n, t in tensors.items()} | {"mean": column(mean), "std": column(std)},
        strict=False,
        assign=True,
    )
    return made.eval()


def check_target(to: str, path: Path) -> None:
    endings = ENDINGS.get("torchvision" if to == "timm" else to)
    if endings is None:
        raise ConfigError(f"to: {to!r} is not known; try one of {', '.join(USUAL)}")
    if not path.name.endswith(endings):
        raise ConfigError(f"out: {path} is for {to}, so its name must end in {' or '.join(endings)}")


def check_out(source: Path | str | None, out: Path) -> None:
    """Nothing is written over what is read, nor into a folder that is not there. Raises ConfigError, ModelError and RunError."""
    with suppress(OSError, ValueError):  # where either is not there
        if source is not None and out.samefile(file_of(source)):
            raise ConfigError(f"out: {out} is the file of {source}, which would be overwritten; give another name")
    if not out.parent.is_dir():
        raise RunError(f"{out} cannot be saved, as there is no folder {out.parent}; make it first, or write elsewhere")


def opened(source: Path | str, eats: str | Eats | None = None) -> Classifier | Features:
    """A model, or convolutions alone; a file that is a published one gets what the catalogue knows of it, unless `eats` is said."""
    if eats is None:
        return load_or_features(source)
    if (said := with_eats(source)[1]) is not None:
        raise ConfigError(f"eats: @{said} says already what {source} eats; give one of @NAME and --eats")
    path, file = located(source), file_of(source)
    layout = layout_of(file)
    if (layout is not None and layout.origin == "verydeep") or (str(source) in catalogue() and not path.exists()):
        raise ConfigError(f"eats: {source} carries its contract; leave it out")
    return open_foreign(file, eats) if file.is_file() else load(source)  # which says what it is instead


def parts(net: Classifier | Features) -> tuple[dict[str, Tensor], Colours, Colours]:
    """Float32 tensors by our names, mean and std."""
    if isinstance(net, Features):
        return learnt(net.tensors), net.mean, net.std
    return learnt(net.net.state_dict()), net.contract.mean, net.contract.std


def learnt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().cpu().float() for n, t in tensors.items() if not n.endswith("num_batches_tracked")}


def alike(a: Colours, b: Colours) -> bool:
    return all(abs(x - y) <= SAME * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))


def fold(
    tensors: dict[str, Tensor], mean: Colours, std: Colours, new_mean: Colours, new_std: Colours
) -> dict[str, Tensor]:
    """conv1_1 for pixels z normalised otherwise: its input (x - mean) / std, with x = z * new_std + new_mean, is z scaled and shifted."""
    m, s, new_m, new_s = (torch.tensor(c, dtype=torch.float64) for c in (mean, std, new_mean, new_std))
    weight = tensors["conv1_1.weight"].double()
    shift = (weight.sum((2, 3)) * ((new_m - m) / s)).sum(1)
    found = dict(tensors)
    found["conv1_1.weight"] = (weight * (new_s / s).view(1, 3, 1, 1)).float()
    if not alike(mean, new_mean):
        found["conv1_1.bias"] = (tensors["conv1_1.bias"].double() + shift).float()
    return found


def turn(tensors: dict[str, Tensor], order: str) -> dict[str, Tensor]:
    return tensors if order == "RGB" else tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}


def write(tensors: dict[str, Tensor], to: str, path: Path) -> None:
    if to in ("caffe", "caffe-v1"):
        caffe.write(tensors, path, "V2" if to == "caffe" else "V1")
    elif to == "keras":
        keras.write(tensors, path)
    else:
        (torchvision if to == "torchvision" else timm).write(tensors, path)


@torch.no_grad()
def compare(a: Classifier | Features, b: Classifier | Features) -> tuple[float, float, float]:
    """Largest differences on a random photo, relative to the largest value: conv1_1 without and with its border, and the outputs."""
    side = a.net.crop if isinstance(a, Classifier) else 64
    photo = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    last = "fc8" if isinstance(a, Classifier) else "pool5"
    (first_a, last_a), (first_b, last_b) = taps(a, photo, last), taps(b, photo, last)
    k = 2  # a 5x5 kernel reaches as far
    inside = slice(k, side - k)
    return (
        difference(first_a[..., inside, inside], first_b[..., inside, inside]),
        difference(first_a, first_b),
        difference(last_a, last_b),
    )


def taps(net: Classifier | Features, photo: Tensor, last: str) -> tuple[Tensor, Tensor]:
    if isinstance(net, Features):
        found = net.taps(photo, ["conv1_1", last])
    else:
        was_training = net.training
        net.eval()
        found = net.net.taps(net.normalise(photo.to(net.mean.device)), ["conv1_1", last])
        net.train(was_training)
    return found["conv1_1"].double().cpu(), found[last].double().cpu()


def largest(differences: tuple[float, ...]) -> float:
    """NaN where any is."""
    return float(torch.tensor(differences, dtype=torch.float64).max())


def difference(a: Tensor, b: Tensor) -> float:
    """NaN where either is."""
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))


def short(colours: Colours) -> str:
    return " ".join(f"{c:.6g}" for c in colours)
