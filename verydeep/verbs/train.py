from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from verydeep.config import Config
from verydeep.files.records import Within
from verydeep.recipes import PAPER
from verydeep.verbs import FilePath, Trains

if TYPE_CHECKING:
    from verydeep.ranks import Ranks


@dataclass(frozen=True)
class Train(Trains):
    """train a net on DATA into a run folder, or go on where it stopped; then test it and write the report"""

    data: str
    _: KW_ONLY
    out: FilePath
    """the run folder; an interrupted one goes on"""
    time: str = "10m"
    """about how long --recipe auto may take, its test included, such as 90s, 5m or 2h; so long for each fold"""
    folds: Annotated[int, Within(2, 100)] | None = None
    """cross-validation: so many trainings, each tested on another part of every class; null: one training"""
    download: bool = False
    config: Config = PAPER

    STARTS = True

    def run(self) -> dict[str, Any] | None:
        from verydeep.ranks import joined

        with joined() as ranks:
            if not self.folds:
                return self.one(Path(self.out), None, ranks)
            from verydeep.data.source import open_data
            from verydeep.study import cross_validate

            c = self.config
            data = open_data(
                self.data, download=self.download, groups=c.groups, classes=c.classes, corrections=c.corrections
            )
            one = lambda out, split: self.one(out, split, ranks)  # noqa: E731
            found = cross_validate(data, self.folds, c.seed, c.val_share, Path(self.out), one, ranks.first)
            return found if ranks.first else None

    def one(self, out: Path, split: Path | None, ranks: "Ranks") -> dict[str, Any] | None:
        """A training, its test and its report."""
        from verydeep.evaluate.models import evaluate_models
        from verydeep.evaluate.passes import Settings
        from verydeep.hardware import device_for
        from verydeep.report.page import write_report
        from verydeep.report.verdict import main_result, verdict
        from verydeep.train.prepare import run_training
        from verydeep.train.remember import judge

        c = self.config
        ended = run_training(self.data, c, out, self.download, ranks=ranks, split=split)
        ranks.gather(None)  # by then the first has saved the best net
        settings = Settings(
            device=device_for(c.device).type, workers=c.workers, bad_photos=c.bad_photos, long_photos="middle"
        )
        results = evaluate_models(
            [str(out)], self.data, settings=settings, download=self.download, again=False, ranks=ranks
        )
        if not ranks.first:
            return None
        said = verdict(main_result(results) or results[-1])
        judge(out, said)
        page = str(write_report(out))
        return {"run": str(out), "ended": ended, "verdict": said, "report": page, "results": results}

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.study import folds_text

        return folds_text(record) if self.folds else super().text(record)
