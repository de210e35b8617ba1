import sys
from dataclasses import KW_ONLY, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from verydeep.config import Level
from verydeep.errors import LongPhotoError
from verydeep.evaluate.views import MEANS, Protocol, scales_in
from verydeep.files.records import Count, Workers
from verydeep.verbs import BadPhotos, Device, Engine, FilePath, Verb


@dataclass(frozen=True)
class Evaluate(Verb):
    """count the errors of models on DATA by the tests of the paper, each model alone and several fused"""

    models: tuple[str, ...]
    data: str
    _: KW_ONLY
    protocol: tuple[Protocol, ...] = ("centre", "dense")
    scales: str = "single"
    """smallest sides of the rescaled photo: single (the model's own), several (three that fit how it was trained), or
    numbers such as 256,384,512"""
    split: str | None = None
    """train, val or test; null: test if DATA has it, else val, else all photos"""
    mirror: bool | None = None
    """average with the mirror image; null: yes, except for the centre crop and nets trained without mirroring"""
    average: Literal["scores", "posteriors"] = "scores"
    """what dense evaluation averages over the class map: scores, before soft-max, or posteriors, after it"""
    pooling: Literal["up", "down"] | None = None
    """how max-pooling rounds odd sides in this test; null: as in training"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """arithmetic"""
    device: Device = "auto"
    engine: Engine = "torch"
    batch: Count = 32
    """photos or crops that go through the net at once"""
    limit: Count | None = None
    """test only the first N photos of the split; null: all"""
    save: FilePath | None = None
    """keep the posteriors in a .safetensors file, which may stand as a MODEL later; null: nowhere"""
    classes: Level | None = None
    """classes are the folders at the top, those that photos lie in, or words of file names; null: as the model's run
    has it, else what is plain"""
    corrections: FilePath | None = None
    """a list of labels to mend and photos to leave out; after that which a run remembers of its
    own data; null: that alone"""
    workers: Workers = -1
    bad_photos: BadPhotos = "stop"
    """an unreadable photo stops the test and is named, or is skipped, counted and listed"""
    long_photos: Literal["stop", "middle"] = "stop"
    """a photo longer than 8:1 stops dense evaluation, or only its middle part is seen there"""
    download: bool = False

    SPARES = "try --batch 8, --workers 1, smaller --scales, or --protocol centre"

    def run(self) -> dict[str, Any] | None:
        from verydeep.evaluate.models import evaluate_models
        from verydeep.evaluate.passes import Settings
        from verydeep.evaluate.posteriors import is_posteriors
        from verydeep.hardware import device_for, multiplies_bf16
        from verydeep.ranks import joined

        scales, device = scales_in(self.scales), device_for(self.device)
        settings = Settings(
            self.mirror, self.precision, device.type, self.batch, self.workers, self.bad_photos, self.long_photos,
            self.average, self.pooling, self.engine,
        )  # fmt: skip
        with joined() as ranks:
            try:
                results = evaluate_models(
                    self.models, self.data, self.protocol, scales, self.split, settings, limit=self.limit,
                    save=Path(self.save) if self.save else None, download=self.download, ranks=ranks,
                    classes=self.classes, corrections=self.corrections,
                )  # fmt: skip
            except LongPhotoError as e:
                others = " or ".join(name for name, mean in MEANS.items() if not mean.maps)
                advice = f"test its middle part with --long_photos middle, or use --protocol {others}"
                raise LongPhotoError(e.photo, f"{e.reason}; {advice}") from e
            faster = ["--engine auto"] * (
                self.engine == "torch" and device.type == "cpu" and find_spec("openvino") is not None
            )
            faster += ["--precision bf16"] * (self.precision == "fp32" and multiplies_bf16(device))
            if ranks.first and faster and not all(is_posteriors(Path(model)) for model in self.models):
                print(f"hint: {' '.join(faster)} is faster here; quote figures of torch in fp32", file=sys.stderr)
            return {"results": results} if ranks.first else None

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.report.tables import results_text
        from verydeep.report.verdict import doubts
        from verydeep.weights import beside_published

        found = record["results"]
        return "\n".join([results_text(found), *doubts(found), *beside_published(found)])
