"""Fuzzing of manifests: any bytes named .csv or .jsonl are a data set or a DataError, within 2 s and 100 MB.

    python tests/fuzz/fuzz_manifest.py -max_total_time=60

Options are libFuzzer's. The first byte chooses the suffix and how the photos are shared out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import atheris
from harness import bounded, fuzz

with atheris.instrument_imports(include=["verydeep", "csv", "json"]):
    from verydeep.data.manifest import open_manifest
    from verydeep.errors import VeryDeepError

FOLDER = Path(tempfile.mkdtemp())
WAYS = [(suffix, least, root) for suffix in (".csv", ".jsonl") for least in (1, 2) for root in (None, FOLDER)]
SEEDS = (
    b"path,label\na.jpg,cat\nb.jpg,dog\n",
    b'\xef\xbb\xbfpath,label,split,box\n"a,\n.jpg",cat,train,0 0 5 5\n'
    b'b.jpg,dog,val,"1,2,3.5,4"\n./b.jpg,cat,val,\nc.jpg,cat,test,\n',
    b'{"path": "a.jpg", "label": "cat"}\n{"path": "b.jpg", "labels": ["dog", "cat"]}\n',
    b'{"path": "a", "label": "c", "split": "train", "boxes": [{"label": "d", "box": [0, 0, 1, 1]}]}\n'
    b'{"path": "b", "label": "d", "split": "val", "box": [0, 0, 2, 2]}\n',
    b"path,label,patient\na.jpg,cat,7\nb.jpg,dog,\n",
    b'{"path": "a", "label": "c", "group": 7}\n{"path": "b", "label": "d", "group": null, "fold": 1}\n',
)


def read(data: bytes) -> None:
    suffix, least, root = WAYS[data[0] % len(WAYS)] if data else WAYS[0]
    path = FOLDER / f"x{suffix}"
    path.write_bytes(data[1:])
    found = open_manifest(path, least, root=root)
    for photos in found.splits.values():
        assert len(photos.keys) == len(photos)
    assert found.fingerprint()


def test_one_input(data: bytes) -> None:
    bounded(read, data, VeryDeepError)


def main() -> None:
    fuzz(
        test_one_input,
        {f"{way}-{i}": bytes([way]) + data for way in range(len(WAYS)) for i, data in enumerate(SEEDS)},
        FOLDER,
    )


if __name__ == "__main__":
    main()
