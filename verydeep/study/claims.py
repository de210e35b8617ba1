"""What the paper claims of its nets, and what a study's results say to it: the same photos, net against net.

A result is a record of `evaluate` with `stages`, the names of the stages it tested, two where they were fused. The
facts of a stage are its net, its way (what S was in the paper), its seed, its test_scale Q and more for the page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from verydeep.evaluate.judge import interval_of
from verydeep.evaluate.scores import known_of
from verydeep.paper import TABLE_3, TABLE_4, TABLE_5, TABLE_6

Facts = Mapping[str, Mapping[str, Any]]  # of a stage, by name
Results = Sequence[Mapping[str, Any]]
Kind = Literal["fewer", "not fewer"]
Verdict = Literal["held", "not held", "undecided"]
LEVEL = 0.05
EXACT = 1000  # up to so many differing photos the binomial sum is exact
WAYS = ("256", "384", JITTER := "[256;512]")  # S in the paper; here S, 1.5 S and [S; 2S] of the recipe's scale


class TableRow(NamedTuple):
    """Which nets, trained at which S of the paper, shown how: what a row of the paper's tables is."""

    nets: str  # D, or D+E where their posteriors are averaged
    way: str
    protocol: str
    several: bool = False  # several test scales

    def __str__(self) -> str:
        return f"{self.nets} at S = {self.way}, {self.protocol}, {'several Q' if self.several else 'one Q'}"


# Top-1 and top-5 errors in percent that the paper prints (Tables 3 to 6).
PRINTED = (
    {TableRow(net, s, "dense"): errors for net, s, _, *errors in TABLE_3}
    | {TableRow(net, s, "dense", True): errors for net, s, _, *errors in TABLE_4}
    | {TableRow(nets, JITTER, p, True): errors for nets, p, *errors in TABLE_5}
    | {TableRow(nets, JITTER, p, True): errors for nets, p, *errors, _ in TABLE_6}
)


def by_seed(row: TableRow, results: Results, facts: Facts) -> dict[int, Mapping[str, Any]]:
    """By seed, the result of a row on the most photos; of one test scale the net's own."""
    found: dict[int, Mapping[str, Any]] = {}
    for r in results:
        own = [facts[s] for s in r["stages"]]
        nets, (way, seed) = "+".join(f["net"] for f in own), (own[0]["way"], own[0]["seed"])
        same = TableRow(nets, way, r["protocol"], len(r["scales"]) > 1) == row
        alike = all((f["way"], f["seed"]) == (way, seed) for f in own)
        own_scale = row.several or r["scales"] == [own[0]["test_scale"]]
        if same and alike and own_scale and (seed not in found or r["photos"] > found[seed]["photos"]):
            found[seed] = r
    return dict(sorted(found.items()))


def mcnemar(a: int, b: int) -> float:
    """The two-sided p that of a + b photos on which two nets differ, so unequal shares are one's: binomial sum."""
    n = a + b
    if n > EXACT:
        return math.erfc(max(0.0, abs(a - b) - 1) / math.sqrt(2 * n))  # normal, with the correction for continuity
    return float(min(1.0, 2 * sum(math.comb(n, k) for k in range(min(a, b) + 1)) / 2**n))


class Comparison(NamedTuple):
    """That `second` makes fewer errors than `first`."""

    first: TableRow
    second: TableRow

    @property
    def paper(self) -> tuple[float | None, float | None]:
        """The paper's top-1 errors of both in percent, where it prints them."""
        first, second = (PRINTED.get(row, (None,))[0] for row in self)
        return first, second


class Outcome(NamedTuple):
    """A comparison on the photos that both saw, top-1. Of several seeds a photo counts for the net that more had right.

    gain: fewer errors of `second` in percentage points, and its 95 % interval over photos (Agresti & Min 2005), which
    leaves out how other seeds would differ; gains: that of each seed.
    """

    comparison: Comparison
    seeds: tuple[int, ...]
    photos: int
    second_better: int
    first_better: int
    p: float
    gain: float
    interval: tuple[float, float]
    gains: tuple[float, ...]

    @property
    def signs(self) -> list[int]:
        """+1 for each seed with a gain, -1 for each with a loss."""
        return [int(np.sign(gain)) for gain in self.gains]

    @property
    def significant(self) -> int:
        """+1 where second is better, -1 where first is, 0 where that is not decided, as where seeds contradict."""
        sign = (self.second_better > self.first_better) - (self.second_better < self.first_better)
        return sign if self.p < LEVEL and all(s == sign for s in self.signs) else 0


def outcome_of(comparison: Comparison, results: Results, facts: Facts) -> Outcome | None:
    """The outcome over the seeds that both tests have; None without any."""
    first, second = (by_seed(row, results, facts) for row in comparison)
    seeds = tuple(s for s in first if s in second)
    if not seeds:
        return None
    both = [r[s] for r in (first, second) for s in seeds]
    known = known_of([text for r in both for text in (r["tested"], r["right"]["top1"])])
    tested, right = known[::2].all(0), known[1::2].astype(np.int8)
    gains = (right[len(seeds) :] - right[: len(seeds)])[:, tested]
    if not (n := gains.shape[1]):
        return None
    total = gains.sum(0)
    a, b = int((total > 0).sum()), int((total < 0).sum())
    mean, each = 100 * float(total.mean()) / len(seeds), tuple((100 * gains.mean(1)).tolist())
    return Outcome(comparison, seeds, n, a, b, mcnemar(a, b), mean, interval_of(total / len(seeds)), each)


