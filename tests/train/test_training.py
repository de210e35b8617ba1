"""Training: the loop against plain gradients, and runs that are interrupted, killed, broken, or begun again."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from PIL import Image

import verydeep
from verydeep.data.order import epoch_order
from verydeep.data.reading import in_order
from verydeep.data.record import DataSet
from verydeep.data.source import open_data
from verydeep.errors import DataError, Interrupted, NonFiniteLoss, PhotoError, RunError, VeryDeepError
from verydeep.progress import Progress
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.advice import rate_warning
from verydeep.train.classes import cross_entropy
from verydeep.train.prepare import prepare
from verydeep.train.remember import remember
from verydeep.train.skipped import Skipped


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    tiny.go(data, run)
    return tiny.left(run)


def job_of(data, run, **changes):
    config = tiny.config(**changes)
    with open_run(run, config) as opened:
        remember(opened, open_data(data), data)
        return prepare(opened, open_data(data), config, Progress("none"))


def step_of(job, batch, step):
    return loop.gradients(job, job.classifier.net, batch, step, len(batch.targets))


def fp64(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum"), (outputs.argmax(1) != targets).sum()


def gradients_of(data, run, number=0, **changes):
    """(gradients, sums) of a batch of the first epoch in fp64, the job and the batch."""
    job = replace(job_of(data, run, dropout=0.0, **changes), objective=fp64)
    job.classifier.double().train()
    batch = next(job.batches.epoch(0, number))
    sums = step_of(job, batch, 0)
    return {name: p.grad for name, p in job.classifier.net.named_parameters()}, sums, job, batch


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(data, tmp_path, parts):
    whole, sums, _, _ = gradients_of(data, tmp_path / "1")
    cut, cut_sums, _, _ = gradients_of(data, tmp_path / "n", accumulate=parts)
    assert all((cut[name] - g).abs().max() <= 1e-10 * g.abs().max() for name, g in whole.items())
    assert torch.allclose(sums, cut_sums)


@pytest.mark.parametrize(("batch", "parts", "left"), [(4, 4, 2), (7, 5, 2), (28, 20, 2), (29, 29, 30)])
def test_a_last_batch_of_fewer_photos_than_parts_gives_the_gradients_of_the_whole(data, tmp_path, batch, parts, left):
    last = -(-30 // batch) - 1 - (30 % batch == 1)
    whole, sums, _, _ = gradients_of(data, tmp_path / "1", last, batch=batch)
    cut, cut_sums, _, found = gradients_of(data, tmp_path / "n", last, batch=batch, accumulate=parts)
    assert (found.number, len(found.targets)) == (last, left)
    assert all((cut[name] - g).abs().max() <= 1e-10 * g.abs().max() for name, g in whole.items())
    assert torch.allclose(sums, cut_sums)
    assert float(sums[2]) == left


@pytest.mark.parametrize(("size", "number", "photos"), [(6, 0, 6), (7, 4, 2)])
def test_gradients_are_those_of_the_mean_loss_of_shifted_photos(data, tmp_path, size, number, photos):
    found, sums, job, batch = gradients_of(data, tmp_path / "run", number, batch=size, colour="root")
    assert len(batch.targets) == photos
    mean = torch.tensor(job.classifier.contract.mean).view(3, 1, 1)
    x = torch.stack([p.double() - mean + s.view(3, 1, 1) for p, s in zip(batch.photos, batch.shifts, strict=True)])
    net = job.classifier.net
    net.zero_grad()
    loss = F.cross_entropy(net(x), batch.targets)
    loss.backward()
    assert all((found[name] - p.grad).abs().max() <= 1e-6 * p.grad.abs().max() for name, p in net.named_parameters())
    assert float(sums[0]) == pytest.approx(photos * loss.item(), rel=1e-6)
    assert float(sums[2]) == photos


def test_a_run_takes_the_steps_of_momentum_and_weight_decay_by_hand(data, tmp_path):
    """Two steps in fp32, w <- w - rate v, v <- momentum v + g + decay w, on biases too."""
    changes = {"dropout": 0.0, "batch": 15, "epochs": 1, "lr": 1e-2, "momentum": 0.8, "weight_decay": 0.1}
    job = job_of(data, tmp_path / "by-hand", **changes)
    job.classifier.train()
    net = job.classifier.net
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for step, batch in enumerate(job.batches.epoch(0)):
        step_of(job, batch, step)
        with torch.no_grad():
            for name, p in net.named_parameters():
                velocity[name] = 0.8 * velocity[name] + p.grad + 0.1 * p
                p -= 1e-2 * velocity[name]
        net.zero_grad()
    tiny.go(data, tmp_path / "run", **changes)
    found = verydeep.load(tmp_path / "run").net
    for (name, p), q in zip(net.named_parameters(), found.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6), name


def test_dropout_is_drawn_by_seed_step_and_part(data, tmp_path):
    job = job_of(data, tmp_path / "run", accumulate=2)
    job.classifier.train()
    batch, found = next(job.batches.epoch(0)), []
    for step in (0, 0, 1):
        torch.manual_seed(len(found))
        job.classifier.net.zero_grad()
        step_of(job, batch, step)
        found.append(job.classifier.net.fc7.weight.grad.clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_date_will_do_as_a_seed(data, tmp_path):
    assert "epoch 1" in tiny.go(data, tmp_path / "run", epochs=1, seed=20_260_131)


def test_the_loss_falls_below_chance(data, tmp_path):
    tiny.go(data, tmp_path / "run", epochs=12, dropout=0.0, fc_width=64)
    losses = [row["train_loss"] for row in tiny.metrics(tmp_path / "run") if "train_loss" in row]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]
    assert losses[-1] < 1.0986  # ln 3


def test_every_step_and_every_epoch_is_recorded_once(uninterrupted):
    *_, rows = uninterrupted
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 11))
    assert [(row["step"], row["epoch"]) for row in rows if "train_loss" in row] == [(5, 1), (10, 2)]


def test_the_last_state_is_finished_and_counts(uninterrupted):
    _, counters, _, _, _ = uninterrupted
    assert (counters["epoch"], counters["batch"], counters["step"]) == (2, 0, 10)
    assert counters["finished"] == "training ends after epoch 2, the last"


def test_best_is_the_lowest_validation_error_and_the_earliest(data, tmp_path, monkeypatch):
    """By a validation that answers 5, 3, 4, 3 errors of 9."""
    errors, kept = iter([5, 3, 4, 3]), []

    def validate_then_keep(job):
        class Found:
            def __call__(self, progress):
                _, facts = validate(progress)
                kept.append({k: v.clone() for k, v in job.classifier.net.state_dict().items()})
                return next(errors) / 9, facts

        validate = job.validate
        return replace(job, validate=Found())

    run_loop = loop.train
    monkeypatch.setattr("verydeep.train.prepare.train", lambda job: run_loop(validate_then_keep(job)))
    tiny.go(data, tmp_path / "run", epochs=4)
    best = verydeep.load(tmp_path / "run").net.state_dict()
    assert all(torch.equal(v, kept[1][k]) for k, v in best.items())
    assert not torch.equal(best["fc8.weight"], kept[3]["fc8.weight"])


def stopped_at(step, monkeypatch, action):
    """From now on `action` happens while the gradients of a step are computed."""
    compute = loop.gradients

    def gradients(job, net, batch, now, n):
        if now == step:
            action()
        return compute(job, net, batch, now, n)

    monkeypatch.setattr(loop, "gradients", gradients)


@pytest.mark.parametrize("step", [0, 3, 4, 6])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_resumed_run_is_the_uninterrupted_one(
    data, tmp_path, uninterrupted, monkeypatch, step, number, code
):
    before = signal.getsignal(number)
    stopped_at(step, monkeypatch, lambda: signal.raise_signal(number))
    with pytest.raises(Interrupted, match=f"saved at step {step + 1} in .* the same command resumes") as e:
        tiny.go(data, tmp_path / "run")
    assert e.value.exit_code == code
    assert signal.getsignal(number) is before
    assert tiny.state(tmp_path / "run")["counters"]["step"] == step + 1
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run")
    assert tiny.left(tmp_path / "run") == uninterrupted


def test_sigint_twice_leaves_at_once_and_keeps_the_last_state(data, tmp_path, uninterrupted, monkeypatch):
    stopped_at(4, monkeypatch, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        tiny.go(data, tmp_path / "run")
    assert tiny.state(tmp_path / "run")["counters"]["step"] == 3
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run")
    assert tiny.left(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("step", [0, 2, 3, 5, 8])
def test_an_error_in_the_middle_loses_at_most_one_save_interval(data, tmp_path, uninterrupted, monkeypatch, step):
    def fail():
        raise ZeroDivisionError

    stopped_at(step, monkeypatch, fail)
    with pytest.raises(ZeroDivisionError):
        tiny.go(data, tmp_path / "run")
    if step >= 3:
        assert step - tiny.state(tmp_path / "run")["counters"]["step"] < 3
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run")
    assert tiny.left(tmp_path / "run") == uninterrupted


def test_killed_between_an_epochs_record_and_its_state_the_record_is_not_doubled(data, tmp_path, monkeypatch):
    """A state was saved at the last step of the epoch, and the process dies after validation, before the next save."""
    tiny.go(data, tmp_path / "reference", save_every=5)
    write, saves = loop.save, []

    def save(*given):
        saves.append(given)
        if given[3].epoch == 1:
            raise ZeroDivisionError
        write(*given)

    monkeypatch.setattr(loop, "save", save)
    with pytest.raises(ZeroDivisionError):
        tiny.go(data, tmp_path / "run", save_every=5)
    monkeypatch.undo()
    assert len(saves) == 3  # every fifth step, before the validation, after it
    tiny.go(data, tmp_path / "run", save_every=5)
    assert tiny.left(tmp_path / "run") == tiny.left(tmp_path / "reference")


def test_memory_that_runs_out_names_the_remedy(data, tmp_path, monkeypatch):
    def fail():
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to get 9 bytes."
        )

    stopped_at(1, monkeypatch, fail)
    with pytest.raises(RunError, match="--accumulate 2"):
        tiny.go(data, tmp_path / "run")


def tool(*words):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killing.py")), *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_sigterm_from_outside_saves_exits_143_within_5_s_and_resumes(data, tmp_path):
    assert tool(data, tmp_path / "run", "sigterm") == [143, 0]
    tiny.go(data, tmp_path / "reference", epochs=6)
    assert tiny.left(tmp_path / "run") == tiny.left(tmp_path / "reference")


def killed(data, tmp_path, uninterrupted, seed, n, *changes):
    """(kills inside a save, other kills), after which every run that came to its end is the uninterrupted one."""
    inside, others, *ends = tool(data, tmp_path / "run", "kill", seed, n, *changes)
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


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(data, tmp_path, monkeypatch, value):
    run = tmp_path / "run"
    stopped_at(4, monkeypatch, lambda: broken.append(1))
    broken = []

    def objective(outputs, targets):
        loss, error = cross_entropy(outputs, targets)
        return loss * (float(value) if broken else 1), error

    run_loop = loop.train
    monkeypatch.setattr("verydeep.train.prepare.train", lambda job: run_loop(replace(job, objective=objective)))
    with pytest.raises(
        NonFiniteLoss, match=r"the loss is no longer a finite number.*last good state is kept in .*last.*--lr 0\.0001"
    ) as e:
        tiny.go(data, run)
    assert e.value.exit_code == 1
    assert tiny.state(run)["counters"]["step"] == 3
    monkeypatch.undo()
    tiny.go(data, run)  # what was kept is good: the run goes on from it
    assert all(p.isfinite().all() for p in verydeep.load(run).net.parameters())


FAR = "is far above that of guessing, 1.099; should it not fall, start again with another --out and --lr 0.0001"


@pytest.mark.parametrize(("factor", "times"), [(1, 0), (10, 1)])
def test_a_loss_far_above_that_of_guessing_is_said_once(data, tmp_path, monkeypatch, capsys, factor, times):
    compute = loop.gradients
    monkeypatch.setattr(loop, "gradients", lambda *given: compute(*given) * torch.tensor([factor, 1.0, 1.0]))
    tiny.go(data, tmp_path / "run", epochs=3)
    assert capsys.readouterr().err.count(FAR) == times
    losses = [row["train_loss"] for row in tiny.metrics(tmp_path / "run") if "train_loss" in row]
    assert [loss > 3 * np.log(3) for loss in losses] == [factor > 1] * 3


def test_classes_that_weigh_more_are_no_reason_to_warn(tmp_path, capsys):
    """24 photos of one class and 3 of each other: the loss of guessing is ln(3) all the same."""
    data = Path(tiny.make_photos(tmp_path / "photos", train=24))
    for c in (1, 2):
        for file in sorted((data / "train" / f"c{c}").iterdir())[3:]:
            file.unlink()
    tiny.go(str(data), tmp_path / "run", balance="loss")
    assert "far above" not in capsys.readouterr().err


@pytest.mark.parametrize("trained", [False, True])
def test_a_resumed_run_tells_the_speed_of_what_it_trained_itself(data, tmp_path, monkeypatch, capsys, trained):
    """It goes on within the first epoch, or with all of that trained and the validation still to come."""

    def stop(*given):
        raise Interrupted("killed", signal.SIGKILL)

    if trained:
        monkeypatch.setattr(loop, "epoch_record", stop)
    else:
        stopped_at(3, monkeypatch, stop)
    with pytest.raises(Interrupted):
        tiny.go(data, tmp_path / "run")
    assert tiny.state(tmp_path / "run")["counters"]["photos"] == (30 if trained else 18)
    monkeypatch.undo()
    capsys.readouterr()
    tiny.go(data, tmp_path / "run")
    first, second = re.findall(r"epoch \d/2: .*", capsys.readouterr().err)
    assert ("photos/s" in first) != trained
    assert " 0 photos/s" not in first + second
    assert "photos/s" in second


def test_a_weight_that_is_no_number_is_not_saved(data, tmp_path, monkeypatch):
    """The last step of an epoch: its loss was fine, what it left is not."""
    step = torch.optim.SGD.step
    steps = []

    def broken(optimizer, *given):
        step(optimizer, *given)
        steps.append(1)
        if len(steps) == 5:
            optimizer.param_groups[0]["params"][0].data[0] = float("inf")

    monkeypatch.setattr(torch.optim.SGD, "step", broken)
    with pytest.raises(NonFiniteLoss, match="a weight is no longer a finite number"):
        tiny.go(data, tmp_path / "run")
    assert tiny.state(tmp_path / "run")["counters"]["step"] == 3


def test_a_rate_of_a_million_stops_with_an_explanation(data, tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"nothing was saved yet; .*--lr 0.00023"):
        tiny.go(data, tmp_path / "run", lr=1e6, save_every=100)
    assert not (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("lr", 1e-2), ("seed", 1), ("net", "B"), ("batch", 5), ("balance", "loss"), ("reduced", False)]
)
def test_another_configuration_is_refused_and_named(data, tmp_path, field, value):
    tiny.go(data, tmp_path / "run", epochs=1)
    with pytest.raises(RunError, match=f"another configuration: {field} "):
        tiny.go(data, tmp_path / "run", epochs=1, **{field: value})


def test_what_does_not_change_the_numbers_may_change(data, tmp_path, uninterrupted, monkeypatch):
    stopped_at(4, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny.go(data, tmp_path / "run")
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run", workers=2, save_every=1, keep=0.0)
    assert tiny.left(tmp_path / "run") == uninterrupted


def test_changed_photos_are_refused(tmp_path):
    data = tiny.make_photos(tmp_path / "data", train=4, val=2)
    tiny.go(data, tmp_path / "run", epochs=1)
    next((tmp_path / "data" / "train" / "c0").iterdir()).unlink()
    with pytest.raises(RunError, match=r"other photos .*'train': 12.* then, .*'train': 11.* now"):
        tiny.go(data, tmp_path / "run", epochs=1)


@pytest.mark.parametrize("name", ["run.json", "statistics.json"])
def test_a_flipped_bit_in_what_a_run_was_begun_with_is_found(data, tmp_path, monkeypatch, name):
    """Another mean would train on as if nothing was."""
    run = tmp_path / "run"
    stopped_at(4, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny.go(data, run)
    monkeypatch.undo()
    text = (run / name).read_bytes()
    for place in range(0, len(text), 29):
        (run / name).write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(RunError, match=rf"{name} (does not match its SHA-256|is not JSON)"):
            tiny.go(data, run)


def test_what_a_run_was_begun_with_is_flushed_before_the_first_state(tmp_path, monkeypatch):
    """Otherwise a power cut could leave a state without its split."""
    fsync, found = os.fsync, []
    monkeypatch.setattr(
        os, "fsync", lambda handle: found.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name) or fsync(handle)
    )
    tiny.go(manifest(tmp_path, *[("a", "")] * 6, *[("b", "")] * 6), tmp_path / "run", epochs=1)
    files = [name.split(".")[1] for name in found if name.startswith(".")]
    assert set(files[: files.index("weights-2")]) == {"config", "split", "run", "statistics", "metrics"}
    assert (tmp_path / "run" / "split.csv").read_text().count("train") > 5


def test_another_place_of_the_photos_is_refused(data, tmp_path):
    tiny.go(data, tmp_path / "run", epochs=1)
    with pytest.raises(RunError, match=r"begun on .* not on .*"):
        tiny.go(tiny.make_photos(tmp_path / "data"), tmp_path / "run", epochs=1)


def test_a_finished_run_returns_at_once_and_changes_nothing(data, tmp_path, monkeypatch):
    ended = tiny.go(data, tmp_path / "run", epochs=1)
    before = tiny.left(tmp_path / "run")
    monkeypatch.setattr("verydeep.train.prepare.prepare", lambda *given: pytest.fail("it began again"))
    assert tiny.go(data, tmp_path / "run", epochs=1) == ended == "training ends after epoch 1, the last"
    assert tiny.left(tmp_path / "run") == before


def test_a_second_trainer_leaves_at_once(data, tmp_path, monkeypatch):
    refused = []

    def second():
        with pytest.raises(RunError, match="in use by another training") as e:
            tiny.go(data, tmp_path / "run")
        refused.append(e)

    stopped_at(2, monkeypatch, second)
    tiny.go(data, tmp_path / "run")
    assert len(refused) == 1


@pytest.fixture
def damaged(tmp_path):
    """Photos of which one to train on is cut short; its key."""
    data = tiny.make_photos(tmp_path / "data", train=5, val=2)
    victim = sorted((tmp_path / "data" / "train" / "c1").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:100])
    return data, victim


def test_a_bad_photo_stops_the_work_and_is_named(damaged, tmp_path):
    data, victim = damaged
    with pytest.raises(PhotoError, match=rf"{victim.name}.*add --bad_photos skip"):
        tiny.go(data, tmp_path / "run", epochs=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skipped_photo_is_listed_once(damaged, tmp_path, workers):
    data, victim = damaged
    run = tmp_path / "run"
    tiny.go(data, run, epochs=3, bad_photos="skip", workers=workers)
    lines = (run / "skipped.csv").read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"train/c1/{victim.name},is damaged")
    assert tiny.metrics(run)[-1]["step"] == 9
    assert json.loads((run / "statistics.json").read_text())["photos"] == 14


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 200_000, "field larger than"),
        (b'a\xff\0b,"c', None),
        ("/dev/zero", "not a regular file"),
        ("mine", "symbolic links"),
    ],
)
def test_an_odd_list_of_skipped_photos_is_one_clear_error(damaged, tmp_path, content, message):
    data, _ = damaged
    run = tmp_path / "run"
    (tmp_path / "mine").write_text("mine\n")
    tiny.go(data, run, epochs=1, bad_photos="skip")
    (run / "skipped.csv").unlink()
    (run / "skipped.csv").symlink_to(tmp_path / content) if isinstance(content, str) else (
        run / "skipped.csv"
    ).write_bytes(content)
    with (
        nullcontext() if message is None else pytest.raises(RunError, match=rf"skipped\.csv cannot be .*{message}"),
        open_run(run, tiny.config(epochs=1, bad_photos="skip")) as opened,
    ):
        Skipped(opened, open_data(data).split("train"), "skip").list("train/c1/x.png", "is gone")
    assert (tmp_path / "mine").read_text() == "mine\n"


def lost_on_the_way(data, monkeypatch, damage):
    """While the net takes its second step, a photo of the last batch is damaged; the photo's path and what it held."""
    photos = open_data(data).split("train")
    victim = Path(photos.name(int(epoch_order(0, 0, photos).ids[27])))
    held = victim.read_bytes()
    monkeypatch.setattr("verydeep.data.batches.in_order", partial(in_order, ahead=1))  # else all is read before
    stopped_at(1, monkeypatch, lambda: damage(victim))
    return victim, held


