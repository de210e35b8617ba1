"""Training: the loop against plain gradients, and runs that are interrupted, killed, broken, or begun again."""

import json
import os
import re
import signal
import sys
import threading
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import job_of, step_of, stopped_at

import verydeep
from verydeep.data.order import epoch_order
from verydeep.data.reading import in_order
from verydeep.data.record import DataSet
from verydeep.data.source import open_data
from verydeep.errors import DataError, Interrupted, NonFiniteLoss, PhotoError, RunError
from verydeep.progress import Progress
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.advice import rate_warning
from verydeep.train.classes import cross_entropy
from verydeep.train.prepare import prepare
from verydeep.train.skipped import Skipped

data, run, whole, uninterrupted = tiny.data, tiny.run, tiny.whole, tiny.uninterrupted


BATCHES = [(6, 0, 1, 6), (6, 0, 2, 6), (6, 0, 4, 6), (6, 0, 6, 6), (7, 4, 1, 2), (7, 4, 5, 2)]
BATCHES += [(4, 7, 4, 2), (28, 1, 20, 2), (29, 0, 29, 30)]


@pytest.mark.parametrize(("size", "number", "parts", "photos"), BATCHES)
def test_gradients_are_those_of_the_mean_loss_of_shifted_photos(data, run, size, number, parts, photos):
    """In parts too, of which a last batch may hold fewer photos; of 30 in batches of 29 the last joins the others."""
    job = job_of(data, run, dropout=0.0, colour="root", batch=size, accumulate=parts)
    net, batch = job.classifier.double().train().net, next(job.batches.epoch(0, number))
    sums = step_of(replace(job, goal=job.goal._replace(objective=tiny.fp64)), batch)
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    assert (batch.number, len(batch.targets)) == (number, photos)
    mean = torch.tensor(job.classifier.contract.mean).view(3, 1, 1)
    x = torch.stack([p.double() - mean + s.view(3, 1, 1) for p, s in zip(batch.photos, batch.shifts, strict=True)])
    net.zero_grad()
    loss, errors = tiny.fp64(net(x), batch.targets)
    (loss / photos).backward()
    assert all((found[name] - p.grad).abs().max() <= 1e-6 * p.grad.abs().max() for name, p in net.named_parameters())
    assert sums.tolist() == pytest.approx([loss.item(), errors.item(), photos], rel=1e-6)


def test_a_run_takes_the_steps_of_momentum_and_weight_decay_by_hand(data, tmp_path, run):
    """Two steps in fp32, w <- w - rate v, v <- momentum v + g + decay w, on biases too."""
    changes = {"dropout": 0.0, "batch": 15, "epochs": 1, "lr": 1e-2, "momentum": 0.8, "weight_decay": 0.1}
    job = job_of(data, tmp_path / "by-hand", **changes)
    net = job.classifier.train().net
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for step, batch in enumerate(job.batches.epoch(0)):
        step_of(job, batch, step)
        with torch.no_grad():
            for name, p in net.named_parameters():
                velocity[name] = 0.8 * velocity[name] + p.grad + 0.1 * p
                p -= 1e-2 * velocity[name]
        net.zero_grad()
    tiny.go(data, run, **changes)
    found = verydeep.load(run).net
    for (name, p), q in zip(net.named_parameters(), found.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6), name


