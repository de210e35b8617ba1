"""What `--recipe auto` chooses: by the photos, the weights at hand, the machine and the time."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from verydeep.choose import choose, rule, seconds_in
from verydeep.cli import main
from verydeep.config import Config
from verydeep.data.source import open_data
from verydeep.errors import ConfigError
from verydeep.recipes import layered
from verydeep.run import read_config


@pytest.fixture
def machine(monkeypatch):
    """Sets how long a pass of net D takes, and which nets are at hand."""

    def set_(seconds, **nets):
        monkeypatch.setattr(rule, "pass_seconds", lambda device: seconds)
        monkeypatch.setattr(rule, "seconds_a_photo", lambda *how: seconds)
        monkeypatch.setattr(rule, "convolutions_at_hand", lambda: nets)

    return set_


@pytest.fixture
def photos(tmp_path):
    def write(side, count=12):
        for label in ("ant", "bee"):
            (tmp_path / "photos" / label).mkdir(parents=True)
            for i in range(count):
                grey = np.random.default_rng(i).integers(0, 255, (side, side + 20), np.uint8)
                Image.fromarray(grey).save(tmp_path / "photos" / label / f"{i}.png")
        return str(tmp_path / "photos")

    return write


@pytest.mark.parametrize(
    ("seconds", "time", "side", "crop", "freeze"),
    [
        (1e-4, 60, 300, 224, "pool4"),  # everything fits
        (1e-4, 60, 150, 128, "pool4"),  # the photos are small
        (1e-3, 1.2, 300, 96, "pool4"),
        (1e-3, 0.6, 300, 64, "pool4"),
        (1e-2, 0.6, 300, 64, "pool5"),  # nothing fits: the least
    ],
)
def test_learnt_convolutions_at_the_largest_crop_that_fits(machine, photos, seconds, time, side, crop, freeze):
    machine(seconds, **{"oxford-d": "D", "oxford-e": "E"})
    found = choose(open_data(photos(side), (0.1, 0.1), 0), time)
    assert (found.recipe, found.fields["init_from"], found.fields["net"]) == (None, "oxford-d", "D")
    assert (found.fields["crop"], found.fields["freeze"]) == (crop, freeze)
    Config(**found.fields)
    assert len(found.lines) == 3
    assert "20 training photos of 2 classes, smaller side about" in found.lines[0]
    assert ("may be better: --time" in found.lines[2]) == (crop < min(224, side // 32 * 32))


def test_many_photos_are_shown_less_often_and_one_pass_is_the_least(machine):
    machine(1e-3, **{"oxford-d": "D"})

    def way(photos):
        found = rule.tuned(photos, 5_000, 300, 600, torch.device("cpu"))
        f = found.fields
        return f["epochs"] * f["repeats"], f["draws"], f["crop"], f["freeze"], found.took < 600

    assert way(1_000) == (20, 4, 224, "pool4", True)
    assert way(1_050)[:2] == (18, 4)  # of 19
    assert way(526)[:2] == (36, 4)  # of 38
    assert way(50_000) == (3, None, 96, "pool4", True)
    assert way(400_000) == (1, None, 64, "pool5", True)
    assert way(4_000_000) == (1, None, 64, "pool5", False)


def test_a_time_that_cannot_be_kept_is_said_and_that_of_all_folds(machine, photos):
    machine(1.0, **{"oxford-d": "D"})
    _, _, lines = choose(open_data(photos(300), (0.1, 0.1), 0), 20, folds=5)
    assert "about 36 s which is more than the 20 s it may take (--time), 3 min for 5 folds" in lines[1]


def test_without_learnt_convolutions_random_weights_and_what_to_fetch(machine, photos):
    machine(1e-3)
    found = choose(open_data(photos(100), (0.1, 0.1), 0), 600)
    assert found.recipe == "modern"
    assert (found.fields["crop"], found.fields["steps"]) == (64, 300)
    assert "verydeep weights fetch oxford-d-convolutions" in found.lines[2]


def test_tiny_photos_are_learnt_from_random_weights_whatever_is_at_hand(machine):
    machine(1e-3, **{"oxford-d": "D"})
    found = choose(open_data("builtin:fashion-mini"), 600)
    assert (found.recipe, found.fields["crop"], found.fields["scale"], found.fields["pooling"]) == (
        "modern",
        32,
        36,
        "down",
    )
    assert "fetch" not in found.lines[2]
    steps = choose(open_data("builtin:fashion-mini"), 60).fields["steps"]
    batch = layered("modern").batch
    assert 0.75 * 60 < (batch * steps + 2000) * 1e-3 <= 0.85 * 60  # its time, at a thousandth of a second a photo


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("20", 20)])
def test_a_time_is_read(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "5 m", "m", "-5m", "0", "1e3", "five", "9999999h"])
def test_another_time_is_refused(text):
    with pytest.raises(ConfigError, match="expected a length such as 90s, 5m or 2h"):
        seconds_in(text)


def test_auto_trains_says_three_lines_and_goes_on_as_it_chose(machine, photos, tmp_path, capsys):
    machine(1e-3)
    words = ["train", photos(60), "--recipe", "auto", "--out", str(tmp_path / "run"), "--json"]
    own = ["--base_width", "4", "--fc_width", "8", "--steps", "4", "--epochs", "1", "--batch", "8"]
    assert main([*words, *own]) == 0
    out, err = capsys.readouterr()
    assert len([line for line in err.splitlines() if line.startswith("auto: ")]) == 3
    assert json.loads(out)["verdict"]["learnt"] in (True, False)
    config = read_config(tmp_path / "run")
    assert (config.batch_norm, config.schedule, config.base_width) == (True, "one-cycle", 4)
    machine(1e-9, **{"oxford-d": "D"})  # which would choose otherwise
    assert main(words) == 0
    err = capsys.readouterr().err
    assert "auto: " not in err
    assert "goes on as it was begun, whatever the time is to be" in err
    assert read_config(tmp_path / "run") == config


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"data": None}, "auto is for 'verydeep train DATA'"),
        ({"start": "builtin:fashion-a"}, "auto chooses the start itself"),
        ({"time": "soon"}, "time: 'soon' is not understood"),
    ],
)
def test_what_auto_cannot_do_is_said(how, said):
    with pytest.raises(ConfigError, match=said):
        layered("auto", **{"data": "builtin:fashion-mini"} | how)


def test_several_ranks_would_measure_several_machines(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="auto measures one machine"):
        layered("auto", data="builtin:fashion-mini")


def test_the_passes_are_really_measured():
    assert 0 < rule.pass_seconds(torch.device("cpu")) < 10
