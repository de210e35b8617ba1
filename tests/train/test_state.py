"""The saved state: back as it was, never half, and never damaged unnoticed."""

import json
import random
import resource

import pytest
import safetensors.torch
import torch

from verydeep.errors import RunError
from verydeep.files.disk import read_sealed, write_sealed
from verydeep.net.vgg import VGG
from verydeep.train.schedule import Schedule
from verydeep.train.state import Counters, file_checksum, restore, save


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


COUNTERS = Counters(epoch=3, batch=2, step=17, loss=1.2345678901234567, error=7.0, photos=12, best_error=33.25)
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
    json.loads(
        (tmp_path / "last" / "state.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON")
    )
    assert restore(tmp_path / "last", *trained(1, 0)) == (Counters(), Schedule(0.1))


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert restore(tmp_path / "last", *trained()) is None


def test_a_new_state_replaces_the_old_one_and_its_files(tmp_path):
    net, optimizer = trained()
    save(tmp_path / "last", net, optimizer, COUNTERS, SCHEDULE)
    (tmp_path / "last" / ".weights-17.safetensors.123.tmp").touch()
    (tmp_path / "last" / "weights-9.safetensors").touch()
    save(tmp_path / "last", net, optimizer, COUNTERS._replace(step=18), SCHEDULE)
    assert sorted(p.name for p in (tmp_path / "last").iterdir()) == [
        "optimizer-18.safetensors",
        "state.json",
        "weights-18.safetensors",
    ]
    assert restore(tmp_path / "last", *trained(1, 0))[0].step == 18


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "last", *trained(), COUNTERS, SCHEDULE)
    return tmp_path / "last"


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


@pytest.mark.parametrize(
    "change",
    [lambda text: text.replace("e-06", "E-06"), lambda text: text + " ", lambda text: text.replace("\n", "\r\n")],
)
def test_another_spelling_of_the_same_state_is_found(tmp_path, change):
    """One bit makes an e of a number an E."""
    save(tmp_path / "last", *trained(), COUNTERS, Schedule(1e-5 / 3))
    file = tmp_path / "last" / "state.json"
    text = file.read_text()
    file.write_bytes(change(text).encode())
    assert file.read_bytes() != text.encode()
    with pytest.raises(RunError, match="does not match its SHA-256"):
        restore(tmp_path / "last", *trained(1, 0))


def resealed(folder, change):
    """The state as a forger would change it: its seal is made to fit."""
    value = read_sealed(folder / "state.json")
    change(value)
    write_sealed(folder / "state.json", value)


def renamed(to):
    def change(value):
        value["sha256"][to] = value["sha256"].pop("weights-17.safetensors")

    return change


FORGERIES = {
    "outside": renamed("../../weights-17.safetensors"),
    "absolute": renamed("/etc/passwd"),
    "other step": renamed("weights-18.safetensors"),
    "one more": lambda value: value["sha256"].update({"../x": "0" * 64}),
    "no sums": lambda value: value.update(sha256=None),
    "a list": lambda value: value.update(sha256=["weights-17.safetensors", "optimizer-17.safetensors"]),
    "no counters": lambda value: value.pop("counters"),
    "counters of another kind": lambda value: value.update(counters=[]),
    "an unknown counter": lambda value: value["counters"].update(more=1),
    "a missing counter": lambda value: value["counters"].pop("batch"),
    "a negative step": lambda value: value["counters"].update(batch=-1),
    "half a step": lambda value: value["counters"].update(batch=1.5),
    "a step of text": lambda value: value["counters"].update(step="17"),
    "a loss that is no number": lambda value: value["counters"].update(loss=float("nan")),
    "an endless epoch": lambda value: value["counters"].update(epoch=1 << 70),
    "no schedule": lambda value: value.pop("schedule"),
    "a rate of text": lambda value: value["schedule"].update(rate="fast"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_state_is_refused(saved, forgery):
    for folder in (saved.parent.parent, saved.parent):
        (folder / "weights-17.safetensors").write_bytes((saved / "weights-17.safetensors").read_bytes())
    resealed(saved, FORGERIES[forgery])
    with pytest.raises(RunError, match=r"state\.json describes no state") as e:
        restore(saved, *trained(1, 0))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("change", ["shape", "type", "missing", "more"])
@pytest.mark.parametrize("name", ["weights-17.safetensors", "optimizer-17.safetensors"])
def test_forged_tensors_are_refused(saved, name, change):
    tensors = safetensors.torch.load_file(saved / name)
    if change == "shape":
        tensors["fc8.bias"] = torch.zeros(1)  # which PyTorch would spread over all three
    elif change == "type":
        tensors["fc8.bias"] = tensors["fc8.bias"].half()
    elif change == "missing":
        del tensors["fc8.bias"]
    else:
        tensors["fc9.bias"] = torch.zeros(3)
    safetensors.torch.save_file(tensors, saved / name)
    resealed(saved, lambda value: value["sha256"].update({name: file_checksum(saved / name)}))
    with pytest.raises(RunError, match="does not fit this run") as e:
        restore(saved, *trained(1, 0))
    assert "\n" not in str(e.value)


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
