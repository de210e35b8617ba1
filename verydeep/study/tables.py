"""Tables 3 to 6 for the photos of a study, beside the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verydeep.paper import TABLE_1, TABLE_3, TABLE_4, TABLE_5, TABLE_6
from verydeep.report.tables import map_side
from verydeep.study.claims import JITTER, Facts, Finding, Outcome, Results, Row, level, results_of

CLAIM_COLUMNS = (
    "first",
    "second",
    "seeds",
    "photos",
    "only first right",
    "only second right",
    "p",
    "fewer errors, points",
    "95 % interval",
    "paper",
)
MUCH_WORSE = 1.5  # times the error of the centre crop
STAGE_COLUMNS = (
    "stage",
    "S",
    "starts from",
    "rate",
    "epochs",
    "parameters",
    "multiply-adds",
    "validation error",
    "weights",
)


class Table(NamedTuple):
    """A table with its caption."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Measured(NamedTuple):
    """A study's results with the facts of its stages, and how to say an error rate of them."""

    results: Results
    facts: Facts

    def found(self, row: Row) -> list[Mapping[str, Any]]:
        return list(results_of(row, self.results, self.facts).values())

    def rates(self, row: Row, top: str = "top1", among: Row | None = None) -> list[float]:
        """Error rates in percent, one a seed; `among` counts only the photos that another row saw."""
        own, other = results_of(row, self.results, self.facts), results_of(among or row, self.results, self.facts)
        return [r for s in own if s in other and (r := rate_on(own[s], other[s], top)) is not None]

    def cell(self, row: Row, top: str = "top1", among: Row | None = None) -> str:
        """The rate of one seed, or mean and standard deviation of several."""
        rates = self.rates(row, top, among)
        if not rates:
            return "-"
        return f"{rates[0]:.2f}" if len(rates) == 1 else f"{statistics.mean(rates):.2f} ± {statistics.stdev(rates):.2f}"

    def pair(self, row: Row, among: Row | None = None) -> str:
        return (
            f"{self.cell(row, 'top1', among)} / {self.cell(row, 'top5', among)}"
            if self.rates(row, "top1", among)
            else "-"
        )


def rate_on(result: Mapping[str, Any], other: Mapping[str, Any], top: str) -> float | None:
    """The error in percent on the photos that both saw; None for a top-5 error that cannot be."""
    if result["right"][top] is None:
        return None
    own, others, right = level([result["tested"], other["tested"], result["right"][top]])
    tested = own & others
    return 100 * float(np.mean(~right[tested])) if tested.any() else None


def trained(facts: Facts) -> list[tuple[str, str]]:
    """(net, way) of the stages, in the order of Tables 1 and 3."""
    found = {(f["net"], f["way"]) for f in facts.values()}
    ways = ["256", "384", JITTER]
    return sorted(found, key=lambda pair: (list(TABLE_1).index(pair[0]), ways.index(pair[1])))


def s_here(facts: Facts, net: str, way: str) -> str:
    return next(str(f["scale"]) for f in facts.values() if (f["net"], f["way"]) == (net, way))


