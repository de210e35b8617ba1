"""Verdicts on results written by hand: each claim held, not held, undecided, and what several seeds must agree on."""

import math
from itertools import product

import numpy as np
import pytest
from study_records import PHOTOS, SCALES, SEVERAL, result, stage, wrong_first

from verydeep.evaluate.judge import paired
from verydeep.paper import TABLE_3, TABLE_4, TABLE_5, TABLE_6
from verydeep.study.claims import (
    EXACT,
    JITTER,
    Comparison,
    Kind,
    TableRow,
    by_seed,
    claims,
    judgements,
    mcnemar,
    outcome_of,
)  # fmt: skip
from verydeep.study.reasons import reason


@pytest.mark.parametrize(("a", "b"), [(a, n - a) for n in (0, 1, 4, 7, 10) for a in range(n + 1)])
def test_mcnemar_counts_outcomes_of_fair_coins(a: int, b: int) -> None:
    """Every sequence of heads and tails written out: the share that is at least as uneven."""
    flips = [sum(f) for f in product((0, 1), repeat=a + b)]
    extreme = sum(abs(2 * heads - a - b) >= abs(a - b) for heads in flips)
    assert mcnemar(a, b) == pytest.approx(extreme / len(flips), rel=1e-12)
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)  # by hand: 1 + 10 of each side


def fp64_binomial(a: int, b: int) -> float:
    """Through logarithms of factorials, and added from the far end."""
    n = a + b
    terms = [
        math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        for k in range(min(a, b) + 1)
    ]
    return min(1.0, 2 * math.fsum(terms))


@pytest.mark.parametrize(
    ("a", "b"), [(480, 520), (450, 550), (470, 531), (600, 700), (1000, 1100), (2400, 2600), (700, 700)]
)
def test_many_photos_take_the_normal_distribution_and_hardly_differ(a: int, b: int) -> None:
    assert mcnemar(a, b) == pytest.approx(fp64_binomial(a, b), rel=0.02, abs=1e-6)
    assert (a + b > EXACT) == ((a, b) not in [(480, 520), (450, 550)])


def two(first: np.ndarray, second: np.ndarray, seeds: int = 1, nets: tuple[str, str] = ("A", "B")):
    """Results of two nets by the dense protocol, each seed alike."""
    facts = dict(stage(net, "256", s) for net in nets for s in range(seeds))
    results = [
        result([f"{net}-256-seed{s}"], right, "dense", [36])
        for net, right in zip(nets, (first, second), strict=True)
        for s in range(seeds)
    ]
    return results, facts


A_B = Comparison(TableRow("A", "256", "dense"), TableRow("B", "256", "dense"))


def test_an_outcome_by_hand() -> None:
    """A is wrong on photos 0 to 39, B on 30 to 49: 30 only B had right, 10 only A."""
    o = outcome_of(A_B, *two(wrong_first(40), wrong_first(20, 30)))
    assert o is not None
    assert (o.second_better, o.first_better, o.photos, o.seeds, o.signs) == (30, 10, PHOTOS, (0,), [1])
    assert o.gain == pytest.approx(100 * 20 / 400)
    assert o.p == pytest.approx(fp64_binomial(30, 10))
    # Of +1 thirty and a half times, -1 ten and a half and 0 otherwise, 402 photos, the variance by its definition.
    middle = 20 / 402
    spread = math.sqrt((30.5 * (1 - middle) ** 2 + 10.5 * (1 + middle) ** 2 + 361 * middle**2) / 402 / 402)
    assert o.interval == pytest.approx((100 * middle - 196 * spread, 100 * middle + 196 * spread), abs=1e-4)
    assert o.interval == pytest.approx(paired(30, 10, 400), abs=0.01)
    assert o.significant == 1


def test_where_no_photo_differs_a_difference_is_still_possible() -> None:
    for seeds in (1, 3):
        o = outcome_of(A_B, *two(wrong_first(40), wrong_first(40), seeds))
        assert o is not None
        assert (o.gain, o.p) == (0, 1)
        assert o.interval == pytest.approx(paired(0, 0, 400), abs=0.01)


def test_only_photos_that_both_saw_are_compared() -> None:
    results, facts = two(wrong_first(40), wrong_first(20, 30))
    half = np.arange(PHOTOS) < 35
    results[1] = result(["B-256-seed0"], wrong_first(20, 30), "dense", [36], half)
    o = outcome_of(A_B, results, facts)
    assert o is not None
    assert (o.photos, o.second_better, o.first_better) == (35, 30, 0)


