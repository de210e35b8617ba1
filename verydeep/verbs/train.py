from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from verydeep.config import Config
from verydeep.recipes import PAPER
from verydeep.verbs import FilePath, Trains


@dataclass(frozen=True)
class Train(Trains):
    """train a net on DATA into a run folder, or go on where it stopped; then test it and write the report"""

    data: str
    _: KW_ONLY
    out: FilePath
    """the run folder; an interrupted one goes on"""
    time: str = "10m"
    """about how long --recipe auto may take, its test included, such as 90s, 5m or 2h"""
    download: bool = False
    config: Config = PAPER

    STARTS = True

    def run(self) -> dict[str, Any] | None:
        from verydeep.evaluate.models import evaluate_models
        from verydeep.evaluate.passes import Settings
        from verydeep.hardware import device_for
        from verydeep.ranks import joined
        from verydeep.report.page import write_report
        from verydeep.report.verdict import main_result, verdict
        from verydeep.train.prepare import run_training
        from verydeep.train.remember import judge

        out, c = Path(self.out), self.config
        with joined() as ranks:
            ended = run_training(self.data, c, out, self.download, ranks=ranks)
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