DAMAGES = pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])], ids=["gone", "cut"]
)


@DAMAGES
@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_lost_on_the_way_stops_and_once_restored_the_run_ends_as_if_nothing_was(
    tmp_path, uninterrupted, monkeypatch, workers, damage
):
    data, run = tiny.make_photos(tmp_path / "data"), tmp_path / "run"
    victim, held = lost_on_the_way(data, monkeypatch, damage)
    with pytest.raises(PhotoError, match=rf"{victim.name}.*repair or remove it, or add --bad_photos skip") as e:
        tiny.go(data, run, workers=workers, keep=0.0)
    assert e.value.exit_code == 1
    assert not any(t.name.startswith("photos") for t in threading.enumerate())
    assert tiny.state(run)["counters"]["step"] == 3
    monkeypatch.undo()
    with pytest.raises((PhotoError, RunError), match=rf"{victim.name}|other photos"):  # not before it is restored
        tiny.go(data, run, workers=workers, keep=0.0)
    victim.write_bytes(held)
    tiny.go(data, run, workers=workers, keep=0.0)
    assert tiny.left(run) == uninterrupted
    assert not (run / "skipped.csv").exists()


@DAMAGES
def test_a_photo_lost_on_the_way_can_be_skipped_and_is_listed_once(tmp_path, monkeypatch, damage):
    found = []
    for workers in (0, 2):
        data, run = tiny.make_photos(tmp_path / f"data {workers}"), tmp_path / f"run {workers}"
        victim, _ = lost_on_the_way(data, monkeypatch, damage)
        tiny.go(data, run, workers=workers, keep=0.0, bad_photos="skip")
        monkeypatch.undo()
        (line,) = (run / "skipped.csv").read_text().splitlines()
        assert line.startswith(f"train/{victim.parent.name}/{victim.name},")
        assert (run / "log.txt").read_text().count(f"skipped train/{victim.parent.name}/{victim.name}") == 1
        assert tiny.state(run)["counters"]["step"] == 10
        assert not any(t.name.startswith("photos") for t in threading.enumerate())
        found.append(tiny.left(run))
    assert found[0] == found[1]