def test_with_several_seeds_a_photo_counts_for_the_net_that_more_seeds_had_right() -> None:
    results, facts = two(wrong_first(8), wrong_first(0), seeds=3)
    worse = wrong_first(8) & wrong_first(4, 100)  # of seed 2: 4 photos worse, none better
    results[5] = result(["B-256-seed2"], worse, "dense", [36])
    o = outcome_of(A_B, results, facts)
    assert o is not None
    assert (o.second_better, o.first_better) == (8, 4)
    assert o.signs == [1, 1, -1]
    assert o.gains == pytest.approx((2, 2, -1))
    assert o.gain == pytest.approx(100 * (8 + 8 - 4) / 3 / 400)


def test_seeds_that_contradict_decide_nothing() -> None:
    for seeds in (2, 3):
        results, facts = two(wrong_first(60), wrong_first(0), seeds)
        agreeing = outcome_of(A_B, results, facts)
        results[-1] = result([f"B-256-seed{seeds - 1}"], wrong_first(61), "dense", [36])
        o = outcome_of(A_B, results, facts)
        assert agreeing is not None
        assert o is not None
        assert o.p < 0.001
        assert (agreeing.significant, o.significant) == (1, 0)


def test_of_a_sweep_over_test_scales_the_nets_own_is_the_row() -> None:
    facts = dict([stage("D", "256")])
    results = [result(["D-256-seed0"], wrong_first(n), "dense", [q]) for n, q in ((1, 54), (2, 36), (3, 72))]
    assert by_seed(TableRow("D", "256", "dense"), results, facts)[0]["top1_errors"] == 2


def test_nets_of_two_seeds_are_never_one_row() -> None:
    facts = dict([stage("D", JITTER, 0), stage("E", JITTER, 1)])
    results = [result(["D-[256;512]-seed0", "E-[256;512]-seed1"], wrong_first(1), "dense", [36, 54, 72])]
    assert by_seed(TableRow("D+E", JITTER, "dense", True), results, facts) == {}


def answered(index: int, gain: int):
    """Results in which every second row of a claim has `gain` photos more right than its first, or fewer."""
    claim, facts, results = claims()[index], {}, []
    wrong = {row: 200 for c in claim.comparisons for row in c}
    for _ in claim.comparisons:  # along a chain such as A, B, C the errors go on falling
        for c in claim.comparisons:
            reached = [wrong[d.first] - gain for d in claim.comparisons if d.second == c.second]
            wrong[c.second] = min(reached) if gain > 0 else max(reached)
    for row, n in wrong.items():
        own = dict(stage(net, row.way) for net in row.nets.split("+"))
        facts |= own
        scales = SEVERAL[row.way] if row.several else [SCALES[row.way]]
        results.append(result(list(own), wrong_first(n), row.protocol, scales))
    return results, facts


@pytest.mark.parametrize("index", range(len(claims())))
@pytest.mark.parametrize("gain", [20, 2, 0, -2, -20])
def test_each_claim_held_undecided_and_not_held(index: int, gain: int) -> None:
    """20 photos of 20 decide (p = 2 / 2^20), 2 of 2 do not (p = 1/2)."""
    finding = judgements(*answered(index, gain))[index]
    if finding.claim.kind == "fewer":
        expected = {20: "held", -20: "not held"}.get(gain, "undecided")
    else:
        expected = "not held" if gain == 20 else "held"
    assert set(finding.verdicts.values()) == {expected}
    assert sum(map(len, finding.outcomes.values())) == len(finding.claim.comparisons), "every comparison was made"


def test_one_comparison_against_it_is_enough_and_one_undecided_leaves_it_open() -> None:
    jitter = next(i for i, c in enumerate(claims()) if "jitter" in c.sentence)
    results, facts = answered(jitter, 20)
    for protocol, wrong, expected in (("dense", 220, "not held"), ("centre", 200, "undecided")):
        at = [(r["stages"], r["protocol"]) for r in results].index(([f"C-{JITTER}-seed0"], protocol))
        results[at] = result(results[at]["stages"], wrong_first(wrong), protocol, [54])
        assert judgements(results, facts)[jitter].verdicts[protocol] == expected


