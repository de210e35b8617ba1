"""Big data sets as tar files with an index. The door: what other rooms use."""

from verydeep.shards.packing import Settings, pack, summary
from verydeep.shards.read import open_shards

__all__ = ["Settings", "open_shards", "pack", "summary"]
