"""ONNX models whose numbers lie in other files, from an encoder written by hand."""

import os
from pathlib import Path

import pytest
import torch
import toy

from verydeep.cli import main
from verydeep.errors import ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights import onnx
from verydeep.weights.model import load_start
from verydeep.weights.read import Features, open_foreign
from verydeep.weights.recognise import recognise
from verydeep.weights.shapes import describe

DATA = "m.onnx.data"
ONE = torch.arange(6.0).reshape(2, 3)  # 24 bytes
TEN = toy.floats(torch.arange(10.0))


def net_beside(folder: Path, state: dict[str, torch.Tensor], kind: str = "<f4", small: int = 0) -> Path:
    model, data = toy.onnx_beside(state, DATA, kind, small)
    toy.put(folder / DATA, data)
    return toy.put(folder / "m.onnx", model)


def tensor(name: str = "one", dims: tuple[int, ...] = (2, 3), kind: int = 1) -> bytes:
    return b"".join(toy.field(1, side) for side in dims) + toy.field(2, kind) + toy.field(8, name)


def model(folder: Path, *messages: bytes) -> Path:
    return toy.put(folder / "m.onnx", toy.onnx_graph(b"".join(toy.field(5, m) for m in messages)))


def found(path: Path) -> dict[str, torch.Tensor]:
    left = onnx.budget()
    return dict(onnx.initialisers(onnx.graph_of(onnx.mapped(path), left)[1], left, onnx.Beside(path)))


@pytest.mark.parametrize("small", [0, 100])
@pytest.mark.parametrize("name", ["A", "E"])
def test_all_numbers_in_one_file_or_small_ones_in_the_model(tmp_path, name, small):
    made = toy.net(name)
    path = net_beside(tmp_path, toy.torchvision_state(made), small=small)
    assert (recognise(path), recognise(path).usual) == (("onnx", "torch"), "rgb-01-std")
    toy.same(toy.read(path), toy.tensors(made))


def test_one_file_a_tensor_in_folders_below(tmp_path):
    made, messages = toy.net("D"), []
    for i, (name, t) in enumerate(toy.torchvision_state(made).items()):
        (tmp_path / f"part{i % 3}").mkdir(exist_ok=True)
        toy.put(tmp_path / f"part{i % 3}" / name, toy.floats(t))
        place = toy.place(location=f"part{i % 3}/{name}", checksum="0" * 40)
        messages.append(tensor(name, tuple(t.shape)) + place)
    toy.same(toy.read(model(tmp_path, *messages)), toy.tensors(made))


@pytest.mark.parametrize(("kind", "code"), [("<f2", 10), ("<f4", 1), ("<f8", 11)])
def test_halves_and_doubles_also_without_a_length(tmp_path, kind, code):
    made = toy.net("D")
    wanted = {n: t.half().float() if kind == "<f2" else t for n, t in toy.tensors(made).items()}
    toy.same(toy.read(net_beside(tmp_path, toy.torchvision_state(made), kind)), wanted)
    toy.put(tmp_path / DATA, torch.arange(10.0).numpy().astype(kind).tobytes())
    assert torch.equal(found(model(tmp_path, tensor(kind=code) + toy.place(location=DATA)))["one"], ONE)


@pytest.mark.parametrize("name", ["A", "B", "D", "E"])
def test_batch_norm_that_the_exporter_multiplied_in(tmp_path, name):
    """The convolutions keep the numbers they had between batch norms."""
    numbers = zip(toy.TORCHVISION[name, False], toy.TORCHVISION[name, True], strict=True)
    there = {f"features.{before}": f"features.{after}" for before, after in numbers}
    plain, state = toy.net(name), {}
    for n, t in toy.torchvision_state(plain).items():
        layer, _, p = n.rpartition(".")
        state[f"{there.get(layer, layer)}.{p}"] = t
    tensors = toy.read(net_beside(tmp_path, state))
    toy.same(tensors, toy.tensors(plain))
    assert describe(tensors).batch_norm is False