def test_a_kept_photo_is_not_missed(tmp_path, uninterrupted, monkeypatch):
    """What was decoded before and stayed in memory needs no file."""
    data = tiny.make_photos(tmp_path / "data")
    lost_on_the_way(data, monkeypatch, Path.unlink)
    tiny.go(data, tmp_path / "run")
    assert tiny.left(tmp_path / "run") == uninterrupted


def test_a_step_whose_photos_are_all_lost_is_not_taken(tmp_path, monkeypatch):
    """The net is as it was before; the counters and the records go on."""
    data, run = tiny.make_photos(tmp_path / "data"), tmp_path / "run"
    photos = open_data(data).split("train")
    lost = [Path(photos.name(int(id))) for id in epoch_order(0, 0, photos).ids[12:18]]
    monkeypatch.setattr("verydeep.data.batches.in_order", partial(in_order, ahead=1))
    steps, compute = [], loop.gradients

    def gradients(job, net, batch, now, n):
        steps.append((now, n))
        if now == 0:
            for path in lost:
                path.unlink()
        return compute(job, net, batch, now, n)

    monkeypatch.setattr(loop, "gradients", gradients)
    tiny.go(data, run, keep=0.0, bad_photos="skip", epochs=1)
    assert steps == [(0, 6), (1, 6), (3, 6), (4, 6)]
    assert len((run / "skipped.csv").read_text().splitlines()) == 6
    assert tiny.state(run)["counters"]["step"] == 5
    assert [row["step"] for row in tiny.metrics(run) if "loss" in row] == [1, 2, 4, 5]


