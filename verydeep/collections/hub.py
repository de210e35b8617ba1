"""Data sets of the hub, or folders that its library reads (photos, WebDataset, parquet): `hub:NAME`, `hub:./folder`.

The library maps its tables into memory; photos are taken from them as bytes and decoded here like all others.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verydeep.collections.classes import class_path, classes_by_label, feature_at
from verydeep.collections.columns import FLAGS
from verydeep.collections.table import meaning_of
from verydeep.data import photo
from verydeep.data.groups import group_column
from verydeep.data.naming import natural
from verydeep.data.packed import lost_words, photos_packed
from verydeep.data.record import SPLIT_NAMES, DataSet, Names, Photos
from verydeep.errors import DataError, PhotoError
from verydeep.words import several

IMAGES = ("image", "img", "photo")


def open_hub(name: str, groups: str | None = None) -> DataSet:
    """The data set of a folder, or OWNER/NAME or OWNER/NAME:CONFIG from the hub, undivided. Raises DataError.

    groups: the column that says them, if it is not a known one. A split without labels, as many tests are, is left out.
    Only names that are no folder touch the network.
    """
    where = f"hub:{name}"
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as e:
        raise DataError(f"{where} needs the library of the hub ({e}); pip install 'verydeep[data]'") from e
    with quietly(datasets):
        found, packed = tables_of(datasets, name, where)
        tables = by_split(found, where)
        notes = lost_words(packed, sum(map(len, tables.values())))
    tables = {split: table for split, table in tables.items() if len(table)}
    if not tables:
        raise DataError(f"{where} has no photos")
    features = next(iter(tables.values())).features
    image, (label, said) = image_column(datasets, features, where), class_path(features, tables, where)
    notes, group = notes + said, group_column(list(features), groups)
    coded = {split: coded_labels(table, label) for split, table in tables.items()}
    for split in [s for s, (values, _) in coded.items() if all(v is None for v in values)]:
        notes.append(f"warning: the split {split} has {several(len(tables[split]), 'photos')} without labels; left out")
        del coded[split]
    if not coded:
        raise DataError(f"{where}: none of its photos has a label")
    classes = getattr(feature_at(features, label), "names", None)
    as_class = {c: c for c in classes or ()}
    if not classes:
        as_class, more = classes_by_label({str(v) for values, _ in coded.values() for v in values if v is not None})
        classes, notes = sorted(set(as_class.values()), key=natural), notes + more
    place, splits = {c: i for i, c in enumerate(classes)}, {}
    number = {label: place[name] for label, name in as_class.items()}
    for split, (values, codes) in coded.items():
        targets = np.array([-1 if v is None else number[str(v)] for v in values], np.int64)[codes]
        if bad := int((targets < 0).sum()):
            some = f"{several(bad, 'photos')} of the split {split!r} {'has' if bad == 1 else 'have'} no label"
            raise DataError(f"{where}: {some}; save the data set without")
        splits[split] = photos_in_table(where, name, split, tables[split], image, targets)
        if group:
            names = ("" if v is None else str(v) for v in tables[split].data.column(group).to_pylist())
            splits[split] = replace(splits[split], groups=Names.of(name.replace("\0", "") for name in names))
    unused = [c for c in features if meaning_of(c) in ("split", *FLAGS)]
    for c in unused:
        notes.append(f"warning: the column {c!r} of {where} is not used; a list's is: give FOLDER/metadata.csv as DATA")
    used = (image, label[0], *unused)
    return DataSet(where, tuple(classes), splits, False, group, tuple(features), tuple(notes), used)


@contextmanager
def quietly(datasets: Any) -> Iterator[None]:
    """Without the library's progress bars, log lines and warnings; afterwards as it was."""
    import huggingface_hub.utils

    with ExitStack() as after, warnings.catch_warnings(action="ignore"):
        after.callback(datasets.logging.set_verbosity, datasets.logging.get_verbosity())
        datasets.logging.set_verbosity_error()
        for module in (datasets, huggingface_hub.utils):
            if not module.are_progress_bars_disabled():
                module.disable_progress_bars()
                after.callback(module.enable_progress_bars)
        yield


