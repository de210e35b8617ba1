"""The run folder: one owner, whole files, and what it was begun with."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

import verydeep.files
from verydeep.config import Config
from verydeep.errors import ConfigError, RunError
from verydeep.run import Run, open_run, read_config

SMALL = Config(crop=32, scale=(32, 48), drop_at=(3,))
OTHER = replace(SMALL, lr=0.1)
ELSEWHERE = """
import os, pathlib, signal
from verydeep.config import Config
from verydeep.run import open_run
with open_run(pathlib.Path({!r}), Config(crop=32, scale=(32, 48), drop_at=(3,))):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def begin(path, config=SMALL, then=lambda run: None):
    with open_run(path, config) as run:
        then(run)


def begin_elsewhere(path):
    """In a process that is killed while it holds the folder."""
    return subprocess.run([sys.executable, "-c", ELSEWHERE.format(str(path))], capture_output=True, text=True)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def write_both(run):
    run.say("x")
    run.record({"step": 1, "epoch": 1})


def save_something(run):
    (run.path / "last").mkdir()
    (run.path / "last" / "state.json").write_text("{}")


def test_a_run_is_begun_and_continued_and_what_is_said_goes_to_stderr_too(tmp_path, capsys):
    out, other = tmp_path / "runs" / "one", replace(SMALL, workers=2)
    begin(out, SMALL, lambda run: run.say("first"))
    begin(out, other, lambda run: run.say("second\nthird"))
    assert names(out) == [".lock", "config.yaml", "log.txt"]
    assert read_config(out) == other
    said = [line.split(" ", 2)[2] for line in (out / "log.txt").read_text().splitlines()]
    assert said == ["first", "second", "third"]
    assert capsys.readouterr() == ("", "first\nsecond\nthird\n")


def test_a_second_owner_is_refused(tmp_path):
    with open_run(tmp_path, SMALL):
        with pytest.raises(RunError, match="in use by another training"):
            begin(tmp_path)
        other = begin_elsewhere(tmp_path)
        assert other.returncode == 1
        assert "in use by another training" in other.stderr
    begin(tmp_path)


def test_a_killed_owner_leaves_no_lock_and_neither_does_an_error(tmp_path):
    assert begin_elsewhere(tmp_path).returncode == -signal.SIGKILL
    with pytest.raises(KeyError):
        begin(tmp_path, SMALL, lambda run: {}[run])
    begin(tmp_path)


def test_before_anything_is_saved_the_folder_may_begin_again_and_then_the_fields_are_named(tmp_path):
    begin(tmp_path)
    begin(tmp_path, OTHER, save_something)
    assert read_config(tmp_path) == OTHER
    with pytest.raises(RunError, match=r"net \(D then, A now\), lr \(0.1 then, 0.01 now\); repeat"):
        begin(tmp_path, replace(SMALL, net="A"))
    assert read_config(tmp_path) == OTHER


STRANGERS = [(name, RunError, f"already holds {name}") for name in ("photo.jpg", "log.txt", ".bashrc")]


@pytest.mark.parametrize(
    ("stranger", "error", "said"), [*STRANGERS, ("config.yaml", ConfigError, "unknown fields database")]
)
def test_a_folder_of_something_else_is_refused_and_gets_no_lock_file(tmp_path, stranger, error, said):
    (tmp_path / stranger).write_text("database: mine\n")
    with pytest.raises(error, match=said):
        begin(tmp_path)
    assert (tmp_path / stranger).read_text() == "database: mine\n"
    assert names(tmp_path) == [stranger]


def test_a_configuration_that_came_before_the_lock_is_kept(tmp_path, monkeypatch):
    """Another training begins and ends between the first look at the folder and the lock."""

    def begun_meanwhile(*ignored):
        monkeypatch.undo()
        begin(tmp_path, OTHER, save_something)

    monkeypatch.setattr(fcntl, "flock", begun_meanwhile)
    with pytest.raises(RunError, match="begun with another configuration"):
        begin(tmp_path)
    assert read_config(tmp_path) == OTHER


IN_USE = [(number, "in use") for number in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)]


@pytest.mark.parametrize(("number", "message"), [*IN_USE, (errno.ENOLCK, r"cannot be used .*\(No locks")])
def test_a_lock_that_fails_says_why(tmp_path, monkeypatch, number, message):
    def failing(*ignored):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(RunError, match=message):
        begin(tmp_path)