def test_a_validation_split_of_bad_photos_is_explained(tmp_path):
    data = tiny.make_photos(tmp_path / "data", train=4, val=1)
    for photo in (tmp_path / "data" / "val").rglob("*.png"):
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="val"):
        tiny.go(data, tmp_path / "run", epochs=1, bad_photos="skip")


def test_a_bad_photo_to_validate_on_is_listed_too(tmp_path):
    data = tiny.make_photos(tmp_path / "data", train=4, val=2)
    victim = min((tmp_path / "data" / "val" / "c0").iterdir())
    victim.write_bytes(b"no photo")
    tiny.go(data, tmp_path / "run", epochs=2, bad_photos="skip")
    assert (tmp_path / "run" / "skipped.csv").read_text().count(victim.name) == 1


def test_a_class_without_training_photos_is_refused(tmp_path):
    rows = ["path,label,split"]
    for i, (label, split) in enumerate([("a", "train"), ("b", "train"), ("a", "val"), ("c", "val")]):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{label},{split}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match="'c' has no training photo"):
        tiny.go(str(tmp_path / "m.csv"), tmp_path / "run", epochs=1)


@pytest.mark.parametrize("label", [-100, -1, 3, 255])
def test_a_label_out_of_range_is_refused_and_named(data, tmp_path, label):
    given = open_data(data)
    labels = given.split("train").targets().copy()
    labels[17] = label
    wrong = DataSet("mine", given.classes, {**given.splits, "train": replace(given.split("train"), labels=labels)})
    config = tiny.config()
    with (
        open_run(tmp_path / "run", config) as run,
        pytest.raises(DataError, match=rf"{given.split('train').keys[17]}.*{label}"),
    ):
        prepare(run, wrong, config, Progress("none"))