def test_dropout_is_drawn_by_seed_step_and_part(data, run):
    """And a date will do as a seed."""
    job = job_of(data, run, accumulate=2, seed=20_260_131)
    net = job.classifier.train().net
    batch, found = next(job.batches.epoch(0)), []
    for step in (0, 0, 1):
        torch.manual_seed(len(found))
        net.zero_grad()
        step_of(job, batch, step)
        found.append(net.fc7.weight.grad.clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_loss_falls_below_chance(data, run):
    tiny.go(data, run, epochs=12, dropout=0.0, fc_width=64)
    losses = tiny.epochs(run, "train_loss")
    assert losses[-1] < min(0.7 * losses[0], np.log(3))


def test_a_finished_run_has_recorded_all_once_and_returns_at_once(data, whole, uninterrupted, monkeypatch):
    _, counters, *_, rows = uninterrupted
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 11))
    assert [(row["step"], row["epoch"]) for row in rows if "train_loss" in row] == [(5, 1), (10, 2)]
    assert (counters["epoch"], counters["batch"], counters["step"]) == (2, 0, 10)
    monkeypatch.setattr("verydeep.train.prepare.prepare", lambda *given: pytest.fail("it began again"))
    assert tiny.go(data, whole) == counters["finished"] == "training ends after epoch 2, the last"
    assert tiny.left(whole) == uninterrupted


def test_best_is_the_lowest_validation_error_and_the_earliest(data, run, monkeypatch):
    """By a validation that answers 5, 3, 4, 3 errors of 9."""
    errors, seen = iter([5, 3, 4, 3]), []

    def validation(classifier, *ignored):
        return lambda progress: (seen.append(deepcopy(classifier.net.state_dict())) or next(errors) / 9, {})

    monkeypatch.setattr("verydeep.train.classes.validation", validation)
    tiny.go(data, run, epochs=4)
    best = verydeep.load(run).net.state_dict()
    assert all(torch.equal(v, seen[1][k]) for k, v in best.items())
    assert not torch.equal(best["fc8.weight"], seen[3]["fc8.weight"])


def raising(error):
    def act(*ignored):
        raise error

    return act


interrupt = partial(signal.raise_signal, signal.SIGINT)
ENDS = [(step, action, Interrupted, step + 1) for action in (tiny.terminate, interrupt) for step in (0, 3, 4, 6)]
ENDS += [(step, raising(OSError), OSError, saved) for step, saved in ((0, None), (2, None), (3, 3), (5, 5), (8, 6))]
ENDS += [(4, lambda: [interrupt(), interrupt()], KeyboardInterrupt, 3)]  # which leaves at once


@pytest.mark.parametrize(("step", "action", "error", "saved"), ENDS)
def test_a_run_that_ends_in_the_middle_resumes_exactly(data, run, uninterrupted, step, action, error, saved):
    """A signal saves, and an error loses at most one save interval."""
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    said = f"saved at step {saved} in .* the same command resumes" if error is Interrupted else None
    tiny.stop(data, run, step, action, error, said)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert (tiny.counters(run)["step"] if (run / "last").exists() else None) == saved
    assert tiny.end_of(data, run) == uninterrupted


def test_killed_between_an_epochs_record_and_its_state_the_record_is_not_doubled(data, run, uninterrupted, monkeypatch):
    """A state was saved at the last step of the epoch, and the process dies after validation, before the next save."""
    write, fail = loop.save, raising(OSError)
    monkeypatch.setattr(loop, "save", lambda *given: (fail if given[3].epoch else write)(*given))
    with pytest.raises(OSError):
        tiny.go(data, run, save_every=5)
    monkeypatch.undo()
    assert (tiny.counters(run)["epoch"], tiny.counters(run)["batch"], len(tiny.epochs(run, "val_error"))) == (0, 5, 1)
    assert tiny.end_of(data, run, save_every=5) == uninterrupted


def test_a_second_trainer_leaves_at_once(data, run, uninterrupted):
    tiny.stop(data, run, 2, lambda: tiny.go(data, run), RunError, "in use by another training")
    assert tiny.end_of(data, run) == uninterrupted


def test_memory_that_runs_out_names_the_remedy(data, run):
    full = RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried")
    tiny.stop(data, run, 1, raising(full), RunError, "--accumulate 2")


def killed(data, tmp_path, uninterrupted, seed, n):
    """(kills inside a save, other kills), after which every run that came to its end is the uninterrupted one."""
    done = tiny.call(sys.executable, tiny.HERE / "killing.py", data, tmp_path / "run", seed, n, timeout=500)
    assert done.returncode == 0, done.stderr
    inside, others, *ends = map(int, done.stdout.split())
    assert set(ends) == {0}
    runs = [tmp_path / "run", *(tmp_path / f"run-{i}" for i in range(1, len(ends)))]
    assert all(tiny.left(run) == uninterrupted for run in runs)
    return inside, others


