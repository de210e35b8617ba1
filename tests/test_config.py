"""Every wrong value names its field, and every default is the paper's."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from verydeep.config import Config, from_plain, plain
from verydeep.errors import ConfigError
from verydeep.fields import explained
from verydeep.recipes import layered
from verydeep.run import different_fields

FIELDS = [f.name for f in dataclasses.fields(Config)]


def test_the_defaults_are_the_papers() -> None:
    """Typed from sections 2.1 and 3.1, not from the source."""
    paper = {
        "crop": 224, "fc_width": 4096, "base_width": 64, "batch_norm": False, "dropout": 0.5, "scale": 256,
        "flip": True, "batch": 256, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "epochs": 74,
        "drops": 3, "drop_factor": 10,
    }  # fmt: skip
    assert {name: getattr(Config(), name) for name in paper} == paper


WRONG = {
    "net": ["F", "d", "", 16, []], "crop": [0, -32, 33, 223, 224.0, "224"], "fc_width": [0, -1, 1.5, True],
    "base_width": [0, None], "batch": [0, -1, "256"], "accumulate": [0], "epochs": [0], "patience": [0],
    "save_every": [0], "dropout": [1, 1.0, -0.1, float("nan")], "momentum": [1.0, -0.1],
    "weight_decay": [-1e-9, float("nan")], "least_gain": [-1.0], "colour_sigma": [-0.1], "drops": [-1],
    "seed": [-1, 1 << 63, 0.5], "lr": [0, -0.1, float("nan"), "0.01"], "input_std": [0.0, -1.0],
    "val_share": [0.0, 1.0, -0.1], "test_share": [1.0, -0.1], "drop_factor": [1.0, 0.1], "workers": [-2],
    "scale": [(512, 256), (256,), (256, 384, 512), 256.0, "256", None, ()],
    "drop_at": [(0,), (74,), (3, 2), (2, 2), (1.5,), 3], "init": ["orthogonal", None], "pooling": ["ceil"],
    "colour": ["on", True], "bad_photos": ["ignore"], "balance": ["classes", None, True], "reduced": [1, "no", None],
    "keep": [1.0, 2, -0.1, float("nan"), "0.5", True], "device": ["tpu"], "precision": ["fp16"], "track": ["wandb"],
    "batch_norm": [1, "yes"], "flip": ["no"], "init_from": [5],
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_value_names_its_field(field: str) -> None:
    for value in WRONG[field]:
        with pytest.raises(ConfigError, match=rf"^{field}\b"):
            Config(**{field: value})


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"crop": 288}, ["scale", "crop"]),
        ({"scale": (192, 512)}, ["scale", "crop"]),
        ({"batch": 4, "accumulate": 5}, ["accumulate", "batch"]),
        ({"init": "gaussian", "init_variance": 0.01, "init_sigma": 0.1}, ["init_variance", "init_sigma"]),
        ({"init_sigma": 0.1}, ["init", "init_sigma"]),
        ({"init": "he", "init_variance": 0.1}, ["init", "init_variance"]),
        ({"init": "gaussian", "init_variance": 0.0}, ["init_variance"]),
        ({"val_share": 0.5, "test_share": 0.5}, ["val_share", "test_share"]),
        ({"epochs": 5, "drop_at": (5,)}, ["drop_at", "epochs"]),
    ],
)
def test_a_wrong_combination_names_its_fields(values: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(ConfigError) as e:
        Config(**values)
    assert all(field in str(e.value).split(":")[0] for field in fields)


@pytest.mark.parametrize(
    "values",
    [
        {"scale": 224},
        {"scale": [256, 512]},
        {"crop": 32, "scale": (32, 32)},
        {"lr": 1},
        {"init": "gaussian", "init_variance": 0.01},
        {"drop_at": [1, 73]},
        {"dropout": 0, "momentum": 0, "weight_decay": 0, "drops": 0, "test_share": 0},
        {"batch": 1024, "accumulate": 1024},
        {"batch": 1},
        {"workers": -1},
        {"keep": 0},
        {"balance": "sampling", "reduced": False, "keep": 0.99},
        {"seed": (1 << 63) - 1},
    ],
)
def test_values_at_the_edge_are_right(values: dict[str, Any]) -> None:
    Config(**values)


@pytest.mark.parametrize(("crop", "near"), [(224 + 5, 224), (1, 32), (50, 64)])
def test_a_near_crop_is_suggested(crop: int, near: int) -> None:
    with pytest.raises(ConfigError, match=f"try {near}$"):
        Config(crop=crop)


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        (20, r"must rise and lie between 1 and 19; give --drop_at 15 too, or --drop_at '\[\]', for drops by"),
        (2, r"must rise and lie between 1 and 1; give --drop_at 1 too, or --drop_at '\[\]'"),
        (1, r"must be empty, .*; give --drop_at '\[\]'"),
    ],
)
def test_drops_beyond_the_epochs_say_what_fits(epochs: int, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^drop_at and epochs: \[25\] {said}"):
        Config(epochs=epochs, drop_at=(25,))
    Config(epochs=epochs, drop_at=())
    assert epochs == 1 or Config(epochs=epochs, drop_at=(1 if epochs == 2 else 15,))


@pytest.mark.parametrize(("crop", "scale", "fitting"), [(64, 36, 73), (224, (200, 512), 256)])
def test_an_s_below_the_crop_says_what_fits(crop: int, scale: Any, fitting: int) -> None:
    with pytest.raises(ConfigError, match=f"try --scale {fitting}$"):
        Config(crop=crop, scale=scale)
    Config(crop=crop, scale=fitting)


def test_scales_and_drops() -> None:
    assert (Config().scales, Config().steps_down) == ((256, 256), 3)
    found = Config(scale=[256, 512], drop_at=(4, 9))  # type: ignore[arg-type]
    assert (found.scales, found.steps_down) == ((256, 512), 2)


@pytest.mark.parametrize(
    "config",
    [Config(), Config(net="A-LRN", scale=(256, 512), drop_at=(2, 3), lr=1e-5, init="gaussian", init_sigma=0.01)],
)
def test_a_configuration_survives_yaml_and_json(config: Config) -> None:
    assert from_plain(yaml.safe_load(yaml.safe_dump(plain(config))), "x") == config
    assert from_plain(json.loads(json.dumps(plain(config))), "x") == config


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: unknown fields 5, learning_rate;"):
        from_plain({"learning_rate": 1, "lr": 0.1, 5: 5}, "recipe.yaml")


@pytest.mark.parametrize(
    ("values", "message"), [({"lr": "0.1"}, "lr: '0.1'"), ({"crop": 288}, "scale and crop: S = 256")]
)
def test_a_wrong_value_in_a_file_names_the_file_and_the_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^run/config\.yaml: {message}"):
        from_plain(values, "run/config.yaml")


@given(
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(0, 600), max_size=3),
    )
)
def test_any_values_are_a_configuration_or_a_config_error(values: dict[str, Any]) -> None:
    try:
        config = from_plain(values, "x")
    except ConfigError as e:
        reason = str(e)
        named = any(name in reason for name in values)
    else:
        named = from_plain(plain(config), "x") == config
    assert named


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 1.0  # type: ignore[misc]


def test_only_some_fields_may_differ_when_a_run_goes_on() -> None:
    assert different_fields(Config(), Config(workers=3, save_every=1, track="tensorboard", keep=0.0)) == []
    assert different_fields(Config(), Config(lr=0.1, net="A", workers=3)) == ["net", "lr"]


def test_every_field_is_explained() -> None:
    assert list(explained(Config)) == FIELDS


@pytest.mark.parametrize(
    ("batches", "epochs", "repeats"), [(2, 12, 25), (8, 12, 20), (157, 12, 1), (860, 2, 1), (20_000, 1, 1)]
)
def test_a_length_in_steps_repeats_few_photos_and_shows_many_less_often(batches, epochs, repeats) -> None:
    c = Config(steps=1900, epochs=12).lasting(batches)
    assert (c.epochs, c.repeats) == (epochs, repeats)
    assert c.lasting(batches) == c
    assert Config(epochs=12).lasting(batches) == Config(epochs=12)


@pytest.mark.parametrize("epochs", [8, 12, 15])
def test_a_length_in_steps_is_kept_to_a_tenth_while_an_epoch_is_a_tenth_of_it(epochs) -> None:
    for batches in range(7, 1900 // 10):
        c = Config(steps=1900, epochs=epochs).lasting(batches)
        assert 0.9 <= c.epochs * c.repeats * batches / 1900 <= 1.1


def test_drops_move_with_the_epochs_that_another_layer_says() -> None:
    assert layered("fashion-mini", epochs=4).drop_at == (3,)
    assert layered("fashion-mini", epochs=4, drop_at=(1,)).drop_at == (1,)
    assert layered("fashion-mini", epochs=1).drop_at == ()
