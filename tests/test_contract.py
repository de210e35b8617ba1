"""A contract survives its file, and nothing else is taken for one."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.colours import BEFORE, Reading
from verydeep.contract import Contract, from_json, to_json
from verydeep.errors import ModelError

CONTRACT = Contract(
    "D", ("cat", "дом", "犬 \"'\n"), 224, 4096, 64, False, "up", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0),
    (256, 512), origin="somewhere", licence="MIT", sha256="0" * 64,
)  # fmt: skip
PLAIN: dict[str, Any] = json.loads(to_json(CONTRACT))


def test_a_contract_survives_json() -> None:
    whole = Contract("A", ("a", "b"), 32, 8, 8, True, "down", (0, 0, 0), (1, 1, 1), (32, 32))  # without a point
    assert '"flip": false' in to_json(replace(whole, flip=False))
    for contract in (CONTRACT, whole, replace(whole, flip=False)):
        assert from_json(to_json(contract), "x") == contract
        others = {name: value for name, value in vars(contract).items() if name not in vars(contract.shape)}
        assert Contract.of(contract.shape, contract.classes, **others) == contract


def test_the_file_says_what_it_always_said() -> None:
    """Byte by byte: files of all versions are read, and a net's file has one SHA-256."""
    assert to_json(CONTRACT) == (
        '{"base_width": 64, "batch_norm": false, "classes": ["cat", "дом", "犬 \\"\'\\n"], "crop": 224, '
        '"fc_width": 4096, "format": 1, "licence": "MIT", "mean": [123.68, 116.779, 103.939], "net": "D", '
        '"order": "RGB", "origin": "somewhere", "pooling": "up", "range": [0, 255], "reading": {"background": "white", '
        '"colour_profiles": "convert", "range": "full"}, "scales": [256, 512], '
        f'"sha256": "{64 * "0"}", "std": [1.0, 1.0, 1.0], "task": "classes"}}'
    )


@pytest.mark.parametrize(("scales", "q"), [((256, 256), 256), ((256, 512), 384)])
def test_the_test_scale_is_the_middle(scales: tuple[int, int], q: int) -> None:
    assert from_json(json.dumps(PLAIN | {"scales": scales}), "x").test_scale == q


def refused(text: str) -> str:
    with pytest.raises(ModelError, match=r"^cat\.safetensors: ") as e:
        from_json(text, "cat.safetensors")
    return str(e.value)


def test_a_file_that_does_not_say_how_it_reads_is_of_before_there_was_a_choice() -> None:
    assert from_json(json.dumps({k: v for k, v in PLAIN.items() if k != "reading"}), "x").reading == BEFORE
    ranged = replace(CONTRACT, reading=Reading(range=(0, 4095), background=(1, 2, 3)))
    assert from_json(to_json(ranged), "x") == ranged
    assert "reading" in refused(json.dumps(PLAIN | {"reading": {"range": "wide"}}))


@pytest.mark.parametrize(("task", "outputs"), [("classes", 3), ("SCR", 4), ("PCR", 12)])
def test_a_net_of_boxes_has_outputs_of_its_own(task: Any, outputs: int) -> None:
    contract = replace(CONTRACT, task=task, log_size=task != "classes")
    assert from_json(to_json(contract), "x") == contract
    assert contract.shape.classes == outputs


def test_other_fields_are_refused() -> None:
    for field in set(PLAIN) - {"reading"}:
        refused(json.dumps({k: v for k, v in PLAIN.items() if k != field}))
    assert r"other ones: '\x1b[2J'" in refused(json.dumps(PLAIN | {"\x1b[2J": 1}))
    assert "twice" in refused('{"net": "D", ' + to_json(CONTRACT)[1:])
    assert "format: 2 is not 1); it is damaged or of a newer verydeep" in refused(json.dumps(PLAIN | {"format": 2}))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("net", ["F", 5, [], None, {}]),
        ("classes", [[], [1, 2], 5, None, {}, "cat", {"cat": 1, "dog": 2}]),
        ("crop", [0, -1, "224", 224.0, 1 << 40, None, True, 33]),
        ("fc_width", [0, 1 << 17, True]),
        ("base_width", [0, [], True]),
        ("batch_norm", [0, "no", None]),
        ("pooling", ["ceil", 5, []]),
        ("mean", [[1.0, 2.0], [1.0, 2.0, "3"], [1.0, 2.0, float("nan")], 5, [1.0, 2.0, 10**400]]),
        ("mean", [[1.0, 2.0, True], [256, 0, 0]]),
        ("std", [[1.0, 1.0, 0.0], [1e-300, 1, 1], [1.0, 1.0, -1.0], [1.0, 1.0, float("inf")], [], [1.0, 1.0, True]]),
        ("scales", [[256], [512, 256], [0, 0], [-1, 1], [256.0, 512.0], 256, [True, 256], [1, 10**400]]),
        ("order", ["BGR"]),
        ("range", [[0, 1], [0.0, 1.0], [False, 255]]),
        ("task", ["boxes"]),
        ("log_size", [0, None, "yes"]),
        ("origin", [5]),
        ("licence", [None]),
        ("sha256", [0]),
    ],
)
def test_a_wrong_value_is_refused(field: str, values: list[object]) -> None:
    for value in values:
        assert f"({field}: " in refused(json.dumps(PLAIN | {field: value}))


@pytest.mark.parametrize("changes", [{"classes": ["a", "\ud800"]}, {"origin": "\ud800"}])
def test_half_a_character_which_no_file_can_hold_is_refused(changes: dict[str, object]) -> None:
    refused(json.dumps(PLAIN | changes))


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
