"""A contract survives its file, and nothing else is taken for one."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.contract import Contract, from_json, to_json
from verydeep.errors import ModelError

CONTRACT = Contract(
    "D", ("cat", "дом", "犬 \"'\n"), 224, 4096, 64, False, "up", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), (256, 512),
    origin="somewhere", licence="MIT", sha256="0" * 64,
)  # fmt: skip
PLAIN: dict[str, Any] = json.loads(to_json(CONTRACT))


def test_a_contract_survives_json() -> None:
    assert from_json(to_json(CONTRACT), "x") == CONTRACT


def test_whole_numbers_may_be_written_without_a_point() -> None:
    whole = Contract("A", ("a", "b"), 32, 8, 8, True, "down", (0, 0, 0), (1, 1, 1), (32, 32))
    assert from_json(to_json(whole), "x") == whole


def test_the_file_says_the_same_as_the_contract() -> None:
    assert PLAIN["format"] == 1
    assert PLAIN["order"] == "RGB"
    assert PLAIN["range"] == [0, 255]
    assert PLAIN["classes"] == ["cat", "дом", "犬 \"'\n"]
    assert set(PLAIN) == {
        "format", "net", "classes", "crop", "fc_width", "base_width", "batch_norm", "pooling",
        "mean", "std", "scales", "order", "range", "task", "origin", "licence", "sha256",
    }  # fmt: skip


@pytest.mark.parametrize(("scales", "q"), [((256, 256), 256), ((256, 512), 384)])
def test_the_test_scale_is_the_middle(scales: tuple[int, int], q: int) -> None:
    assert from_json(json.dumps(PLAIN | {"scales": scales}), "x").test_scale == q


def refused(text: str) -> str:
    with pytest.raises(ModelError, match=r"^cat\.safetensors: ") as e:
        from_json(text, "cat.safetensors")
    return str(e.value)


@pytest.mark.parametrize("field", sorted(PLAIN))
def test_a_missing_field_is_refused(field: str) -> None:
    refused(json.dumps({k: v for k, v in PLAIN.items() if k != field}))


def test_another_format_asks_for_a_newer_version() -> None:
    assert "format: 2 is not 1); it is damaged or of a newer verydeep" in refused(json.dumps(PLAIN | {"format": 2}))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("net", ["F", 5, [], None]),
        ("classes", [[], [1, 2], 5, None, {}, "cat", {"cat": 1, "dog": 2}]),
        ("crop", [0, -1, "224", 224.0, 1 << 40, None, True]),
        ("fc_width", [0, 1 << 17, True]),
        ("base_width", [0, [], True]),
        ("batch_norm", [0, "no", None]),
        ("pooling", ["ceil", 5, []]),
        ("mean", [[1.0, 2.0], [1.0, 2.0, "3"], [1.0, 2.0, float("nan")], 5, [1.0, 2.0, 10**400], [1.0, 2.0, True]]),
        ("std", [[1.0, 1.0, 0.0], [1.0, 1.0, -1.0], [1.0, 1.0, float("inf")], [], [1.0, 1.0, True]]),
        ("scales", [[256], [512, 256], [0, 0], [-1, 1], [256.0, 512.0], 256, [True, 256]]),
        ("order", ["BGR"]),
        ("range", [[0, 1], [0.0, 1.0], [False, 255]]),
        ("task", ["boxes"]),
        ("origin", [5]),
        ("licence", [None]),
        ("sha256", [0]),
        ("more", [1]),
    ],
)
def test_a_wrong_value_is_refused(field: str, values: list[object]) -> None:
    for value in values:
        refused(json.dumps(PLAIN | {field: value}))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '"x"', "[" * 100_000, "1" * 5_000, '{"a":' * 100_000])
def test_what_is_no_contract_is_refused(text: str) -> None:
    refused(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["RGB", "classes", "D", "up"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_any_json_is_refused(value: object) -> None:
    refused(json.dumps(value))


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(sorted(set(PLAIN) - {"format"})), JSON, max_size=4))
def test_any_values_are_a_contract_or_a_model_error(values: dict[str, Any]) -> None:
    with suppress(ModelError):
        assert from_json(to_json(from_json(json.dumps(PLAIN | values), "x")), "x").test_scale > 0
