"""What a wrong name is answered with: the one that is near, or those that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import verydeep
from verydeep.cli import main
from verydeep.config import Config
from verydeep.data.source import open_data
from verydeep.errors import ConfigError, VeryDeepError
from verydeep.near import meant
from verydeep.recipes import layered
from verydeep.weights import fetch_published, load

NETS = "is not one of A, A-LRN, B, C, D, E, shallow-B"
TRAIN = ["train", "nowhere", "--out", "x"]
FREEZE = [*TRAIN, "--from", "builtin:fashion-a", "--freeze"]
EVALUATE = ["evaluate", "builtin:fashion-a", "builtin:fashion-mini"]
WORDS = {
    "a verb": (["trian"], "verydeep: 'trian' is not a verb; did you mean train?"),
    "a verb of a verb": (["weights", "fecth", "x"], "'fecth' is not a verb of weights; did you mean fetch?"),
    "no verb of a verb": (["weights", "--json", "x"], "'x' is not a verb of weights; expected one of list, fetch, con"),
    "an option": ([*TRAIN, "--epoch", "3"], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
    "an option with hyphens": ([*TRAIN, "--Batchnorm=true"], "did you mean --batch_norm?"),
    "a recipe": ([*TRAIN, "--recipe", "fashion_mini"], "'fashion_mini' is not known; did you mean fashion-mini?"),
    "a protocol": ([*EVALUATE, "--protocol", "centre,dens"], "both, with commas between; did you mean dense?"),
    "the protocol": (["predict", "x", "y", "--protocol", "Center"], "centre, dense, or null; did you mean centre?"),
    "scales": ([*EVALUATE, "--scales", "sevral"], "scales: 'sevral' is not understood; did you mean several?"),
    "a split": ([*EVALUATE, "--split", "tets"], "has no split 'tets'; did you mean test?"),
    "a choice": ([*TRAIN, "--schedule", "one_cycle"], "is not one of drops, one-cycle; did you mean one-cycle?"),
    "a choice beside a number": ([*TRAIN, "--input_std", "mesured"], "or measured; did you mean measured?"),
    "a switch": ([*TRAIN, "--flip", "True"], "flip: 'True' is not true or false; did you mean true?"),
    "a net": ([*TRAIN, "--net", "a_lrn"], f"net: 'a_lrn' {NETS}; did you mean A-LRN?"),
    "no net": ([*TRAIN, "--net", "VGG"], f"net: 'VGG' {NETS}\n"),
    "a net as others call it": ([*TRAIN, "--net", "VGG-16"], f"net: 'VGG-16' {NETS}; the paper calls it D"),
    "one net of several": (["study", *TRAIN[1:], "--nets", "A,vgg19"], "with commas between; the paper calls it E"),
    "a layout": (["weights", "convert", "x", "y", "--to", "torch-vison"], "timm; did you mean torchvision?"),
    "published weights": (["weights", "fetch", "oxfrod-d"], "oxfrod-d is not a published net; did you mean oxford-d?"),
    "a model": (["predict", "oxford_d", "x"], "oxford_d does not exist; did you mean oxford-d?"),
    "a built-in model": (["predict", "builtin:fashion_b", "x"], "not a built-in net; did you mean builtin:fashion-a?"),
    "a built-in data set": (["check", "builtin:fashon"], "is not a built-in data set; did you mean builtin:fashion?"),
    "a layer": ([*FREEZE, "pol4"], "freeze: 'pol4' is no layer of net A; did you mean pool4?"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_a_word_that_is_nearly_right_is_answered_with_the_one_that_is_meant(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, said = WORDS[name]
    assert main(words) in (1, 2)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


PIXELS = torch.zeros(1, 3, 32, 32)
CALLS = {
    "vgg16": (lambda: verydeep.VGG("vgg16"), f"net: 'vgg16' {NETS}; the paper calls it D"),
    "VGG-19_bn": (lambda: verydeep.VGG("VGG-19_bn"), f"net: 'VGG-19_bn' {NETS}; the paper calls it E"),
    "d": (lambda: verydeep.VGG("d"), f"net: 'd' {NETS}; did you mean D?"),
    "resnet": (lambda: verydeep.VGG("resnet"), f"net: 'resnet' {NETS}"),
    "pooling": (lambda: verydeep.VGG(pooling="Up"), "is not one of up, down; did you mean up?"),  # type: ignore[arg-type]
    "pool6": (lambda: verydeep.VGG("A", crop=32, base_width=1, fc_width=1).taps(PIXELS, "pool6"),
        "net A has no layer pool6; did you mean pool5?"),
    "config": (lambda: Config(colour="of"), "colour: 'of' is not one of root, literal, off; did you mean off?"),  # type: ignore[arg-type]
    "field": (lambda: layered(**{"batch-norm": True}), "unknown fields batch-norm; did you mean batch_norm?"),  # type: ignore[arg-type]
    "verb": (lambda: verydeep.evaluate(["x"], "y", protocol=["dens"]), "both; did you mean dense?"),  # type: ignore[operator]
    "predict": (lambda: load("builtin:fashion-a").predict([], "dens"), "dense; did you mean dense?"),  # type: ignore[call-overload]
    "fetch": (lambda: fetch_published("VGG"), "VGG is not a published net; see 'verydeep weights list'"),
    "data": (lambda: open_data("builtin:x"),
        "builtin:fashion, builtin:fashion-scenes, builtin:fashion-placed, builtin:fashion-scenes-large"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_so_it_is_from_python(name: str) -> None:
    call, said = CALLS[name]
    with pytest.raises(VeryDeepError) as e:
        call()
    assert str(e.value).endswith(said)


def test_a_file_names_the_field_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("lr_laste: 1\n")
    with pytest.raises(ConfigError, match=r"own\.yaml: unknown fields lr_laste; did you mean lr_last\?$"):
        layered(files=[tmp_path / "own.yaml"])


def test_nothing_near_is_not_guessed_at() -> None:
    assert meant("conv9_9", ["conv1_1", "conv5_4"], "") == ""
    assert meant("photos", ["train", "test"]) == "; expected one of train, test"
    assert meant("", ["train"], "") == meant("x" * 10**6, ["x"], "") == ""
    assert meant("vgg16", ["A", "B"], "") == ""
