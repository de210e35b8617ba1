"""Other people's layouts of data. The door: what other rooms use."""

from verydeep.collections.hub import open_hub
from verydeep.collections.ilsvrc import LISTS, open_ilsvrc, recognise

__all__ = ["LISTS", "open_hub", "open_ilsvrc", "recognise"]
