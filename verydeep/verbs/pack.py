from dataclasses import KW_ONLY, dataclass
from typing import Any

from verydeep.colours import Reading
from verydeep.config import Level
from verydeep.files.records import Count, Natural, Workers
from verydeep.verbs import BadPhotos, Verb


@dataclass(frozen=True)
class Pack(Reading, Verb):
    """copy DATA into tar shards with an index, for big data sets and object stores; numbers stay the same"""

    data: str
    _: KW_ONLY
    out: str
    """where the shards go, such as shards/flowers-%05d.tar"""
    smallest_side: Count | None = None
    """rescale bigger photos once to this side, for speed; null: none"""
    shard_mb: Count = 256
    """megabytes a shard"""
    seed: Natural = 0
    """of the order in the shards"""
    bad_photos: BadPhotos = "stop"
    """an unreadable file stops the work, or is skipped; only --smallest_side decodes photos, so check DATA first"""
    groups: str | None = None
    """photos kept in one split: a column of the list, or a regular expression for paths with the group in brackets;
    null: a column such as group or patient"""
    classes: Level | None = None
    """classes are the folders at the top, those that photos lie in, or words of file names; null: what is plain"""
    workers: Workers = -1
    download: bool = False

    SPARES = "--workers 1 reads one photo at a time"

    def run(self) -> dict[str, Any]:
        from verydeep.shards import Packing, pack

        settings = Packing(self.smallest_side, self.shard_mb, self.seed, self.bad_photos, self.workers)
        return pack(
            self.data, self.out, settings, self.download, groups=self.groups, classes=self.classes, reading=self.reading
        )

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.shards import summary

        return summary(record)
