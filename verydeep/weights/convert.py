"""Writes a net in another toolkit's layout, and checks on the spot that what was written computes the same."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError
from verydeep.files.disk import check_place, saying, write_atomically
from verydeep.weights import caffe, keras, torchvision
from verydeep.weights.inputs import USUAL, Colours, ContractWarning, Input, input_in, input_of, input_word, shortly
from verydeep.weights.model import load_or_features, locate
from verydeep.weights.read import Features, Net, contents, open_foreign
from verydeep.weights.shapes import shown
from verydeep.words import several

Target = Literal["caffe", "keras", "torchvision", "timm"]
CLOSE = 1e-4  # of the largest value: float32, and a convolution that adds in another order
SAME = 1e-6  # two means that print alike
# Who writes a target, and how the names of its files end
WRITERS: dict[str, tuple[Callable[[dict[str, Tensor], Path], None], tuple[str, ...]]] = {
    "caffe": (caffe.write, (".caffemodel",)), "keras": (keras.write, (".h5",)),
    "torchvision": (torchvision.write, (".pth", ".pt", ".safetensors")),
    "timm": (torchvision.write_timm, (".pth", ".pt", ".safetensors")),
}  # fmt: skip


class Conversion(NamedTuple):
    """What was written, and how far it was found from its source on a random photo, relative to the largest value."""

    path: Path
    to: str
    expects: Input  # what the written net expects
    folded: tuple[str, ...]  # of std and mean, what went into conv1_1
    inside: float  # conv1_1 away from the border
    border: float  # conv1_1 with the border
    outputs: float  # the logits; of Features the last convolution
    notes: tuple[str, ...]  # what the file does not keep, what was left out, and how to use it here

    def __str__(self) -> str:
        what = f"{' and '.join(self.folded)} folded into conv1_1" if self.folded else "no weight changed"
        apart = f"{self.inside:.1e} in conv1_1, {self.border:.1e} at its border, {self.outputs:.1e} at the end"
        return f"{self.path}: {self.to}, {what}; expects {self.expects}; largest difference {apart}"


def convert(
    source: Path | str | Net, to: Target, out: Path | str, *, expects: str | Input | None = None,
    keep: bool = False, fold_mean: bool = False,
) -> Conversion:  # fmt: skip
    """Writes a net for Caffe (V2), Keras, torchvision or timm, with the input that is usual there.

    source: a model or its path; `expects`: the input of a foreign net, as in `read_foreign`. The source's std is folded
    into conv1_1 exactly: each weight is its fp64 product rounded once. Another mean can be folded too, with fold_mean,
    but the border is padded with zeros, which then mean another colour; the report has the difference. With keep no
    weight changes, and who uses the file must normalise by the source's mean and std. The file is read back and
    compared before it gets its name. Raises ModelError, ConfigError and RunError.
    """
    path = Path(out)
    if to not in WRITERS:
        raise ConfigError(f"to: {to!r} is not known; try one of {', '.join(WRITERS)}")
    check_out(source, path, to, WRITERS[to][1])
    if keep and fold_mean:
        raise ConfigError("keep and fold_mean: the one leaves conv1_1 as it is, the other changes it; give one of them")
    net = load_or_features(source, expects) if isinstance(source, (str, Path)) else source
    about, tensors = contents(net)
    if about.net == "A-LRN":
        raise ModelError("net A-LRN normalises its responses; nets of that layout do not and would answer otherwise")
    usual = input_of(USUAL[to])
    wanted = input_in(usual.order, about.mean, about.std) if keep else usual
    mean, std = wanted.rgb()
    changes = {"std": (about.std, std), "mean": (about.mean, mean)}
    folded = tuple(name for name, (old, new) in changes.items() if not alike(old, new))
    if "mean" in folded and not fold_mean:
        means = f"its mean is {shortly(about.mean)}, nets of {to} have {shortly(mean)} (RGB, 0-255)"
        raise ModelError(f"{means}; give --fold-mean, which alters the border, or --keep, and subtract its own mean")
    if folded:
        tensors = fold(tensors, about, mean, std)
    with (
        saying(f"{path} cannot be saved", "what was there before is unchanged"),
        TemporaryDirectory(prefix=".", dir=path.parent) as folder,
    ):
        trial = Path(folder) / path.name  # by whose ending the writers choose the form
        back = written(tensors, to, trial, path, wanted)
        report = Conversion(path, to, wanted, folded, *nets_apart(net, back), notes(net, back, path, wanted, usual))
        check_report(report, tensors, contents(back)[1])
        write_atomically(path, trial.replace)
    return report


def check_out(source: Path | str | Net, out: Path, to: str, endings: tuple[str, ...]) -> None:
    """Nothing is written over what is read, nor into a folder that is not there. Raises ConfigError and RunError."""
    if not out.name.endswith(endings):
        raise ConfigError(f"out: {out} is for {to}, so its name must end in {' or '.join(endings)}")
    with suppress(OSError):  # where either is not there
        if isinstance(source, (str, Path)) and out.samefile(locate(source).path):
            raise ConfigError(f"out: {out} is the file of {source}, which would be overwritten; give another name")
    check_place(out)


def alike(a: Colours, b: Colours) -> bool:
    return all(abs(x - y) <= SAME * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))


def fold(tensors: dict[str, Tensor], about: Contract | Features, mean: Colours, std: Colours) -> dict[str, Tensor]:
    """conv1_1 for pixels z normalised otherwise: its input (x - mean) / std, of x = z new_std + new_mean."""
    m, s, new_m, new_s = (torch.tensor(c, dtype=torch.float64) for c in (about.mean, about.std, mean, std))
    weight, bias = (tensors[f"conv1_1.{p}"].double() for p in ("weight", "bias"))
    found = tensors | {"conv1_1.weight": (weight * (new_s / s).view(1, 3, 1, 1)).float()}
    if not alike(about.mean, mean):
        found["conv1_1.bias"] = (bias + (weight.sum((2, 3)) * ((new_m - m) / s)).sum(1)).float()
    return found


def written(tensors: dict[str, Tensor], to: str, trial: Path, path: Path, its: Input) -> Net:
    """Writes what is to lie at `path` elsewhere, and reads it back from there. Raises ModelError and OSError."""
    if its.order == "BGR":
        tensors = tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}
    try:
        WRITERS[to][0](tensors, trial)
        with warnings.catch_warnings(action="ignore", category=ContractWarning):  # the source names its classes
            return open_foreign(trial, its)
    except (ValueError, ModelError) as e:
        raise ModelError(f"{path} was not written: {str(e).replace(str(trial), 'what was to lie there')}") from e


def check_report(report: Conversion, meant: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Raises ModelError where the file holds or computes something else; a folded mean may alter the border.

    A bias can be lost among pixels of 0-255 without a trace in the logits, so tensors are compared too.
    """
    other = [n for n in meant if n not in found or not torch.equal(meant[n], found[n])][:3]
    apart = [report.inside] + [report.border, report.outputs] * ("mean" not in report.folded)
    if other or not all(d <= CLOSE for d in apart):  # which NaN is not
        what = f"is not what its source is (other numbers in {', '.join(other) or 'no tensor'})"
        raise ModelError(f"what was written {what}, and was deleted; what was there before is unchanged: {report}")