def test_10_times_kill_9_half_of_them_inside_a_save_changes_nothing(data, tmp_path, uninterrupted):
    assert killed(data, tmp_path, uninterrupted, 1, 10) == (5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 50))
def test_200_kills_change_nothing(data, tmp_path, uninterrupted, seed):
    """100 of them inside a save: three of five where the seed is even, two where it is odd."""
    assert killed(data, tmp_path, uninterrupted, seed, 5) == ((3, 2) if seed % 2 == 0 else (2, 3))


@pytest.mark.parametrize(("step", "photos"), [(3, 24), (4, 30)])
def test_a_resumed_run_tells_the_speed_of_what_it_trained_itself(data, run, capsys, step, photos):
    """It goes on within the first epoch, or with all of that trained and the validation still to come."""
    tiny.stop(data, run, step)
    assert tiny.counters(run)["photos"] == photos
    capsys.readouterr()
    tiny.go(data, run)
    first, second = re.findall(r"epoch \d/2: .*", capsys.readouterr().err)
    assert ["photos/s" in first, "photos/s" in second] == [photos < 30, True]
    assert " 0 photos/s" not in first + second


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(data, run, monkeypatch, value):
    factor = [1.0]

    def objective(outputs, targets, **how):
        loss, error = cross_entropy(outputs, targets)
        return loss * factor[-1], error

    monkeypatch.setattr("verydeep.train.classes.cross_entropy", objective)
    said = r"the loss is no longer a finite number.*last good state is kept in .*last.*--lr 0\.0001"
    tiny.stop(data, run, 4, lambda: factor.append(float(value)), NonFiniteLoss, said)
    assert tiny.counters(run)["step"] == 3
    monkeypatch.undo()
    tiny.go(data, run)  # what was kept is good: the run goes on from it
    assert all(p.isfinite().all() for p in verydeep.load(run).net.parameters())


def test_a_weight_that_is_no_number_is_not_saved(data, run, monkeypatch):
    """The last step of an epoch: its loss was fine, what it left is not."""

    def spoil(optimizer):
        optimizer.param_groups[0]["params"][0].data[0] = float("inf")

    said = "a weight is no longer a finite number"
    tiny.stop(data, run, 4, lambda: monkeypatch.setattr(torch.optim.SGD, "step", spoil), NonFiniteLoss, said)
    assert tiny.counters(run)["step"] == 3


def test_a_rate_of_a_million_stops_with_an_explanation(data, run):
    with pytest.raises(NonFiniteLoss, match=r"nothing was saved yet; .*--lr 0.00023"):
        tiny.go(data, run, lr=1e6, save_every=100)
    assert not (run / "best.safetensors").exists()


@pytest.mark.parametrize(("factor", "times"), [(1, 0), (10, 1)])
def test_a_loss_far_above_that_of_guessing_is_said_once(data, run, monkeypatch, capsys, factor, times):
    compute = loop.gradients
    monkeypatch.setattr(loop, "gradients", lambda *given: compute(*given) * torch.tensor([factor, 1.0, 1.0]))
    tiny.go(data, run, epochs=3)
    said = "is far above that of guessing, 1.099; should it not fall, start again with another --out and --lr 0.0001"
    assert capsys.readouterr().err.count(said) == times
    assert [loss > 3 * np.log(3) for loss in tiny.epochs(run, "train_loss")] == [factor > 1] * 3


RATES = [(256, 0.04, "", ""), (256, 0.041, "", "try --lr 0.01"), (256, 0.0025, "", ""), (256, 0.0024, "", "--lr 0.01")]
RATES += [(32, 1.25e-3, "", ""), (64, 0.1, "", "for a batch of 64 (0.01 * 64 / 256 = 0.0025); try --lr 0.0025")]
RATES += [(256, 1e-3, "a", ""), (256, 1e-4, "a", "try --lr 0.01")]  # fine-tuning takes a tenth


