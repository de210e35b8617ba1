"""What is made of a finished folder: one file of all taps for other programs, dissimilarities, and pictures."""

import csv
import io
import math
from collections.abc import Sequence
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager

from verydeep.data.record import Names
from verydeep.describe.folder import CONTRACT, PHOTOS, mapped_rows, read_folder
from verydeep.describe.gram import dissimilarity, write_array
from verydeep.errors import ConfigError
from verydeep.files.disk import LONGEST_JSON, read_text, saying, write_atomically
from verydeep.files.tensors import Piece, write_pieces
from verydeep.report.figures import uri
from verydeep.report.lettering import font_file

Form = Literal["npz", "safetensors", "parquet"]
AT_ONCE = 1 << 24  # values of a row group
SIDE = 800  # pixels of the picture of a matrix


def listed_photos(path: Path, odd: str = "surrogateescape") -> list[str]:
    """By row; odd: what becomes of bytes that are no text."""
    with saying(f"{path / PHOTOS} cannot be read"), open(path / PHOTOS, encoding="utf-8", errors=odd, newline="") as f:
        return [row["photo"] for row in csv.DictReader(f)]


def write_form(path: Path, form: Form) -> Path:
    """All taps, the photos and the contract in one file. Raises ConfigError where its library is missing."""
    rows, photos = {tap: mapped_rows(path, tap) for tap in read_folder(path)[1].taps}, listed_photos(path, "replace")
    contract = {"contract": read_text(path / CONTRACT, LONGEST_JSON)}

    def npz(file: Path) -> None:
        with file.open("wb") as out:
            named: dict[str, Any] = {**rows, "photos": np.array(photos), "contract": np.array(contract["contract"])}
            np.savez(out, **named)

    def safetensors(file: Path) -> None:
        names = Names.of(photos).block  # each ends with NUL
        pieces = {tap: Piece("F32", own.shape, [own.data.cast("B")]) for tap, own in rows.items()}
        write_pieces(file, pieces | {"photos": Piece("U8", names.shape, [names.data])}, contract)

    def parquet(file: Path) -> None:
        try:
            import pyarrow as pa  # type: ignore[import-untyped]
            from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]
        except ImportError as e:
            raise ConfigError("to: parquet needs pyarrow; install it with pip install 'verydeep[parquet]'") from e
        kinds = [(tap, pa.list_(pa.float32(), own.shape[1])) for tap, own in rows.items()]
        step = max(1, AT_ONCE // sum(own.shape[1] for own in rows.values()))
        with ParquetWriter(file, schema := pa.schema([("photo", pa.string()), *kinds], contract)) as out:
            for i in range(0, len(photos), step):
                flat = [(pa.array(own[i : i + step].ravel()), own.shape[1]) for own in rows.values()]
                columns = [pa.FixedSizeListArray.from_arrays(*one) for one in flat]
                out.write_table(pa.table([pa.array(photos[i : i + step]), *columns], schema=schema))

    write = {"npz": npz, "safetensors": safetensors, "parquet": parquet}[form]
    write_atomically(file := path / f"descriptors.{form}", write)
    return file


def write_dissimilarities(path: Path) -> list[Path]:
    """TAP.rdm.npy of each tap, float64 N x N, and a picture of them all."""
    taps, pictures = read_folder(path)[1].taps, []
    files = [path / f"{tap}.rdm.npy" for tap in taps]
    for tap, file in zip(taps, files, strict=True):
        found = dissimilarity(mapped_rows(path, tap))
        write_atomically(file, partial(write_array, found))
        step = -(-len(found) // SIDE)
        pictures.append((tap, found[::step, ::step].copy()))
    across = math.ceil(math.sqrt(len(pictures)))
    rows = [pictures[i : i + across] for i in range(0, len(pictures), across)]
    write_sheet(path / "rdm.png", rows, f"1 - Pearson's correlation between {len(found):,} photos")
    return [*files, path / "rdm.png"]


def write_sheet(file: Path, rows: Sequence[Sequence[tuple[str, Any]]], title: str) -> None:
    """Pictures under their names: matrices, or uint8 H x W x 3; PNG, or HTML with it inside."""
    across = max(map(len, rows))
    figure = Figure(figsize=(max(5, 2 * across), max(4, 0.5 + 2.3 * len(rows))), layout="constrained")
    figure.suptitle(title, fontsize=8, parse_math=False)
    for place, row in zip(figure.subplots(len(rows), across, squeeze=False), rows, strict=True):
        for axis, one in zip_longest(place, row):
            axis.axis("off")
            if one:
                axis.imshow(one[1])
                words = "".join(s if s == "\n" or (s.isprintable() and font_file(s)) else "?" for s in one[0])
                fonts = [family_of(file) for file in dict.fromkeys(map(font_file, words)) if file]
                axis.set_title(words, fontsize=8, family=fonts or None, parse_math=False)
    figure.savefig(out := io.BytesIO(), format="png")
    page = f'<!doctype html><img src="{uri(out.getvalue(), "image/png")}">'.encode()
    write_atomically(file, lambda f: f.write_bytes(page if file.suffix == ".html" else out.getvalue()))


@cache
def family_of(file: str) -> str:
    """The name by which matplotlib finds a font, which may be newer than its list of them."""
    fontManager.addfont(file)
    return FontProperties(fname=file).get_name()
