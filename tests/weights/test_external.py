"""ONNX models whose numbers lie in other files, from an encoder written by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toy

from verydeep.cli import main
from verydeep.errors import ModelError
from verydeep.net.classifier import Classifier
from verydeep.weights import external, onnx
from verydeep.weights.model import load_start
from verydeep.weights.read import Features, open_foreign
from verydeep.weights.recognise import recognise
from verydeep.weights.shapes import describe

DATA = "m.onnx.data"
ONE = torch.arange(6.0).reshape(2, 3)  # 24 bytes


def net_beside(folder: Path, made: torch.nn.Module, kind: str = "<f4", small: int = 0) -> Path:
    model, data = toy.onnx_beside(toy.torchvision_state(made), DATA, kind, small)  # type: ignore[arg-type]
    toy.put(folder / DATA, data)
    return toy.put(folder / "m.onnx", model)


def one_tensor(folder: Path, **said: str) -> Path:
    return tensors(
        folder, toy.field(1, 2) + toy.field(1, 3) + toy.field(2, 1) + toy.field(8, "one") + toy.place(**said)
    )


def tensors(folder: Path, *messages: bytes) -> Path:
    return toy.put(folder / "m.onnx", toy.onnx_graph(b"".join(toy.field(5, m) for m in messages)))


def found(path: Path) -> dict[str, torch.Tensor]:
    return dict(onnx.initialisers(onnx.mapped(path), external.Files(path)))


@pytest.mark.parametrize("small", [0, 100])
@pytest.mark.parametrize("name", ["A", "E"])
def test_all_numbers_in_one_file_or_small_ones_in_the_model(tmp_path: Path, name: str, small: int) -> None:
    made = toy.net(name)
    path = net_beside(tmp_path, made, small=small)
    assert recognise(path)[:3] == ("onnx", "torch", "rgb-01-std")
    toy.same(onnx.read(path)[0].tensors, toy.tensors(made))


def test_one_file_a_tensor_in_folders_below(tmp_path: Path) -> None:
    made = toy.net("D")
    messages = []
    for i, (name, t) in enumerate(toy.torchvision_state(made).items()):
        (tmp_path / f"part{i % 3}").mkdir(exist_ok=True)
        toy.put(tmp_path / f"part{i % 3}" / name, toy.floats(t))
        dims = b"".join(toy.field(1, side) for side in t.shape)
        messages.append(
            dims + toy.field(2, 1) + toy.place(location=f"part{i % 3}/{name}", checksum="0" * 40) + toy.field(8, name)
        )
    toy.same(onnx.read(tensors(tmp_path, *messages))[0].tensors, toy.tensors(made))


@pytest.mark.parametrize("kind", ["<f2", "<f8"])
def test_halves_and_doubles(tmp_path: Path, kind: str) -> None:
    made = toy.net("D")
    wanted = {n: t.half().float() if kind == "<f2" else t for n, t in toy.tensors(made).items()}
    toy.same(onnx.read(net_beside(tmp_path, made, kind))[0].tensors, wanted)


@pytest.mark.parametrize("name", ["A", "B", "D", "E"])
def test_batch_norm_that_the_exporter_multiplied_in(tmp_path: Path, name: str) -> None:
    """The convolutions keep the numbers they had between batch norms."""
    plain = toy.net(name)
    state = dict(toy.torchvision_state(plain))
    before, after = toy.TORCHVISION[name, False], toy.TORCHVISION[name, True]
    moved = {
        f"features.{b}.{p}": state.pop(f"features.{a}.{p}")
        for a, b in zip(before, after, strict=True)
        for p in ("weight", "bias")
    }
    model, data = toy.onnx_beside(moved | state, DATA)
    toy.put(tmp_path / DATA, data)
    tensors = onnx.read(toy.put(tmp_path / "m.onnx", model))[0].tensors
    toy.same(tensors, toy.tensors(plain))
    assert describe(tensors).batch_norm is False


def test_a_net_whose_batch_norm_was_lost_is_not_taken_for_one_without(tmp_path: Path) -> None:
    state = toy.torchvision_state(toy.net("D", batch_norm=True))
    kept = {n: t for n, t in state.items() if "running" not in n and "tracked" not in n}
    with pytest.raises(ModelError, match="no net of Table 1 has such layers"):
        onnx.read(toy.put(tmp_path / "m.onnx", toy.onnx_model(kept)))


def test_every_verb_takes_such_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = net_beside(tmp_path, toy.net("D"))
    found = open_foreign(path, "rgb-01-std")
    assert isinstance(found, Classifier)
    toy.same(toy.tensors(found.net), toy.tensors(toy.net("D")))
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
        ({}, 0),
        ({"offset": "0"}, 0),
        ({"length": "24"}, 0),
        ({"offset": "4"}, 1),
        ({"offset": "16", "length": "24"}, 4),
        ({"checksum": "x"}, 0),
    ],
)
def test_offset_and_length_may_be_missing(tmp_path: Path, said: dict[str, str], first: int) -> None:
    toy.put(tmp_path / DATA, toy.floats(torch.arange(10.0)))
    assert torch.equal(found(one_tensor(tmp_path, location=DATA, **said))["one"], ONE + first)


@pytest.mark.parametrize(("kind", "code"), [("<f2", 10), ("<f4", 1), ("<f8", 11)])
def test_without_a_length_it_is_what_the_shape_takes(tmp_path: Path, kind: str, code: int) -> None:
    toy.put(tmp_path / DATA, torch.arange(10.0).numpy().astype(kind).tobytes())
    message = toy.field(1, 2) + toy.field(1, 3) + toy.field(2, code) + toy.field(8, "one") + toy.place(location=DATA)
    assert torch.equal(found(tensors(tmp_path, message))["one"], ONE)


def test_tensors_may_share_numbers_and_one_mapping(tmp_path: Path) -> None:
    toy.put(tmp_path / DATA, toy.floats(torch.arange(10.0)))
    messages = [
        toy.field(1, 6) + toy.field(2, 1) + toy.field(8, f"t{i}") + toy.place(location=DATA, offset=f"{4 * i}")
        for i in range(5)
    ]
    got = found(path := tensors(tmp_path, *messages))
    assert [t[0].item() for t in got.values()] == [0, 1, 2, 3, 4]
    (tmp_path / "alias").symlink_to(DATA)
    files = external.Files(path)
    assert files.file(DATA) is files.file(f"./{DATA}") is files.file("alias")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"offset": "20"}, r"the numbers of one lie in bytes 20 to 44 of m.onnx.data, which has only 40; fetch that file again"),
        ({"length": "44"}, "bytes 0 to 44"),
        ({"length": "20"}, r"5 numbers for the shape \[2, 3\]"), ({"length": "23"}, "multiple"), ({"length": "28"}, "7 numbers"),
        ({"length": "0"}, "0 numbers"), ({"offset": "-4"}, "-4 where a number of bytes"), ({"offset": "0x4"}, "0x4 where"),
        ({"offset": ""}, "nothing where"), ({"offset": "9" * 18}, "999,999,999,999,999,999 to"), ({"offset": "9" * 19}, "where a number"),
        ({"length": "9" * 900}, "where a number"), ({"offset": "٤"}, "where a number"), ({"offset": "4\n"}, "where a number"),
        ({"length": "x" * 1001}, "more than 1,000 bytes"),
    ],
)  # fmt: skip
def test_places_that_do_not_fit(tmp_path: Path, said: dict[str, str], message: str) -> None:
    toy.put(tmp_path / DATA, toy.floats(torch.arange(10.0)))
    with pytest.raises(ModelError, match=message) as e:
        onnx.read(one_tensor(tmp_path, location=DATA, **said))
    assert str(e.value).isprintable()


@pytest.mark.parametrize("dims", [[2**62, 2**62, 6], [2**64 - 1, 6], [2**64 - 6]])
def test_absurd_shapes(tmp_path: Path, dims: list[int]) -> None:
    toy.put(tmp_path / DATA, toy.floats(ONE))
    message = (
        b"".join(toy.field(1, side) for side in dims) + toy.field(2, 1) + toy.field(8, "one") + toy.place(location=DATA)
    )
    with pytest.raises(ModelError, match="which has only 24"):
        onnx.read(tensors(tmp_path, message))


def linked(folder: Path) -> str:
    (folder / "link").symlink_to(toy.put(folder.parent / "secret", toy.floats(ONE)))
    return "link"


def linked_folder(folder: Path) -> str:
    (folder / "below").symlink_to(folder.parent)
    toy.put(folder.parent / "secret", toy.floats(ONE))
    return "below/secret"


def piped(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda folder: "../secret", "expected a path below"), (lambda folder: "a/../../secret", "expected a path below"),
        (lambda folder: "..", "expected a path below"), (lambda folder: "", "in no file"),
        (lambda folder: str(toy.put(folder / "d", toy.floats(ONE))), "expected a path below"),
        (lambda folder: "/etc/passwd", "expected a path below"), (lambda folder: "/" + "x" * 900, "expected a path below"),
        (linked, "link that leads out"), (linked_folder, "link that leads out"), (piped, "not a regular file"),
        (lambda folder: ".", "not a regular file"), (lambda folder: "m.onnx", "the model itself"), (lambda folder: "a\0b", "null"),
        (lambda folder: toy.put(folder / "empty", b"").name, "empty"),
    ],
)  # fmt: skip
def test_numbers_are_taken_from_nowhere_else(tmp_path: Path, place: Callable[[Path], str], message: str) -> None:
    (folder := tmp_path / "model").mkdir()
    toy.put(tmp_path / "secret", toy.floats(ONE))
    with pytest.raises(ModelError, match=message) as e:
        onnx.read(one_tensor(folder, location=place(folder)))
    assert str(e.value).isprintable()


def test_the_numbers_are_found_beside_what_a_model_links_to(tmp_path: Path) -> None:
    (there := tmp_path / "there").mkdir()
    net_beside(there, made := toy.net("A"))
    (tmp_path / "m.onnx").symlink_to(there / "m.onnx")
    toy.same(onnx.read(tmp_path / "m.onnx")[0].tensors, toy.tensors(made))


def test_model_and_numbers_may_be_links_into_one_folder(tmp_path: Path) -> None:
    """As hubs keep them: a folder of links by name, and a folder of files by checksum."""
    (blobs := tmp_path / "blobs").mkdir()
    (snapshot := tmp_path / "snapshot").mkdir()
    toy.put(blobs / "123", toy.floats(ONE))
    one_tensor(blobs, location=DATA).rename(blobs / "456")
    (snapshot / DATA).symlink_to(Path("../blobs/123"))
    (snapshot / "m.onnx").symlink_to(Path("../blobs/456"))
    assert torch.equal(found(snapshot / "m.onnx")["one"], ONE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = net_beside(tmp_path, toy.net("A"))
    (tmp_path / DATA).unlink()
    assert recognise(path).origin == "onnx"
    with pytest.raises(
        ModelError, match=rf"^{path} keeps its numbers in another file, which is missing; put m.onnx.data beside it$"
    ):
        open_foreign(path, "rgb-01-std")


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    path = net_beside(tmp_path, toy.net("A"))
    data = (tmp_path / DATA).read_bytes()
    toy.put(tmp_path / DATA, data[:-1])
    with pytest.raises(ModelError, match=f"of m.onnx.data, which has only {len(data) - 1:,}"):
        open_foreign(path, "rgb-01-std")


def test_small_files_do_not_become_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "SHARED", 50)
    toy.put(tmp_path / DATA, toy.floats(ONE))
    for i in range(4):
        os.link(tmp_path / DATA, tmp_path / f"{DATA}{i}")  # one file, whatever it is called
    each = [
        toy.field(1, 6) + toy.field(2, 1) + toy.field(8, f"t{i}") + toy.place(location=f"{DATA}{i}") for i in range(4)
    ]
    assert len(found(tensors(tmp_path, *each[:3]))) == 3
    with pytest.raises(ModelError, match="96 bytes of other files, many times over"):
        onnx.read(tensors(tmp_path, *each))


def test_not_endlessly_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MOST_FILES", 3)
    each = []
    for i in range(4):
        toy.put(tmp_path / f"d{i}", toy.floats(ONE))
        each.append(toy.field(1, 6) + toy.field(2, 1) + toy.field(8, f"t{i}") + toy.place(location=f"d{i}"))
    assert len(found(tensors(tmp_path, *each[:3]))) == 3
    with pytest.raises(ModelError, match="in more than 3 files"):
        onnx.read(tensors(tmp_path, *each))


def test_contradictions(tmp_path: Path) -> None:
    toy.put(tmp_path / DATA, toy.floats(ONE))
    head = toy.field(1, 2) + toy.field(1, 3) + toy.field(2, 1) + toy.field(8, "one")
    for more, message in (
        (toy.place(location=DATA) + toy.field(9, toy.floats(ONE)), "in the model and in another file"),
        (toy.place(location=DATA) + toy.place(location="other"), "the numbers of one have two values of 'location'"),
        (toy.field(14, 2) + toy.field(9, toy.floats(ONE)), "a place of an unknown kind"),
        (toy.field(14, 1), "in no file"),
    ):
        with pytest.raises(ModelError, match=message):
            onnx.read(tensors(tmp_path, head + more))
    there = (
        head
        + toy.field(14, 0)
        + toy.field(9, toy.floats(ONE))
        + toy.field(13, toy.field(1, "location") + toy.field(2, "gone"))
    )
    assert torch.equal(found(tensors(tmp_path, there))["one"], ONE)  # the place is said and not meant


def test_integers_elsewhere_are_not_looked_for(tmp_path: Path) -> None:
    there = toy.field(1, 1) + toy.field(2, 7) + toy.field(8, "shape") + toy.place(location="gone")
    assert found(tensors(tmp_path, there)) == {}
