from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.box_config import BoxConfig
from verydeep.errors import ConfigError
from verydeep.evaluate.views import scales_in
from verydeep.files.records import Count, Workers
from verydeep.verbs import BadPhotos, Device, Engine, FilePath, Trains, Verb

PAPER_BOXES = BoxConfig()
Merge = Literal["greedy", "literal", "nms"]


@dataclass(frozen=True)
class Localise(Verb):
    """where things are: train boxes on DATA, evaluate them, predict them on photos (appendix A)"""


def box_text(record: dict[str, Any]) -> str:
    from verydeep.localise import results_words

    report = [f"the report: {record['report']}"] * bool(record["report"])
    return "\n".join([results_words(record["results"]) or record["ended"], *report])


@dataclass(frozen=True)
class Train(Localise, Trains):
    """train a net that says where things are on DATA with boxes, from the net that says what; then test both"""

    data: str
    _: KW_ONLY
    out: FilePath
    """the run folder; an interrupted one goes on"""
    classifier: str | None = None
    """the net that says what is there, from which this one starts; null: DATA has one class, and --from may name one"""
    download: bool = False
    config: BoxConfig = PAPER_BOXES

    STARTS = True
    REFUSED = {"init_from": "the net to start from is that of --classifier, or of --from where there is one class"}

    @classmethod
    def of(cls, own: dict[str, Any], words: dict[str, Any], **layers: Any) -> Verb:
        if own.get("classifier") and layers.get("from"):
            raise ConfigError("classifier and from: the net starts from the classifier; leave --from out")
        return super().of(own, words, **{"from": own.get("classifier")} | layers)

    def run(self) -> dict[str, Any] | None:
        from verydeep.evaluate.passes import Settings
        from verydeep.hardware import device_for
        from verydeep.localise import box_report, evaluate_boxes, train_boxes
        from verydeep.ranks import joined

        out, c = Path(self.out), self.config
        with joined() as ranks:
            ended = train_boxes(self.data, c, out, self.download, ranks=ranks, one=not self.classifier)
            ranks.gather(None)  # by then the first has saved the best net
            if c.boxes_from == "map":
                return {"run": str(out), "ended": ended, "results": [], "report": None}
            settings = Settings(
                device=device_for(c.device).type, workers=c.workers, bad_photos=c.bad_photos, long_photos="middle"
            )
            found = evaluate_boxes(
                [str(out)], self.data, self.classifier, settings=settings, download=self.download, ranks=ranks
            )
            if not ranks.first:
                return None
            report = box_report(out, [found], self.data)
            return {"run": str(out), "ended": ended, "results": [found], "report": str(report)}

    def text(self, record: dict[str, Any]) -> str:
        return box_text(record)


@dataclass(frozen=True)
class Evaluate(Localise):
    """count the errors of boxes on DATA by both tests of the paper; of a net of classes, of its class map's boxes"""

    models: tuple[str, ...]
    data: str
    _: KW_ONLY
    classifier: str | None = None
    """the net that says what is there; null: the one that the first box net was started from"""
    scales: str = "single"
    """smallest sides of the rescaled photo: single (each net's own), several (of a classifier that was trained at many
    its Smin, the middle and Smax; else S - 32, S, S + 32 at a crop of 224), or numbers such as 352,384"""
    merge: Merge = "greedy"
    """how the boxes of a class become one: pairs averaged by the distance of centres and IoU, the same as OverFeat's
    text has it literally, or the best rated one"""
    split: str | None = None
    """train, val or test; null: test if DATA has it, else val, else all photos"""
    mirror: bool | None = None
    """boxes of the mirror image too; null: yes, except for the centre crop and nets trained without mirroring"""
    device: Device = "auto"
    engine: Engine = "torch"
    batch: Count = 32
    """photos that go through the net at once"""
    limit: Count | None = None
    """test only the first N photos of the split; null: all"""
    workers: Workers = -1
    bad_photos: BadPhotos = "stop"
    """an unreadable photo stops the test and is named, or is skipped, counted and listed"""
    page: FilePath | None = None
    """a page with tables, curves and the most wrong boxes; null: in the folder of the first model, if it is a run"""
    download: bool = False

    def run(self) -> dict[str, Any] | None:
        from verydeep.evaluate.passes import Settings
        from verydeep.files.disk import check_place
        from verydeep.hardware import device_for
        from verydeep.localise import box_report, evaluate_any
        from verydeep.ranks import joined

        if self.page and Path(self.page).suffix != ".html" and not Path(self.page, "run.json").is_file():
            raise ConfigError(f"page: {self.page} is no run; expected a run folder or a file named .html")
        check_place(Path(self.page) if self.page and Path(self.page).suffix == ".html" else None)
        settings = Settings(
            self.mirror, device=device_for(self.device).type, batch=self.batch, workers=self.workers,
            bad_photos=self.bad_photos, long_photos="middle", engine=self.engine,
        )  # fmt: skip
        with joined() as ranks:
            found = evaluate_any(
                self.models, self.data, self.classifier, scales_in(self.scales), self.merge, self.split, settings,
                limit=self.limit, download=self.download, ranks=ranks,
            )  # fmt: skip
            if not ranks.first:
                return None
            report = box_report(self.page or Path(self.models[0]), found, self.data)
            return {"results": found, "report": str(report) if report else None}

    def text(self, record: dict[str, Any]) -> str:
        return box_text(record)


@dataclass(frozen=True)
class Predict(Localise):
    """say what is on photos and where"""

    model: str
    photos: tuple[str, ...]
    """photos, folders of photos at any depth, or - for a photo from standard input"""
    _: KW_ONLY
    classifier: str | None = None
    """the net that says what is there; null: the one that the box net was started from"""
    top: Count = 1
    """classes a photo, each with its best box"""
    scales: str = "single"
    """smallest sides of the rescaled photo: single, several, or numbers such as 352,384"""
    merge: Merge = "greedy"
    """how the boxes of a class become one, as in 'localise evaluate'"""
    device: Device = "auto"
    engine: Engine = "auto"
    workers: Workers = -1
    csv: bool = False
    """one class a line: photo, rank, class, probability, x0, y0, x1, y1, error"""
    coco: FilePath | None = None
    """a file for all of it as COCO's JSON"""
    draw: FilePath | None = None
    """a folder for copies of the photos with their boxes drawn, NAME.png"""

    def run(self) -> Iterator[Any]:
        """A Located for each photo, as soon as it is known."""
        from verydeep.localise import found_in

        return found_in(
            self.model, self.photos, self.classifier, self.top, scales_in(self.scales), self.merge, self.device,
            self.workers, Path(self.coco) if self.coco else None, Path(self.draw) if self.draw else None, self.engine,
        )  # fmt: skip

    def show(self, record: Any, as_json: bool) -> int:
        from verydeep.predict import print_rows

        return 1 if print_rows(record, "json" if as_json else "csv" if self.csv else "table", what="places") else 0