def q_of(found: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """(test scales, sides of the class map) of a result."""
    if not found:
        return "-", "-"
    r = found[0]
    sides = [map_side(q, r["crop"], r["pooling"] == "up") for q in r["scales"]]
    return ", ".join(map(str, r["scales"])), ", ".join(f"{n} x {n}" for n in dict.fromkeys(sides))


def all_tables(results: Results, facts: Facts) -> list[Table]:
    """Those of Tables 3 to 6 that have a row."""
    m = Measured(results, facts)
    return [t for t in (table_3(m), table_4(m), table_5(m), table_6(m)) if t.rows]


def table_3(m: Measured) -> Table:
    """One test scale."""
    paper = {(n, s): (q, a, b) for n, s, q, a, b in TABLE_3}
    rows, own = [], list[Mapping[str, Any]]()
    for net, way in trained(m.facts):
        dense, centre = Row(net, way, "dense"), Row(net, way, "centre")
        if not (found := [*m.found(dense), *m.found(centre)]):
            continue
        own += found
        printed = paper.get((net, way))
        theirs = (f"{way} | {printed[0]}", f"{printed[1]} / {printed[2]}") if printed else ("-", "-")
        rows.append((net, s_here(m.facts, net, way), *q_of(m.found(dense)), m.pair(centre), m.pair(dense), *theirs))
    columns = ("net", "train S", "test Q", "class map", "centre crop", "dense", "paper: S | Q", "paper: dense")
    return Table("Table 3: one test scale", caption(m, own), columns, rows)


def table_4(m: Measured) -> Table:
    """Several test scales."""
    paper = {(n, s): (qs, a, b) for n, s, qs, a, b in TABLE_4}
    rows, own = [], list[Mapping[str, Any]]()
    for net, way in trained(m.facts):
        one, more = Row(net, way, "dense"), Row(net, way, "dense", True)
        if not (found := m.found(more)):
            continue
        own += found
        printed = paper.get((net, way))
        theirs = (", ".join(map(str, printed[0])), f"{printed[1]} / {printed[2]}") if printed else ("-", "-")
        s, centre = s_here(m.facts, net, way), m.pair(Row(net, way, "centre"))
        rows.append((net, s, *q_of(found), centre, m.pair(one), m.pair(more), *theirs))
    columns = (
        "net",
        "train S",
        "test Q",
        "class maps",
        "centre crop, one Q",
        "dense, one Q",
        "dense, all Q",
        "paper: Q",
        "paper: dense",
    )
    return Table("Table 4: several test scales", caption(m, own), columns, rows)


def table_5(m: Measured) -> Table:
    """Dense evaluation, crops, and both, on the photos that were shown in crops."""
    paper = {(n, p): (a, b) for n, p, a, b in TABLE_5}
    return protocols(
        m,
        "Table 5: dense evaluation and crops",
        [n for n, w in trained(m.facts) if w == JITTER],
        lambda n, p: paper.get((n, p)),
    )


def table_6(m: Measured) -> Table:
    """Posteriors of D and E averaged."""
    paper = {(n, p): (a, b) for n, p, a, b, _ in TABLE_6}
    return protocols(m, "Table 6: fusion", ["D+E"], lambda n, p: paper.get((n, p)))


def protocols(
    m: Measured, title: str, nets: Sequence[str], paper: Callable[[str, str], tuple[float, float] | None]
) -> Table:
    """A row for each net, jittered, at several test scales; the centre crop at one."""
    rows, own = [], list[Mapping[str, Any]]()
    for net in nets:
        crops = Row(net, JITTER, "crops", True)
        if not (found := m.found(crops)):
            continue
        own += found
        shown = [m.pair(Row(net, JITTER, p, p != "centre"), crops) for p in ("centre", "dense", "crops", "both")]
        theirs = [f"{e[0]} / {e[1]}" if (e := paper(net, p)) else "-" for p in ("dense", "crops", "both")]
        rows.append((net, s_here(m.facts, net.split("+")[0], JITTER), *q_of(found), *shown, *theirs))
    columns = (
        "net", "train S", "test Q", "class maps", "centre crop, one Q", "dense", "crops", "crops and dense",
        "paper: dense", "paper: crops", "paper: both",
    )  # fmt: skip
    return Table(title, caption(m, own), columns, rows)


def caption(m: Measured, own: Results) -> str:
    """What the numbers are, of which photos, over how many seeds."""
    if not own:
        return ""
    photos, seeds = {r["photos"] for r in own}, {m.facts[s]["seed"] for r in own for s in r["stages"]}
    limits = {r.get("limit") for r in own} - {None}
    counted = " or ".join(f"{n:,}" for n in sorted(photos))
    of = f"the first {counted}" if limits else f"all {counted}"
    many = f"; mean and standard deviation of {len(seeds)} seeds" if len(seeds) > 1 else ""
    return f"Top-1 / top-5 errors in percent on {of} {own[0]['split']} photos{many}. The paper's are those of ILSVRC-2012 validation."


def map_note(results: Results) -> str:
    """How small the class maps of dense evaluation are, beside the paper's."""
    dense = [r for r in results if r["protocol"] == "dense"]
    if not dense:
        return ""
    crop, up = dense[0]["crop"], dense[0]["pooling"] == "up"
    scales = sorted({q for r in dense for q in r["scales"]})
    sides = [map_side(q, crop, up) for q in (scales[0], scales[-1])]
    theirs = [map_side(q, 224, True) for q in (224, 512)]
    text = (
        f"At a crop of {crop} and Q from {scales[0]} to {scales[-1]} the class maps have {sides[0]} to {sides[1]} cells a side; "
        f"in the paper, at a crop of 224 and Q from 224 to 512, {theirs[0]} to {theirs[1]}."
    )
    if up and scales[0] < 2 * crop and any(q % 32 for q in scales):
        text += (
            " Where Q is no multiple of 32 the last row and column of the map hang over the photo's border, by a larger part of so "
            "small a map. Dense evaluation can hurt there, so the centre crop stands beside it."
        )
    return text


def dense_note(results: Results) -> str:
    """A plain word where dense evaluation is much worse than the centre crop of the same net, and why that is so on small photos."""
    pairs = [
        (centre, dense)
        for dense in results
        if dense["protocol"] == "dense" and len(dense["scales"]) == 1
        for centre in results
        if centre["protocol"] == "centre"
        and all(centre[same] == dense[same] for same in ("stages", "photos", "scales"))
    ]
    worse = [(c, d) for c, d in pairs if d["top1_error"] > MUCH_WORSE * c["top1_error"]]
    if not worse:
        return ""
    centre, dense = max(worse, key=lambda pair: pair[1]["top1_error"] - pair[0]["top1_error"])
    side = dense["crop"] // 16
    return (
        f"Do not read the dense columns as a test of these nets: in {len(worse)} of {len(pairs)} tests at one Q dense evaluation is "
        f"much worse than the centre crop of the same net, at the worst {dense['top1_error']:.1f} against {centre['top1_error']:.1f} % "
        f"({', '.join(dense['stages'])}, Q = {dense['scales'][0]}). {hangs_over(worse)}A net trained at a crop of {dense['crop']} has "
        f"maps of {side} x {side} in block 5, where {100 * border_share(side):.0f} % of what a 3x3 layer looks at is the border's zeros "
        f"(at 224: {100 * border_share(14):.0f} %). Shown a larger photo, the same layers see neighbours instead, which they never "
        "learnt from. Read the centre crop and the crops, or train at a larger crop."
    )


def hangs_over(worse: Sequence[tuple[Any, Any]]) -> str:
    """A word on pooling that rounds up, where some of these tests suffer from it."""
    if not any(d["pooling"] == "up" and d["scales"][0] % 32 for _, d in worse):
        return ""
    return (
        "Pooling rounds up, so where Q is no multiple of 32 the last row and column of the class map hang over the border and see little "
        "of the photo; they count as much as the others. 'verydeep evaluate' with --pooling down leaves them out. "
    )


def border_share(side: int) -> float:
    """The share of zeros of the padding in all 3x3 neighbourhoods of a map of side x side."""
    return 1 - ((3 * side - 2) / (3 * side)) ** 2


def outcome_rows(finding: Finding) -> list[tuple[str, ...]]:
    """The comparisons of a claim under CLAIM_COLUMNS."""
    return [outcome_row(o) for outcomes in finding.outcomes.values() for o in outcomes]


def outcome_row(o: Outcome) -> tuple[str, ...]:
    first, second = o.comparison.paper
    paper = (
        "-"
        if first is None and second is None
        else f"{'-' if first is None else first} -> {'-' if second is None else second}"
    )
    p, (low, high) = "< 0.0001" if o.p < 1e-4 else f"{o.p:.4f}", o.interval
    return (
        str(o.comparison.first), str(o.comparison.second), ", ".join(map(str, o.seeds)), f"{o.photos:,}",
        f"{o.first_better:,}", f"{o.second_better:,}", p, f"{o.gain:+.2f}", f"{low:+.2f} to {high:+.2f}", paper,
    )  # fmt: skip


def stage_rows(facts: Facts) -> list[tuple[str, ...]]:
    """The stages under STAGE_COLUMNS."""
    return [
        (
            name, f["scale"], f["parent"] or "random weights", f"{f['lr']:g}", f"{f['epochs_done']} of {f['epochs']}",
            f"{f['parameters']:,}", f"{f['multiply_adds']:,}", f"{f['val_error']:.2f} %", f["sha256"][:12],
        )
        for name, f in facts.items()
    ]  # fmt: skip