def test_a_net_whose_batch_norm_was_lost_is_not_taken_for_one_without(tmp_path):
    state = toy.torchvision_state(toy.net("D", batch_norm=True))
    kept = {n: t for n, t in state.items() if "running" not in n and "tracked" not in n}
    with pytest.raises(ModelError, match="no net of Table 1 has such layers"):
        toy.read(toy.put(tmp_path / "m.onnx", toy.onnx_model(kept)))


def test_every_verb_takes_such_a_model(tmp_path, capsys):
    path = net_beside(tmp_path, toy.torchvision_state(toy.net("D")))
    assert isinstance(open_foreign(path, "rgb-01-std"), Classifier)
    assert not isinstance(load_start(f"{path}@rgb-01-std"), Features)
    assert main(["weights", "show", f"{path}@rgb-01-std"]) == 0
    assert "conv1_1.weight" in capsys.readouterr().out
    main(["weights", "verify", str(path)])  # random weights, so the answer is no
    assert "every layer is there" in capsys.readouterr().out
    assert main(["weights", "convert", f"{path}@rgb-01-std", str(tmp_path / "out.pth"), "--to", "torchvision"]) == 0
    assert (tmp_path / "out.pth").is_file()


@pytest.mark.parametrize(
    ("said", "first"),
    [
        ({}, 0), ({"offset": "0"}, 0), ({"length": "24"}, 0), ({"offset": "4"}, 1), ({"checksum": "x"}, 0),
        ({"offset": "16", "length": "24"}, 4),
    ],
)  # fmt: skip
def test_offset_and_length_may_be_missing(tmp_path, said, first):
    toy.put(tmp_path / DATA, TEN)
    got = found(model(tmp_path, tensor() + toy.place(location=DATA, **said)))["one"]
    assert torch.equal(got, ONE + first)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"offset": "20"}, r"lie in bytes 20 to 44 of m.onnx.data, which has only 40; fetch that file again"),
        ({"length": "44"}, "bytes 0 to 44"), ({"length": "20"}, r"size 5 into shape \(2,3\)"),
        ({"length": "23"}, "multiple"),
        ({"length": "0"}, "size 0 into"), ({"offset": "-4"}, "'-4' and '24' where"), ({"offset": "0x4"}, "'0x4' and"),
        ({"offset": ""}, "'' and"), ({"offset": "9" * 18}, "999,999,999,999,999,999 to"),
        ({"length": "9" * 900}, "where"),
        ({"offset": "٤"}, "where numbers of bytes"), ({"offset": "4\n"}, "where numbers"),
        ({"length": "x" * 1001}, "where"),
    ],
)  # fmt: skip
def test_places_that_do_not_fit(tmp_path, said, message):
    toy.put(tmp_path / DATA, TEN)
    with pytest.raises(ModelError, match=message) as e:
        toy.read(model(tmp_path, tensor() + toy.place(location=DATA, **said)))
    assert str(e.value).isprintable()


@pytest.mark.parametrize("dims", [(2**62, 2**62, 6), (2**64 - 1, 6), (2**64 - 6,)])
def test_absurd_shapes(tmp_path, dims):
    toy.put(tmp_path / DATA, TEN)
    with pytest.raises(ModelError, match="which has only 40"):
        toy.read(model(tmp_path, tensor(dims=dims) + toy.place(location=DATA)))


