"""More epochs for a run that has ended, and what is said of a net that learns nothing."""

import json

import pytest
import tiny

from verydeep.cli import main
from verydeep.errors import RunError
from verydeep.files.disk import read_sealed
from verydeep.train.prepare import run_training

data = tiny.data
DROPS, CYCLE = {"drop_at": (1,)}, {"schedule": "one-cycle"}


def test_a_run_that_had_its_epochs_goes_on_to_what_one_training_gives(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_training(data, tiny.config(epochs=3), whole)
    run_training(data, tiny.config(epochs=1), parts)
    assert run_training(data, tiny.config(epochs=1), parts) == "training ends after epoch 1, the last"
    assert run_training(data, tiny.config(epochs=3), parts) == "training ends after epoch 3, the last"
    weights = [next((run / "last").glob("weights-*")).read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]
    assert (whole / "best.safetensors").read_bytes() == (parts / "best.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"drop_at": (1,)}, {"drop_at": (1,)}),
        ({"schedule": "one-cycle"}, {"schedule": "one-cycle"}),
        ({}, {"epochs": 1}),
    ],
)
def test_a_plan_is_not_lengthened_and_nothing_shortened(data, tmp_path, first, then):
    run_training(data, tiny.config(**first), tmp_path / "run")
    with pytest.raises(RunError, match=r"its rate has a plan for 2 epochs; 'verydeep train --from .*run' starts from"):
        run_training(data, tiny.config(**{"epochs": 4} | then), tmp_path / "run")


def test_a_net_that_learns_nothing_is_said_so_of(data, tmp_path, capsys):
    """At a rate of nearly nothing it keeps its first weights, which say one thing of every photo."""
    run, page = str(tmp_path / "run"), tmp_path / "run" / "report.html"
    words = ["--recipe", "small", "--crop", "32", "--scale", "36", "--base_width", "4", "--fc_width", "8"]
    assert main(["train", data, "--out", run, *words, "--epochs", "2", "--lr", "1e-12", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)["verdict"]
    assert said["learnt"] is False
    assert said["words"].startswith("Nothing is learnt: the net ")
    assert "Only 9 photos were tested" in said["words"]
    assert "warning: nothing is learnt so far: on the validation photos the net " in err
    assert page.read_text().index("Nothing is learnt") < page.read_text().index("top-1 error")
    assert read_sealed(tmp_path / "run" / "run.json")["verdict"] == said
    assert main(["weights", "verify", run]) == 1
    assert "tested  NO   Nothing is learnt" in " ".join(capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("step", [4, 9, 10])
def test_a_cycle_with_remembered_frozen_layers_goes_on_to_the_bit_with_or_without_room(data, tmp_path, step):
    """In the middle of an epoch and at its end; `keep` is 0 in the run that is stopped."""
    run_training(data, tiny.config(epochs=1, batch_norm=False), tmp_path / "start")
    changes = {
        "init_from": str(tmp_path / "start"), "freeze": "pool4", "draws": 2, "repeats": 2, "level": True,
        "schedule": "one-cycle", "nesterov": True, "label_smoothing": 0.1, "init": "he", "colour": "off",
    }  # fmt: skip
    reference = tiny.end_of(data, tmp_path / "reference", **changes)
    tiny.stop(data, tmp_path / "run", step, **changes, keep=0.0)
    assert tiny.end_of(data, tmp_path / "run", **changes, keep=0.0) == reference
