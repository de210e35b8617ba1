"""What a model expects and what it answers, as data that travels inside its file (decision 1 of docs/decisions)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from verydeep.colours import BEFORE, PLAINLY, Reading
from verydeep.errors import ConfigError, ModelError
from verydeep.files.records import Within, record_of
from verydeep.shape import Net, Pooling, Shape, Size

SYNSET = re.compile(r"(n\d{8})( .*)?")
SMALLEST_STD = 1e-30  # float32 and its inverse hold it
Mean = Annotated[float, Within(-255, 255)]
Std = Annotated[float, Within(SMALLEST_STD, 1 / SMALLEST_STD)]


@dataclass(frozen=True)
class Contract:
    """The contract of one model. Colours are in 0-255 units, sizes in pixels."""

    net: Net
    classes: tuple[str, ...]
    crop: Size
    fc_width: Size
    base_width: Size
    batch_norm: bool
    pooling: Pooling
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Std, Std, Std]
    scales: tuple[Size, Size]
    order: Literal["RGB"] = "RGB"
    range: tuple[Literal[0], Literal[255]] = (0, 255)
    task: Literal["classes", "SCR", "PCR"] = "classes"  # or a box: one for all classes, one for each (appendix A)
    log_size: bool = False  # a box's width and height as logarithms
    flip: bool = True  # trained on mirror images too
    origin: str = ""
    licence: str = ""
    sha256: str = ""
    format: Literal[1] = 1
    reading: Reading = PLAINLY  # how files became the pixels it was trained on

    @classmethod
    def of(cls, shape: Shape, classes: Sequence[str], **others: Any) -> Contract:
        """That of a net of this shape, with the names of its classes and the other fields."""
        return cls(**vars(shape) | {"classes": tuple(classes)} | others)

    @property
    def shape(self) -> Shape:
        sizes = self.crop, self.fc_width, self.base_width
        outputs = {"classes": len(self.classes), "SCR": 4, "PCR": 4 * len(self.classes)}[self.task]
        return Shape(self.net, outputs, *sizes, self.batch_norm, self.pooling)

    @property
    def test_scale(self) -> int:
        """Q for a single test scale: S, or (Smin + Smax) / 2 of a jittered net (section 4.1)."""
        return sum(self.scales) // 2


def class_key(name: str) -> str:
    """What tells a class from the others: of ImageNet's the synset, whatever words follow it; else the whole name."""
    found = SYNSET.fullmatch(name)
    return found[1] if found else name


def to_json(contract: Contract) -> str:
    usual = {"log_size": contract.task == "classes", "flip": contract.flip}  # then files say what they always said
    values = {name: value for name, value in asdict(contract).items() if not usual.get(name)}
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def from_json(text: str, where: str) -> Contract:
    """Parses what `to_json` wrote. Raises ModelError naming `where` for anything else."""
    with reading_contract(where):
        return from_values(json.loads(text, object_pairs_hook=without_doubles), where)


def from_values(parsed: object, where: str) -> Contract:
    """The contract of what was parsed from JSON. Raises ModelError naming `where`."""
    with reading_contract(where):
        if not isinstance(parsed, dict):
            raise ValueError("it is no object")
        contract = record_of(Contract, {"reading": vars(BEFORE), "log_size": False, "flip": True} | parsed)
        if contract.scales[0] > contract.scales[1]:
            raise ValueError(f"scales: {list(contract.scales)} run backwards")
        _ = contract.shape, to_json(contract).encode()  # a net can have it; no half character, which no file can hold
        return contract


@contextmanager
def reading_contract(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, ConfigError, RecursionError) as e:
        why = "".join(c if c.isprintable() else "?" for c in str(e))
        raise ModelError(f"{where}: its contract cannot be read ({why}); it is damaged or of a newer verydeep") from e


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two fields of one name, two readers might take one each."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a field stands in it twice")
    return dict(pairs)
