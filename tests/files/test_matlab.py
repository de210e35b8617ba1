"""Arrays of structs in MATLAB 5 files, against SciPy; nets in them are tested by weights/test_matconvnet.py."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest

from verydeep.files.matlab import Budget, variables_of

scipy_io = pytest.importorskip("scipy.io")


def read(data: bytes) -> dict[str, Any]:
    return dict(variables_of(memoryview(data), Budget(len(data))))


def written(value: Any, compressed: bool = False) -> bytes:
    scipy_io.savemat(file := io.BytesIO(), {"x": value}, do_compression=compressed)
    return file.getvalue()


def structs(*sides: int) -> Any:
    found = np.empty(sides, [("name", object), ("inner", object)])
    for i, place in enumerate(np.ndindex(*sides)):
        found[place] = (f"n{i}", {"sides": np.arange(i + 1.0)})
    return found


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("sides", [(1860, 1), (1, 3), (2, 3), (2, 1, 2)])
def test_an_array_of_structs_is_a_list_of_dicts_columns_first(sides: tuple[int, ...], compressed: bool) -> None:
    data = written(structs(*sides), compressed)
    found = read(data)["x"]
    oracle = scipy_io.loadmat(io.BytesIO(data))["x"].flatten(order="F")
    assert [s["name"] for s in found] == [str(s["name"].item()) for s in oracle]
    expected = [s["inner"]["sides"].item().ravel().tolist() for s in oracle]
    assert [s["inner"]["sides"].data.tolist() for s in found] == expected


def test_one_struct_is_a_dict_and_none_is_an_empty_one() -> None:
    assert read(written(structs(1, 1)))["x"]["name"] == "n0"
    assert read(written(structs(0, 1)))["x"] == {}


def test_an_array_of_structs_holds_as_many_as_it_says() -> None:
    data, sides = written(structs(3, 1)), np.array([3, 1], "<i4").tobytes()
    for other in ([4, 1], [2, 1], [3, 2], [2**31 - 1, 2**31 - 1]):
        with pytest.raises(ValueError, match="an array of structs of another size than it says"):
            read(data.replace(sides, np.array(other, "<i4").tobytes(), 1))


def element(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)


def hostile(kind: int, sides: tuple[int, int], rest: bytes, compressed: bool = True) -> bytes:
    """A file with one matrix of a class."""
    flags, shape = element(6, bytes([kind]) + bytes(7)), element(5, np.array(sides, "<i4").tobytes())
    matrix = element(14, flags + shape + element(1, b"x") + rest)
    packed = zlib.compress(matrix)
    packed = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + (packed if compressed else matrix)


def fields(width: int, names: bytes, values: bytes) -> bytes:
    return element(5, width.to_bytes(4, "little")) + element(1, names) + values


def nest(depth: int) -> bytes:
    cell = b""
    for _ in range(depth):
        cell = element(14, element(6, b"\x01" + bytes(7)) + element(5, b"\x01\0\0\0" * 2) + element(1, b"") + cell)
    return cell


ONE = b"a".ljust(8, b"\0")
HOSTILE = {  # of which most end SciPy's process or fill its memory (docs/decisions/0013-libraries-for-foreign-files.md)
    "300,000 structs": (2, (300_000, 1), fields(8, ONE, element(14, b"") * 300_000), "more than 200,000 elements"),
    "300,000 fields": (2, (1, 1), fields(1, bytes(300_000), b""), "more than 200,000 elements"),
    "fields without length": (2, (1, 1), fields(0, b"abc", b""), "fields have no length"),
    "3 * 10**8 structs": (2, (300_000_000, 1), fields(8, ONE, b""), "of another size than it says"),
    "an unknown type": (6, (1, 1), element(77, bytes(8)), "unknown type 77"),
    "negative sides": (6, (-1, -8), element(9, bytes(64)), "odd sides"),
    "a nest": (1, (1, 1), nest(1000), "nested too deeply"),
}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str, compressed: bool) -> None:
    *matrix, said = HOSTILE[case]
    with pytest.raises(ValueError, match=said):
        read(hostile(*matrix, compressed))


def test_an_honest_file_made_the_same_way_is_read() -> None:
    assert read(hostile(2, (2, 1), fields(8, ONE, element(14, b"") * 2))) == {"x": [{"a": None}, {"a": None}]}
