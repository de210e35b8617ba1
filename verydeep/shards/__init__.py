"""Big data sets as tar files with an index. The door: what other rooms use."""

from verydeep.shards.packing import Packing, pack, summary
from verydeep.shards.read import open_shards

__all__ = ["Packing", "open_shards", "pack", "summary"]
