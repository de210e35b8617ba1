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
    assert [s["inner"]["sides"].data.tolist() for s in found] == [
        s["inner"]["sides"].item().ravel().tolist() for s in oracle
    ]


def test_one_struct_is_a_dict_and_none_is_an_empty_one() -> None:
    assert read(written(structs(1, 1)))["x"]["name"] == "n0"
    assert read(written(structs(0, 1)))["x"] == {}


def test_an_array_of_structs_holds_as_many_as_it_says() -> None:
    data, sides = written(structs(3, 1)), np.array([3, 1], "<i4").tobytes()
    for other in ([4, 1], [2, 1], [3, 2], [2**31 - 1, 2**31 - 1]):
        with pytest.raises(ValueError, match="an array of structs of another size than it says"):
            read(data.replace(sides, np.array(other, "<i4").tobytes(), 1))


def test_millions_of_structs_or_fields_are_given_up() -> None:
    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)

    def file(sides: tuple[int, int], width: int, names: bytes, rest: bytes) -> bytes:
        head = element(6, b"\x02" + bytes(7)) + element(5, np.array(sides, "<i4").tobytes()) + element(1, b"x")
        packed = zlib.compress(element(14, head + element(5, width.to_bytes(4, "little")) + element(1, names) + rest))
        return (
            b"MATLAB 5.0 MAT-file".ljust(124)
            + b"\x00\x01IM"
            + (15).to_bytes(4, "little")
            + len(packed).to_bytes(4, "little")
            + packed
        )

    assert read(file((2, 1), 8, b"a".ljust(8, b"\0"), element(14, b"") * 2)) == {"x": [{"a": None}, {"a": None}]}
    with pytest.raises(ValueError, match="more than 200,000 elements"):
        read(file((300_000, 1), 8, b"a".ljust(8, b"\0"), element(14, b"") * 300_000))
    with pytest.raises(ValueError, match="more than 200,000 elements"):
        read(file((1, 1), 1, bytes(300_000), b""))
    many = element(6, b"\x02" + bytes(7)) + element(5, np.array((1, 1), "<i4").tobytes()) + element(1, b"")
    many = element(14, many + element(5, (1).to_bytes(4, "little")) + element(1, bytes(150_000)))
    with pytest.raises(ValueError, match="more than 200,000 elements"):
        read(file((2, 1), 8, b"a".ljust(8, b"\0"), many * 2))  # fields of several structs add up
