from dataclasses import dataclass
from pathlib import Path

from verydeep.errors import ModelError
from verydeep.verbs import Verb


@dataclass(frozen=True)
class Report(Verb):
    """write the report of a run again"""

    runs: tuple[str | Path, ...]
    """run folders"""

    def run(self) -> dict[str, list[str]]:
        from verydeep.report.page import write_report
        from verydeep.run import read_config

        pages = []
        for run in map(Path, self.runs):
            read_config(run)  # which says of another folder that it is none
            if not (run / "best.safetensors").exists():
                raise ModelError(f"{run} has no best.safetensors yet: its first epoch is not done; let it go on")
            pages.append(str(write_report(run)))
        return {"reports": pages}

    def text(self, record: dict[str, list[str]]) -> str:
        return "\n".join(record["reports"])
