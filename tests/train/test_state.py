"""The saved state: back as it was, never half, and never damaged unnoticed."""

import json
import os
import random
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch

from verydeep.errors import RunError
from verydeep.net.vgg import VGG
from verydeep.train.schedule import Schedule
from verydeep.train.state import Counters, restore, save


def trained(seed=0, steps=2, **options):
    """A net and an optimizer with momenta."""
    torch.manual_seed(seed)
    net = VGG("A", classes=3, crop=32, fc_width=8, base_width=4, **options)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    for _ in range(steps):
        net(torch.randn(2, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def numbers(net, optimizer):
    momenta = [optimizer.state[p]["momentum_buffer"] for p in net.parameters() if optimizer.state.get(p)]
    return [t.clone() for t in [*net.state_dict().values(), *momenta]]


def equal(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


COUNTERS = Counters(epoch=3, batch=2, step=17, loss=1.2345678901234567, errors=7.0, photos=12, best_error=33.25)
SCHEDULE = Schedule(0.01 / 3, 1, 33.25, 2)


@pytest.mark.parametrize("bn", [False, True])
def test_what_was_saved_comes_back_bit_for_bit(tmp_path, bn):
    net, optimizer = trained(batch_norm=bn)
    save(tmp_path / "last", net, optimizer, COUNTERS, SCHEDULE)
    other, empty = trained(seed=1, steps=0, batch_norm=bn)
    assert restore(tmp_path / "last", other, empty) == (COUNTERS, SCHEDULE)
    assert equal(numbers(other, empty), numbers(net, optimizer))


def test_a_restored_net_takes_the_same_next_step(tmp_path):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, COUNTERS, SCHEDULE)
    other, empty = trained(seed=1, steps=0)
    restore(tmp_path / "last", other, empty)
    for n, o in ((net, optimizer), (other, empty)):
        n.eval()(torch.ones(1, 3, 32, 32)).sum().backward()
        o.step()
    assert equal(numbers(other, empty), numbers(net, optimizer))


def test_before_the_first_epoch_there_is_no_best_and_maybe_no_momentum(tmp_path):
    net, optimizer = trained(steps=0)
    save(tmp_path / "last", net, optimizer, Counters(), Schedule(0.1))
    json.loads((tmp_path / "last" / "state.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert restore(tmp_path / "last", *trained(1, 0)) == (Counters(), Schedule(0.1))


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert restore(tmp_path / "last", *trained()) is None


def test_a_new_state_replaces_the_old_one_and_its_files(tmp_path):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, COUNTERS, SCHEDULE)
    (tmp_path / "last" / ".litter.tmp").touch()
    save(tmp_path / "last", net, optimizer, COUNTERS._replace(step=18), SCHEDULE)
    assert sorted(p.name for p in (tmp_path / "last").iterdir()) == ["optimizer-18.safetensors", "state.json", "weights-18.safetensors"]
    assert restore(tmp_path / "last", *trained(1, 0))[0].step == 18


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "last", *trained(), COUNTERS, SCHEDULE)
    return tmp_path / "last"


@pytest.mark.parametrize("name", ["weights-17.safetensors", "optimizer-17.safetensors", "state.json"])
def test_a_flipped_bit_is_found(saved, name):
    path, rng = saved / name, random.Random(name)
    data = path.read_bytes()
    for place in rng.sample(range(len(data)), 200 if name == "state.json" else 60):
        broken = bytearray(data)
        broken[place] ^= 1 << rng.randrange(8)
        if name == "state.json" and same_json(data, broken):
            continue  # one kind of white space for another
        path.write_bytes(broken)
        with pytest.raises(RunError, match="last"):
            restore(saved, *trained(1, 0))
    path.write_bytes(data)
    assert restore(saved, *trained(1, 0)) == (COUNTERS, SCHEDULE)


def same_json(a, b):
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["weights-17.safetensors", "optimizer-17.safetensors"])
def test_a_missing_or_short_file_is_found(saved, name):
    (saved / name).write_bytes((saved / name).read_bytes()[:-1])
    with pytest.raises(RunError, match=name):
        restore(saved, *trained(1, 0))
    (saved / name).unlink()
    with pytest.raises(RunError, match=name):
        restore(saved, *trained(1, 0))


def test_the_state_of_another_net_is_refused(saved):
    net = VGG("A", classes=4, crop=32, fc_width=8, base_width=4)
    with pytest.raises(RunError, match="does not fit this run"):
        restore(saved, net, torch.optim.SGD(net.parameters(), 0.1, 0.9))


class Broken:
    """The real function, except at call number `at`, where it raises."""

    def __init__(self, real, at, error):
        self.real, self.at, self.error, self.calls = real, at, error, 0

    def __call__(self, *given, **options):
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.real(*given, **options)


FULL = OSError(28, "No space left on device")
WRAPPED = safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
CALLS = [
    *[("fsync", at, FULL) for at in range(1, 7)],
    *[("replace", at, FULL) for at in range(1, 4)],
    *[("save_file", at, error) for at in (1, 2) for error in (FULL, WRAPPED)],
    ("write_text", 1, FULL),
]


@pytest.mark.parametrize(("call", "at", "error"), CALLS)
def test_a_save_that_fails_anywhere_leaves_a_whole_state(saved, monkeypatch, call, at, error):
    old, new = trained(), trained(seed=2)
    place = {"fsync": os, "replace": Path, "write_text": Path, "save_file": safetensors.torch}[call]
    broken = Broken(getattr(place, call), at, error)
    monkeypatch.setattr(place, call, broken if place in (os, safetensors.torch) else lambda *given, **options: broken(*given, **options))
    with pytest.raises(RunError, match="No space left"):
        save(saved, *new, COUNTERS._replace(step=18), SCHEDULE)
    monkeypatch.undo()
    assert broken.calls == at
    found = trained(3, 0)
    counters, _ = restore(saved, *found)
    # Only the last flush, of the folder after the last rename, finds the new state in place.
    assert counters.step == (18 if (call, at) == ("fsync", 6) else 17)
    assert equal(numbers(*found), numbers(*(new if counters.step == 18 else old)))
    assert not [p.name for p in saved.iterdir() if p.name.startswith(".")]
    save(saved, *new, COUNTERS._replace(step=18), SCHEDULE)
    assert len(list(saved.iterdir())) == 3


def test_a_file_system_that_refuses_long_files_leaves_the_old_state(saved):
    """No pretending: the kernel refuses every byte beyond 20,000."""
    net, optimizer = trained(seed=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match="cannot be saved"):
            save(saved, net, optimizer, COUNTERS._replace(step=18), SCHEDULE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert restore(saved, *trained(3, 0))[0].step == 17
    assert len(list(saved.iterdir())) == 3