def notes(net: Net, back: Net, path: Path, its: Input, usual: Input) -> tuple[str, ...]:
    """What is not read back from the file as it was in the net, and the word for its input."""
    was, now, found = contents(net)[0], contents(back)[0], []
    lost = [f"the pooling ({was.pooling}; read as {now.pooling})"] if was.pooling != now.pooling else []
    if isinstance(was, Contract) and isinstance(now, Contract):
        lost += [f"the names of {several(len(was.classes), 'classes')}"] if was.classes != now.classes else []
        low, high = was.scales
        lost += [f"S ([{low};{high}]; read as {now.scales[0]})"] if was.scales != now.scales else []
    if lost:
        found.append(f"the file does not keep {', '.join(lost)}")
    if isinstance(was, Features) and was.left:
        names = shown(was.left[:3]) + ", ..." * (len(was.left) > 3)
        found.append(f"{several(len(was.left), 'tensors')} of another head left out ({names})")
    with suppress(ConfigError):  # the mean of a net may be one that nobody writes
        if its != usual and input_of(word := input_word(its)) == its:
            found.append(f"to use it here: {path}@{word}")
    return tuple(found)


@torch.no_grad()
def nets_apart(a: Net, b: Net) -> tuple[float, float, float]:
    """Largest differences on a random photo: conv1_1 without and with its border, and the outputs."""
    side, last = (64, "pool5") if isinstance(a, Features) else (a.net.crop, "fc8")
    photo = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (first, end), (its_first, its_end) = (taps(net, photo, ["conv1_1", last]) for net in (a, b))
    inside = (..., slice(2, -2), slice(2, -2))  # a 5x5 kernel reaches as far
    return furthest(first[inside], its_first[inside]), furthest(first, its_first), furthest(end, its_end)


def taps(net: Net, photo: Tensor, names: list[str]) -> list[Tensor]:
    if isinstance(net, Features):
        found = net.taps(photo, names)
    else:
        was_training = net.training
        found = net.eval().net.taps(net.normalise(photo.to(net.mean.device)), names)
        net.train(was_training)
    return [found[name].double().cpu() for name in names]


def furthest(a: Tensor, b: Tensor) -> float:
    """Relative to the largest value; NaN where either is."""
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))
