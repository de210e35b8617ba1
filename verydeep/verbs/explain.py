import json
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.files.records import Count, Natural
from verydeep.verbs import Device, FilePath, Verb


@dataclass(frozen=True)
class Explain(Verb):
    """show where in photos the answer of a net comes from"""

    model: str
    photos: tuple[str, ...]
    """photos, folders of photos at any depth, or - for a photo from standard input"""
    _: KW_ONLY
    out: FilePath
    """a folder for the pictures, NAME-METHOD.png, and sheet.png with all of them"""
    methods: tuple[Literal["saliency", "smooth", "map", "occlusion"], ...] = ("saliency", "smooth", "map", "occlusion")
    """the gradient of the score by the pixels, its mean over noisy copies, the class map, and what is lost where a
    patch hides the photo"""
    classes: tuple[str, ...] | None = None
    """names of classes, with commas; null: the most probable class of each photo"""
    copies: Count = 25
    """noisy copies of a photo"""
    seed: Natural = 0
    """of the noise"""
    arrays: bool = False
    """the maps too, NAME-METHOD.npy: float32 over the photo at smallest side Q = S"""
    device: Device = "auto"

    SPARES = "give fewer --methods, or take the middle of very long photos"

    def run(self) -> dict[str, Any]:
        from verydeep.explain import explain_photos

        return explain_photos(
            self.model, self.photos, Path(self.out), self.methods, self.classes, self.copies, self.seed, self.arrays,
            self.device,
        )  # fmt: skip

    def text(self, record: dict[str, Any]) -> str:
        rows = [
            f"{row['photo']}: "
            + (f"error: {row['error']}" if "error" in row else f"{row['class']} {row['probability']:.1%}")
            for row in record["photos"]
        ]
        return "\n".join([*rows, *(f"the sheet: {sheet}" for sheet in record["sheets"])])

    def show(self, record: dict[str, Any], as_json: bool) -> int:
        print(json.dumps(record) if as_json else self.text(record))
        if errors := sum("error" in row for row in record["photos"]):
            print(f"verydeep explain: {errors} of the photos could not be read", file=sys.stderr, flush=True)
        return int(errors > 0)
