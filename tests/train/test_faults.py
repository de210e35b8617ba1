"""Disks that fail: every call of a save in turn, and file systems that are really full, read-only or broken.

python test_faults.py FOLDER saves there in children that are killed at every call in turn; a line of JSON for each.
"""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from itertools import count, cycle
from pathlib import Path

import pytest
import tiny
import torch

from verydeep.contract import Contract
from verydeep.errors import Interrupted, RunError
from verydeep.files.disk import read_json, write_json, write_text
from verydeep.net.classifier import build, read_classifier
from verydeep.net.initialise import initialise
from verydeep.net.vgg import VGG
from verydeep.run import has_state, open_run
from verydeep.train import loop
from verydeep.train.schedule import Schedule
from verydeep.train.state import Counters, restore, save

PATHS = (
    "open",
    "mkdir",
    "replace",
    "rename",
    "unlink",
    "listdir",
    "scandir",
    "stat",
)  # functions of os that take a path
HANDLES = ("fsync", "close")  # and those that take an open file
HARMLESS = ("unlink", "listdir", "scandir")  # what is left is removed the next time


class Faults:
    """Inside a `with`, every call that touches `folder` is counted; number `at` fails, before or after it is done."""

    def __init__(self, folder, at=0, number=errno.EIO, late=False):
        self.folder, self.at, self.error, self.late, self.calls = (
            str(folder),
            at,
            OSError(number, os.strerror(number)),
            late,
            [],
        )

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in (*PATHS, *HANDLES):
            self.patch.setattr(os, name, self.failing(name, getattr(os, name)))
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
        fails = len(self.calls) == self.at
        if fails and not self.late and name != "close":  # a close that fails has closed
            raise self.error
        result = act()
        if fails:
            if isinstance(result, Watched):
                result.file.close()
            raise self.error
        return result