@pytest.mark.parametrize(("batch", "lr", "start", "said"), RATES)
def test_a_rate_far_from_the_papers_is_warned_of(batch, lr, start, said):
    warning = rate_warning(tiny.config(batch=batch, lr=lr, init_from=start))
    assert warning.endswith(said) if said else warning is None


def test_another_configuration_other_photos_and_another_place_are_refused_and_named(tmp_path, run):
    data = tiny.make_photos(tmp_path / "data", train=4, val=2)
    tiny.go(data, run, epochs=1)
    changes = {"lr": 1e-2, "seed": 1, "net": "B", "batch": 5, "balance": "loss", "reduced": False}
    for field, value in changes.items():
        with pytest.raises(RunError, match=f"another configuration: {field} "):
            tiny.go(data, run, epochs=1, **{field: value})
    with pytest.raises(RunError, match=r"begun on .* not on .*"):
        tiny.go(tiny.make_photos(tmp_path / "other", train=5, val=2), run, epochs=1)
    next((tmp_path / "data" / "train" / "c0").iterdir()).unlink()
    with pytest.raises(RunError, match=r"other photos .*'train': 12.* then, .*'train': 11.* now"):
        tiny.go(data, run, epochs=1)


def test_a_flipped_bit_in_what_a_run_was_begun_with_is_found(data, run):
    """Another mean would train on as if nothing was."""
    tiny.stop(data, run, 4)
    for file in (run / "run.json", run / "statistics.json"):
        text = file.read_bytes()
        for place in range(0, len(text), 29):
            file.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
            with pytest.raises(RunError, match=rf"{file.name} (does not match its SHA-256|is not JSON)"):
                tiny.go(data, run)
        file.write_bytes(text)


def test_what_a_run_was_begun_with_is_flushed_before_the_first_state(tmp_path, run, monkeypatch):
    """Otherwise a power cut could leave a state without its split."""
    fsync, found = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda n: found.append(os.readlink(f"/proc/self/fd/{n}")) or fsync(n))
    tiny.go(manifest(tmp_path, *[("a", "")] * 6, *[("b", "")] * 6), run, epochs=1)
    files = [Path(name).name.split(".")[1] for name in found if "/." in name]
    assert set(files[: files.index("weights-2")]) == {"config", "split", "run", "statistics", "metrics"}
    assert (run / "split.csv").read_text().count("train") > 5


def test_tensorboard_writes_event_files(data, run, whole):
    pytest.importorskip("tensorboard")
    tiny.go(data, run, epochs=1, track="tensorboard")
    (file,) = (run / "tensorboard").iterdir()
    assert file.name.startswith("events.out.tfevents")
    assert all(name in file.read_bytes() for name in (b"train_loss", b"val_error", b"lr"))
    assert not (whole / "tensorboard").exists()


def damage(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_photo_stops_the_work_and_is_named_or_skipped_and_listed_once(tmp_path, workers):
    data, run = tiny.make_photos(tmp_path / "data", train=5, val=2), tmp_path / "run"
    victims = [sorted((tmp_path / "data").glob(f"{split}/c1/*.png"))[1] for split in ("train", "val")]
    for victim in victims:
        damage(victim)
    with pytest.raises(PhotoError, match=rf"{victims[0].name}.*add --bad_photos skip"):
        tiny.go(data, tmp_path / "other", workers=workers)
    tiny.go(data, run, epochs=3, bad_photos="skip", workers=workers)
    for victim, line in zip(victims, (run / "skipped.csv").read_text().splitlines(), strict=True):
        assert line.startswith(f"{victim.relative_to(data)},is damaged")
    assert tiny.metrics(run)[-1]["step"] == 9
    assert json.loads((run / "statistics.json").read_text())["photos"] == 14


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 200_000, "field larger"),
        (b'a\xff\0b,"c', None),
        ("/dev/zero", "not a regular"),
        ("mine", "symbolic links"),
    ],
)
def test_an_odd_list_of_skipped_photos_is_one_clear_error(data, tmp_path, content, message):
    (tmp_path / "mine").write_text("mine\n")
    with open_run(tmp_path / "run", tiny.config()) as run:
        file = run.path / "skipped.csv"
        file.symlink_to(tmp_path / content) if isinstance(content, str) else file.write_bytes(content)
        with pytest.raises(RunError, match=rf"skipped\.csv cannot be .*{message}") if message else nullcontext():
            Skipped(run, open_data(data).split("train"), "skip").list("train/c1/x.png", "is gone")
    assert (tmp_path / "mine").read_text() == "mine\n"


