"""Is a model whole, finite, learnt and known? Damaged, random and diverged weights look like others from outside."""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from verydeep.errors import ModelError
from verydeep.files.disk import read_sealed
from verydeep.net.classifier import Classifier
from verydeep.net.inside import FC
from verydeep.weights.catalogue import SUMS, Entry, at_hand, catalogue, digests, whose
from verydeep.weights.descent import descent_of
from verydeep.weights.exported import told_in
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.model import load, locate
from verydeep.weights.read import contents, open_foreign, take
from verydeep.weights.recognise import OWN, Layout, layout_of

HASHED = re.compile(r"-(?=\d*[a-f])([0-9a-f]{8})\.pth$")  # torchvision's names; eight decimals may be a date or a step
NOT_KNOWN = "it is none of the catalogue's nets, and its first layer is none that is known"
CERTAIN = 6.0  # standard errors of a correlation, beyond independent weights
ABOVE_EDGE = 1.25  # times the largest singular value of independent weights, which scatters by 10 percent at most
LARGEST_MATRIX = 1 << 24  # weights: more would take seconds and tell nothing new


def verify_model(source: str) -> dict[str, Any]:
    """Whether a model is whole, finite, learnt and known, each with how that was judged. Raises ModelError."""
    path, listed, _, key = locate(source)
    file = at_hand(listed) if listed else path
    layout = layout_of(file)
    own = layout is None or layout == OWN or bool(told_in(file)[0])  # an exported file checks itself when it is read
    namesake = next((e for e in catalogue().values() if e.file == file.name and e.strongest), None)
    sums = digests(file) if layout or namesake else {}
    known = None if own else whose(sums)
    whole, why = wholeness(file.name, sums, namesake, known, own) if sums else (None, "")
    checks: list[tuple[str, bool | None, str]] = [("whole", whole, why)]
    try:
        tensors, known = values_in(file, None if own else layout, known, key)
        checks += judgements(tensors, known)
        # What the test of a run said: weights that are not random may still have learnt nothing of use.
        run = file.with_name("run.json")
        if verdict := read_sealed(run).get("verdict") if own and run.is_file() else None:
            checks.append(("tested", verdict["learnt"], verdict["words"]))
    except ModelError as e:
        if whole is not False:
            raise
        checks.append(("finite", None, f"not judged: {e}"))
    records = [{"check": check, "ok": ok, "words": words} for check, ok, words in checks]
    return {"model": source, "published": known, "good": all(r["ok"] is not False for r in records), "checks": records}