def test_what_was_not_trained_is_not_judged() -> None:
    found = judgements(*two(wrong_first(40), wrong_first(10)))
    depth, fusion = found[1], found[-1]
    assert depth.verdicts == {"dense": "held", "centre": None}
    assert len(depth.outcomes["dense"]) == 1
    assert set(fusion.verdicts.values()) == {None}


def test_the_papers_own_numbers_support_its_claims() -> None:
    """Every `fewer` comparison falls in the paper, every `not fewer` one by no more than 0.1 points."""
    for claim in claims():
        for c in claim.comparisons:
            if None not in c.paper:
                gain = c.paper[0] - c.paper[1]  # type: ignore[operator]
                assert gain > 0 if claim.kind == "fewer" else gain < 0.11, claim.sentence
    printed = [c.paper for claim in claims() for c in claim.comparisons]
    assert (29.6, 29.7) in printed  # A, A-LRN
    assert (28.7, 28.1) in printed  # B, C
    assert (27.0, 25.6) in printed  # D jittered at one test scale
    assert (25.5, 24.8) in printed  # E at several
    assert (24.6, 24.4) in printed  # crops, both
    assert (24.4, 23.7) in printed  # D, D + E


def test_the_tables_are_the_papers() -> None:
    """Sums typed from section 4, against a slip in one literal."""
    assert sum(row[3] for row in TABLE_3) == pytest.approx(330.6)
    assert sum(row[3] for row in TABLE_4) == pytest.approx(266.3)
    assert sum(row[4] for row in TABLE_4) == pytest.approx(85.7)
    assert sum(row[2] + row[3] for row in TABLE_5) == pytest.approx(191.8)
    assert sum(row[2] + row[3] for row in TABLE_6) == pytest.approx(124.9)
    assert all(
        qs == {"256": (224, 256, 288), "384": (352, 384, 416), "[256;512]": (256, 384, 512)}[s]
        for _, s, qs, _, _ in TABLE_4
    )


@pytest.mark.parametrize(
    ("first", "second", "kind", "words"),
    [
        (wrong_first(130), wrong_first(100), "fewer", ""),
        (wrong_first(130), wrong_first(100), "not fewer", "the other order is seen; "),
        (wrong_first(40), wrong_first(100), "fewer", "the other order is seen; "),
        (wrong_first(40), wrong_first(100), "not fewer", ""),
        (wrong_first(100), wrong_first(100), "fewer",
            "0 photos are answered differently; one net has 0 more of them right, of so few none would decide; "),
        # 10 to 1 has p = 0.012 and 9 to 2 0.065.
        (wrong_first(100), wrong_first(97, 7), "fewer",
            "11 photos are answered differently; one net has 3 more of them right, 9 would decide; "),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("learnt", "how"), [(30.0, "worse than"), (10.0, "better than"), (20.01, "as well as")])
def test_where_the_papers_order_is_not_seen_it_is_said_what_the_records_tell_of_it(
    first: np.ndarray, second: np.ndarray, kind: Kind, words: str, learnt: float, how: str
) -> None:
    results, facts = two(first, second)
    facts["A-256-seed0"]["train_error"], facts["B-256-seed0"]["train_error"] = 20.04, learnt
    found = outcome_of(Comparison(TableRow("A", "256", "dense"), TableRow("B", "256", "dense")), results, facts)
    assert found is not None
    of_both = f"B has learnt its training photos {how} A ({learnt:.1f} and 20.0 % errors in the last epoch)"
    assert reason(kind, found, facts) == (words + of_both if words else "")


def test_seeds_that_contradict_one_another_are_a_reason_and_other_ways_of_training_none() -> None:
    results, facts = two(wrong_first(100), wrong_first(90), seeds=2)
    results[-1] = result(["B-256-seed1"], wrong_first(101), "dense", [36])
    found = outcome_of(Comparison(TableRow("A", "256", "dense"), TableRow("B", "256", "dense")), results, facts)
    assert found is not None
    assert reason("fewer", found, facts).startswith("the seeds contradict one another (+ -); B has learnt")
    facts["B-256-seed0"]["way"] = facts["B-256-seed1"]["way"] = JITTER
    way = found._replace(comparison=Comparison(TableRow("A", "256", "dense"), TableRow("B", JITTER, "dense")))
    assert reason("fewer", way, facts) == "the seeds contradict one another (+ -)"
