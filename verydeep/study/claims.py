"""What the paper claims of its nets, and what a study's results say to it: the same photos, net against net.

A result is a record of `evaluate` with `stages`, the names of the stages it tested (two where they were fused). The facts of a
stage are its net, its way (what S was in the paper: 256, 384 or [256;512]), its seed, its test_scale Q and more for the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from verydeep.paper import TABLE_3, TABLE_4, TABLE_5, TABLE_6

Facts = Mapping[str, Mapping[str, Any]]  # of a stage, by name
Results = Sequence[Mapping[str, Any]]
Verdict = Literal["held", "not held", "undecided"]
LEVEL = 0.05
EXACT = 1000  # up to so many differing photos the binomial sum is exact
SEEDS_THAT_AGREE = 3
JITTER = "[256;512]"


class Row(NamedTuple):
    """Which nets, trained at which S of the paper, shown how: what a row of the paper's tables is."""

    nets: str  # D, or D+E where their posteriors are averaged
    way: str
    protocol: str
    several: bool = False  # several test scales

    def __str__(self) -> str:
        return f"{self.nets} at {self.way}, {self.protocol}, {'several Q' if self.several else 'one Q'}"


def results_of(row: Row, results: Results, facts: Facts) -> dict[int, Mapping[str, Any]]:
    """By seed, the result of a row on the most photos; of one test scale the net's own."""
    found: dict[int, Mapping[str, Any]] = {}
    for r in results:
        own = [facts[s] for s in r["stages"]]
        nets, ways, seeds = "+".join(f["net"] for f in own), {f["way"] for f in own}, {f["seed"] for f in own}
        if len(ways) != 1 or len(seeds) != 1 or Row(nets, ways.pop(), r["protocol"], len(r["scales"]) > 1) != row:
            continue
        seed = seeds.pop()
        if (row.several or r["scales"] == [own[0]["test_scale"]]) and (
            seed not in found or r["photos"] > found[seed]["photos"]
        ):
            found[seed] = r
    return dict(sorted(found.items()))


def bits(text: str) -> npt.NDArray[np.bool_]:
    """One truth a photo, by photo id, of numpy.packbits as hexadecimal digits; up to seven more follow the last photo."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(bool)


def level(texts: Sequence[str]) -> list[npt.NDArray[np.bool_]]:
    """Bits cut to the length of the shortest, which may be of a test of the first photos only."""
    found = [bits(t) for t in texts]
    return [f[: min(map(len, found))] for f in found]


def mcnemar(a: int, b: int) -> float:
    """The two-sided p that of a + b photos on which two nets differ, so unequal shares are one's: binomial, exact up to EXACT."""
    n = a + b
    if n > EXACT:
        return math.erfc(max(0.0, abs(a - b) - 1) / math.sqrt(2 * n))  # normal, with the correction for continuity
    return float(min(1.0, 2 * sum(math.comb(n, k) for k in range(min(a, b) + 1)) / 2**n))


class Comparison(NamedTuple):
    """That `second` makes fewer errors than `first`; the paper's top-1 errors of both in percent, or None."""

    first: Row
    second: Row
    paper: tuple[float | None, float | None] = (None, None)


class Outcome(NamedTuple):
    """A comparison on the photos that both saw, top-1. With several seeds a photo counts for the net that more seeds had right.

    gain: fewer errors of `second` in percentage points, and its 95 % interval. signs: of each seed, +1 where second is better.
    """

    comparison: Comparison
    seeds: tuple[int, ...]
    photos: int
    second_better: int
    first_better: int
    p: float
    gain: float
    interval: tuple[float, float]
    signs: tuple[int, ...]

    @property
    def significant(self) -> int:
        """+1 where second is better, -1 where first is, 0 where that is not decided."""
        sign = (self.second_better > self.first_better) - (self.second_better < self.first_better)
        agree = len(self.seeds) < SEEDS_THAT_AGREE or all(s == sign for s in self.signs)
        return sign if self.p < LEVEL and agree else 0


def compare(comparison: Comparison, results: Results, facts: Facts) -> Outcome | None:
    """The outcome over the seeds that both tests have; None without any."""
    first, second = (results_of(t, results, facts) for t in comparison[:2])
    seeds = tuple(s for s in first if s in second)
    if not seeds:
        return None
    known = level([text for r in (first, second) for s in seeds for text in (r[s]["tested"], r[s]["right"]["top1"])])
    tested, right = np.logical_and.reduce(known[::2]), np.array(known[1::2], np.int8)
    gains = (right[len(seeds) :] - right[: len(seeds)])[:, tested]
    if not (n := gains.shape[1]):
        return None
    total = gains.sum(0)
    a, b = int((total > 0).sum()), int((total < 0).sum())
    mean = 100 * float(total.mean()) / len(seeds)
    half = 1.96 * 100 * float(total.std()) / len(seeds) / math.sqrt(n)
    signs = tuple(int(np.sign(g.sum())) for g in gains)
    return Outcome(comparison, seeds, n, a, b, mcnemar(a, b), mean, (mean - half, mean + half), signs)


