"""The run folder: one owner, whole files, and what it was begun with."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import verydeep.files
from verydeep.config import Config
from verydeep.errors import ConfigError, RunError
from verydeep.files.disk import make_folder, read_json, write_atomically, write_json, write_sealed, write_text
from verydeep.run import Run, open_run, read_config

SMALL = Config(crop=32, scale=(32, 48), drop_at=(3,))
OPEN = """
import os, pathlib, signal
from verydeep.config import Config
from verydeep.run import open_run
with open_run(pathlib.Path({folder!r}), Config(crop=32, scale=(32, 48), drop_at=(3,))):
    {then}
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# Opening


def test_a_run_is_begun_and_continued(tmp_path):
    out = tmp_path / "runs" / "one"
    with open_run(out, SMALL) as run:
        run.say("first")
    with open_run(out, replace(SMALL, workers=2)) as run:
        run.say("second\nthird")
    assert names(out) == [".lock", "config.yaml", "log.txt"]
    assert read_config(out) == replace(SMALL, workers=2)
    assert [line.split(" ", 2)[2] for line in (out / "log.txt").read_text().splitlines()] == [
        "first",
        "second",
        "third",
    ]


def test_what_is_said_goes_to_stderr(tmp_path, capsys):
    with open_run(tmp_path, SMALL) as run:
        run.say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_second_owner_is_refused(tmp_path):
    with open_run(tmp_path, SMALL):
        with pytest.raises(RunError, match="in use by another training"), open_run(tmp_path, SMALL):
            pass
        code = OPEN.format(folder=str(tmp_path), then="pass")
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.returncode != 0
        assert "in use by another training" in other.stderr
    with open_run(tmp_path, SMALL):
        pass


def test_a_killed_owner_leaves_no_lock(tmp_path):
    code = OPEN.format(folder=str(tmp_path), then="os.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with open_run(tmp_path, SMALL):
        pass


def test_an_error_inside_gives_the_lock_back(tmp_path):
    with pytest.raises(KeyError), open_run(tmp_path, SMALL):
        raise KeyError
    with open_run(tmp_path, SMALL):
        pass


def save_something(run):
    (run / "last").mkdir()
    (run / "last" / "state.json").write_text("{}")


def test_before_anything_is_saved_the_folder_may_begin_again(tmp_path):
    with open_run(tmp_path, SMALL):
        pass
    other = replace(SMALL, lr=0.1)
    with open_run(tmp_path, other):
        pass
    assert read_config(tmp_path) == other


def test_another_configuration_names_the_fields(tmp_path):
    with open_run(tmp_path, SMALL):
        save_something(tmp_path)
    with (
        pytest.raises(RunError, match=r"net \(D then, A now\), lr \(0.01 then, 0.1 now\); repeat"),
        open_run(tmp_path, Config(net="A", crop=32, scale=(32, 48), drop_at=(3,), lr=0.1)),
    ):
        pass
    assert read_config(tmp_path) == SMALL


@pytest.mark.parametrize("stranger", ["photo.jpg", "log.txt", ".bashrc"])
def test_a_folder_of_something_else_is_refused(tmp_path, stranger):
    (tmp_path / stranger).write_text("mine")
    with pytest.raises(RunError, match=f"already holds {stranger}"), open_run(tmp_path, SMALL):
        pass
    assert (tmp_path / stranger).read_text() == "mine"
    assert names(tmp_path) == [stranger]


def test_a_stranger_with_a_config_gets_no_lock_file(tmp_path):
    (tmp_path / "config.yaml").write_text("database: mine\n")
    with pytest.raises(ConfigError, match="unknown fields database"), open_run(tmp_path, SMALL):
        pass
    assert names(tmp_path) == ["config.yaml"]


def test_a_configuration_that_came_before_the_lock_is_kept(tmp_path, monkeypatch):
    """Another training begins and ends between the first look at the folder and the lock."""
    other = replace(SMALL, lr=0.1)

    def begun_meanwhile(*ignored):
        monkeypatch.undo()
        with open_run(tmp_path, other):
            save_something(tmp_path)

    monkeypatch.setattr(fcntl, "flock", begun_meanwhile)
    with pytest.raises(RunError, match="begun with another configuration"), open_run(tmp_path, SMALL):
        pass
    assert read_config(tmp_path) == other


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EWOULDBLOCK, "in use"),
        (errno.EAGAIN, "in use"),
        (errno.EACCES, "in use"),
        (errno.ENOLCK, r"cannot be locked \(No locks"),
    ],
)
def test_a_lock_that_fails_says_why(tmp_path, monkeypatch, number, message):
    def failing(*ignored):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(RunError, match=message), open_run(tmp_path, SMALL):
        pass


