"""Other people's layouts of data. The door: what other rooms use."""

from verydeep.collections.hub import open_hub
from verydeep.collections.ilsvrc import LISTS, ilsvrc_folders, open_ilsvrc
from verydeep.collections.lists import open_list
from verydeep.collections.table import LIST_SUFFIXES

__all__ = ["LISTS", "LIST_SUFFIXES", "ilsvrc_folders", "open_hub", "open_ilsvrc", "open_list"]