class Claim(NamedTuple):
    """A sentence of the paper. kind: `fewer`, that second makes fewer errors, or `not fewer`, that it does not."""

    sentence: str
    section: str
    kind: Literal["fewer", "not fewer"]
    comparisons: tuple[Comparison, ...]


class Finding(NamedTuple):
    """What a study says to a claim, by protocol; a verdict is None where nothing of it was tested."""

    claim: Claim
    outcomes: dict[str, list[Outcome]]
    verdicts: dict[str, Verdict | None]


def findings(results: Results, facts: Facts) -> list[Finding]:
    """All claims of section 4, each by the protocol of the net that is to be better, the paper's own first."""
    found = []
    for claim in claims():
        outcomes: dict[str, list[Outcome]] = {}
        for c in claim.comparisons:
            outcomes.setdefault(c.second.protocol, []).extend(o for o in [compare(c, results, facts)] if o)
        found.append(
            Finding(claim, outcomes, {protocol: verdict(claim.kind, own) for protocol, own in outcomes.items()})
        )
    return found


def said(finding: Finding, protocol: str) -> str:
    """A verdict in words, with how many of its comparisons could be made."""
    own, possible = (
        len(finding.outcomes[protocol]),
        sum(c.second.protocol == protocol for c in finding.claim.comparisons),
    )
    if (words := finding.verdicts[protocol]) is None:
        return "not tested"
    return words if own == possible else f"{words} ({own} of {possible} comparisons)"


def verdict(kind: Literal["fewer", "not fewer"], outcomes: Sequence[Outcome]) -> Verdict | None:
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
    jittered = [n for n, s, *_ in TABLE_3 if s == JITTER]
    deeper = (*nets("A", "B"), *nets("B", "C"), *nets("C", "D"))
    return [
        Claim(
            "Local response normalisation does not help: A-LRN is no better than A.",
            "4.1",
            "not fewer",
            nets("A", "A-LRN"),
        ),
        Claim("Depth helps: the error falls from A to B, from B to C and from C to D.", "4.1", "fewer", deeper),
        Claim("More non-linearity helps: C, with 1x1 layers, is better than B.", "4.1", "fewer", nets("B", "C")),
        Claim(
            "Spatial context helps: D, with 3x3 layers, is better than C with 1x1 layers.",
            "4.1",
            "fewer",
            nets("C", "D"),
        ),
        Claim("The error saturates at 19 layers: E is no better than D.", "4.1", "not fewer", nets("D", "E")),
        Claim(
            "Deep with small filters beats shallow with large ones: B is better than shallow-B.",
            "4.1",
            "fewer",
            nets("shallow-B", "B"),
        ),
        Claim(
            "Scale jitter in training helps at a single test scale.",
            "4.1",
            "fewer",
            tuple(c for n in jittered for c in jitter(n)),
        ),
        Claim("Several test scales help.", "4.2", "fewer", tuple(several(n, s) for n, s, *_ in TABLE_4)),
        Claim("Dense evaluation and crops together are better than either.", "4.3", "fewer", (*both("D"), *both("E"))),
        Claim("Fusion helps: D and E averaged are better than either.", "4.4", "fewer", tuple(fusion())),
    ]


def nets(first: str, second: str) -> tuple[Comparison, ...]:
    """Two nets at every S that the paper has of both, at one test scale."""
    rows = {(n, s): e for n, s, _, e, _ in TABLE_3}
    ways = [s for n, s in rows if n == second and ((first, s) in rows or first == "shallow-B")]
    return tuple(
        Comparison(
            Row(first, s, p),
            Row(second, s, p),
            (rows.get((first, s)), rows[second, s]) if p == "dense" else (None, None),
        )
        for p in ("dense", "centre")
        for s in ways
    )


def jitter(net: str) -> Iterable[Comparison]:
    rows = {s: e for n, s, _, e, _ in TABLE_3 if n == net}
    for p in ("dense", "centre"):
        for s in ("256", "384"):
            yield Comparison(
                Row(net, s, p), Row(net, JITTER, p), (rows[s], rows[JITTER]) if p == "dense" else (None, None)
            )


def several(net: str, way: str) -> Comparison:
    one = next(e for n, s, _, e, _ in TABLE_3 if (n, s) == (net, way))
    more = next(e for n, s, _, e, _ in TABLE_4 if (n, s) == (net, way))
    return Comparison(Row(net, way, "dense"), Row(net, way, "dense", True), (one, more))


def both(net: str) -> Iterable[Comparison]:
    rows = {p: e for n, p, e, _ in TABLE_5 if n == net}
    for p in ("dense", "crops"):
        yield Comparison(Row(net, JITTER, p, True), Row(net, JITTER, "both", True), (rows[p], rows["both"]))


def fusion() -> Iterable[Comparison]:
    """Several scales where the paper has them; the centre crop at its one."""
    alone, fused = {(n, p): e for n, p, e, _ in TABLE_5}, {p: e for n, p, e, *_ in TABLE_6 if n == "D+E"}
    for p in ("dense", "crops", "both", "centre"):
        for net in ("D", "E"):
            yield Comparison(
                Row(net, JITTER, p, p != "centre"),
                Row("D+E", JITTER, p, p != "centre"),
                (alone.get((net, p)), fused.get(p)),
            )