def tables_of(datasets: Any, name: str, where: str) -> tuple[dict[str, Any], Counter[str]]:
    """(split -> table, as the data set calls its splits; what its archives hold). Never runs code of the data set."""
    folder, packed = Path(name).expanduser(), Counter[str]()
    if not folder.is_dir() and name.startswith((".", "/", "~")):
        raise DataError(f"{where}: {name} does not exist; expected a folder, or OWNER/NAME from the hub")
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            found = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            packed = photos_packed(folder)
            found = datasets.load_dataset(str(folder))
        else:
            owner, _, config = name.partition(":")
            found = datasets.load_dataset(owner, config or None)
    except Exception as e:  # whatever the library, its formats and the network lead to
        reason = " ".join(str(e).split())[:300] or type(e).__name__
        raise DataError(
            f"{where} cannot be opened ({reason}); expected a folder that `datasets` reads, or OWNER/NAME[:CONFIG]"
        ) from e
    parts = dict(found) if isinstance(found, dict) else {str(found.split or "train"): found}
    return {s: t if t._indices is None else t.flatten_indices() for s, t in parts.items()}, packed


def by_split(parts: dict[str, Any], where: str) -> dict[str, Any]:
    """By our names of splits; one split alone, whatever it is called, is all photos unless it is train, val or test."""
    if len(parts) == 1 and (only := next(iter(parts))).lower() not in SPLIT_NAMES:
        return {"all": parts[only]}
    if strange := [split for split in parts if split.lower() not in SPLIT_NAMES]:
        raise DataError(
            f"{where} has the split {strange[0]!r} beside {', '.join(s for s in parts if s != strange[0])}; "
            "expected train, val and test. Choose with `datasets`: load_dataset(NAME), keep those splits, "
            "save_to_disk('FOLDER'), and give hub:./FOLDER"
        )
    ours = {SPLIT_NAMES[split.lower()]: table for split, table in parts.items()}
    if len(ours) < len(parts):
        raise DataError(f"{where} has two splits that mean the same: {', '.join(parts)}")
    return {split: ours[split] for split in ("train", "val", "test") if split in ours}


def image_column(datasets: Any, features: dict[str, Any], where: str) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    chosen = found if len(found) == 1 else [name for name in IMAGES if name in found][:1]
    if not chosen:
        columns = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
        raise DataError(f"{where} has {len(found)} image columns; expected one, or one called image ({columns})")
    return chosen[0]


def coded_labels(table: Any, path: tuple[str, ...]) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The different values of a column, None where there is none, and each photo's number among them."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    column = table.data.column(path[0])
    for inner in path[1:]:
        column = pc.struct_field(column, inner)
    coded = pc.dictionary_encode(column, null_encoding="encode").unify_dictionaries()
    values = coded.chunk(0).dictionary.to_pylist()
    if names := getattr(feature_at(table.features, path), "names", None):
        values = [names[v] if v is not None and 0 <= v < len(names) else None for v in values]
    codes = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in coded.chunks]
    return values, np.concatenate(codes).astype(np.int64)


def photos_in_table(
    where: str, name: str, split: str, table: Any, image: str, targets: npt.NDArray[np.int64]
) -> Photos:
    column, folder = table.data.column(image), Path(name).expanduser().resolve()
    keys = keys_of(column, split, os.path.join(folder, "") if folder.is_dir() else None)

    def content(id: int) -> bytes:
        found = column[id].as_py() or {}
        if isinstance(data := found.get("bytes"), bytes):
            return data
        if not found.get("path"):
            raise PhotoError(f"{where}: {keys[id]}", "is missing: neither bytes nor a path is given")
        try:
            return photo.file_bytes(Path(found["path"]))
        except PhotoError as e:
            raise PhotoError(f"{where}: {keys[id]}", e.reason) from e

    return Photos(split, keys, targets, content, f"{where}: ")


def keys_of(column: Any, split: str, folder: str | None) -> Names:
    """Paths in the folder where photos are files there, else split/name; split/row where names lack or repeat."""
    import pyarrow.compute as pc

    paths = pc.struct_field(column, "path")
    if not paths.null_count and pc.count_distinct(paths).as_py() == len(paths):
        given = (path.as_py() for path in paths)
        found = Names.of(
            path.removeprefix(folder) if folder and path.startswith(folder)
            else f"{split}/{os.path.basename(path) if os.path.isabs(path) else path}" for path in given
        )  # fmt: skip
        if len(set(map(hash, found))) == len(found):
            return found
    return Names.of(f"{split}/{i:06d}" for i in range(len(paths)))
