"""Scales, steps of the ladder and their components, as section 3.2 says them."""

import pytest
from slow import made

from verydeep.contract import Contract
from verydeep.errors import ConfigError
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import (
    PROTOCOLS,
    Step,
    View,
    components,
    ladder,
    protocols_in,
    scales_for,
    scales_in,
)


def contract(crop=224, scales=(256, 256)):
    return Contract("D", ("a", "b"), crop, 8, 8, False, "up", (0.0,) * 3, (1.0,) * 3, scales)


@pytest.mark.parametrize(
    ("crop", "trained", "asked", "expected", "single"),
    [
        (224, (256, 256), "single", (256,), 256),
        (224, (256, 512), "single", (384,), 384),
        (224, (256, 256), "several", (224, 256, 288), 256),
        (224, (384, 384), "several", (352, 384, 416), 384),
        (224, (256, 512), "several", (256, 384, 512), 384),
        (224, (224, 224), "several", (224, 256), 224),
        (32, (36, 36), "several", (32, 36, 41), 36),
        (64, (72, 128), "several", (72, 100, 128), 100),
        (224, (256, 256), (512, 256, 384), (256, 384, 512), 256),
        (224, (256, 256), (512, 384), (384, 512), 512),
        (224, (256, 256), (300,), (300,), 300),
    ],
)
def test_the_scales_are_the_papers(crop, trained, asked, expected, single):
    assert scales_for(contract(crop, trained), asked) == expected
    assert [v.scale for v in components(Step("centre"), contract(crop, trained), asked)] == [single]


def test_a_scale_below_the_crop_is_refused():
    with pytest.raises(ConfigError, match="Q = 200 is smaller than the crop of 224; give 224 or more"):
        scales_for(contract(), (256, 200))


def test_the_words_for_scales():
    assert scales_in("single") == "single"
    assert scales_in("several") == "several"
    assert scales_in("256,384") == (256, 384)


@pytest.mark.parametrize(
    "text",
    ["", "many", "256,", "0", "-256", "256.5", "1e3", "256 384", "²", "2049", "99999999999", ",".join(["256"] * 99)],
)
def test_other_words_for_scales_are_refused(text):
    with pytest.raises(ConfigError, match="is not understood; expected single, several, or up to"):
        scales_in(text)


@pytest.mark.parametrize("text", ["", "ten", "centre,", "centre dense", "Dense"])
def test_unknown_protocols_are_refused(text):
    with pytest.raises(ConfigError, match="is not known; expected some of centre,dense,crops,both"):
        protocols_in(text)


def test_protocols_come_in_the_order_of_the_ladder_and_once():
    assert protocols_in("both,centre,centre") == ["centre", "both"]


def test_the_ladder():
    assert ladder(PROTOCOLS, "several") == [
        Step("centre"),
        Step("dense"),
        Step("dense", True),
        Step("crops", True),
        Step("both", True),
    ]
    assert ladder(PROTOCOLS, "single") == [Step(p) for p in PROTOCOLS]
    assert ladder(PROTOCOLS, (256,)) == [Step(p) for p in PROTOCOLS]
    assert ladder(["both", "dense"], (256, 384)) == [Step("dense"), Step("dense", True), Step("both", True)]


def test_components_of_each_step():
    net = contract(scales=(256, 512))
    found = [components(step, net, "several") for step in ladder(PROTOCOLS, "several")]
    dense, crops = (tuple(View(name, q) for q in (256, 384, 512)) for name in ("dense", "crops"))
    assert found == [(View("centre", 384),), (View("dense", 384),), dense, crops, dense + crops]


def test_the_mirror_is_averaged_in_by_default_but_for_the_centre_crop():
    assert [Settings().mirrors(p) for p in PROTOCOLS] == [False, True, True, True]


def test_the_small_classifier_of_these_tests_is_jittered_as_asked():
    assert made(scales=(32, 44)).contract.test_scale == 38
