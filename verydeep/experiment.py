"""Train, test by a centre crop and densely, report: what `train` and `demo` do from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verydeep.config import Config
from verydeep.errors import ModelError
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.hardware import device_for
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.report.page import write_report
from verydeep.run import read_config
from verydeep.train.prepare import run_training


def experiment(data: str, config: Config, out: Path, download: bool = False, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Trains into the run `out` or goes on, tests its best net where that was not done yet, and writes the report."""
    progress = Progress("auto" if ranks.first else "none")
    ended = run_training(data, config, out, download, progress, ranks)
    ranks.gather(None)  # by then the first has saved the best net
    settings = Settings(
        device=device_for(config.device).type,
        workers=config.workers,
        bad_photos=config.bad_photos,
        long_photos="middle",
    )
    results = evaluate_models(
        [str(out)], data, settings=settings, download=download, again=False, ranks=ranks, progress=progress
    )
    if ranks.first:
        write_report(out)
    return {"run": str(out), "ended": ended, "report": str(out / "report.html"), "results": results}


def report_run(run: Path) -> Path:
    """Writes the report of a run anew; returns the page. Raises RunError where there is no run, ModelError before its first epoch."""
    read_config(run)
    if not (run / "best.safetensors").exists():
        raise ModelError(
            f"{run} has no best.safetensors yet: its first epoch is not done, so there is nothing to report"
        )
    return write_report(run)
