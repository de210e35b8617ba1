"""Disks that fail: every call of a save in turn, and file systems that are really full, read-only or broken.

python test_faults.py FOLDER saves there in children that are killed at every call in turn; prints how many.
"""

import errno
import io
import os
import re
import shutil
import signal
import sys
import time
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import count, cycle, product
from pathlib import Path

import pytest
import tiny
import torch

from verydeep.contract import Contract
from verydeep.errors import RunError
from verydeep.files.disk import read_json, write_json, write_text
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.net.saved import read_classifier
from verydeep.run import has_state, open_run, read_metrics
from verydeep.train.schedule import Schedule
from verydeep.train.state import Counters, restore, save

HANDLES = ("fsync", "close")  # functions of os that take an open file; the others take a path
CALLS = ("open", "mkdir", "replace", "rename", "unlink", "listdir", "scandir", "stat", *HANDLES)
HARMLESS = ("unlink", "listdir", "scandir")  # what is left is removed the next time
trained = cache(tiny.trained)


class Faults:
    """Inside a `with`, every call that touches `folder` is counted; number `at` fails, before or after it is done.

    With `number` None the process dies of it.
    """

    def __init__(self, folder, at=0, number=errno.EIO, late=False, names=CALLS):
        self.folder, self.at, self.number, self.late, self.names, self.calls = str(folder), at, number, late, names, []

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in self.names:
            self.patch.setattr(os, name, self.failing(name, getattr(os, name)))
        if "open" in self.names:
            self.patch.setattr(io, "open", self.failing("open", io.open, lambda file: Watched(file, self)))
        return self

    def __exit__(self, *ignored):
        self.patch.undo()

    def failing(self, name, real, wrap=lambda result: result):
        def call(*given, **options):
            ours = isinstance(given[0], int) if name in HANDLES else str(given[0]).startswith(self.folder)
            return self.count(name, lambda: wrap(real(*given, **options))) if ours else real(*given, **options)

        return call

    def count(self, name, act):
        self.calls.append(name)
        if len(self.calls) != self.at:
            return act()
        if not self.late and (name != "close" or self.number is None):  # a close that fails has closed
            self.fail()
        try:
            if isinstance(result := act(), Watched):
                result.file.close()
        finally:
            self.fail()

    def fail(self):
        if self.number is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.number, os.strerror(self.number))