def lost_on_the_way(data, monkeypatch, loss, step=1, places=(27,)):
    """While the net takes a step, later photos are damaged; the photos' paths and what they held."""
    photos = open_data(data).split("train")
    paths = [Path(photos.name(int(i))) for i in epoch_order(0, 0, photos).ids[list(places)]]
    held = {path: path.read_bytes() for path in paths}
    monkeypatch.setattr("verydeep.data.batches.in_order", partial(in_order, ahead=1))  # else all is read before
    stopped_at(step, monkeypatch, lambda: [loss(path) for path in held])
    return held


@pytest.mark.parametrize("loss", [Path.unlink, damage])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_lost_on_the_way_stops_until_it_is_restored(tmp_path, run, uninterrupted, monkeypatch, workers, loss):
    data, changes = tiny.make_photos(tmp_path / "data"), {"workers": workers, "keep": 0.0}
    ((victim, held),) = lost_on_the_way(data, monkeypatch, loss).items()
    assert tiny.end_of(data, tmp_path / "kept") == uninterrupted  # what stayed in memory needs no file
    victim.write_bytes(held)
    with pytest.raises(PhotoError, match=rf"{victim.name}.*repair or remove it, or add --bad_photos skip"):
        tiny.go(data, run, **changes)
    assert not any(t.name.startswith("photos") for t in threading.enumerate())
    assert tiny.counters(run)["step"] == 3
    monkeypatch.undo()
    with pytest.raises((PhotoError, RunError), match=rf"{victim.name}|other photos"):  # not before it is restored
        tiny.go(data, run, **changes)
    victim.write_bytes(held)
    assert tiny.end_of(data, run, **changes) == uninterrupted
    assert not (run / "skipped.csv").exists()


@pytest.mark.parametrize("loss", [Path.unlink, damage])
def test_a_photo_lost_on_the_way_can_be_skipped_and_is_listed_once(tmp_path, monkeypatch, loss):
    found = []
    for workers in (0, 2):
        data, run = tiny.make_photos(tmp_path / f"data {workers}"), tmp_path / f"run {workers}"
        (victim,) = lost_on_the_way(data, monkeypatch, loss)
        tiny.go(data, run, workers=workers, keep=0.0, bad_photos="skip")
        monkeypatch.undo()
        key = f"train/{victim.parent.name}/{victim.name}"
        (line,) = (run / "skipped.csv").read_text().splitlines()
        assert line.startswith(f"{key},")
        assert (run / "log.txt").read_text().count(f"skipped {key}") == 1
        assert tiny.counters(run)["step"] == 10
        assert not any(t.name.startswith("photos") for t in threading.enumerate())
        found.append(tiny.left(run))
    assert found[0] == found[1]


