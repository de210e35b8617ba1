"""Other people's layouts of data. The door: what other rooms use."""

from verydeep.collections.hub import open_hub
from verydeep.collections.ilsvrc import LISTS, ilsvrc_folders, open_ilsvrc

__all__ = ["LISTS", "ilsvrc_folders", "open_hub", "open_ilsvrc"]
