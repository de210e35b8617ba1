"""A value is taken as its annotation says, or refused in words that name the field and what it may hold."""

from dataclasses import make_dataclass
from typing import Annotated, Literal, NamedTuple

import pytest

from verydeep.files.records import Within, described, record_of, taken

SMALL, SHARE = Annotated[int, Within(1, 9)], Annotated[float, Within(0, 1, above=True, below=True)]
Inner = NamedTuple("Inner", [("share", SHARE)])  # noqa: UP014
Outer = make_dataclass("Outer", [("count", SMALL | None), ("inner", Inner)])
KINDS = [  # kind, in words, what stays as it is, what is refused
    (int, "a whole number", [5, 1 - 2**63], [True, 5.0, 2**63, -(10**99), "5"]),
    (float, "a number", [5, 0.5], [False, float("nan"), "1"]),
    (str, "some text", ["x"], [1, None]),
    (bool | None, "true or false, or null", [True, None], [1, 0]),
    (Literal["a", 1], "one of a, 1", ["a", 1], [True, "b"]),
    (SMALL | None, "a whole number, 1 or more and at most 9, or null", [None, 9], [0, 10, True]),
    (SHARE, "a number, above 0 and below 1", [0.5], [0, 1]),
    (Annotated[str, Within(high=3)], "some text, at most 3", ["", "abc"], ["abcd"]),
    (tuple[SMALL, ...], "a list of a whole number, 1 or more and at most 9 each", [(), (1, 9)], [(0,), 5]),
    (tuple[int, str], "2 of them: a whole number, some text", [(1, "x")], [(1,), (1, "x", 2)]),
    (dict[str, float], "an object", [{"a": 1}], [{1: 1.0}, {"a": "1"}, []]),
]
REFUSED = [
    ({"count": 1, "inner": {"share": "x" * 99}}, r"^inner: share: 'x{59}\.\.\. is not a number$"),
    ({"count": 1, 5: 1}, "^the fields are other ones: 5, inner$"),
    ([], "^it is .* not an object$"),
]


@pytest.mark.parametrize(("kind", "words", "good", "bad"), KINDS)
def test_what_fits_a_kind_is_taken_and_what_does_not_is_refused(kind, words, good, bad):
    assert described(kind) == words
    assert [(v, type(v)) for v in (taken(v, kind) for v in good)] == [(v, type(v)) for v in good]
    for value in bad:
        with pytest.raises(ValueError, match=" is not "):
            taken(value, kind)


def test_lists_become_tuples_and_objects_records():
    found = taken([["x"], {"count": None, "inner": {"share": 0.5}}], tuple[tuple[str, ...], Outer])
    assert found == (("x",), Outer(None, Inner(0.5)))


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_a_refusal_names_the_field(values, said):
    with pytest.raises(ValueError, match=said):
        record_of(Outer, values)
