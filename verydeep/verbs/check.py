from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from verydeep.colours import Reading
from verydeep.config import Level
from verydeep.files.records import Workers
from verydeep.verbs import FilePath, Verb


@dataclass(frozen=True)
class Check(Reading, Verb):
    """say what is wrong with the photos of DATA, and what will be done about it"""

    data: str
    _: KW_ONLY
    page: FilePath | None = None
    """write one HTML page with thumbnails there; null: none"""
    groups: str | None = None
    """photos kept in one split: a column of the list, or a regular expression for paths with the group in brackets;
    null: a column such as group or patient"""
    classes: Level | None = None
    """classes are the folders at the top, those that photos lie in, or words of file names; null: what is plain"""
    corrections: FilePath | None = None
    """a list of labels to mend and photos to leave out, as the page saves it; null: none"""
    workers: Workers = -1
    download: bool = False

    SPARES = "--workers 1 reads one photo at a time; else make the largest smaller"

    def run(self) -> dict[str, Any]:
        from verydeep.doctor import check

        page = Path(self.page) if self.page else None
        return check(
            self.data, self.download, self.workers, page, groups=self.groups, classes=self.classes,
            reading=self.reading, corrections=self.corrections,
        )  # fmt: skip

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.doctor import check_text

        return check_text(record)

    def show(self, record: dict[str, Any], as_json: bool) -> int:
        return super().show(record, as_json) or int(not record["verdict"]["trains"])