class Watched(AbstractContextManager):
    """A file whose reads, writes and close may fail; a late failure of a write comes after half of it."""

    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __exit__(self, *ignored):
        self.close()

    def read(self, *given):
        return self.faults.count("read", lambda: self.file.read(*given))

    def write(self, data):
        half = self.faults.late and len(self.faults.calls) + 1 == self.faults.at
        return self.faults.count("write", lambda: self.file.write(data[: len(data) // 2] if half else data))

    def close(self):
        if not self.file.closed:
            self.faults.count("close", self.file.close)


# What is saved: the old value, the new one, and what is found afterwards: "old", "new" or None


def save_state(folder, which):
    number = ("old", "new").index(which)
    save(folder / "last", *trained(number), Counters(step=17 + number, best_error=50.0), Schedule(0.01))


def find_state(folder):
    other = tiny.trained(2, 0)
    if not (kept := restore(folder / "last", *other)):
        return None
    which = kept[0].step - 17
    assert tiny.equal(tiny.numbers(*other), tiny.numbers(*trained(which)))
    return ("old", "new")[which]


@cache
def model(which):
    colours = (100.0, 100.0, 100.0)
    made = build(Contract("A", (which, "other"), 32, 8, 4, False, "up", colours, (1.0, 1.0, 1.0), (32, 32)))
    initialise(made.net, "he")
    return made


def read_model(file):
    found = read_classifier(file)
    which = found.contract.classes[0]
    assert tiny.equal(list(found.state_dict().values()), list(model(which).state_dict().values()))
    return which


def in_file(name, write, read):
    """How a file is saved and found again."""

    def find(folder):
        return read(folder / name) if (folder / name).exists() else None

    return lambda folder, which: write(folder / name, which), find


SAVES = {
    "state": (save_state, find_state),
    "best": in_file("best.safetensors", lambda file, which: model(which).save(file), read_model),
    "json": in_file(
        "results/x.json", lambda file, is_: write_json(file, {"is": is_}), lambda file: read_json(file)["is"]
    ),
    "text": in_file("config.yaml", write_text, Path.read_text),
}


def files(folder):
    return {p.name for p in folder.rglob("*") if p.is_file()}


def begun(folder, act, before):
    folder.mkdir(parents=True)
    if before:
        act(folder, before)
    return folder


@pytest.mark.parametrize(("what", "before", "late"), [*product(SAVES, ("old", None), (False, True))])
def test_a_save_of_which_any_call_fails_leaves_the_old_or_the_new_whole(tmp_path, monkeypatch, what, before, late):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power cut here, and hundreds of saves
    act, find = SAVES[what]
    whole = {which: files(begun(tmp_path / str(which), act, which)) for which in (None, "old", "new")}
    with Faults(clean := begun(tmp_path / "clean", act, before)) as counted:
        act(clean, "new")
    assert find(clean) == "new"
    assert {"open", "write", "fsync", "close", "replace"} <= set(counted.calls)
    numbers = cycle((errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT))
    for at, name, number in zip(count(1), counted.calls, numbers, strict=False):
        folder, error, where = begun(tmp_path / str(at), act, before), None, (at, name, errno.errorcode[number])
        with Faults(folder, at, number, late) as faults:
            try:
                act(folder, "new")
            except RunError as e:  # and nothing else
                error = str(e)
        assert len(faults.calls) >= at, where
        found = find(folder)
        assert found in (before, "new"), where
        assert error or found == "new", where
        assert not error or (os.strerror(number) in error and str(folder) in error and "\n" not in error), where
        if name not in HARMLESS:
            # Where state.json was replaced but not flushed, a power cut may bring the old one back: its files stay.
            assert files(folder) == (whole[before] | whole["new"] if found == "new" and error else whole[found]), where
        act(folder, "new")
        assert find(folder) == "new", where
        if what == "state":
            assert files(folder) == whole["new"], where


def save_in_killed_children(root):
    """A state, beside an old one and alone: each call before and after it is done, of many writes first and last."""
    seen = []
    for before in ("old", None):
        with Faults(clean := begun(root / f"{before}", save_state, before)) as counted:
            save_state(clean, "new")
        for i, late in product(range(1, len(counted.calls) + 1), (False, True)):
            if set(counted.calls[max(0, i - 2) : i + 1]) == {"write"}:
                continue
            folder, where = begun(root / f"{before} {i} {late}", save_state, before), (before, i, counted.calls[i - 1])
            if not (pid := os.fork()):
                with Faults(folder, i, None, late):
                    save_state(folder, "new")
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, where
            seen.append((before, find_state(folder)))
            save_state(folder, "new")
            assert find_state(folder) == "new", where
            assert len(files(folder)) == 3, where
    assert set(seen) == {("old", "old"), ("old", "new"), (None, None), (None, "new")}
    print(len(seen))


def test_a_save_that_is_killed_at_any_call_leaves_the_old_or_the_new_whole(tmp_path):
    done = tiny.call(sys.executable, "-W", "ignore", __file__, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_a_state_that_cannot_be_read_is_replaced_by_the_next(tmp_path):
    """A training in memory is worth more than a file that has gone bad under it."""
    save_state(tmp_path, "old")
    (tmp_path / "last" / "state.json").write_text("{")
    save_state(tmp_path, "new")
    assert find_state(tmp_path) == "new"
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("act", [lambda folder: restore(folder / "last", *trained(1)), has_state])
def test_a_disk_that_does_not_say_whether_there_is_a_state_does_not_begin_anew(tmp_path, act):
    save_state(tmp_path, "old")
    with Faults(tmp_path, 1), pytest.raises(RunError, match=r"state\.json cannot be read \(Input/output error\)"):
        act(tmp_path)


# Real trainings on disks that really fail, through the command line


data, run, whole, uninterrupted = tiny.data, tiny.run, tiny.whole, tiny.uninterrupted


def assert_one_clear_line(stderr, run, why):
    *said, last = stderr.splitlines()
    assert "Traceback" not in stderr
    assert re.fullmatch(rf"verydeep train: .*{re.escape(str(run))}.*", last)
    assert why in last
    assert not [line for line in said if why in line]


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@contextmanager
def limited(run):
    """No file may grow beyond 100,000 bytes; the weights have 150,000."""
    yield ["sh", "-c", 'ulimit -f 195 && exec "$@"', "sh"]


@contextmanager
def forbidden(run):
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if words and (not shutil.which("setpriv") or tiny.call(*words, "true").returncode):
        pytest.skip("root may write anywhere, and setpriv cannot take that away")
    (run / "last").chmod(0o500)
    yield words
    (run / "last").chmod(0o700)


@contextmanager
def unreadable(run):
    """The kernel answers EIO."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs a file that cannot be read from its start")
    (run / "metrics.jsonl").rename(run.with_name("metrics"))
    (run / "metrics.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read"):
        list(read_metrics(run / "metrics.jsonl"))
    yield []
    run.with_name("metrics").replace(run / "metrics.jsonl")


REFUSALS = [(limited, "File too large"), (forbidden, "Permission denied")]
REFUSALS += [(unreadable, "metrics.jsonl cannot be read (Input/output error)")]


@pytest.mark.parametrize(("refusal", "why"), REFUSALS)
def test_a_disk_that_refuses_leaves_the_old_state_and_the_next_run_recovers(data, run, uninterrupted, refusal, why):
    tiny.stop(data, run, 3)
    before = contents(run / "last")
    with refusal(run) as words:
        done = tiny.call(*words, *tiny.command(data, run))
    assert done.returncode == 1
    assert_one_clear_line(done.stderr, run, why)
    assert contents(run / "last") == before
    assert not list(run.rglob(".*.tmp"))
    assert tiny.end_of(data, run) == uninterrupted


SMALL_DISK = """
disk=$1 kept=$2; shift 2
mount -t tmpfs -o size=420k none "$disk" || exit 77
mkdir "$kept"
say() { "$@" 2> "$kept/$name.stderr"; echo $? > "$kept/$name.code"; cp -r "$disk" "$kept/$name"; }
name=full; say "$@"
mount -o remount,ro "$disk" || exit 77
name=read-only; say "$@"
mount -o remount,rw,size=8m "$disk" || exit 77
name=larger; say "$@"
"""


def mounting():
    """How to mount a file system that only the children see."""
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") and tiny.call(*words, "mount", "-t", "tmpfs", "none", "/mnt").returncode == 0:
            return words
    return pytest.skip("needs the right to mount a tmpfs in a namespace of its own")


def test_a_full_disk_then_a_read_only_one_then_a_larger_one(data, tmp_path, uninterrupted):
    """420 KB hold one state but not two."""
    (disk := tmp_path / "disk").mkdir()
    run, kept = disk / "run", tmp_path / "kept"
    done = tiny.call(*mounting(), "sh", "-c", SMALL_DISK, "sh", disk, kept, *tiny.command(data, run))
    assert done.returncode == 0, done.stderr
    assert [(kept / f"{name}.code").read_text().strip() for name in ("full", "read-only", "larger")] == ["1", "1", "0"]
    assert_one_clear_line((kept / "full.stderr").read_text(), run, "No space left on device")
    assert_one_clear_line((kept / "read-only.stderr").read_text(), run, "Read-only file system")
    full = contents(kept / "full" / "run" / "last")
    assert set(full) == {"state.json", "weights-3.safetensors", "optimizer-3.safetensors"}
    assert contents(kept / "read-only" / "run" / "last") == full
    assert not list(kept.rglob(".*.tmp"))
    assert tiny.left(kept / "larger" / "run") == uninterrupted


def test_what_a_killed_test_was_writing_is_removed(run):
    (run / "results").mkdir(parents=True)
    (run / "config.yaml").write_text("net: A\n")
    (run / "results" / ".x.json.12.tmp").touch()
    with open_run(run, tiny.config()):
        assert not list((run / "results").iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_command_saves_and_leaves_within_5_s(data, tmp_path, run, number, code):
    longer = {"epochs": 12, "save_every": 30}  # so that the signal comes before the end
    training = tiny.started(tiny.command(data, run, **longer), run, 4)
    training.send_signal(number)
    began = time.perf_counter()
    _, stderr = training.communicate()
    assert training.returncode == code
    assert time.perf_counter() - began < 5
    assert_one_clear_line(stderr, run, f"interrupted by {number.name}: saved")
    assert tiny.end_of(data, run, **longer) == tiny.end_of(data, tmp_path / "uninterrupted", **longer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    save_in_killed_children(Path(sys.argv[1]))
