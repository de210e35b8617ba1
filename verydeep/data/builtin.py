"""The embedded data set and its bigger relative: Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, MIT licence).

`fashion-mini` ships inside the package: 6,000 train, 1,000 val and 1,000 test photos, equally many a
class. `fashion` is all 70,000: 55,000 / 5,000 / 10,000. Both keep the original's division: train and val
come from its 60,000 training photos, test from its 10,000; every mini split lies inside the large one.
scenes.py pastes both into scenes.
"""

import gzip
import hashlib
import io
import os
import zlib
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from verydeep.data.record import DataSet, Names, Photos
from verydeep.data.scenes import SCENES, scenes_of
from verydeep.errors import DataError
from verydeep.files.download import MB, Wanted, download
from verydeep.near import meant

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SIZES = {
    "fashion-mini": {"train": 6_000, "val": 1_000, "test": 1_000},
    "fashion": {"train": 55_000, "val": 5_000, "test": 10_000},
}
ORIGIN = {"train": "train", "val": "train", "test": "t10k"}
SEED = 2014
MAX_BYTES = 64 << 20  # of a file, packed or not; the largest has 45 MiB
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
# SHA-256 of the files after gunzip: archives of the same photos differ in their compression.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

Bytes = npt.NDArray[np.uint8]


def open_builtin(name: str, download: bool = False) -> DataSet:
    """A built-in data set by name. Raises DataError for another name or where its files are not at hand."""
    if name not in (*SIZES, *SCENES):
        known = [f"builtin:{one}" for one in (*SIZES, *SCENES)]
        raise DataError(f"builtin:{name} is not a built-in data set{meant(name, known)}")
    source = SCENES[name].source if name in SCENES else name
    if source == "fashion-mini":
        file = io.BytesIO(resources.files("verydeep.data").joinpath("fashion-mini.npz").read_bytes())
        with np.load(file, allow_pickle=False) as stored:
            parts = {s: (stored[f"{s}_images"], stored[f"{s}_labels"], stored[f"{s}_ids"]) for s in ORIGIN}
    else:
        parts = published_splits(load_fashion(download, name), source)
    if name in SCENES:
        return DataSet(f"builtin:{name}", CLASSES, scenes_of(name, parts, len(CLASSES)))
    return DataSet(f"builtin:{name}", CLASSES, {split: greys(split, *arrays) for split, arrays in parts.items()})


def greys(split: str, images: Bytes, labels: Bytes, ids: npt.NDArray[np.int64]) -> Photos:
    """Photos in memory, uint8 N x 28 x 28."""
    keys = Names.of(f"{ORIGIN[split]}/{i:05d}" for i in ids)
    return Photos(
        split, keys, labels.astype(np.int64), lambda id: Image.fromarray(images[id]).convert("RGB"), in_memory=True
    )


def published_splits(files: dict[str, Bytes], name: str) -> dict[str, tuple[Bytes, Bytes, npt.NDArray[np.int64]]]:
    """Split -> (images N x 28 x 28, labels N, positions N in the original file), equally many a class."""
    parts = {}
    for split, size in SIZES[name].items():
        images, labels = (files[f"{ORIGIN[split]}-{what}-ubyte"] for what in ("images-idx3", "labels-idx1"))
        ids = np.sort(np.concatenate([pool(labels, c, split)[: size // len(CLASSES)] for c in range(len(CLASSES))]))
        parts[split] = (images[ids], labels[ids], ids)
    return parts


def pool(labels: Bytes, label: int, split: str) -> npt.NDArray[np.int64]:
    """Positions of one class in random order: validation takes the first 500, training the rest."""
    order = np.random.default_rng((SEED, label)).permutation(np.flatnonzero(labels == label))
    held_out = SIZES["fashion"]["val"] // len(CLASSES)
    return {"train": order[held_out:], "val": order[:held_out], "test": order}[split]


def load_fashion(fetch: bool, wanted: str = "fashion") -> dict[str, Bytes]:
    """The four IDX files as arrays, from $VERYDEEP_DATA, Debian's folder or, if asked, a download."""
    own = Path(os.environ.get("VERYDEEP_DATA", "~/.cache/verydeep")).expanduser()
    target = own / "fashion-mnist"
    folder = next((f for f in (own, target, DEBIAN) if all((f / f"{name}.gz").is_file() for name in FILES)), None)
    if folder is None:
        if not fetch:
            raise DataError(
                f"builtin:{wanted}: the files of Fashion-MNIST are neither in {own} nor in {DEBIAN}; add --download to "
                "fetch 30 MB, install Debian's package dataset-fashion-mnist, or set VERYDEEP_DATA to a folder with "
                f"{next(iter(FILES))}.gz and the others"
            )
        folder, elsewhere = target, "set VERYDEEP_DATA to a folder that can be written"
        for name in FILES:
            path, check = folder / f"{name}.gz", partial(idx_array, name=name)
            if not path.is_file():
                download(Wanted(path, (f"{SOURCE}/{path.name}",), 30 * MB, MAX_BYTES, check, DataError, elsewhere))
    try:
        return {name: idx_array(path := folder / f"{name}.gz", name) for name in FILES}
    except ValueError as e:
        raise DataError(f"{path} is not the published file ({e}); delete it and fetch it again") from e


def idx_array(path: Path, name: str) -> Bytes:
    """The uint8 array in a gzipped file with the SHA-256 that FILES lists. Raises ValueError."""
    try:
        with gzip.open(path) as f:
            content = f.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error) as e:
        raise ValueError(f"it cannot be unpacked: {e}") from e
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise ValueError("its SHA-256 differs")
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(tuple(shape))
