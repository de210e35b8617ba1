"""The saved state: back as it was, never half, and never damaged unnoticed."""

import json
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tiny import equal, numbers, trained

from verydeep.errors import RunError
from verydeep.files.disk import read_sealed, write_sealed
from verydeep.train.schedule import Schedule
from verydeep.train.state import Counters, file_checksum, restore, save

COUNTERS = Counters(epoch=3, batch=2, step=17, loss=1.2345678901234567, error=7.0, photos=12, best_error=33.25)
SCHEDULE = Schedule(0.01 / 3, 1, 33.25, 2)
TENSORS = pytest.mark.parametrize("name", ["weights-17.safetensors", "optimizer-17.safetensors"])


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "last", *trained(), COUNTERS, SCHEDULE)
    return tmp_path / "last"


KEPT = [(False, 2, COUNTERS, SCHEDULE), (True, 2, COUNTERS, SCHEDULE)]
KEPT += [(False, 0, Counters(), Schedule(0.1))]  # before the first epoch there is no best, and maybe no momentum


@pytest.mark.parametrize(("bn", "steps", "counters", "schedule"), KEPT)
def test_what_was_saved_comes_back_bit_for_bit_and_takes_the_same_next_step(tmp_path, bn, steps, counters, schedule):
    given, other = trained(0, steps, batch_norm=bn), trained(1, 0, batch_norm=bn)
    save(tmp_path / "last", *given, counters, schedule)
    text = (tmp_path / "last" / "state.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert restore(tmp_path / "last", *other) == (counters, schedule)
    assert equal(numbers(*other), numbers(*given))
    for net, optimizer in (given, other):
        net.eval()(torch.ones(1, 3, 32, 32)).sum().backward()
        optimizer.step()
    assert equal(numbers(*other), numbers(*given))


def test_a_new_state_replaces_the_old_one_and_its_files_and_no_others(saved):
    (saved / ".weights-17.safetensors.123.tmp").touch()
    (saved / "weights-9.safetensors").touch()
    (saved / "weights-3.safetensors").mkdir()
    (saved / "notes.txt").write_text("mine")
    save(saved, *trained(), COUNTERS._replace(step=18), SCHEDULE)
    new = {"state.json", "weights-18.safetensors", "optimizer-18.safetensors"}
    assert {p.name for p in saved.iterdir()} == new | {"notes.txt", "weights-3.safetensors"}
    assert restore(saved, *trained(1, 0))[0].step == 18


@pytest.mark.parametrize("name", ["weights-17.safetensors", "optimizer-17.safetensors", "state.json"])
def test_a_flipped_bit_anywhere_is_found(saved, name):
    """In every byte of what is text, and in three hundred of the numbers."""
    path, rng, other = saved / name, random.Random(name), trained(1, 0)
    data = path.read_bytes()
    text = len(data) if name == "state.json" else 8 + int.from_bytes(data[:8], "little")
    for place in [*range(text), *rng.sample(range(text, len(data)), 300 if text < len(data) else 0)]:
        broken = bytearray(data)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(RunError, match="last"):
            restore(saved, *other)
    path.write_bytes(data)
    assert restore(saved, *other) == (COUNTERS, SCHEDULE)


@pytest.mark.parametrize(("old", "new"), [("e-06", "E-06"), ("\n}", "\n} "), ("\n", "\r\n")])
def test_another_spelling_of_the_same_state_is_found(tmp_path, old, new):
    """One bit makes an e of a number an E."""
    save(tmp_path / "last", *trained(), COUNTERS, Schedule(1e-5 / 3))
    file = tmp_path / "last" / "state.json"
    text = file.read_bytes()
    file.write_bytes(text.replace(old.encode(), new.encode()))
    assert file.read_bytes() != text
    with pytest.raises(RunError, match="does not match its SHA-256"):
        restore(tmp_path / "last", *trained(1, 0))


def resealed(folder, change):
    """The state as a forger would change it: its seal is made to fit."""
    value = read_sealed(folder / "state.json")
    change(value)
    write_sealed(folder / "state.json", value)


GONE, MOVED = object(), object()
FORGERIES = [("sha256", None), ("sha256", ["weights-17.safetensors", "optimizer-17.safetensors"])]
FORGERIES += [("sha256 ../x", "0" * 64), ("sha256 ../../weights-17.safetensors", MOVED), ("sha256 /etc/passwd", MOVED)]
FORGERIES += [("sha256 weights-18.safetensors", MOVED), ("schedule", GONE), ("schedule rate", "fast")]
FORGERIES += [("counters", GONE), ("counters", []), ("counters more", 1), ("counters batch", GONE)]
FORGERIES += [("counters batch", -1), ("counters batch", 1.5), ("counters step", "17"), ("counters epoch", 1 << 70)]
FORGERIES += [("counters loss", float("nan"))]


@pytest.mark.parametrize(("place", "forged"), FORGERIES)
def test_a_forged_state_is_refused(saved, place, forged):
    def change(value):
        *parts, name = place.split()
        for part in parts:
            value = value[part]
        given = value.pop("weights-17.safetensors" if forged is MOVED else name, None)
        if forged is not GONE:
            value[name] = given if forged is MOVED else forged

    for folder in (saved.parent.parent, saved.parent):
        (folder / "weights-17.safetensors").write_bytes((saved / "weights-17.safetensors").read_bytes())
    resealed(saved, change)
    with pytest.raises(RunError, match=r"state\.json describes no state") as e:
        restore(saved, *trained(1, 0))
    assert "\n" not in str(e.value)


CHANGES = {
    "shape": lambda tensors: tensors.update({"fc8.bias": torch.zeros(1)}),  # which PyTorch would spread over all three
    "type": lambda tensors: tensors.update({"fc8.bias": tensors["fc8.bias"].half()}),
    "missing": lambda tensors: tensors.pop("fc8.bias"),
    "more": lambda tensors: tensors.update({"fc9.bias": torch.zeros(3)}),
}


@pytest.mark.parametrize("change", CHANGES)
@TENSORS
def test_forged_tensors_are_refused(saved, name, change):
    tensors = safetensors.torch.load_file(saved / name)
    CHANGES[change](tensors)
    safetensors.torch.save_file(tensors, saved / name)
    resealed(saved, lambda value: value["sha256"].update({name: file_checksum(saved / name)}))
    with pytest.raises(RunError, match="does not fit this run") as e:
        restore(saved, *trained(1, 0))
    assert "\n" not in str(e.value)


@TENSORS
def test_a_missing_or_short_file_is_found(saved, name):
    for spoil in (lambda file: file.write_bytes(file.read_bytes()[:-1]), Path.unlink):
        spoil(saved / name)
        with pytest.raises(RunError, match=name):
            restore(saved, *trained(1, 0))
