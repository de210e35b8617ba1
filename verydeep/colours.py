"""How stored pixels become 0-255 sRGB: chosen for a data set, kept in the contract, done again wherever it is read."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from verydeep.errors import ConfigError
from verydeep.fields import settle, spelled
from verydeep.files.records import Within

Level = Annotated[int, Within(0, 255)]
Profiles = Literal["convert", "ignore"]
Range = Literal["full", "auto"] | tuple[float, float]
Background = Literal["white", "black"] | tuple[Level, Level, Level]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Photos of 8 bits in sRGB without transparency are the same however they are read."""

    colour_profiles: Profiles = "convert"
    """An embedded colour profile is converted to sRGB, or ignored; a model remembers it (open)."""
    range: Range = "full"
    """What is black and what is white in photos of more than 8 bits: full (all bits; floats of 0-1 or 0-255), auto
    (each photo's own lowest and highest value), or LOW,HIGH such as 0,4095; a model remembers it (open)."""
    background: Background = "white"
    """What lies behind transparent parts: white, black, or R,G,B; a model remembers it (open)."""

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.range, tuple) and not self.range[0] < self.range[1]:
            raise ConfigError(f"range: {self.range[0]:g} is not below {self.range[1]:g}; give LOW,HIGH")

    @property
    def reading(self) -> "Reading":
        """Of a configuration or a verb, which have these fields too."""
        return Reading(**{f.name: getattr(self, f.name) for f in fields(Reading)})

    @property
    def flags(self) -> str:
        return " ".join(f"--{f.name} {spelled(getattr(self, f.name))}" for f in fields(Reading))


PLAINLY = Reading()
BEFORE = Reading(colour_profiles="ignore")  # of contracts and runs that do not say: made before there was a choice
