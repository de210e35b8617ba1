"""Is a model whole, finite, learnt and known? Damaged, random and diverged weights look like others from outside."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from verydeep.errors import ModelError
from verydeep.weights import randomness
from verydeep.weights.catalogue import SUMS, Entry, at_hand, catalogue, digests, whose
from verydeep.weights.compare import contents
from verydeep.weights.descent import descent_of
from verydeep.weights.eats import ContractWarning
from verydeep.weights.model import load, locate
from verydeep.weights.read import open_foreign, take
from verydeep.weights.recognise import Layout, layout_of

HASHED = re.compile(r"-(?=\d*[a-f])([0-9a-f]{8})\.pth$")  # torchvision's names; eight decimals may be a date or a step
NOT_KNOWN = "it is none of the catalogue's nets, and its first layer is none of those whose values are known"


def verify_model(source: str) -> dict[str, Any]:
    """Whether a model is whole, finite, learnt and known, each with how that was judged. Raises ModelError."""
    path, listed, _ = locate(source)
    file = at_hand(listed) if listed else path
    layout = layout_of(file)
    own = layout is None or layout.origin == "verydeep"
    namesake = next((e for e in catalogue().values() if e.file == file.name and e.strongest), None)
    sums = digests(file) if layout or namesake else {}
    known = None if own else whose(sums)
    whole, why = wholeness(file.name, sums, namesake, known, own) if sums else (None, "")
    checks: list[tuple[str, bool | None, str]] = [("whole", whole, why)]
    try:
        tensors, known = values_in(file, layout, known)
        checks += judgements(tensors, known)
    except ModelError as e:
        if whole is not False:
            raise
        checks.append(("finite", None, f"not judged: {e}"))
    good = all(ok is not False for _, ok, _ in checks)
    records = [{"check": check, "ok": ok, "words": words} for check, ok, words in checks]
    return {"model": source, "published": known, "good": good, "checks": records}


def values_in(file: Path, layout: Layout | None, known: str | None) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file, which need not be finite, and which net of the catalogue they are. Raises ModelError."""
    if layout is None or layout.origin == "verydeep":
        found = load(file)
        seals = {e.checksums["tensors_sha256"].value: e.name for e in catalogue().values() if e.builtin}
        return contents(found)[1], seals.get(found.contract.sha256)
    try:
        with warnings.catch_warnings(action="ignore", category=ContractWarning):  # the usual colours may not be its own
            return contents(open_foreign(file, layout.usual, entry=catalogue()[known] if known else "none"))[1], known
    except ModelError:
        tensors = take(file)[0].tensors
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
        finite, (learnt, how) = "every value is finite", randomness.judged(tensors)
    origin = f"it is {known}" if known else str(descent_of(tensors) or NOT_KNOWN)
    return [("finite", not infinite, finite), ("learnt", learnt, how), ("known", None, origin)]


def wholeness(
    file: str, sums: dict[str, str], namesake: Entry | None, known: str | None, sealed: bool
) -> tuple[bool | None, str]:
    """Whether a file is as it was published or saved, by the checksum of its name, in it, or stated of it."""
    again = "it is damaged or another file; fetch it again, or rename it"
    if namesake and known != namesake.name:
        kind = str(namesake.strongest)
        return False, (
            f"its name is that of {namesake.name}, whose {SUMS[kind]} is {namesake.checksums[kind].value}, "
            f"and its own is {sums[kind]}: {again}"
        )
    if sealed:
        return True, "contract and tensors match the SHA-256 they carry"
    if known:
        return True, f"its {SUMS[str(catalogue()[known].strongest)]} is that of {known}"
    if not (m := HASHED.search(file)):
        return (
            None,
            "the file carries no checksum and is none of the catalogue's; it could be read, and every layer is there",
        )
    kind, digits = SUMS["sha256_prefix"], sums["sha256_prefix"]
    if digits == m[1]:
        return True, f"its {kind} is that in its name"
    return False, f"its name ends in {m[1]}, as torchvision's end in their {kind}, and its own is {digits}: {again}"


def verify_text(r: dict[str, Any]) -> str:
    marks = {True: "yes", False: "NO", None: "-"}
    return "\n".join(f"{c['check']:<8}{marks[c['ok']]:<5}{c['words']}" for c in r["checks"])
