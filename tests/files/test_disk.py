"""Files are whole or not at all, also when the disk is full, cannot flush or lets nothing be removed."""

import errno
import os
from pathlib import Path

import pytest

from verydeep.errors import RunError
from verydeep.files.disk import make_folder, read_json, write_atomically, write_json, write_sealed, write_text


def failing(number):
    def call(*ignored, **also_ignored):
        raise OSError(number, os.strerror(number))

    return call


FAILURES = {
    "write": [(Path, "write_text")],
    "write and unlink": [(Path, "write_text"), (Path, "unlink")],  # a read-only disk removes not even what is not there
    "flush": [(os, "fsync")],
    "reopen": [(Path, "open")],
    "rename": [(Path, "replace")],
}


@pytest.mark.parametrize("calls", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("old", ["old", None])
def test_a_failing_call_leaves_the_old_file_and_no_litter(tmp_path, calls, old):
    file = tmp_path / "x.txt"
    if old:
        file.write_text(old)
    with pytest.MonkeyPatch.context() as patch:
        for call in calls:
            patch.setattr(*call, failing(errno.ENOSPC))
        with pytest.raises(RunError, match=r"x\.txt cannot be saved \(No space left on device\).*unchanged"):
            write_text(file, "new")
    assert [(p, p.read_text()) for p in tmp_path.iterdir()] == ([(file, old)] if old else [])
    write_text(file, "new")
    assert file.read_text() == "new"


@pytest.mark.parametrize(("error", "told"), [(OSError, RunError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_half_a_write_leaves_the_old_file(tmp_path, error, told):
    (tmp_path / "x.txt").write_text("old")

    def write(path):
        path.write_text("new but cut sh")
        raise error

    with pytest.raises(told):
        write_atomically(tmp_path / "x.txt", write)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x.txt", "old")]


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_fails_to_flush_is_told_but_not_where_no_folder_can_be_flushed(tmp_path, monkeypatch, number):
    """The new file is there either way."""
    (tmp_path / "x.txt").write_text("old")
    fsync = os.fsync
    is_folder = lambda handle: os.path.isdir(f"/proc/self/fd/{handle}")  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda handle: (failing(number) if is_folder(handle) else fsync)(handle))
    if number == errno.EIO:
        said = r"x\.txt was saved but may not survive a power cut \(Input/output error\)"
        with pytest.raises(RunError, match=said):
            write_text(tmp_path / "x.txt", "new")
    else:
        write_text(tmp_path / "x.txt", "new")
    assert (tmp_path / "x.txt").read_text() == "new"


@pytest.fixture
def calls(monkeypatch):
    """What is flushed and renamed from now on."""
    found, fsync, rename = [], os.fsync, Path.replace
    flushed = lambda handle: found.append(f"flush {os.readlink(f'/proc/self/fd/{handle}')}")  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda handle: flushed(handle) or fsync(handle))
    monkeypatch.setattr(Path, "replace", lambda self, to: found.append(f"rename {self}") or rename(self, to))
    return found


def test_file_and_folder_are_flushed_around_the_rename(tmp_path, calls):
    write_text(tmp_path / "x.txt", "new")
    temporary = calls[0].removeprefix("flush ")
    assert calls == [f"flush {temporary}", f"rename {temporary}", f"flush {tmp_path}"]


def test_a_new_folder_survives_a_power_cut_with_those_above_it(tmp_path, calls):
    make_folder(tmp_path / "a" / "b" / "run")
    assert set(calls) == {f"flush {f}" for f in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")}


def test_a_folder_that_may_be_written_but_not_listed_will_do(tmp_path, monkeypatch):
    real = os.open
    refused = failing(errno.EACCES)
    monkeypatch.setattr(os, "open", lambda path, *given: (refused if Path(path) == tmp_path else real)(path, *given))
    make_folder(tmp_path / "run")
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_why_a_folder_cannot_be_made_is_said(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "mkdir", failing(number))
    with pytest.raises(RunError, match=rf"run cannot be created \({os.strerror(number)}\); give another --out"):
        make_folder(tmp_path / "run")


def test_json_survives_being_written(tmp_path):
    value = {"a": [1, 2.5, None, "犬"], "b": {"c": True}}
    write_json(tmp_path / "deep" / "x.json", value)
    assert read_json(tmp_path / "deep" / "x.json") == value


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "an object"), (None, "cannot be read")]
)
def test_damaged_json_is_a_run_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("write", [write_json, write_sealed])
def test_json_that_could_not_be_read_again_is_not_written(tmp_path, write):
    write(file := tmp_path / "x.json", {"a": 1})
    before = file.read_bytes()
    with pytest.raises(RunError, match=r"x\.json would have [\d,]+ bytes, and at most 3,000,000 can be read again"):
        write(file, {"a": "é" * 1_500_000})
    assert file.read_bytes() == before
