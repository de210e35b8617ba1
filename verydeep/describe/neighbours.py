"""The photos of a folder that are most like another, by the inner product of their descriptors at length 1."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.colours import PLAINLY
from verydeep.data.photo import middle
from verydeep.describe.describer import Describer
from verydeep.describe.descriptor import Rows, of_length_1
from verydeep.describe.folder import BASIS, mapped_rows, read_folder
from verydeep.describe.forms import listed_photos, write_sheet
from verydeep.engines import chosen
from verydeep.errors import ModelError, PhotoError
from verydeep.files.disk import check_place
from verydeep.files.tensors import checksum
from verydeep.predict import opened
from verydeep.weights import load_describing

PIECE = 16 << 20  # values of rows at once
TILE = 160  # pixels of the smallest side
MOST_SHOWN = 50, 20  # photos of a sheet, and beside each
FIELDS = ("photo", "row", "cosine")


def similar_photos(
    path: Path, photos: Sequence[str], top: int = 5, tap: str | None = None, device: str = "cpu", workers: int = -1,
    sheet: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """For each photo the `top` most similar of a folder: [{photo, similar: [{photo, row, cosine}], error}].

    They are described as the folder was, by a tap of it or by the last. Raises ModelError for another model by now.
    """
    check_place(sheet)
    contract, way = read_folder(path)
    nets = {name: load_describing(name) for name in contract["models"]}
    for (name, net), sha256 in zip(nets.items(), contract["sha256"], strict=True):
        if checksum(net.state_dict()) != sha256:
            raise ModelError(f"{name} is not the model that {path} was made with: its weights have another SHA-256 now")
    tap = tap or way.taps[-1]
    rows, names = mapped_rows(path, tap), listed_photos(path)
    bases = [np.load(path / f"{tap}.{BASIS}.npy")] if way.components else []
    engine = chosen("auto", device, way.precision, list(nets.values())).engine
    describer = Describer(nets, way._replace(taps=(tap,), engine=engine), device, workers)
    errors, found = dict[int, str](), dict[int, list[tuple[str, int, float]]]()
    for ids, [asked] in describer.rows(photos, range(len(photos)), bases, errors):
        for id, own in zip(ids, nearest(rows, of_length_1(asked), top), strict=True):
            found[id] = [(names[row], row, cosine) for row, cosine in own]
    good = [id for id in found if id not in errors]
    if sheet and good:
        photos_shown, beside = MOST_SHOWN
        tiles = [[tile(photos[id], ""), *(tile(name, f"{cosine:.3f}") for name, _, cosine in found[id][:beside])]
                 for id in good[:photos_shown]]  # fmt: skip
        write_sheet(sheet, tiles, f"photos, and the most similar of {path}")
    answers = [(photo, [] if id in errors else found[id], errors.get(id)) for id, photo in enumerate(photos)]
    return [
        {"photo": photo, "similar": [dict(zip(FIELDS, one, strict=True)) for one in near], "error": error}
        for photo, near, error in answers
    ]


def nearest(rows: Rows, asked: Rows, top: int) -> Iterator[list[tuple[int, float]]]:
    """For each of the rows asked, of length 1, the number and cosine of the nearest of N x D; NaN is never near."""
    cosines = np.empty((len(asked), len(rows)), np.float32)
    step = max(1, PIECE // rows.shape[1])
    for i in range(0, len(rows), step):
        cosines[:, i : i + step] = asked @ of_length_1(rows[i : i + step]).T
    for own in np.where(np.isnan(cosines), -np.inf, cosines):
        best = np.argsort(-own, kind="stable")[:top]
        yield [(int(row), float(own[row])) for row in best if own[row] > -np.inf]


def tile(name: str, words: str) -> tuple[str, Any]:
    """A photo of the sheet, or a grey one where it is not there any more."""
    try:
        picture = middle(opened(name, PLAINLY), TILE)
    except PhotoError:
        picture = np.full((TILE, TILE, 3), 128, np.uint8)
    return f"{Path(name).name[-24:]}\n{words}", picture
