"""What the command line says when it cannot go on: every option it names exists where it is given."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from verydeep.cli import main

TINY = ["--recipe", "small", "--base_width", "4", "--fc_width", "8", "--crop", "32", "--scale", "36", "--epochs", "1"]
MINI, FASHION = "builtin:fashion-mini", "builtin:fashion-a"


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["train", "x", "--out", "y", "--recipe", "small", "--recipe=demo"], 2, "small and demo"),
        (["study", "x", "--out", "y", "--recipe=demo", "--recipe", "demo"], 2, "demo and demo"),
        (["evaluate", "x", "y", "--limit", "x"], 2, "limit: 'x' is not a whole number"),
        (["pack", "x", "--out", "y", "--smallest_side", "big"], 2, "smallest_side: 'big' is not a whole number"),
        (["evaluate", "x", "y", "--mirror", "maybe"], 2, "mirror: 'maybe' is not true or false"),
        (["study", "x", "--out", "y", "--recipe", "finetune"], 2, "finetune is for a start from learnt weights"),
    ],
)
def test_wrong_usage(words, status, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    said = capsys.readouterr().err
    assert expected in said
    assert len(said.splitlines()) == 1


def test_json_stands_before_or_behind_a_verb_of_weights(capsys):
    assert main(["weights", "--json", "list"]) == 0
    before = capsys.readouterr().out
    assert main(["weights", "list", "--json"]) == 0
    assert capsys.readouterr().out == before


def no_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def no_photo(*args, **kwargs):
    raise MemoryError


@pytest.mark.parametrize(
    ("words", "where", "failing", "advice"),
    [
        (["train", MINI, *TINY], "verydeep.net.vgg.VGG.forward", no_memory, "--accumulate"),
        (["study", MINI, *TINY, "--nets", "A", "--dry-run"], "verydeep.net.vgg.VGG.forward", no_memory, "--base_width"),
        (["evaluate", FASHION, MINI], "verydeep.net.classifier.Classifier.score_map", no_memory, "--batch"),
        (["evaluate", FASHION, "PHOTOS"], "verydeep.data.photo.load", no_photo, "--workers"),
        (["predict", FASHION, "PHOTOS"], "verydeep.net.classifier.Classifier.score_map", no_memory, "--protocol centre"),
        (["predict", FASHION, "PHOTOS"], "verydeep.data.photo.load", no_photo, "--workers"),
        (["check", "PHOTOS"], "verydeep.data.photo.load", no_photo, "--workers"),
    ],
)
def test_memory_that_runs_out_is_one_line(words, where, failing, advice, photo_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(where, failing)
    monkeypatch.setattr("verydeep.hardware.multiplies_bf16", lambda device: False)
    for number, name in (("1", "Trouser"), ("2", "Dress"), ("10", "Coat")):  # which the model knows
        (photo_folder / number).rename(photo_folder / name)
    words = [w if w != "PHOTOS" else str(photo_folder) for w in words]
    out = ["--out", str(tmp_path / "out")] if words[0] in ("train", "study") else []
    assert main([*words, *out]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"verydeep {words[0]}: the memory does not hold")
    assert advice in said


def test_a_long_photo_is_told_what_predict_has(tmp_path, capsys):
    Image.new("RGB", (40, 900)).save(tmp_path / "long.png")
    assert main(["predict", FASHION, str(tmp_path / "long.png"), "--protocol", "dense", "--json"]) == 1
    said = capsys.readouterr().out
    assert "longer than 8:1" in said
    assert "--protocol centre" in said
    assert "--long_photos" not in said
    assert "crops" not in said
