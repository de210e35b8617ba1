import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from verydeep.files.records import Count, Workers
from verydeep.verbs import Device, Engine, Verb

if TYPE_CHECKING:
    from verydeep.evaluate.frames import LongPhotos
    from verydeep.predict import Row


@dataclass(frozen=True)
class Predict(Verb):
    """say what is on photos"""

    model: str
    photos: tuple[str, ...]
    """photos, folders of photos at any depth, or - for a photo from standard input"""
    _: KW_ONLY
    top: Count = 5
    """classes a photo"""
    protocol: Literal["centre", "dense"] | None = None
    """centre crop or the whole photo; null: as a run was judged, and of other models the centre crop"""
    device: Device = "auto"
    engine: Engine = "auto"
    workers: Workers = -1
    csv: bool = False
    """one class a line: photo, rank, class, probability, error"""

    SPARES = "try --protocol centre, --workers 1 or --device cpu, or make the largest photos smaller"

    def run(self) -> Iterator["Row"]:
        """A Row for each photo, as soon as it is known."""
        from verydeep.predict import photos_in, predictions
        from verydeep.run import judged_by
        from verydeep.weights import load

        how = self.protocol or judged_by(self.model)
        long: LongPhotos = "stop" if self.protocol else "middle"
        return predictions(
            load(self.model), photos_in(self.photos), self.top, how, self.device, self.workers, long, self.engine
        )

    def show(self, record: Any, as_json: bool) -> int:
        from verydeep.predict import print_rows

        errors = print_rows(record, "json" if as_json else "csv" if self.csv else "table")
        if errors:
            print(f"verydeep predict: {errors} of the photos could not be read", file=sys.stderr, flush=True)
        return 1 if errors else 0