def test_a_step_whose_photos_are_all_lost_is_not_taken(tmp_path, run, monkeypatch):
    """The net is as it was before; the counters and the records go on."""
    data, steps = tiny.make_photos(tmp_path / "data"), []
    lost_on_the_way(data, monkeypatch, Path.unlink, 0, range(12, 18))
    compute = loop.gradients
    monkeypatch.setattr(loop, "gradients", lambda *given: steps.append(given[3:]) or compute(*given))
    tiny.go(data, run, keep=0.0, bad_photos="skip", epochs=1)
    assert steps == [(0, 6), (1, 6), (3, 6), (4, 6)]
    assert len((run / "skipped.csv").read_text().splitlines()) == 6
    assert [row["step"] for row in tiny.metrics(run) if "loss" in row] == [1, 2, 4, 5]


def test_a_validation_split_of_bad_photos_is_explained(tmp_path, run):
    data = tiny.make_photos(tmp_path / "data", train=4, val=1)
    for photo in (tmp_path / "data" / "val").rglob("*.png"):
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="none of its 3 validation photos could be read"):
        tiny.go(data, run, epochs=1, bad_photos="skip")


@pytest.mark.parametrize("label", [-100, -1, 3, 255])
def test_a_label_out_of_range_is_refused_and_named(data, tmp_path, label):
    given, config = open_data(data), tiny.config()
    photos = given.split("train")
    labels = photos.targets().copy()
    labels[17] = label
    wrong = DataSet("mine", given.classes, {**given.splits, "train": replace(photos, labels=labels)})
    with open_run(tmp_path / "run", config) as run, pytest.raises(DataError, match=rf"{photos.keys[17]}.*{label}"):
        prepare(run, wrong, config, Progress("none"))


def manifest(folder, *rows):
    """Photos of 40 x 40 pixels in a manifest: rows are (label, split), the split empty where there is none."""
    lines = ["path,label,split"]
    for i, (label, split) in enumerate(rows):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{label},{split}")
    (folder / "m.csv").write_text("\n".join(lines))
    return str(folder / "m.csv")


TOO_FEW = [([("a", "")], "names 1 class"), ([("a", "train"), ("b", "train")], "at least two are needed")]
TOO_FEW += [([("a", "train"), ("b", "train"), ("a", "val"), ("c", "val")], "'c' has no training photo")]


@pytest.mark.parametrize(("rows", "said"), TOO_FEW)
def test_one_photo_in_all_one_a_class_or_none_of_a_class_to_train_on_is_too_few(tmp_path, run, rows, said):
    with pytest.raises(DataError, match=said):
        tiny.go(manifest(tmp_path, *rows), run, epochs=1)
    assert run.exists() == ("'c'" in said)


def test_a_class_of_a_single_photo_is_trained_on(tmp_path, run):
    tiny.go(manifest(tmp_path, *[("a", "")] * 6, *[("b", "")] * 6, ("c", "")), run, epochs=1)
    found = json.loads((run / "run.json").read_text())
    assert (found["photos"], found["classes"]) == ({"train": 9, "val": 2, "test": 2}, ["a", "b", "c"])
    assert [line for line in (run / "split.csv").read_text().splitlines() if ",c," in line] == ["12.png,c,train"]
    assert tiny.counters(run)["finished"]


def test_a_validation_split_of_one_photo_steers_the_rate(tmp_path, run):
    tiny.go(manifest(tmp_path, *[("a", "train")] * 3, *[("b", "train")] * 4, ("a", "val")), run)
    errors = tiny.epochs(run, "val_error")
    assert len(errors) == 2
    assert set(errors) <= {0.0, 100.0}


@pytest.mark.parametrize(
    ("train", "batch", "steps"), [(1, 2, 1), (3, 4, 2), (2, 6, 1), (2, 100, 1), (2, 5, 1), (1, 1, 3), (4, 11, 1)]
)
def test_few_photos_and_odd_last_batches_are_trained_on(tmp_path, run, train, batch, steps):
    """One photo left over joins the batch before; more accumulate parts than photos do no harm."""
    data = tiny.make_photos(tmp_path / "data", train=train, val=1)
    tiny.go(data, run, epochs=1, batch=batch, accumulate=batch)
    counters = tiny.counters(run)
    assert (bool(counters["finished"]), counters["step"]) == (True, steps)
