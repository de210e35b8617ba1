import csv
import json
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from verydeep.errors import ConfigError
from verydeep.files.records import Count, Workers
from verydeep.verbs import Device, FilePath, Verb


@dataclass(frozen=True)
class Similar(Verb):
    """find the photos of a folder of descriptors that are most like others, by the cosine between their rows"""

    folder: FilePath
    """what 'verydeep describe' wrote; photos are described as it was"""
    photos: tuple[str, ...]
    """photos, folders of photos at any depth, or - for a photo from standard input"""
    _: KW_ONLY
    top: Count = 5
    """photos found for each"""
    tap: str | None = None
    """by which of its layers; null: the last of them"""
    sheet: FilePath | None = None
    """a picture of the first 50 photos and those most like each, .png or .html; null: none"""
    csv: bool = False
    """one found photo a line: photo, rank, similar, row, cosine, error"""
    device: Device = "auto"
    workers: Workers = -1

    def run(self) -> list[dict[str, Any]]:
        from verydeep.describe import similar_photos
        from verydeep.hardware import device_for
        from verydeep.predict import photos_in

        sheet = Path(self.sheet) if self.sheet else None
        if sheet and sheet.suffix not in (".png", ".html"):
            raise ConfigError(f"sheet: {sheet} is neither .png nor .html")
        folder, device = Path(self.folder), device_for(self.device).type
        return similar_photos(folder, photos_in(self.photos), self.top, self.tap, device, self.workers, sheet)

    def show(self, record: list[dict[str, Any]], as_json: bool) -> int:
        lines = csv.writer(sys.stdout)
        lines.writerows([("photo", "rank", "similar", "row", "cosine", "error")] * self.csv)
        for r in record:
            near = [(s["photo"], s["row"], f"{s['cosine']:.6f}") for s in r["similar"]]
            if as_json:
                print(json.dumps(r, ensure_ascii=False))
            elif self.csv:
                lines.writerows((r["photo"], rank, *one, "") for rank, one in enumerate(near, 1))
                lines.writerows([(r["photo"], "", "", "", "", r["error"])] * bool(r["error"]))
            else:
                said = "".join(f"\n  {cosine[:6]}  {photo}" for photo, _, cosine in near)
                print(f"{r['photo']}:" + (f" error: {r['error']}" if r["error"] else said))
        return int(any(r["error"] for r in record))