class Claim(NamedTuple):
    """A sentence of the paper. kind: `fewer`, that second makes fewer errors, or `not fewer`, that it does not."""

    section: str
    kind: Kind
    sentence: str
    comparisons: tuple[Comparison, ...]

    @property
    def needs(self) -> str:
        """The nets without which nothing of it can be tested."""
        rows = [row for c in self.comparisons for row in c]
        nets = sorted({net for row in rows for net in row.nets.split("+")})
        jittered = all(row.way == JITTER for row in rows)
        return f"{', '.join(nets[:-1])} and {nets[-1]}" + " with jitter" * jittered


class Judgement(NamedTuple):
    """What a study says to a claim, by protocol; a verdict is None where nothing of it was tested."""

    claim: Claim
    outcomes: dict[str, list[Outcome]]
    verdicts: dict[str, Verdict | None]

    def words(self, protocol: str) -> str:
        """A verdict, with how many of its comparisons could be made."""
        made = len(self.outcomes[protocol])
        possible = sum(c.second.protocol == protocol for c in self.claim.comparisons)
        return str(self.verdicts[protocol]) + ("" if made == possible else f" ({made} of {possible} comparisons)")


def judgements(results: Results, facts: Facts) -> list[Judgement]:
    """All claims of section 4, each by the protocol of the net that is to be better, the paper's own first."""
    found = []
    for claim in claims():
        outcomes: dict[str, list[Outcome]] = {c.second.protocol: [] for c in claim.comparisons}
        for made in filter(None, (outcome_of(c, results, facts) for c in claim.comparisons)):
            outcomes[made.comparison.second.protocol].append(made)
        found.append(Judgement(claim, outcomes, {p: verdict_on(claim.kind, own) for p, own in outcomes.items()}))
    return found


def verdict_on(kind: Kind, outcomes: Sequence[Outcome]) -> Verdict | None:
    """Held: every comparison is decided in the paper's favour. Not held: one of them is decided against it.

    A claim of no gain is held as long as no gain is shown, which is less than to show that there is none.
    """
    if not outcomes:
        return None
    signs = [o.significant for o in outcomes]
    if kind == "not fewer":
        return "not held" if 1 in signs else "held"
    return "not held" if -1 in signs else "held" if all(s == 1 for s in signs) else "undecided"


def claims() -> list[Claim]:
    """Sections 4.1 to 4.4. Where nets are compared, the centre crop is asked as well as the paper's dense test."""
    jittered = [net for net, s, *_ in TABLE_3 if s == JITTER]
    return [
        Claim("4.1", "not fewer", "Local response normalisation does not help: A-LRN is no better than A.",
            pairs("A", "A-LRN")),
        Claim("4.1", "fewer", "Depth helps: the error falls from A to B, from B to C and from C to D.",
            (*pairs("A", "B"), *pairs("B", "C"), *pairs("C", "D"))),
        Claim("4.1", "fewer", "More non-linearity helps: C, with 1x1 layers, is better than B.", pairs("B", "C")),
        Claim("4.1", "fewer", "Spatial context helps: D, with 3x3 layers, is better than C with 1x1 layers.",
            pairs("C", "D")),
        Claim("4.1", "not fewer", "The error saturates at 19 layers: E is no better than D.", pairs("D", "E")),
        Claim("4.1", "fewer", "Deep with small filters beats shallow with large ones: B is better than shallow-B.",
            pairs("shallow-B", "B")),
        Claim("4.1", "fewer", "Scale jitter in training helps at a single test scale.",
            tuple(Comparison(TableRow(n, s, p), TableRow(n, JITTER, p))
                for n in jittered for p in ("dense", "centre") for s in WAYS[:2])),
        Claim("4.2", "fewer", "Several test scales help.",
            tuple(Comparison(TableRow(n, s, "dense"), TableRow(n, s, "dense", True)) for n, s, *_ in TABLE_4)),
        Claim("4.3", "fewer", "Dense evaluation and crops together are better than either.",
            tuple(Comparison(TableRow(n, JITTER, p, True), TableRow(n, JITTER, "both", True))
                for n in "DE" for p in ("dense", "crops"))),
        Claim("4.4", "fewer", "Fusion helps: D and E averaged are better than either.",
            tuple(Comparison(TableRow(n, JITTER, p, p != "centre"), TableRow("D+E", JITTER, p, p != "centre"))
                for p in ("dense", "crops", "both", "centre") for n in "DE")),
    ]  # fmt: skip


def pairs(first: str, second: str) -> tuple[Comparison, ...]:
    """Two nets at every S that the paper has of both, at one test scale."""
    trained = {(net, s) for net, s, *_ in TABLE_3}
    ways = [s for net, s, *_ in TABLE_3 if net == second and (first == "shallow-B" or (first, s) in trained)]
    return tuple(Comparison(TableRow(first, s, p), TableRow(second, s, p)) for p in ("dense", "centre") for s in ways)