def values_in(file: Path, layout: Layout | None, known: str | None, key: str) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file, which need not be finite, and which net of the catalogue they are. Raises ModelError."""
    if layout is None:
        found = load(file)
        seals = {e.checksums["tensors_sha256"].value: e.name for e in catalogue().values() if e.builtin}
        return contents(found)[1], seals.get(found.contract.sha256)
    try:
        with warnings.catch_warnings(action="ignore", category=ContractWarning):  # the usual colours may not be its own
            net = open_foreign(file, layout.usual, entry=catalogue()[known] if known else "none", key=key)
            return contents(net)[1], known
    except ModelError:
        tensors = take(file, key)[0].tensors
        if not infinite_in(tensors):
            raise
        return tensors, known


def infinite_in(tensors: dict[str, Tensor]) -> list[str]:
    return [name for name, t in tensors.items() if not bool(t.isfinite().all())]


def judgements(tensors: dict[str, Tensor], known: str | None) -> list[tuple[str, bool | None, str]]:
    """(check, whether it went well, in words how that was judged)."""
    if infinite := infinite_in(tensors):
        finite, learnt, how = f"not finite: {', '.join(infinite[:5])}", None, "not judged, as not every value is finite"
    else:
        finite, (learnt, how) = "every value is finite", learnt_or_random(tensors)
    origin = f"it is {known}" if known else str(descent_of(tensors) or NOT_KNOWN)
    return [("finite", not infinite, finite), ("learnt", learnt, how), ("known", None, origin)]


def doubts_about(name: str, net: Classifier, layers: Iterable[str]) -> Iterator[str]:
    """What to know of a net, in lines, before what these layers say is taken for knowledge."""
    tensors, taps = {n.removeprefix("net."): t for n, t in net.state_dict().items()}, set(layers)
    if infinite := infinite_in(tensors):
        yield f"warning: {name} has weights that are not finite, in {infinite[0]}; 'verydeep weights verify' says more"
    elif not (found := learnt_or_random(tensors))[0]:
        yield f"warning: {name} does not look as if it had learnt: {found[1]}"
    elif "FC layers random" in net.contract.origin and taps & set(FC):
        yield f"warning: the FC layers of {name} are random, as its contract says; its pool5 was learnt"
    if not net.net.fc6:
        yield f"note: {name} has only convolutions; its last layer is pool5, which describes where no layer is named"
    if net.contract.task != "classes":
        yield f"note: {name} says where things are, not what; its layers describe photos all the same"


def wholeness(
    file: str, sums: dict[str, str], namesake: Entry | None, known: str | None, sealed: bool
) -> tuple[bool | None, str]:
    """Whether a file is as it was published or saved, by the checksum of its name, in it, or stated of it."""
    again = "it is damaged or another file; fetch it again, or rename it"
    if namesake and known != namesake.name:
        kind = str(namesake.strongest)
        whose_is = f"{namesake.name}, whose {SUMS[kind]} is {namesake.checksums[kind].value}"
        return False, f"its name is that of {whose_is}, and its own is {sums[kind]}: {again}"
    if sealed:
        return True, "contract and tensors match the SHA-256 they carry"
    if known:
        return True, f"its {SUMS[str(catalogue()[known].strongest)]} is that of {known}"
    if not (m := HASHED.search(file)):
        return None, "it carries no checksum and is none of the catalogue's; it could be read, and every layer is there"
    if (digits := sums["sha256_prefix"]) == m[1]:
        return True, f"its {SUMS['sha256_prefix']} is that in its name"
    return False, f"its name ends in {m[1]}, as torchvision's end in their SHA-256, and its own is {digits}: {again}"


def verify_text(r: dict[str, Any]) -> str:
    marks = {True: "yes", False: "NO", None: "-"}
    return "\n".join(f"{c['check']:<8}{marks[c['ok']]:<5}{c['words']}" for c in r["checks"])


def learnt_or_random(tensors: Mapping[str, Tensor]) -> tuple[bool, str]:
    """(whether convolutions are learnt, in words how that was judged): first weights of every kind are independent."""
    weights = (levelled(t) for name, t in tensors.items() if name.startswith("conv") and name.endswith(".weight"))
    found = [(correlation(w), edge(w)) for w in weights]
    related, beyond = sum(abs(r) > CERTAIN for r, _ in found), sum(e > ABOVE_EDGE for _, e in found)
    learnt = related > 0 or beyond > 0
    return learnt, (
        f"{'not random' if learnt else 'like random weights'}: neighbouring weights correlate by more than {CERTAIN:g} "
        f"standard errors in {related} of {len(found)} convolutions, and the largest singular value is above "
        f"{ABOVE_EDGE:g} times that of independent weights in {beyond}"
    )


def levelled(weight: Tensor) -> Tensor:
    """float64, each filter of mean square 1: a batch norm that was multiplied in scales them, learnt or not."""
    w = weight.detach().double().cpu()
    return w / w.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=torch.finfo(torch.float32).tiny)


def correlation(weight: Tensor) -> float:
    """Pearson's r between neighbours, across and down, of K x C x k x k kernels, times the root of the number of pairs.

    In standard errors of independent weights. Smooth kernels, as photos teach them, give a large value; equal weights,
    and kernels of 1 x 1, give 0.
    """
    x = weight - weight.mean()
    across, down = x[..., :, :-1] * x[..., :, 1:], x[..., :-1, :] * x[..., 1:, :]
    pairs = across.numel() + down.numel()
    spread = float(x.square().mean())
    return float(across.sum() + down.sum()) / math.sqrt(pairs) / spread if spread and pairs else 0.0


def edge(weight: Tensor) -> float:
    """Largest singular value over sigma (sqrt(m) + sqrt(n)), that of independent m x n values (Bai & Yin 1993).

    Of a layer as K x 9C, less its mean, so that equal weights, which tell nothing, give 0. NaN where it is too large.
    """
    matrix = (weight - weight.mean()).flatten(1)
    m, n = matrix.shape
    sigma = float(matrix.square().mean().sqrt())
    if matrix.numel() > LARGEST_MATRIX or not sigma:
        return math.nan if sigma else 0.0
    gram = matrix @ matrix.T if m <= n else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) / sigma / (math.sqrt(m) + math.sqrt(n))