def manifest(folder, *rows):
    """Photos of 40 x 40 pixels in a manifest: rows are (label, split), the split empty where there is none."""
    lines = []
    for i, (label, split) in enumerate(rows):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{label},{split}")
    (folder / "m.csv").write_text("\n".join(["path,label,split", *lines]))
    return str(folder / "m.csv")


@pytest.mark.parametrize(
    "rows", [[("a", "")], [("a", "train")], [("a", ""), ("b", "")], [("a", "train"), ("b", "train")]]
)
def test_one_photo_in_all_or_one_a_class_is_too_few(tmp_path, rows):
    with pytest.raises(DataError, match=r"names 1 class; expected at least two|at least two are needed"):
        tiny.go(manifest(tmp_path, *rows), tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()


def test_a_class_of_a_single_photo_is_trained_on(tmp_path):
    data = manifest(tmp_path, *[("a", "")] * 6, *[("b", "")] * 6, ("c", ""))
    tiny.go(data, tmp_path / "run", epochs=1)
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (found["photos"], found["classes"]) == ({"train": 9, "val": 2, "test": 2}, ["a", "b", "c"])
    split = (tmp_path / "run" / "split.csv").read_text().splitlines()
    assert [line for line in split if ",c," in line] == ["12.png,c,train"]
    assert tiny.state(tmp_path / "run")["counters"]["finished"]


def test_a_validation_split_of_one_photo_steers_the_rate(tmp_path):
    data = manifest(tmp_path, *[("a", "train")] * 3, *[("b", "train")] * 4, ("a", "val"))
    tiny.go(data, tmp_path / "run", epochs=2)
    errors = [row["val_error"] for row in tiny.metrics(tmp_path / "run") if "val_error" in row]
    assert len(errors) == 2
    assert set(errors) <= {0.0, 100.0}


@pytest.mark.parametrize(
    ("train", "batch", "steps"), [(1, 2, 1), (3, 4, 2), (2, 6, 1), (2, 100, 1), (2, 5, 1), (1, 1, 3), (4, 11, 1)]
)
def test_few_photos_and_odd_last_batches_are_trained_on(tmp_path, train, batch, steps):
    """One photo left over joins the batch before; more accumulate parts than photos do no harm."""
    data = tiny.make_photos(tmp_path / "data", train=train, val=1)
    tiny.go(data, tmp_path / "run", epochs=1, batch=batch, accumulate=batch)
    counters = tiny.state(tmp_path / "run")["counters"]
    assert counters["finished"]
    assert counters["step"] == steps


def test_batch_norm_is_trained_and_resumed_exactly(data, tmp_path, monkeypatch):
    tiny.go(data, tmp_path / "reference", batch_norm=True)
    stopped_at(6, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny.go(data, tmp_path / "run", batch_norm=True)
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run", batch_norm=True)
    assert tiny.left(tmp_path / "run") == tiny.left(tmp_path / "reference")


def test_a_deeper_run_starts_from_a_shallower_one(data, tmp_path):
    tiny.go(data, tmp_path / "a", epochs=1)
    job = job_of(data, tmp_path / "d", net="D", init_from=str(tmp_path / "a"))
    shallow = verydeep.load(tmp_path / "a").net
    assert torch.equal(job.classifier.net.conv2_1.weight, shallow.conv2_1.weight)
    assert torch.equal(job.classifier.net.fc8.weight, shallow.fc8.weight)


def test_tensorboard_writes_event_files(data, tmp_path):
    pytest.importorskip("tensorboard")
    tiny.go(data, tmp_path / "run", epochs=1, track="tensorboard")
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert file.name.startswith("events.out.tfevents")
    content = file.read_bytes()
    assert all(name in content for name in (b"train_loss", b"val_error", b"lr"))


def test_without_a_tracker_there_is_no_such_folder(data, tmp_path):
    tiny.go(data, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.parametrize(
    ("batch", "lr", "warned"),
    [
        (256, 1e-2, False),
        (256, 0.04, False),
        (256, 0.041, True),
        (256, 0.0025, False),
        (256, 0.0024, True),
        (32, 1e-2, True),
        (32, 1.25e-3, False),
    ],
)
def test_a_rate_far_from_the_papers_is_warned_of(batch, lr, warned):
    assert bool(rate_warning(tiny.config(batch=batch, lr=lr))) == warned


def test_fine_tuning_at_a_tenth_of_the_rate_is_no_reason_to_warn():
    assert rate_warning(tiny.config(batch=256, lr=1e-3, init_from="a")) is None
    assert "far from" in str(rate_warning(tiny.config(batch=256, lr=1e-4, init_from="a")))


def test_the_warning_names_a_fitting_rate():
    assert rate_warning(tiny.config(batch=64, lr=0.1)).endswith("(0.01 * 64 / 256 = 0.0025); try --lr 0.0025")


def test_every_error_here_is_one_a_user_can_meet():
    assert all(issubclass(e, VeryDeepError) for e in (DataError, Interrupted, NonFiniteLoss, PhotoError, RunError))
