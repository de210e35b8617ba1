"""A user's photos: on some the ranges of int8 are seen, on others a file is judged beside its net."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from verydeep.data import photo
from verydeep.data.reading import in_order
from verydeep.data.record import Photos
from verydeep.engines import run_file
from verydeep.errors import DataError
from verydeep.evaluate.classify import Entrant
from verydeep.evaluate.sample import class_numbers, photos_for
from verydeep.export.checking import posteriors
from verydeep.export.formats import Exported, Run, first_of
from verydeep.export.int8 import with_floats, with_weights

if TYPE_CHECKING:
    from onnx import ModelProto

CALIBRATED_ON, JUDGED_ON, SENSED_ON = 300, 1_000, 100  # photos
FILE = "the file"


@dataclass(frozen=True, eq=False)
class OwnPhotos:
    exported: Exported
    data: str
    numbers: Any  # of the net's classes, by the data's
    calibrating: Photos
    judging: Photos

    @classmethod
    def of(cls, model: str, exported: Exported, data: str, download: bool) -> OwnPhotos:
        """Of train, if there is one, and of what the model is tested on, evenly over the classes. Raises DataError."""
        contract = exported.net.contract
        opened, sample = photos_for([Entrant(model, contract, exported.net, {})], data, None, None, download)
        numbers = class_numbers(opened.classes, data, contract.classes, model)
        train = opened.read_as(contract.reading).splits.get("train", sample.photos)
        return cls(exported, data, numbers, some(train, CALIBRATED_ON), some(sample.photos, JUDGED_ON))

    def to_calibrate(self) -> list[photo.Pixels]:
        """What the file is shown of photos, each 1 x H x W x 3; what cannot be read is left out."""
        c, photos = self.exported.net.contract, self.calibrating
        cut = photo.middle if self.exported.scale else partial(photo.centre_crop, crop=c.crop)
        seen = in_order(lambda id: cut(photos.open(id), c.test_scale), range(len(photos)), 2, lambda *bad: None)
        return [pixels[None] for _, pixels in seen]

    def judged(self, run: Run) -> dict[str, Any]:
        """Errors of the file, and of the net in fp32 and bf16; and how many answers are those of fp32."""
        photos = self.judging
        ids, said = posteriors(self.exported, {FILE: run}, photos, "errors beside the net's")
        if not ids:
            raise DataError(f"{self.data}: none of the {len(photos)} photos of {photos.split} could be read")
        truth = torch.from_numpy(self.numbers[photos.targets()[ids]])
        first = {name: rows.argmax(1) for name, rows in said.items()}
        ways = [
            {"way": name, "errors": int((x != truth).sum()), "same": int((x == first["fp32"]).sum())}
            for name, x in first.items()
        ]
        where = {"data": self.data, "split": photos.split, "calibrated_on": self.calibrating.split}
        return {**where, "photos": len(ids), "ways": ways}

    def sensed(self, whole: ModelProto, floats: ModelProto) -> dict[str, int]:
        """By layer the answers that change where it alone computes in int8, of 100 photos."""
        layers, photos, found = with_weights(floats), some(self.judging, SENSED_ON), dict[str, int]()
        for layer in layers:
            alone = with_floats(whole, floats, [x for x in layers if x != layer])
            run = first_of(run_file(alone.SerializeToString(), "onnxruntime"))
            _, said = posteriors(self.exported, {FILE: run}, photos, f"{layer} alone in int8")
            found[layer] = int((said[FILE].argmax(1) != said["fp32"].argmax(1)).sum())
        return found


def some(photos: Photos, most: int) -> Photos:
    """So many, evenly over a split, which is sorted by class."""
    n = len(photos)
    return photos if n <= most else photos.take(np.linspace(0, n - 1, most).astype(np.int64), photos.split)
