"""Several ranks under torchrun compute what one computes, and survive the death of one (reliability, 7 and 8)."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch

from verydeep.ranks import ALONE, Ranks

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
run = tiny.run
SIZES = pytest.mark.parametrize("size", [2, 3])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """27 photos: five batches of five and one of two, of which one of three ranks gets none."""
    return tiny.make_photos(tmp_path_factory.mktemp("photos"), train=9)


@pytest.fixture(scope="module", params=["none", "loss"])
def results(data, tmp_path_factory, request):
    """What one, two and three ranks found: folder by number of ranks."""
    found, changes = {}, json.dumps({"batch": 5, "balance": request.param})
    for size in (1, 2, 3):
        found[size] = tmp_path_factory.mktemp(f"ranks{size}")
        start = [sys.executable] if size == 1 else [*TORCHRUN, size]
        done = tiny.call(*start, tiny.HERE / "ranks_at_work.py", data, found[size], changes)
        assert done.returncode == 0, done.stderr
    return found


@SIZES
def test_the_gradients_of_several_ranks_are_those_of_one(results, size):
    one, several = (safetensors.torch.load_file(results[n] / "gradients.safetensors") for n in (1, size))
    assert one.keys() == several.keys()
    assert {name.split()[0] for name in one} == {"0", "5"}
    assert all((several[name] - g).abs().max() <= 1e-10 * max(1.0, g.abs().max()) for name, g in one.items())
    assert all(g.abs().max() > 0 for name, g in one.items() if "weight" in name)


@SIZES
def test_what_ranks_tell_each_other_arrives_in_order_and_no_connection_outlives_the_work(results, size):
    told = json.loads((results[size] / "told.json").read_text())
    assert told == [{"rank": r, "text": "é" * r} for r in range(size)]
    for rank in range(size):
        found = json.loads((results[size] / f"connections{rank}.json").read_text())
        assert found["inside"]
        assert not found["after"]  # one that ends with the interpreter aborts it now and then


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_parts_of_the_ranks_are_everything_once(size):
    for start, end in ((0, 0), (0, 1), (3, 20), (256, 512)):
        parts = [Ranks(r, size).part(start, end) for r in range(size)]
        assert [i for part in parts for i in part] == list(range(start, end))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_everything_is_what_was_given():
    values, net = torch.tensor([1.0, 2.0]), torch.nn.Linear(1, 1)
    assert ALONE.sum(values) is values
    assert ALONE.gather("x") == ["x"]
    assert ALONE.together(net, torch.device("cpu")) is net
    assert ALONE.on_this_machine == 1


def command(data, run, *more, **changes):
    _, *words = tiny.command(data, run, **({"epochs": 4, "dropout": 0.5, "batch": 5} | changes))
    return [*TORCHRUN, "2", *more, *words]


def ranks_of(parent):
    """Rank -> process, of the ranks that a torchrun started."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                environment = (stat.parent / "environ").read_bytes().split(b"\0")
                found |= {int(v[5:]): int(stat.parent.name) for v in environment if v.startswith(b"RANK=")}
        except (OSError, ValueError):
            continue
    return found


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    done = tiny.call(*command(data, run := tmp_path_factory.mktemp("two") / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the report:") == 1  # one rank speaks
    return tiny.left(run)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_is_started_again_and_nothing_has_happened(data, run, uninterrupted, killed):
    process = tiny.started(command(data, run, "--max-restarts", "1"), run, 9)
    os.kill(ranks_of(process.pid)[killed], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "failed (exitcode: -" in errors  # and was started again
    assert tiny.left(run) == uninterrupted


def test_a_signal_that_one_rank_receives_stops_all_with_the_state_saved(data, run, uninterrupted):
    process = tiny.started(command(data, run), run, 9)
    os.kill(ranks_of(process.pid)[1], signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted by SIGTERM: saved at step" in errors
    assert "lost the others" not in errors
    done = tiny.call(*command(data, run))
    assert done.returncode == 0, done.stderr
    assert tiny.left(run) == uninterrupted


def test_a_photo_that_another_rank_cannot_read_is_named_or_skipped_and_listed(data, tmp_path):
    photos, skip = tmp_path / "photos", tmp_path / "skip"
    bad = sorted(Path(tiny.make_photos(photos, train=9)).glob("train/*/*.png"))[::4]
    for photo in bad:
        photo.write_bytes(photo.read_bytes()[:100])
    done = tiny.call(*command(str(photos), tmp_path / "stop"))
    assert done.returncode != 0
    assert any(f"{photo}: is damaged or cut short" in done.stderr for photo in bad)
    done = tiny.call(*command(str(photos), skip, bad_photos="skip", epochs=2))
    assert done.returncode == 0, done.stderr
    listed = [row.split(",")[0] for row in (skip / "skipped.csv").read_text().splitlines()]
    assert sorted(listed) == [str(photo.relative_to(photos)) for photo in bad]
    assert tiny.metrics(skip)[-1]["step"] == 12