def test_what_killed_processes_were_writing_is_removed(tmp_path):
    """And nothing else, nor before the lock is held."""
    kept = ["best.safetensors", ".mine.tmp", "a.123.tmp"]
    stale = [".best.safetensors.123.tmp", ".metrics.jsonl.7.tmp"]
    (tmp_path / ".config.yaml.123.tmp").write_text("net:")  # of one killed while it began, which is no stranger
    (tmp_path / ".lock").touch()
    with open_run(tmp_path, SMALL):
        for folder in (tmp_path, tmp_path / "last"):
            folder.mkdir(exist_ok=True)
            for name in (*kept, *stale):
                (folder / name).touch()
        with pytest.raises(RunError, match="in use"):
            begin(tmp_path)
        assert set(stale) < set(names(tmp_path))
    begin(tmp_path)
    assert names(tmp_path / "last") == sorted(kept)
    assert names(tmp_path) == sorted([*kept, ".lock", "config.yaml", "last"])


@pytest.mark.parametrize("name", ["run", "run/below"])
def test_a_file_is_no_run_folder(tmp_path, name):
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match=rf"{name} cannot be created \(.*\); .* no file is in the way"):
        begin(tmp_path / name)


@pytest.mark.parametrize("name", [".lock", "log.txt", "metrics.jsonl"])
@pytest.mark.parametrize(
    ("kind", "said"), [("link", "Too many levels of symbolic links"), ("pipe", "No such device or address")]
)
def test_no_link_out_of_the_folder_is_followed_and_no_pipe_waited_for(tmp_path, name, kind, said):
    """A run folder from a stranger could point anywhere."""
    run, mine = tmp_path / "run", tmp_path / "mine"
    mine.write_text("mine")
    begin(run)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine) if kind == "link" else os.mkfifo(run / name)
    before = signal.signal(signal.SIGALRM, lambda *ignored: pytest.fail("it waits"))
    signal.alarm(20)
    try:
        with pytest.raises(RunError, match=said):
            begin(run, SMALL, write_both)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert mine.read_text() == "mine"


DAMAGED = [b"", b"5", b"[]", b"{", b"a: b: c", b"\xff\xfe\x00", b"\0", b"d: 2014-99-99", b"[" * 1500]
NO_RUN = (None, RunError, r"is not a run folder: it has no config\.yaml")
FUTURE = (b"net: D\nwarp: 9\n", ConfigError, r"config\.yaml: unknown fields warp")


@pytest.mark.parametrize(
    ("content", "error", "said"), [NO_RUN, FUTURE, *((d, RunError, r"config\.yaml .*damaged") for d in DAMAGED)]
)
def test_what_is_wrong_with_a_configuration_is_told(tmp_path, content, error, said):
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(error, match=said):
        read_config(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
def test_a_full_disk_is_one_clear_line_and_hides_no_other_error(tmp_path, monkeypatch, name):
    def act(run):
        full = lambda *ignored, **also: open("/dev/full", "a")  # noqa: E731, SIM115
        monkeypatch.setattr(verydeep.files.disk, "open", full, raising=False)
        with pytest.raises(RunError, match=rf"{re.escape(name)} cannot be written \(No space left on device\)"):
            run.say("x") if name == "log.txt" else run.record({"step": 1})
        raise KeyError

    with pytest.raises(KeyError):
        begin(tmp_path, SMALL, act)


def steps(run):
    return [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]


def test_records_of_steps_to_be_taken_again_are_forgotten(tmp_path):
    run = Run(tmp_path)
    run.forget_after(3, 9)
    assert names(tmp_path) == []
    for step in range(1, 6):
        run.record({"step": step, "epoch": 1, "loss": 1 / step})
    run.forget_after(3, 9)
    assert steps(run) == [1, 2, 3]
    run.record({"step": 4, "epoch": 1, "loss": 0.25})
    assert steps(run) == [1, 2, 3, 4]


JUNK = [
    b'{"step": 2, "lo', b"\0\0\0", b"\xff\xfe", b"5", b'"step"', b"[]", b'{"step": null}', b'{"loss": 1}', b"",
    b"[" * 100_000, b'{"step": 1, "val_error": 1}', b'{"step": 1, "epoch": "1", "val_error": 1}', b"1" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_half_lines_are_forgotten(tmp_path, junk):
    run = Run(tmp_path)
    run.record({"step": 1, "epoch": 1})
    with run.metrics.open("ab") as f:
        f.write(junk)
    run.forget_after(5, 9)
    run.record({"step": 2, "epoch": 1})
    assert steps(run) == [1, 2]


def test_records_without_end_are_refused(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/zero")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read \(it is not a regular file\)"):
        Run(tmp_path).forget_after(1, 1)


def test_records_are_read_in_little_memory(tmp_path):
    """One by one, and a line without end in pieces."""
    run = Run(tmp_path)
    with run.metrics.open("w") as f:
        f.writelines(f'{{"step":{i},"epoch":1}}\n' for i in range(5_000))
        f.write("[" * 2_000_000)
    tracemalloc.start()
    try:
        run.forget_after(4_000, 9)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 200_000
    assert steps(run) == list(range(4_001))
