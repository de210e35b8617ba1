"""Rare classes that count as much as frequent ones: weights against numpy, and runs that go on exactly."""

import signal
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from test_training import killed, stopped_at

from verydeep.data.source import open_data
from verydeep.errors import Interrupted
from verydeep.progress import Progress
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.classes import class_weights, cross_entropy
from verydeep.train.prepare import prepare

COUNTS = (14, 5, 2)
WEIGHTS = (0.5, 1.4, 3.5)  # 21 photos / (3 classes * count), in the head


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """14, 5 and 2 photos to train on, one of each class to validate on."""
    folder = tmp_path_factory.mktemp("uneven")
    tiny.make_photos(folder, train=14, val=1)
    for c, n in enumerate(COUNTS):
        for photo in sorted((folder / "train" / f"c{c}").iterdir())[n:]:
            photo.unlink()
    return str(folder)


def job_of(data, run, **changes):
    config = tiny.config(**changes)
    with open_run(run, config) as opened:
        return prepare(opened, open_data(data), config, Progress("none"))


# Weights


def test_weights_by_hand():
    weights = class_weights(np.repeat([0, 1, 2], COUNTS))
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(WEIGHTS, rel=1e-6)
    assert class_weights(np.array([1, 0, 1, 0])).tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_all_classes_count_the_same_and_the_mean_photo_counts_one(seed):
    targets = np.concatenate([np.arange(7), np.random.default_rng(seed).geometric(0.4, 200).clip(max=7) - 1])
    weights = class_weights(targets).double().numpy()
    assert weights[targets].mean() == pytest.approx(1, rel=1e-6)
    shares = [weights[c] * (targets == c).sum() / len(targets) for c in range(7)]
    assert shares == pytest.approx([1 / 7] * 7, rel=1e-6)


def by_hand(logits, targets, weights):
    """(weighted losses, their gradients by the logits) in float64: w (softmax - one-hot)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    p = powers / powers.sum(1, keepdims=True)
    w = np.asarray(weights)[targets]
    return -w * np.log(p[np.arange(len(targets)), targets]), w[:, None] * (p - np.eye(logits.shape[1])[targets])


@pytest.mark.parametrize("weights", [WEIGHTS, (1.0, 1.0, 1.0)])
def test_the_loss_and_its_gradient_are_the_weighted_sum_by_hand(weights):
    random = np.random.default_rng(3)
    logits, targets = random.normal(0, 3, (40, 3)), random.integers(0, 3, 40)
    outputs = torch.tensor(logits, requires_grad=True)
    loss, errors = cross_entropy(outputs, torch.tensor(targets), torch.tensor(weights))
    loss.backward()
    losses, gradients = by_hand(logits, targets, weights)
    assert loss.item() == pytest.approx(losses.sum(), rel=1e-6)
    assert np.abs(outputs.grad.numpy() - gradients).max() < 1e-6
    assert int(errors) // 100 == (logits.argmax(1) != targets).sum()  # errors are counted, not weighed


def test_a_step_follows_the_mean_over_the_photos_not_over_the_weights(data, tmp_path):
    """fp64 through the whole net; the gradients of the weighted losses / photos."""
    job = job_of(data, tmp_path / "run", balance="loss", dropout=0.0, batch=21, accumulate=4)
    assert isinstance(job.objective, partial)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)

    def fp64(outputs, targets):
        losses = -weights[targets] * outputs.log_softmax(1)[torch.arange(len(targets)), targets]
        return losses.sum(), (outputs.argmax(1) != targets).sum()

    job.classifier.double().train()
    net, batch = job.classifier.net, next(job.batches.epoch(0))
    sums = loop.gradients(job, net, batch, 0, 21)
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    x = loop.augmented(job, batch, torch.arange(21))
    loss, _ = fp64(net(x), batch.targets)
    (loss / 21).backward()
    assert float(sums[0]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(sums[2]) == 21
    for name, p in net.named_parameters():
        assert (found[name] - p.grad).abs().max() <= 1e-5 * p.grad.abs().max(), name
    plain = loop.gradients(replace(job, objective=cross_entropy), net, batch, 0, 21)
    assert abs(float(plain[0]) / float(sums[0]) - 1) > 1e-3


# Sampling


def test_a_run_that_samples_shows_every_class_equally_often(data, tmp_path):
    job = job_of(data, tmp_path / "run", balance="sampling", batch=7)
    for epoch in range(3):
        batches = list(job.batches.epoch(epoch))
        assert [len(b.targets) for b in batches] == [7, 7, 7]
        assert Counter(torch.cat([b.targets for b in batches]).tolist()) == {0: 7, 1: 7, 2: 7}


# Runs


@pytest.fixture(scope="module", params=["loss", "sampling"])
def balanced(request, data, tmp_path_factory):
    """(how, what the uninterrupted run left)."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    tiny.go(data, run, balance=request.param)
    return request.param, tiny.left(run)


@pytest.mark.parametrize("step", [0, 2, 3, 5])
def test_a_balanced_run_goes_on_as_if_it_had_never_stopped(data, tmp_path, balanced, monkeypatch, step):
    how, uninterrupted = balanced
    stopped_at(step, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny.go(data, tmp_path / "run", balance=how)
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run", balance=how, workers=2)
    assert tiny.left(tmp_path / "run") == uninterrupted


def test_a_balanced_run_survives_kill_9(data, tmp_path, balanced):
    how, uninterrupted = balanced
    assert killed(data, tmp_path, uninterrupted, 0, 2, f"balance={how}") == (1, 1)


def test_the_ways_to_balance_are_three(data, tmp_path):
    found = []
    for how in ("none", "loss", "sampling"):
        tiny.go(data, tmp_path / how, balance=how)
        found.append(str(tiny.left(tmp_path / how)[0]))
    assert len(set(found)) == 3


def test_where_classes_are_of_one_size_weights_change_nothing(tmp_path):
    even = tiny.make_photos(tmp_path / "even", train=4, val=1)
    found = []
    for how in ("none", "loss"):
        tiny.go(even, tmp_path / how, balance=how)
        found.append(tiny.left(tmp_path / how))
    assert found[0] == found[1]
