"""MatConvNet's files, written by SciPy."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torch
import toy

from verydeep.errors import ModelError
from verydeep.weights import matconvnet
from verydeep.weights.read import read_foreign
from verydeep.weights.recognise import recognise

scipy_io = pytest.importorskip("scipy.io")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("name", ["D", "E"])
def test_every_number_is_read_and_what_else_the_file_tells(tmp_path: Path, name: str, old: bool, compressed: bool) -> None:
    made = toy.net(name)
    scipy_io.savemat(path := tmp_path / "x.mat", toy.mat_variables(made, old), do_compression=compressed)
    assert recognise(path).origin == "matconvnet"
    toy.same(matconvnet.read(path).tensors, toy.tensors(made))
    classifier = read_foreign(path)  # no warning: the mean is in the file
    assert classifier.contract.mean == pytest.approx((123.68, 116.779, 103.939), abs=1e-4)
    assert classifier.contract.classes[1:3] == ("goldfish", "great white shark")
    assert classifier.contract.pooling == "up"


def test_a_net_in_one_variable(tmp_path: Path) -> None:
    made = toy.net("D")
    scipy_io.savemat(path := tmp_path / "x.mat", {"net": toy.mat_variables(made)})
    toy.same(matconvnet.read(path).tensors, toy.tensors(made))


def test_logits_on_rgb_pixels(tmp_path: Path) -> None:
    made, photos = toy.net("D"), toy.photo()
    scipy_io.savemat(path := tmp_path / "x.mat", toy.mat_variables(made))
    with torch.no_grad():
        found = read_foreign(path)(photos).double()
        mean = torch.tensor([123.68, 116.779, 103.939], dtype=torch.float64).view(1, 3, 1, 1)
        expected = made.double()(photos.double() - mean)
    assert torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_a_variable_that_inflates_without_end_is_given_up(tmp_path: Path) -> None:
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    bomb = zlib.compress(bytes(400_000_000), 9)
    path = toy.put(tmp_path / "x.mat", header + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    with pytest.raises(ModelError, match="inflate"):
        matconvnet.read(path)


def test_a_deep_nest_is_given_up(tmp_path: Path) -> None:
    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)

    nest = b""
    for _ in range(2000):
        nest = element(14, element(6, b"\x01" + bytes(7)) + element(5, b"\x01\0\0\0" * 2) + element(1, b"") + nest)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    with pytest.raises(ModelError, match="deeply"):
        matconvnet.read(toy.put(tmp_path / "x.mat", header + nest))
