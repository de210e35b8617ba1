"""What to train where nobody says it. The door: what other rooms use."""

from verydeep.choose.rule import choose, seconds_in

__all__ = ["choose", "seconds_in"]