def test_what_killed_processes_were_writing_is_removed(tmp_path):
    """And nothing else, nor before the lock is held."""
    kept = ["best.safetensors", ".mine.tmp", "a.123.tmp"]
    stale = [".best.safetensors.123.tmp", ".metrics.jsonl.7.tmp"]
    with open_run(tmp_path, SMALL):
        for folder in (tmp_path, tmp_path / "last"):
            folder.mkdir(exist_ok=True)
            for name in (*kept, *stale):
                (folder / name).touch()
        with pytest.raises(RunError, match="in use"), open_run(tmp_path, SMALL):
            pass
        assert set(stale) < set(names(tmp_path))
    with open_run(tmp_path, SMALL):
        assert names(tmp_path / "last") == sorted(kept)
        assert names(tmp_path) == sorted([*kept, ".lock", "config.yaml", "last"])


def test_a_process_killed_while_it_began_is_no_stranger(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.yaml.123.tmp").write_text("net:")
    with open_run(tmp_path, SMALL):
        assert read_config(tmp_path) == SMALL


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "run").touch()
    for path in (tmp_path / "run", tmp_path / "run" / "below"):
        said = rf"{path.name} cannot be created \(.*\); a file lies where a folder is wanted; give another"
        with pytest.raises(RunError, match=said), open_run(path, SMALL):
            pass


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space, or give another --out"),
        (errno.EACCES, "you may not write there; .*"),
        (errno.EIO, "give another --out"),
    ],
)
def test_what_to_do_about_a_folder_fits_what_is_wrong(tmp_path, monkeypatch, number, advice):
    def mkdir(*ignored, **also):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(RunError, match=rf"run cannot be created \({os.strerror(number)}\); {advice}$"):
        make_folder(tmp_path / "run")


def write_into(folder):
    with open_run(folder, SMALL) as run:
        run.say("x")
        run.record({"step": 1, "epoch": 1})


@pytest.mark.parametrize("name", [".lock", "log.txt", "metrics.jsonl"])
def test_a_link_out_of_the_folder_is_not_written_through(tmp_path, name):
    """A run folder from a stranger could point anywhere."""
    (tmp_path / "mine").write_text("mine")
    with open_run(tmp_path / "run", SMALL):
        pass
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")

    with pytest.raises(RunError, match="Too many levels of symbolic links"):
        write_into(tmp_path / "run")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", [".lock", "log.txt", "metrics.jsonl"])
def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path, name):
    with open_run(tmp_path, SMALL):
        pass
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    before = signal.signal(signal.SIGALRM, lambda *ignored: pytest.fail("it waits"))
    signal.alarm(20)
    try:
        with pytest.raises(RunError, match="No such device or address"):
            write_into(tmp_path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Reading


def test_what_is_no_run_is_explained(tmp_path):
    with pytest.raises(RunError, match=r"is not a run folder: it has no config\.yaml"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"5",
        b"[]",
        b"{",
        b"a: b: c",
        b"\xff\xfe\x00",
        b"\0",
        b"d: 2014-99-99",
        b"[" * 1500,
        b"!!python/name:os.system",
    ],
)
def test_a_damaged_configuration_is_a_run_error(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.yaml .*damaged"):
        read_config(tmp_path)


def test_a_field_of_the_future_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("net: D\nwarp: 9\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: unknown fields warp"):
        read_config(tmp_path)


def test_json_survives_being_written(tmp_path):
    value = {"a": [1, 2.5, None, "犬"], "b": {"c": True}}
    write_json(tmp_path / "deep" / "x.json", value)
    assert read_json(tmp_path / "deep" / "x.json") == value


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "does not hold an object"), (None, "cannot be read")],
)
def test_damaged_json_is_a_run_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "x.json")


# Writing


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random"])
def test_records_without_end_are_refused(tmp_path, device):
    (tmp_path / "metrics.jsonl").symlink_to(device)
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read \(it is not a regular file\)"):
        Run(tmp_path).forget_after(1, 1)


def full_disk(*ignored, **also_ignored):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_written(path):
    path.write_text("new but cut sh")
    full_disk()


FAILURES = {
    "open": lambda patch: patch.setattr(Path, "write_text", full_disk),
    "fsync": lambda patch: patch.setattr(os, "fsync", full_disk),
    "reopen": lambda patch: patch.setattr(Path, "open", full_disk),
    "rename": lambda patch: patch.setattr(Path, "replace", full_disk),
}


@pytest.mark.parametrize("call", FAILURES)
@pytest.mark.parametrize("old", ["old", None])
def test_a_failing_call_leaves_the_old_file_and_no_litter(tmp_path, call, old):
    if old:
        (tmp_path / "x.txt").write_text(old)
    with pytest.MonkeyPatch.context() as patch:
        FAILURES[call](patch)
        with pytest.raises(RunError, match=r"x\.txt cannot be saved \(No space left on device\)"):
            write_text(tmp_path / "x.txt", "new")
    assert names(tmp_path) == (["x.txt"] if old else [])
    assert not old or (tmp_path / "x.txt").read_text() == old
    write_text(tmp_path / "x.txt", "new")
    assert (tmp_path / "x.txt").read_text() == "new"


