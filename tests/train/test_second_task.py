"""Another task by the same loop, pass, resume and curves: how bright each quarter of a photo is, by regression."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from verydeep.data.photo import centre_crop
from verydeep.data.source import open_data
from verydeep.errors import Interrupted
from verydeep.evaluate.passes import Settings, Shown, passes, scorer_of
from verydeep.evaluate.views import View
from verydeep.progress import Progress
from verydeep.report.figures import curves
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.prepare import prepare
from verydeep.train.remember import remember

CONFIG = tiny.config(scale=36, epochs=4, lr=3e-3, dropout=0.0)
SETTINGS, VIEW = Settings(), View("centre", 36)


def brightness(pixels):
    """Of the quarters of uint8 H x W x 3, from 0 to 1: float32 of 4."""
    half = len(pixels) // 2
    quarters = [pixels[i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    return np.array([q.mean() / 255 for q in quarters], np.float32)


def distance(outputs, targets):
    """(squared distance, mean absolute error) summed over photos."""
    return (outputs.float() - targets).square().sum(), (outputs - targets).abs().mean(1).sum()


def regression(run, data):
    """A Job whose net has four outputs that are no classes."""
    remember(run, opened := open_data(data), data)
    job = prepare(run, opened, CONFIG, Progress("none"))
    torch.manual_seed(0)
    job.classifier.net.replace_last(4)
    photos = opened.split("val")
    truth = torch.stack([torch.from_numpy(brightness(centre_crop(photos.open(i), 36, 32))) for i in range(len(photos))])

    def validate(progress):
        net = Shown(scorer_of(job.classifier, SETTINGS), 32, [VIEW], lambda maps, seen: maps.mean((2, 3)))
        found = torch.cat([by_view[VIEW] for _, [by_view] in passes([net], photos.open, range(len(photos)), SETTINGS)])
        return float((found - truth).abs().mean()), {"val_worst": float((found - truth).abs().max())}

    batches = replace(job.batches, target_of=lambda id, cut: brightness(cut.pixels))
    words = "error {train_error:.3f} training, {val_error:.3f} validation, at worst {val_worst:.3f}"
    goal = job.goal._replace(objective=distance, validate=validate, words=words, guessing=float("inf"))
    return replace(job, batches=batches, goal=goal)


def test_a_second_task_trains_resumes_and_is_drawn(tmp_path):
    data = tiny.make_photos(tmp_path / "photos")
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def go(folder):
        with open_run(folder, CONFIG) as run:
            return loop.train(regression(run, data))

    assert go(whole) == "training ends after epoch 4, the last"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):  # noqa: PT012
        tiny.stopped_at(8, patch, tiny.terminate)
        go(cut)
    go(cut)
    sums = [{p.name: p.read_bytes() for p in (run / "last").glob("*.safetensors")} for run in (whole, cut)]
    assert sums[0] == sums[1]
    records = tiny.metrics(whole)
    assert records == tiny.metrics(cut)
    epochs = [r for r in records if "val_error" in r]
    assert epochs[-1]["val_error"] < 0.6 * epochs[0]["val_error"]
    assert "val_worst" in epochs[0]
    assert len(curves([r for r in records if "loss" in r], epochs).axes) == 3
    assert tiny.counters(whole)["best_error"] == pytest.approx(min(e["val_error"] for e in epochs), abs=1e-4)
