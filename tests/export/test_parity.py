"""benchmarks/parity.py at toy size: every form in fp32 answers files of many kinds as the Classifier does."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verydeep.net.classifier import build
from verydeep.weights import load

COUNT = 12  # all kinds, orientations and shapes


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import parity

    yield parity
    for name in ("parity", "parity_photos"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One that knows something, with a mean and a deviation of its own for each colour."""
    trained = load("builtin:fashion-a")
    net = build(replace(trained.contract, mean=(90.0, 70.0, 60.0), std=(1.2, 1.0, 0.8)))
    net.net.load_state_dict(trained.net.state_dict())
    net.save(path := tmp_path_factory.mktemp("model") / "net.safetensors")
    return str(path)


def test_forms_in_fp32_answer_as_the_classifier(model, parity, tmp_path):
    net = load(model).eval()
    paths = parity.make_photos(tmp_path / "photos", COUNT, net.contract.crop, net.contract.test_scale)
    forms = [name for name, form in parity.FORMS.items() if form.exact and name not in ("file pt2", "the server")]
    assert len(forms) == 5
    rows = parity.compare(parity.Case(model, net, tmp_path, None), forms, paths)
    assert len(rows) == 2 * len(forms)
    for row in rows:
        assert row["same"] == COUNT, row
        assert row["far"] <= 1e-4, row
        assert row["good"]


def test_photos_are_of_all_kinds(parity, tmp_path):
    paths = parity.make_photos(tmp_path, COUNT, 32, 36)
    found = []
    for path in paths:
        with Image.open(path) as image:
            found.append((image.getexif()[0x0112], (image.format, image.mode), image.size))
    orientations, kinds, sizes = (set(column) for column in zip(*found, strict=True))
    assert orientations == set(range(1, 9))
    assert kinds == {
        *(("JPEG", mode) for mode in ("RGB", "CMYK", "L")),
        *(("PNG", mode) for mode in ("RGB", "L", "I;16", "P", "RGBA", "LA")),
    }
    assert len(sizes) == COUNT
    shapes = [parity.by_pillow(path).shape for path in paths]
    assert {(9, 13, 3), (13, 9, 3)} & set(shapes)
    assert {max(h, w) / min(h, w) for h, w, _ in shapes} >= {3.0}
    assert any(min(h, w) == 36 for h, w, _ in shapes)
    again = parity.make_photos(tmp_path / "again", COUNT, 32, 36)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(paths, again, strict=True))


def test_what_differs_does_not_pass(model, parity, tmp_path):
    """A form that sees red and blue exchanged, one that sees the photo lie, and one in whose answers there is nan."""
    net = load(model).eval()
    paths = parity.make_photos(tmp_path / "photos", COUNT, 32, 36)
    torch_in = parity.FORMS["torch fp32"].start
    ways = {
        "exchanged": lambda x: x[:, :, ::-1], "lying": lambda x: np.rot90(x), "as it is": lambda x: x,
    }  # fmt: skip
    for name, way in ways.items():

        def start(case, dense, way=way):
            answer = torch_in(case, dense)
            return lambda shown: answer(shown._replace(seen=way(shown.seen)))

        parity.FORMS[name] = parity.Form(True, start)
    parity.FORMS["nan"] = parity.Form(True, lambda case, dense: lambda shown: np.full(10, np.nan))
    rows = parity.compare(parity.Case(model, net, tmp_path, None), [*ways, "nan"], paths)
    assert {row["form"] for row in rows if row["good"]} == {"as it is"}
    assert parity.table(rows, COUNT).count("FAILS") == 6
