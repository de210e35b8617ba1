import csv
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.evaluate.views import scales_in
from verydeep.files.records import Count, Natural, Workers
from verydeep.verbs import Device, Engine, FilePath, Verb


@dataclass(frozen=True)
class Transfer(Verb):
    """say how well a linear SVM tells the classes of DATA by what nets see that are not trained on it"""

    models: tuple[str, ...]
    data: str
    _: KW_ONLY
    scales: str = "single"
    """smallest sides of the rescaled photo: single, several (then one is compared with all), or 256,384,512"""
    train_per_class: Count | None = None
    """photos of each class to train on, where DATA has no splits; null: 60 of Caltech-256, else up to 30"""
    splits: Count | None = None
    """random splits, where DATA has none; null: 3 of Caltech, else 5"""
    seed: Natural = 0
    limit: Count | None = None
    """take at most so many photos, spread over the classes; null: all that the splits need"""
    actions: bool = False
    """of VOC2012 the actions of persons: whole photo, person's box, and both"""
    mirror: bool | None = None
    """average with the mirror image; null: yes, except for nets trained without mirroring"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """arithmetic of the nets"""
    device: Device = "auto"
    engine: Engine = "auto"
    batch: Count = 32
    """photos that go through the net at once"""
    workers: Workers = -1
    save: FilePath | None = None
    """keep the net with the SVM as its last layer in a .safetensors file, to be asked by its dense protocol; null:
    nowhere"""
    csv: bool = False
    """one class a line, with its recall or average precision in the row that validation found best"""
    download: bool = False

    SPARES = "try smaller --scales, --batch 8, --workers 1, or --limit"

    def run(self) -> dict[str, Any]:
        from verydeep.evaluate.passes import Settings
        from verydeep.hardware import device_for
        from verydeep.transfer import transfer_models

        device = device_for(self.device).type
        settings = Settings(
            self.mirror, self.precision, device, self.batch, self.workers, long_photos="middle",
            engine=self.engine,
        )  # fmt: skip
        return transfer_models(
            self.models, self.data, scales_in(self.scales), settings, per_class=self.train_per_class,
            splits=self.splits, seed=self.seed, limit=self.limit, actions=self.actions, download=self.download,
            save=Path(self.save) if self.save else None,
        )  # fmt: skip

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.transfer import transfer_text

        return transfer_text(record)

    def show(self, record: Any, as_json: bool) -> int:
        if not self.csv:
            return super().show(record, as_json)
        found = record["rows"][record["best"]]["by_class"]
        rows = ((name, "" if value is None else f"{100 * value:.2f}") for name, value in found.items())
        csv.writer(sys.stdout).writerows([("class", "percent"), *rows])
        return 0
