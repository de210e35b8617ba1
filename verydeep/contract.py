"""What a model eats and what it answers, as data that travels inside its file (decision 1 of docs/decisions)."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from verydeep.errors import ModelError
from verydeep.paper import TABLE_1

FORMAT = 1
SYNSET = re.compile(r"(n\d{8})( .*)?")
SMALLEST_STD = 1e-30  # float32 and its inverse hold it


@dataclass(frozen=True)
class Contract:
    """The contract of one model. Colours are in 0-255 units, sizes in pixels."""

    net: str
    classes: tuple[str, ...]
    crop: int
    fc_width: int
    base_width: int
    batch_norm: bool
    pooling: Literal["up", "down"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scales: tuple[int, int]
    order: Literal["RGB"] = "RGB"
    range: tuple[int, int] = (0, 255)
    task: Literal["classes"] = "classes"
    origin: str = ""
    licence: str = ""
    sha256: str = ""

    @property
    def test_scale(self) -> int:
        """Q for a single test scale: S, or (Smin + Smax) / 2 of a jittered net (section 4.1)."""
        return sum(self.scales) // 2


def class_key(name: str) -> str:
    """What tells a class from the others: of ImageNet's the synset, whatever words follow it; else the whole name."""
    found = SYNSET.fullmatch(name)
    return found[1] if found else name


def to_json(contract: Contract) -> str:
    return json.dumps({"format": FORMAT, **dataclasses.asdict(contract)}, ensure_ascii=False, sort_keys=True)


def from_json(text: str, where: str) -> Contract:
    """Parses what `to_json` wrote. Raises ModelError naming `where` for anything else."""
    try:
        return from_values(json.loads(text, object_pairs_hook=without_doubles), where)
    except (ValueError, RecursionError) as e:
        raise ModelError(f"{where}: its contract cannot be read ({e}); the file is damaged or not of verydeep") from e


def from_values(parsed: object, where: str) -> Contract:
    """The contract of what was parsed from JSON. Raises ModelError naming `where`."""
    try:
        if not isinstance(parsed, dict):
            raise TypeError("not an object")
        values: dict[str, Any] = dict(parsed)
        found = values.pop("format", None)
        if found != FORMAT:
            raise ModelError(
                f"{where}: its contract has format {found!r:.20}, this version reads {FORMAT}; try a newer verydeep"
            )
        names = {f.name for f in dataclasses.fields(Contract)}
        if set(values) != names:
            raise TypeError(f"fields {[name[:40] for name in sorted(set(values) ^ names)][:5]}")
        for name, kinds in (
            ("classes", [str]),
            ("mean", [float, int]),
            ("std", [float, int]),
            ("scales", [int]),
            ("range", [int]),
        ):
            if not isinstance(values[name], list) or not all(
                type(v) in kinds for v in values[name]
            ):  # to isinstance, a bool is an int
                raise TypeError(f"{name} is no list or holds values of another kind")
            values[name] = tuple(values[name])
        contract = Contract(**values)
        for name in ("crop", "fc_width", "base_width"):
            if type(getattr(contract, name)) is not int or not 0 < getattr(contract, name) <= 1 << 16:
                raise TypeError(f"{name} is out of range")
        if len(contract.mean) != 3 or len(contract.std) != 3 or len(contract.scales) != 2 or not contract.classes:
            raise TypeError("mean, std, scales or classes have the wrong length")
        if not all(abs(v) <= 255 for v in contract.mean) or not all(
            SMALLEST_STD <= v <= 1 / SMALLEST_STD for v in contract.std
        ):
            raise TypeError("mean or std is out of range")
        if not 0 < contract.scales[0] <= contract.scales[1] <= 1 << 16:
            raise TypeError("scales do not rise from above 0, or are out of range")
        if (
            contract.net not in tuple(TABLE_1)
            or contract.pooling not in ("up", "down")
            or not isinstance(contract.batch_norm, bool)
        ):
            raise TypeError("net, pooling or batch_norm is unknown")
        if not all(isinstance(text, str) for text in (contract.origin, contract.licence, contract.sha256)):
            raise TypeError("origin, licence or sha256 is not text")
        "".join(
            (*contract.classes, contract.origin, contract.licence)
        ).encode()  # not half a character, which no file can hold
        if contract.order != "RGB" or contract.range != (0, 255) or contract.task != "classes":
            raise TypeError("only RGB, 0-255, task classes is written by this version")
        return contract
    except (ValueError, TypeError, OverflowError, RecursionError) as e:
        raise ModelError(f"{where}: its contract cannot be read ({e}); the file is damaged or not of verydeep") from e


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two fields of one name, two readers might take one each."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a field stands in it twice")
    return dict(pairs)
