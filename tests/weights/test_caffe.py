"""Caffe's files, from an encoder written here by hand."""

import pytest
import torch
import toy

from verydeep.errors import ModelError
from verydeep.weights import caffe, wire
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.read import read_foreign
from verydeep.weights.recognise import recognise


@pytest.mark.parametrize("name", ["A", "B", "C", "D", "E", "shallow-B"])
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_every_number_is_read(tmp_path, name, version):
    weights = toy.tensors(toy.net(name))
    path = toy.put(tmp_path / "x", (toy.caffe_v1 if version == "V1" else toy.caffe_v2)(weights))
    assert recognise(path) == ("caffe", version)
    toy.same(toy.read(path), weights)


def test_doubles_are_rounded_once(tmp_path):
    weights = {n: t.double() + 1e-12 for n, t in toy.tensors(toy.net("A")).items()}
    found = toy.read(toy.put(tmp_path / "x", toy.caffe_v2(weights, doubles=True)))
    toy.same(found, {n: t.float() for n, t in weights.items()})


def test_what_is_written_is_read_and_is_what_the_other_encoder_reads(tmp_path):
    weights = toy.tensors(toy.net("D"))
    caffe.write(weights, path := tmp_path / "x.caffemodel")
    toy.same(toy.read(path), weights)
    assert toy.floats(weights["fc6.weight"]) in path.read_bytes()


def test_the_net_answers_as_an_fp64_caffe_on_bgr_pixels(tmp_path):
    made = toy.net("A")
    path = toy.put(tmp_path / "x", toy.caffe_v1(toy.tensors(made)))
    with pytest.warns(ContractWarning, match=r"is assumed to expect bgr-255.*expects="):
        classifier = read_foreign(path)
    photos = toy.photo()
    with torch.no_grad():
        toy.close(classifier(photos), made.double()(toy.caffe_pixels(photos)))
    assert (classifier.contract.mean, classifier.contract.pooling) == ((123.68, 116.779, 103.939), "up")
    assert classifier.contract.classes == tuple(f"class {i}" for i in range(toy.CLASSES))


def test_names_that_are_given_stay(tmp_path):
    path = toy.put(tmp_path / "x", toy.caffe_v2(toy.tensors(toy.net("A"))))
    contract = read_foreign(path, "bgr-255", list("abcde"), origin="a zoo", licence="CC BY 4.0").contract
    assert (contract.classes, contract.origin, contract.licence) == (tuple("abcde"), "a zoo", "CC BY 4.0")
    with pytest.raises(ModelError, match="5 classes, 2 names"):
        read_foreign(path, "bgr-255", ["a", "b"])


PIECE = toy.field(5, toy.floats(torch.ones(4)))


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (toy.field(7, toy.field(1, b"\x04")) + PIECE + PIECE, "one piece"), (b"", "one piece"),
        (toy.field(7, toy.field(1, b"\x05")) + PIECE, "size 4 into shape"),
        (toy.field(5, b"123"), "multiple of element size"),
        (toy.field(7, toy.field(1, b"\xff\xff\xff\xff\x0f" * 4)) + PIECE, "cannot reshape"),
        (toy.field(7, toy.field(1, b"\x01" * 81)) + PIECE, "more than eight sides"),
        (toy.field(7, 1) + PIECE, "cannot be read"),
    ],
)  # fmt: skip
def test_a_blob_in_two_pieces_and_one_that_lies_about_its_shape_are_refused(tmp_path, blob, said):
    path = toy.put(tmp_path / "x", toy.field(100, toy.field(1, "conv1_1") + toy.field(7, blob)))
    with pytest.raises(ModelError, match=said):
        toy.read(path)


def test_a_layer_twice_and_a_layer_too_few(tmp_path):
    weights = toy.tensors(toy.net("E"))
    one = toy.caffe_v2({n: weights[n] for n in ("fc8.weight", "fc8.bias")})
    with pytest.raises(ModelError, match="fc8/0 stands in it twice"):
        toy.read(toy.put(tmp_path / "x", toy.caffe_v2(weights) + one))
    lacking = {n: t for n, t in weights.items() if not n.startswith("conv3_4")}
    with pytest.raises(ModelError, match="not all layers that go with it"):
        toy.read(toy.put(tmp_path / "y", toy.caffe_v2(lacking)))


def test_a_file_of_empty_fields_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "MOST_FIELDS", 100)
    with pytest.raises(ModelError, match="more than 100 fields"):
        toy.read(toy.put(tmp_path / "x", toy.field(100, toy.field(1, "a")) * 1000))