class Kills(Faults):
    """The process dies instead."""

    def count(self, name, act):
        self.calls.append(name)
        dies = len(self.calls) == self.at
        if dies and not self.late:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return act()
        finally:
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A file whose reads, writes and close may fail; a late failure of a write comes after half of it."""

    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

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


@cache
def trained(seed):
    torch.manual_seed(seed)
    net = VGG("A", classes=3, crop=32, fc_width=8, base_width=4)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    net(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    return net, optimizer


def same(a, b):
    def numbers(net, optimizer):
        return [*net.state_dict().values(), *(optimizer.state[p]["momentum_buffer"] for p in net.parameters())]

    return all(map(torch.equal, numbers(*a), numbers(*b)))


def save_state(folder, which):
    number = ("old", "new").index(which)
    save(folder / "last", *trained(number), Counters(step=17 + number, best_error=50.0), Schedule(0.01))


def find_state(folder):
    other = VGG("A", classes=3, crop=32, fc_width=8, base_width=4)
    found = (other, torch.optim.SGD(other.parameters(), 0.01, 0.9))
    if not (kept := restore(folder / "last", *found)):
        return None
    which = kept[0].step - 17
    assert same(found, trained(which))
    return ("old", "new")[which]


@cache
def model(classes):
    colours = (100.0, 100.0, 100.0)
    made = build(Contract("A", classes, 32, 8, 4, False, "up", colours, (1.0, 1.0, 1.0), (32, 32)))
    initialise(made.net, "he")
    return made


def save_best(folder, which):
    model((which, "other")).save(folder / "best.safetensors")


def find_best(folder):
    if not (folder / "best.safetensors").exists():
        return None
    found = read_classifier(folder / "best.safetensors")
    which = found.contract.classes[0]
    assert all(map(torch.equal, found.state_dict().values(), model((which, "other")).state_dict().values()))
    return which


def find_json(folder):
    return read_json(folder / "results" / "x.json")["is"] if (folder / "results" / "x.json").exists() else None


def find_text(folder):
    return (folder / "config.yaml").read_text() if (folder / "config.yaml").exists() else None


SAVES = {
    "state": (save_state, find_state),
    "best": (save_best, find_best),
    "json": (lambda folder, which: write_json(folder / "results" / "x.json", {"is": which}), find_json),
    "text": (lambda folder, which: write_text(folder / "config.yaml", which), find_text),
}
CASES = [(what, before, late) for what in SAVES for before in ("old", None) for late in (False, True)]


def files(folder):
    return {p.name for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("what", "before", "late"), CASES)
def test_a_save_of_which_any_call_fails_leaves_the_old_or_the_new_whole(tmp_path, monkeypatch, what, before, late):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no power cut here, and hundreds of saves
    act, find = SAVES[what]
    for which in ("old", "new"):  # what each leaves, made elsewhere
        (tmp_path / which).mkdir()
        act(tmp_path / which, which)
    whole = {None: set(), "old": files(tmp_path / "old"), "new": files(tmp_path / "new")}

    def begin(name):
        folder = tmp_path / "run" / name
        folder.mkdir(parents=True)
        if before:
            act(folder, before)
        return folder

    with Faults(clean := begin("clean")) as counted:
        act(clean, "new")
    assert find(clean) == "new"
    assert {"open", "write", "fsync", "close", "replace"} <= set(counted.calls)
    numbers = cycle((errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT))
    for at, name, number in zip(count(1), counted.calls, numbers, strict=False):
        folder, error, where = begin(str(at)), None, (at, name, errno.errorcode[number])
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
    for before in ("old", None):

        def begin(name, before=before):
            (folder := root / f"{before} {name}").mkdir()
            if before:
                save_state(folder, before)
            return folder

        with Faults(clean := begin("clean")) as counted:
            save_state(clean, "new")
        calls = counted.calls
        for at, late in ((at, late) for at in range(1, len(calls) + 1) for late in (False, True)):
            if set(calls[max(0, at - 2) : at + 1]) == {"write"}:
                continue
            folder = begin(f"{at} {late}")
            if not (pid := os.fork()):
                with Kills(folder, at, late=late):
                    save_state(folder, "new")
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            try:
                found = find_state(folder)
                save_state(folder, "new")
                print(
                    json.dumps([before, f"{calls[at - 1]} {at}", status, found, find_state(folder), len(files(folder))])
                )
            except RunError as e:
                print(json.dumps([before, f"{calls[at - 1]} {at}", status, str(e), None, 0]))


def test_a_save_that_is_killed_at_any_call_leaves_the_old_or_the_new_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(tmp_path)],
        capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [row for row in rows if row[2] != -signal.SIGKILL or row[3] not in (row[0], "new") or row[4:] != ["new", 3]]
    assert not wrong, wrong
    assert len(rows) > 100
    assert {(before, found) for before, _, _, found, *_ in rows} == {
        ("old", "old"),
        ("old", "new"),
        (None, None),
        (None, "new"),
    }


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


def test_only_files_of_states_are_removed(tmp_path):
    save_state(tmp_path, "old")
    (tmp_path / "last" / "notes.txt").write_text("mine")
    (tmp_path / "last" / "weights-3.safetensors").mkdir()
    save_state(tmp_path, "new")
    assert {p.name for p in (tmp_path / "last").iterdir()} == {
        "notes.txt", "state.json", "weights-3.safetensors", "weights-18.safetensors", "optimizer-18.safetensors",
    }  # fmt: skip


# Real trainings on disks that really fail, through the command line


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    tiny.go(data, run)
    return tiny.left(run)


def command(data, run, **changes):
    fields = {k: str(list(v) if isinstance(v, tuple) else v) for k, v in (tiny.CONFIG | changes).items()}
    return [
        sys.executable,
        "-m",
        "verydeep",
        "train",
        data,
        "--out",
        str(run),
        *(w for k, v in fields.items() for w in (f"--{k}", v)),
    ]


def shell(script, *words, **options):
    return subprocess.run(
        ["sh", "-c", script, "sh", *words],
        capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def assert_one_clear_line(stderr, run, why):
    *said, last = stderr.splitlines()
    assert "Traceback" not in stderr
    assert last.startswith("verydeep train: ")
    assert str(run) in last
    assert why in last
    assert not [line for line in said if why in line]


def stop_after(step, data, run, monkeypatch):
    """A run with a saved state."""
    compute = loop.gradients

    def gradients(*given):
        if given[3] == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return compute(*given)

    monkeypatch.setattr(loop, "gradients", gradients)
    with pytest.raises(Interrupted):
        tiny.go(data, run)
    monkeypatch.undo()


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_writes_that_the_kernel_refuses_leave_the_old_state(data, tmp_path, uninterrupted, monkeypatch):
    """No file may grow beyond 100,000 bytes; the weights have 150,000."""
    run = tmp_path / "run"
    stop_after(4, data, run, monkeypatch)
    before = contents(run / "last")
    done = shell('ulimit -f 195 && exec "$@"', *command(data, run))
    assert done.returncode == 1
    assert_one_clear_line(done.stderr, run, "File too large")
    assert contents(run / "last") == before
    assert not [p for p in run.rglob("*") if p.name.endswith(".tmp")]
    tiny.go(data, run)
    assert tiny.left(run) == uninterrupted


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
    """How to mount a file system that only the children see; None where that is not allowed."""
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") and shell('"$@" mount -t tmpfs none /mnt', *words).returncode == 0:
            return words
    return None


def test_a_full_disk_then_a_read_only_one_then_a_larger_one(data, tmp_path, uninterrupted):
    """420 KB hold one state but not two."""
    if not (words := mounting()):
        pytest.skip("needs the right to mount a tmpfs in a namespace of its own")
    (disk := tmp_path / "disk").mkdir()
    run, kept = disk / "run", tmp_path / "kept"
    done = shell(
        'script=$1; shift; exec "$@"',
        "",
        *words,
        "sh",
        "-c",
        SMALL_DISK,
        "sh",
        str(disk),
        str(kept),
        *command(data, run),
    )
    assert done.returncode == 0, done.stderr
    assert [(kept / f"{name}.code").read_text().strip() for name in ("full", "read-only", "larger")] == ["1", "1", "0"]
    assert_one_clear_line((kept / "full.stderr").read_text(), run, "No space left on device")
    assert_one_clear_line((kept / "read-only.stderr").read_text(), run, "Read-only file system")
    assert set(contents(kept / "full" / "run" / "last")) == {
        "state.json",
        "weights-3.safetensors",
        "optimizer-3.safetensors",
    }
    assert contents(kept / "read-only" / "run" / "last") == contents(kept / "full" / "run" / "last")
    assert not [p for p in kept.rglob("*") if p.name.endswith(".tmp")]
    assert tiny.left(kept / "larger" / "run") == uninterrupted


def without_privilege():
    """What makes a command of root obey permissions; None where that is not possible."""
    if os.geteuid() != 0:
        return []
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return words if shutil.which("setpriv") and shell('"$@" true', *words).returncode == 0 else None


def test_a_folder_that_may_not_be_written(data, tmp_path, uninterrupted, monkeypatch):
    if (words := without_privilege()) is None:
        pytest.skip("root may write anywhere, and setpriv cannot take that away")
    run = tmp_path / "run"
    stop_after(4, data, run, monkeypatch)
    (run / "last").chmod(0o500)
    try:
        done = shell('exec "$@"', *words, *command(data, run))
    finally:
        (run / "last").chmod(0o700)
    assert done.returncode == 1
    assert_one_clear_line(done.stderr, run, "Permission denied")
    tiny.go(data, run)
    assert tiny.left(run) == uninterrupted


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read from its start")
def test_records_that_cannot_be_read_are_one_clear_error(data, tmp_path, uninterrupted, monkeypatch):
    """The kernel answers EIO."""
    run = tmp_path / "run"
    stop_after(4, data, run, monkeypatch)
    (run / "metrics.jsonl").rename(tmp_path / "metrics.jsonl")
    (run / "metrics.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read \(Input/output error\)"):
        tiny.go(data, run)
    (tmp_path / "metrics.jsonl").rename(run / "metrics.jsonl")
    tiny.go(data, run)
    assert tiny.left(run) == uninterrupted


def test_what_a_killed_test_was_writing_is_removed(tmp_path):
    (tmp_path / "run" / "results").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("net: A\n")
    (tmp_path / "run" / "results" / ".x.json.12.tmp").touch()
    with open_run(tmp_path / "run", tiny.config()):
        assert not list((tmp_path / "run" / "results").iterdir())


LONGER = {"epochs": 12, "save_every": 30}  # so that the signal comes before the end


@pytest.fixture(scope="module")
def uninterrupted_longer(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("longer") / "run"
    tiny.go(data, run, **LONGER)
    return tiny.left(run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_command_saves_and_leaves_within_5_s(data, tmp_path, uninterrupted_longer, number, code):
    run = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command(data, run, **LONGER), stderr=subprocess.PIPE, text=True, env=environment) as training:
        while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 3):
            assert training.poll() is None
            time.sleep(0.01)
        training.send_signal(number)
        began = time.perf_counter()
        stderr = training.stderr.read()
        assert training.wait() == code
        assert time.perf_counter() - began < 5
    assert_one_clear_line(stderr, run, f"interrupted by {number.name}: saved")
    tiny.go(data, run, **LONGER)
    assert tiny.left(run) == uninterrupted_longer


if __name__ == "__main__":
    torch.set_num_threads(1)
    save_in_killed_children(Path(sys.argv[1]))
