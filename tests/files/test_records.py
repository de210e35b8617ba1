"""A value is taken as its annotation says, or refused in words that name the field and what it may hold."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pytest

from verydeep.files.records import Within, described, record_of, taken

SMALL, SHARE = Annotated[int, Within(1, 9)], Annotated[float, Within(0, 1, above=True, below=True)]
Inner = NamedTuple("Inner", [("share", SHARE)])  # noqa: UP014
Outer = NamedTuple("Outer", [("count", SMALL | None), ("inner", Inner)])  # noqa: UP014
KINDS = [  # kind, in words, what stays as it is, what is refused
    (int, "a whole number", [5, 1 - 2**63], [True, 5.0, 2**63, -(10**99), "5"]),
    (float, "a number", [5, 0.5], [False, float("nan"), "1"]),
    (str, "some text", ["x"], [1, None]),
    (Literal["a", 1], "one of a, 1", ["a", 1], [True, "b"]),
    (Path, "a path", [Path("x")], ["", 5]),
    (SHARE, "a number, above 0 and below 1", [0.5], [0, 1]),
    (Annotated[str, Within(high=3)], "some text, at most 3", ["", "abc"], ["abcd"]),
    (SMALL | None, "a whole number, 1 or more and at most 9, or null", [None, 9], [0, 10, True]),
    (tuple[bool, ...], "a list of values, each true or false", [(), (True, False)], [(0,), True]),
    (tuple[SMALL, SMALL], "two whole numbers, 1 or more and at most 9", [(1, 9)], [(1,), (1, 2, 3), (1, 0), (1, "x")]),
    (dict[str, float], "an object", [{"a": 1}], [{1: 1.0}, {"a": "1"}, []]),
]
REFUSED = [
    ({"count": 1, "inner": {"share": "x" * 99}}, r"^inner: share: 'x+\.\.\.x+' is not a number$"),
    ({"count": 1, 5: 1}, "^the fields are other ones: 'inner', 5$"),
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
    found = taken([["x"], {"count": None, "inner": {"share": 0.5}}], tuple[tuple[Path, ...], Outer])
    assert found == ((Path("x"),), Outer(None, Inner(0.5)))


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_a_refusal_names_the_field(values, said):
    with pytest.raises(ValueError, match=said):
        record_of(Outer, values)
