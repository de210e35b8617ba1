"""MatConvNet's files, written by SciPy."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from verydeep.data.naming import imagenet_classes
from verydeep.errors import ModelError
from verydeep.evaluate.sample import class_numbers
from verydeep.weights import matconvnet
from verydeep.weights.read import read_foreign
from verydeep.weights.recognise import recognise

scipy_io = pytest.importorskip("scipy.io")
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("one", [True, False])
def test_every_number_is_read_and_what_else_the_file_tells(tmp_path, one, old, compressed):
    made = toy.net("E" if one else "D")
    variables = {"net": toy.mat_variables(made, old)} if one else toy.mat_variables(made, old)
    scipy_io.savemat(path := tmp_path / "x.mat", variables, do_compression=compressed)
    assert recognise(path).origin == "matconvnet"
    toy.same(toy.read(path), toy.tensors(made))
    classifier = read_foreign(path)  # no warning: the mean is in the file
    assert classifier.contract.mean == pytest.approx((123.68, 116.779, 103.939), abs=1e-4)
    assert classifier.contract.classes[1:3] == ("goldfish", "great white shark")
    assert classifier.contract.pooling == "up"


def with_classes(path: Path, **fields: list[str]) -> Path:
    """A net of five classes whose file names them so."""
    made = toy.net("D")
    variables = toy.mat_variables(made)
    variables["meta"] = {"classes": {field: np.array([texts], dtype=object) for field, texts in fields.items()}}
    scipy_io.savemat(path, variables)
    return path


WORDS = ["kit fox", "tench, Tinca tinca", "crane", "crane", "leopard cat"]
IDS = ["n02119789", "n01440764", "n02012849", "n03126707", "n02126787"]  # the last is not of the 1,000


def test_classes_whose_synsets_a_file_holds_are_called_as_in_ilsvrcs_data(tmp_path):
    found = matconvnet.read(with_classes(tmp_path / "x.mat", name=IDS, description=WORDS)).classes[0][1]
    assert [name[:9] for name in found] == IDS
    assert found[:2] == ("n02119789 kit fox, Vulpes macrotis", "n01440764 tench, Tinca tinca")
    assert found[4] == "n02126787 leopard cat"
    here = [f"{s} {name}" for s, name in imagenet_classes().items() if s in IDS]
    assert class_numbers(here, "data", found, "net").tolist() == [1, 2, 0, 3]
    alone = matconvnet.read(with_classes(tmp_path / "y.mat", name=IDS)).classes[0][1]
    assert (alone[0], alone[4]) == (found[0], "n02126787")


def test_names_that_come_twice_stay_two_classes(tmp_path):
    described = matconvnet.read(with_classes(tmp_path / "x.mat", description=WORDS)).classes[0][1]
    assert described == ("kit fox", "tench, Tinca tinca", "crane (class 2)", "crane (class 3)", "leopard cat")
    assert matconvnet.read(with_classes(tmp_path / "y.mat", name=WORDS)).classes[0][1] == described
    with pytest.raises(ModelError, match="n02119789 stands in it twice"):
        toy.read(with_classes(tmp_path / "z.mat", name=[*IDS[:4], IDS[0]], description=WORDS))


def test_logits_on_rgb_pixels(tmp_path):
    made, photos = toy.net("D"), toy.photo()
    scipy_io.savemat(path := tmp_path / "x.mat", toy.mat_variables(made))
    mean = torch.tensor([123.68, 116.779, 103.939], dtype=torch.float64).view(1, 3, 1, 1)
    with torch.no_grad():
        toy.close(read_foreign(path)(photos), made.double()(photos.double() - mean))


def test_a_variable_that_inflates_without_end_is_given_up(tmp_path):
    bomb = zlib.compress(bytes(400_000_000), 9)
    path = toy.put(tmp_path / "x.mat", HEADER + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb)
    with pytest.raises(ModelError, match="inflate"):
        toy.read(path)


def test_a_deep_nest_is_given_up(tmp_path):
    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)

    nest = b""
    for _ in range(2000):
        nest = element(14, element(6, b"\x01" + bytes(7)) + element(5, b"\x01\0\0\0" * 2) + element(1, b"") + nest)
    with pytest.raises(ModelError, match="deeply"):
        toy.read(toy.put(tmp_path / "x.mat", HEADER + nest))