def linked(folder: Path, name: str, target: Path, location: str) -> str:
    (folder / name).symlink_to(target)
    return location


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda folder: "../secret", "expected a file below"),
        (lambda folder: "a/../../secret", "expected a file below"),
        (lambda folder: "..", "expected a file below"), (lambda folder: "", "in no file"),
        (lambda folder: str(toy.put(folder / "d", TEN)), "expected a file below"),
        (lambda folder: "/etc/passwd", "expected a file below"),
        (lambda folder: "/" + "x" * 900, "name too long"),
        (lambda folder: linked(folder, "link", folder.parent / "secret", "link"), "expected a file below"),
        (lambda folder: linked(folder, "below", folder.parent, "below/secret"), "expected a file below"),
        (lambda folder: os.mkfifo(folder / "pipe") or "pipe", "not a regular file"),
        (lambda folder: ".", "expected a file below"),
        (lambda folder: "a\0b", "null"), (lambda folder: toy.put(folder / "empty", b"").name, "empty"),
    ],
)  # fmt: skip
def test_numbers_are_taken_from_nowhere_else(tmp_path, place, message):
    (folder := tmp_path / "model").mkdir()
    toy.put(tmp_path / "secret", TEN)
    with pytest.raises(ModelError, match=message) as e:
        toy.read(model(folder, tensor() + toy.place(location=place(folder))))
    assert str(e.value).isprintable()


def test_model_and_numbers_may_be_links_into_one_folder(tmp_path):
    """As hubs keep them: a folder of links by name, and a folder of files by checksum; the numbers may have no link."""
    (blobs := tmp_path / "blobs").mkdir()
    (snapshot := tmp_path / "snapshot").mkdir()
    toy.put(blobs / "123", TEN)
    model(blobs, tensor() + toy.place(location=DATA)).rename(blobs / "456")
    (snapshot / DATA).symlink_to(Path("../blobs/123"))
    (snapshot / "m.onnx").symlink_to(Path("../blobs/456"))
    assert torch.equal(found(snapshot / "m.onnx")["one"], ONE)
    (snapshot / DATA).unlink()
    (blobs / "123").rename(blobs / DATA)
    assert torch.equal(found(snapshot / "m.onnx")["one"], ONE)


def test_a_missing_file_is_named_and_one_that_was_cut_too(tmp_path):
    path = net_beside(tmp_path, toy.torchvision_state(toy.net("A")))
    data = (tmp_path / DATA).read_bytes()
    toy.put(tmp_path / DATA, data[:-1])
    with pytest.raises(ModelError, match=f"of m.onnx.data, which has only {len(data) - 1:,}"):
        open_foreign(path, "rgb-01-std")
    (tmp_path / DATA).unlink()
    assert recognise(path).origin == "onnx"
    with pytest.raises(ModelError, match=rf"^{path} keeps its numbers in another file.*; put 'm.onnx.data' beside it$"):
        open_foreign(path, "rgb-01-std")


def test_tensors_may_share_numbers_but_small_files_do_not_become_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "SHARED", 50)
    toy.put(tmp_path / DATA, toy.floats(ONE))
    for i in range(4):
        os.link(tmp_path / DATA, tmp_path / f"{DATA}{i}")  # one file, whatever it is called
    each = [tensor(f"t{i}", (6,)) + toy.place(location=f"{DATA}{i}") for i in range(4)]
    assert len(found(model(tmp_path, *each[:3]))) == 3
    with pytest.raises(ModelError, match="96 bytes of other files, many times over"):
        toy.read(model(tmp_path, *each))


HERE = toy.field(9, toy.floats(ONE))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (toy.place(location=DATA) + HERE, "not in one piece"), (toy.field(14, 2) + HERE, "at one place"),
        (toy.place(location=DATA) + toy.place(location="other"), "location stands in it twice"),
        (toy.field(14, 1), "in no file"),
        (HERE + HERE, "not in one piece"), (toy.field(10, toy.floats(ONE)), "of its kind"), (b"", "not in one piece"),
    ],
)  # fmt: skip
def test_contradictions(tmp_path, more, message):
    toy.put(tmp_path / DATA, TEN)
    with pytest.raises(ModelError, match=message):
        toy.read(model(tmp_path, tensor() + more))


def test_what_is_said_and_not_meant(tmp_path):
    gone = toy.field(13, toy.field(1, "location") + toy.field(2, "gone"))
    assert torch.equal(found(model(tmp_path, tensor() + toy.field(14, 0) + HERE + gone))["one"], ONE)
    assert found(model(tmp_path, tensor("shape", (1,), 7) + toy.place(location="gone"))) == {}  # integers
