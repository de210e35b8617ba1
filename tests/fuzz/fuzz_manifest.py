"""Fuzzing of lists, and of the one that a run writes: any bytes are a data set or a DataError, within 2 s and 100 MB.

    python tests/fuzz/fuzz_manifest.py -max_total_time=60

Options are libFuzzer's. The first byte chooses the suffix and how the photos are shared out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import atheris
from harness import bounded, fuzz

with atheris.instrument_imports(include=["verydeep", "csv", "json"]):
    from verydeep.collections import open_list
    from verydeep.data.manifest import open_split
    from verydeep.errors import VeryDeepError

FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "in").mkdir()
for photo in ("a.jpg", "in/b.jpg", "in/c.png"):
    (FOLDER / photo).touch()
WAYS = [
    (suffix, least, own) for suffix in (".csv", ".txt", ".json", ".jsonl") for least in (1, 2) for own in (True, False)
]
SEEDS = (
    b"path,label\na.jpg,cat\nb.jpg,dog\n",
    b'\xef\xbb\xbfpath,label,split,box\n"a,\n.jpg",cat,train,0 0 5 5\n'
    b'b.jpg,dog,val,"1,2,3.5,4"\n./b.jpg,cat,val,\nc.jpg,cat,test,\n',
    b'{"path": "a.jpg", "label": "cat"}\n{"path": "b.jpg", "labels": ["dog", "cat"]}\n',
    b'{"path": "a", "label": "c", "split": "train", "boxes": [{"label": "d", "box": [0, 0, 1, 1]}]}\n'
    b'{"path": "b", "label": "d", "split": "val", "box": [0, 0, 2, 2]}\n',
    b"path,label,patient\na.jpg,cat,7\nb.jpg,dog,\n",
    b"file_name;Class;is_valid\na.jpg;1.0;0\nb.jpg;2;1\n",
    b"sep=\t\nid\tsubset\tbreed\tname\nb\tdev\tcat\tx\na\ttrain\tnan\ty\n",
    b"a.jpg,cat\nb.jpg,dog\n",
    b"image_id,cat,dog,fold\nx\\a,0,1,3\nx\\b,1.0,0,4\n",
    "path,label\na.jpg,M\u00fcller\nb.jpg,dog\n".encode("cp1252"),
    "path,label\na.jpg,\u732b\nb.jpg,\u72d7\n".encode("gb18030"),
    "path,label\na.jpg,cat\nb.jpg,dog\n".encode("utf-16"),
    b'[{"file_name": "a.jpg", "category": 1}, {"file_name": "b.jpg", "category": null}]',
    b'{"a.jpg": "cat", "b.jpg": "dog"}',
    b'{"path": "a", "label": "c", "group": 7}\n{"path": "b", "label": "d", "group": null, "fold": 1}\n',
)


def read(data: bytes) -> None:
    suffix, least, own = WAYS[data[0] % len(WAYS)] if data else WAYS[0]
    path = FOLDER / f"x{suffix}"
    path.write_bytes(data[1:])
    found = open_split(path, least, FOLDER) if own else open_list(path, least)
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
