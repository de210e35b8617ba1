from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.config import Config
from verydeep.files.records import Count, Natural
from verydeep.recipes import PAPER
from verydeep.shape import Net
from verydeep.verbs import FilePath, Trains


@dataclass(frozen=True)
class Study(Trains):
    """the paper's experiment on DATA: train several nets in stages, set up its tables, and see which claims hold"""

    data: str
    _: KW_ONLY
    out: FilePath
    """the study's folder; an interrupted one goes on, or grows"""
    nets: tuple[Net, ...] = ("A", "A-LRN", "B", "C", "D", "E")
    """columns of Table 1, or shallow-B, with commas; B to E start from A, so A comes with them"""
    seeds: tuple[Natural, ...] = (0,)
    """every net is trained once from each, with commas; all must agree before a claim is decided. --seed only
    draws the split"""
    train_scales: Literal["table3", "first", "all"] = "table3"
    """which S each net is trained at: those of Table 3, only the first, or all three"""
    tuning_epochs: Count | None = None
    """epochs of the stages that start from the same net at a smaller S; null: as many as the others"""
    test_photos: Count | None = None
    """test on the first N photos only; null: on all"""
    crops_photos: Count | None = None
    """test crops on the first N photos only; null: on all"""
    dry_run: bool = False
    """say what would be done and how long it would take; write nothing"""
    download: bool = False
    config: Config = PAPER

    REFUSED = {"net": "a study trains several; give --nets, such as --nets A,B"}

    def run(self) -> dict[str, Any] | None:
        from verydeep.ranks import joined
        from verydeep.study import Asked, dry_run, study

        asked = Asked(self.nets, self.seeds, self.train_scales, self.tuning_epochs, self.crops_photos, self.test_photos)
        if self.dry_run:
            return dry_run(self.data, self.config, asked, Path(self.out), self.download)
        with joined() as ranks:
            record = study(self.data, self.config, asked, Path(self.out), self.download, ranks)
            return record if ranks.first else None

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.study import plan_text, summary

        return plan_text(record) if self.dry_run else summary(record, Path(self.out))
