"""Rare classes that count as much as frequent ones: weights against numpy, and runs that go on exactly."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from verydeep.train import loop
from verydeep.train.classes import class_weights, cross_entropy

COUNTS = (14, 5, 2)
WEIGHTS = (0.5, 1.4, 3.5)  # 21 photos / (3 classes * count), in the head


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_photos(tmp_path_factory.mktemp("uneven"), train=COUNTS, val=1)


def test_with_weights_all_classes_count_the_same_and_the_mean_photo_counts_one():
    weights = class_weights(np.repeat([0, 1, 2], COUNTS))
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(WEIGHTS, rel=1e-6)
    for seed in range(5):
        targets = np.concatenate([np.arange(7), np.random.default_rng(seed).geometric(0.4, 200).clip(max=7) - 1])
        weights = class_weights(targets).double().numpy()
        assert weights[targets].mean() == pytest.approx(1, rel=1e-6)
        shares = [weights[c] * (targets == c).sum() / len(targets) for c in range(7)]
        assert shares == pytest.approx([1 / 7] * 7, rel=1e-6)


@pytest.mark.parametrize("weights", [WEIGHTS, (1.0, 1.0, 1.0)])
def test_the_loss_and_its_gradient_are_the_weighted_sum_by_hand(weights):
    """In float64: -w log p, and by the logits w (softmax - one-hot)."""
    random = np.random.default_rng(3)
    logits, targets = random.normal(0, 3, (40, 3)), random.integers(0, 3, 40)
    outputs = torch.tensor(logits, requires_grad=True)
    loss, errors = cross_entropy(outputs, torch.tensor(targets), torch.tensor(weights))
    loss.backward()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    w = np.array(weights)[targets]
    assert loss.item() == pytest.approx(-(w * np.log(p[np.arange(40), targets])).sum(), rel=1e-6)
    assert np.abs(outputs.grad.numpy() - w[:, None] * (p - np.eye(3)[targets])).max() < 1e-6
    assert int(errors) // 100 == (logits.argmax(1) != targets).sum()  # errors are counted, not weighed


def test_a_step_follows_the_mean_over_the_photos_not_over_the_weights(data, tmp_path):
    """fp64 through the whole net; the gradients of the weighted losses / photos."""
    job = tiny.job_of(data, tmp_path / "run", balance="loss", dropout=0.0, batch=21, accumulate=4)
    net, batch = job.classifier.double().train().net, next(job.batches.epoch(0))
    sums = tiny.step_of(job, batch)
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    outputs, weights = net(loop.augmented(job, batch, torch.arange(21))), torch.tensor(WEIGHTS, dtype=torch.float64)
    loss = -(weights[batch.targets] * outputs.log_softmax(1)[torch.arange(21), batch.targets]).sum()
    (loss / 21).backward()
    assert float(sums[0]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(sums[2]) == 21
    for name, p in net.named_parameters():
        assert (found[name] - p.grad).abs().max() <= 1e-5 * p.grad.abs().max(), name
    plain = tiny.step_of(replace(job, goal=job.goal._replace(objective=cross_entropy)), batch)
    assert abs(float(plain[0]) / float(sums[0]) - 1) > 1e-3


def test_a_run_that_samples_shows_every_class_equally_often(data, tmp_path):
    job = tiny.job_of(data, tmp_path / "run", balance="sampling", batch=7)
    for epoch in range(3):
        batches = list(job.batches.epoch(epoch))
        assert [len(b.targets) for b in batches] == [7, 7, 7]
        assert Counter(torch.cat([b.targets for b in batches]).tolist()) == {0: 7, 1: 7, 2: 7}


@pytest.fixture(scope="module", params=["loss", "sampling"])
def balanced(request, data, tmp_path_factory):
    """(how, what the uninterrupted run left)."""
    tiny.go(data, run := tmp_path_factory.mktemp(request.param) / "run", balance=request.param)
    assert "far above that of guessing" not in (run / "log.txt").read_text()  # weights are no reason to warn
    return request.param, tiny.left(run)


@pytest.mark.parametrize("step", [0, 2, 3, 5])
def test_a_balanced_run_goes_on_as_if_it_had_never_stopped(data, tmp_path, balanced, step):
    """With more workers, more saves and nothing kept in memory."""
    how, uninterrupted = balanced
    tiny.stop(data, tmp_path / "run", step, balance=how)
    assert tiny.end_of(data, tmp_path / "run", balance=how, workers=2, save_every=1, keep=0.0) == uninterrupted


def test_the_ways_to_balance_are_three_of_which_weights_change_nothing_where_classes_are_of_one_size(data, tmp_path):
    even, left = tiny.make_photos(tmp_path / "even", train=4, val=1), {}
    for photos, how in ((data, "none"), (data, "loss"), (data, "sampling"), (even, "none"), (even, "loss")):
        tiny.go(photos, run := tmp_path / f"{photos == even} {how}", balance=how)
        left[photos, how] = tiny.left(run)
    assert len({str(left[data, how][0]) for how in ("none", "loss", "sampling")}) == 3
    assert left[even, "none"] == left[even, "loss"]
