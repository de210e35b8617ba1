"""What tells one net of the paper from another: its column of Table 1 and its sizes (sections 2.1 and 2.2)."""

from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

from verydeep.errors import ConfigError
from verydeep.files.records import Within
from verydeep.near import checked
from verydeep.paper import STRIDE, TABLE_1

if TYPE_CHECKING:
    Net = str
else:
    Net = Literal[tuple(TABLE_1)]
Size = Annotated[int, Within(1, 1 << 16)]  # pixels or channels
Pooling = Literal["up", "down"]


@dataclass(frozen=True)
class Shape:
    """What the paper fixed, which is its net D here, and what may vary. Raises ConfigError naming the field."""

    net: Net = "D"  # a column of Table 1, or shallow-B
    classes: Annotated[int, Within(1)] = 1000
    crop: Size = 224  # pixels, a multiple of 32
    fc_width: Size = 4096  # channels of fc6 and fc7
    base_width: Size = 64  # channels of block 1; the others are 2, 4, 8 and 8 times as wide
    batch_norm: bool = False
    pooling: Pooling = "up"  # how odd sides round: as in Caffe, or down; nothing differs at crop size

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Shape, include_extras=True).items():
            value = getattr(self, name)
            if not isinstance(value, bool) and hasattr(value, "__index__"):
                value = index(value)  # numpy's whole numbers are as good
            object.__setattr__(self, name, checked(name, value, kind))
        if self.crop % STRIDE:
            nearest = max(STRIDE, round(self.crop / STRIDE) * STRIDE)
            raise ConfigError(
                f"crop: {self.crop} is not a multiple of {STRIDE}; the nets halve it five times, try {nearest}"
            )