def failing_folder_flush(monkeypatch, number):
    fsync = os.fsync

    def of_files_only(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", of_files_only)


def test_a_folder_that_fails_to_flush_does_not_deny_the_new_file(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_text("old")
    failing_folder_flush(monkeypatch, errno.EIO)
    with pytest.raises(RunError, match=r"x\.txt was saved but may not survive a power cut \(Input/output error\)"):
        write_text(tmp_path / "x.txt", "new")
    assert (tmp_path / "x.txt").read_text() == "new"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_flushing_of_folders_is_good_enough(tmp_path, monkeypatch, number):
    failing_folder_flush(monkeypatch, number)
    write_text(tmp_path / "x.txt", "new")
    assert (tmp_path / "x.txt").read_text() == "new"


def test_half_a_write_leaves_the_old_file(tmp_path):
    (tmp_path / "x.txt").write_text("old")
    with pytest.raises(RunError, match="unchanged"):
        write_atomically(tmp_path / "x.txt", half_written)
    assert names(tmp_path) == ["x.txt"]
    assert (tmp_path / "x.txt").read_text() == "old"


def test_an_error_of_the_writer_leaves_the_old_file(tmp_path):
    (tmp_path / "x.txt").write_text("old")

    def write(path):
        path.write_text("new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x.txt", write)
    assert names(tmp_path) == ["x.txt"]
    assert (tmp_path / "x.txt").read_text() == "old"


def test_a_read_only_disk_is_one_clear_error(tmp_path, monkeypatch):
    """A read-only disk refuses to remove even what is not there."""
    monkeypatch.setattr(Path, "write_text", full_disk)
    monkeypatch.setattr(Path, "unlink", full_disk)
    with pytest.raises(RunError, match="cannot be saved"):
        write_text(tmp_path / "x.txt", "new")


def test_file_and_folder_are_flushed_around_the_rename(tmp_path, monkeypatch):
    calls: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def seen_fsync(handle):
        calls.append(f"flush {os.readlink(f'/proc/self/fd/{handle}')}")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append(f"rename {self}") or rename(self, to))
    write_text(tmp_path / "x.txt", "new")
    temporary = calls[0].removeprefix("flush ")
    assert calls == [f"flush {temporary}", f"rename {temporary}", f"flush {tmp_path}"]


def flushed(monkeypatch):
    """What is flushed from now on."""
    fsync, found = os.fsync, list[str]()
    monkeypatch.setattr(
        os, "fsync", lambda handle: found.append(os.readlink(f"/proc/self/fd/{handle}")) or fsync(handle)
    )
    return found


def test_a_new_run_folder_survives_a_power_cut_with_those_above_it(tmp_path, monkeypatch):
    found = flushed(monkeypatch)
    with open_run(tmp_path / "a" / "b" / "run", SMALL):
        pass
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} < set(found)


def test_a_folder_that_may_be_written_but_not_listed_will_do(tmp_path, monkeypatch):
    os_open = os.open

    def unlistable(path, *given):
        if Path(str(path)) == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return os_open(str(path), *given)

    monkeypatch.setattr(os, "open", unlistable)
    with open_run(tmp_path / "run", SMALL):
        pass
    assert read_config(tmp_path / "run") == SMALL


# Log and metrics


def always_full(path, *ignored, **also_ignored):
    return io.open("/dev/full", "a")  # noqa: UP020  not the one that is replaced


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("name", "act"), [("log.txt", lambda run: run.say("x")), ("metrics.jsonl", lambda run: run.record({"step": 1}))]
)
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, name, act):
    with open_run(tmp_path, SMALL) as run:
        monkeypatch.setattr(verydeep.files.disk, "open", always_full, raising=False)
        with pytest.raises(RunError, match=rf"{re.escape(name)} cannot be written \(No space left on device\)"):
            act(run)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_that_fails_hides_no_other_error(tmp_path, monkeypatch):
    def fail():
        with open_run(tmp_path, SMALL) as run:
            monkeypatch.setattr(verydeep.files.disk, "open", always_full, raising=False)
            with suppress(RunError, OSError):
                run.say("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()


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


@pytest.mark.parametrize(
    "junk",
    [
        *(
            b'{"step": 2, "lo',
            b"\0\0\0",
            b"\xff\xfe",
            b"5",
            b'"step"',
            b"[]",
            b'{"step": null}',
            b'{"loss": 1}',
            b"",
            b"[" * 100_000,
        ),
        *(b'{"step": 1, "val_error": 1}', b'{"step": 1, "epoch": "1", "val_error": 1}', b"1" * 100_000),
    ],
)
def test_half_lines_are_forgotten(tmp_path, junk):
    run = Run(tmp_path)
    run.record({"step": 1, "epoch": 1})
    with run.metrics.open("ab") as f:
        f.write(junk)
    run.forget_after(5, 9)
    run.record({"step": 2, "epoch": 1})
    assert steps(run) == [1, 2]


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


@pytest.mark.parametrize("write", [write_json, write_sealed])
def test_json_that_could_not_be_read_again_is_not_written(tmp_path, write):
    write(tmp_path / "x.json", {"a": 1})
    before = (tmp_path / "x.json").read_bytes()
    with pytest.raises(RunError, match=r"x\.json would have [\d,]+ bytes, and at most 3,000,000 can be read again"):
        write(tmp_path / "x.json", {"a": "é" * 1_500_000})
    assert (tmp_path / "x.json").read_bytes() == before
