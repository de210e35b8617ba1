from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from verydeep.errors import ConfigError, ModelError
from verydeep.verbs import FilePath, Verb


@dataclass(frozen=True)
class Report(Verb):
    """write the report of a run or study again, or one page of several studies"""

    runs: tuple[str | Path, ...]
    """run folders, or folders of studies"""
    _: KW_ONLY
    out: FilePath | None = None
    """a new folder for one page of several studies, alike but for their nets, seeds and machines; null: none"""

    def run(self) -> dict[str, list[str]]:
        from verydeep.study import join

        folders = [Path(run) for run in self.runs]
        if not self.out:
            return {"reports": [str(written_again(folder)) for folder in folders]}
        if other := next((f for f in folders if not (f / "study.json").exists()), None):
            raise ConfigError(f"--out: {other} is not the folder of a study; a run's report is written into its own")
        return {"reports": [str(join(folders, Path(self.out)))]}

    def text(self, record: dict[str, list[str]]) -> str:
        return "\n".join(record["reports"])


def written_again(folder: Path) -> Path:
    """The page of a run or study."""
    from verydeep.report.page import write_report
    from verydeep.run import read_config
    from verydeep.study import join

    if (folder / "study.json").exists():
        return join([folder], folder)
    read_config(folder)  # which says of another folder that it is none
    if not (folder / "best.safetensors").exists():
        raise ModelError(f"{folder} has no best.safetensors yet: its first epoch is not done; let it go on")
    return write_report(folder)
