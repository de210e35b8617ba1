"""Figures of a study: error against depth, and against the test scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verydeep.paper import TABLE_3
from verydeep.report.figures import BLUE, GREEN, GREY, ORANGE
from verydeep.study.claims import JITTER, Facts, Results, Row
from verydeep.study.tables import Measured

DEEP = ("A", "B", "C", "D", "E")
WAYS = (("256", BLUE), ("384", ORANGE), (JITTER, GREEN))


def depth(results: Results, facts: Facts) -> Figure | None:
    """Top-1 error of A to E, trained at the first S, over their weight layers, beside the paper's; None with fewer than two nets."""
    m, layers = Measured(results, facts), {f["net"]: f["weight_layers"] for f in facts.values()}
    protocols = (("dense", BLUE, "dense, one Q"), ("centre", ORANGE, "centre crop"))
    rates = {p: {n: found for n in DEEP if n in layers and (found := m.rates(Row(n, "256", p)))} for p, *_ in protocols}
    if max(map(len, rates.values())) < 2:
        return None
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    ours, paper = figure.subplots(1, 2)
    for protocol, colour, words in protocols:
        series(ours, [layers[n] for n in rates[protocol]], list(rates[protocol].values()), colour, words)
    for n, found in (rates["centre"] or rates["dense"]).items():
        ours.annotate(n, (layers[n], sum(found) / len(found)), xytext=(5, 5), textcoords="offset points", fontsize=9)
    printed = {n: e for n, s, _, e, _ in TABLE_3 if s == "256" and n in DEEP}
    counts = {"A": 11, "B": 13, "C": 16, "D": 16, "E": 19}
    series(paper, [counts[n] for n in printed], [[e] for e in printed.values()], GREY, "dense, Q = S = 256")
    for n, e in printed.items():
        paper.annotate(n, (counts[n], e), xytext=(5, 5), textcoords="offset points", fontsize=9)
    titles = ("these photos, first S", "the paper, ILSVRC-2012 validation")
    for axis, title in zip((ours, paper), titles, strict=True):
        finish(axis, title, "weight layers")
        axis.set_xticks((11, 13, 16, 19))
    return figure


def over_scales(results: Results, facts: Facts) -> Figure | None:
    """Top-1 error over the test scale Q for the three ways to train, one panel a net; None where no net was tested at several Q alone."""
    nets = [n for n in DEEP if max(Counter(r["stages"][0] for r in single(results, facts, n)).values(), default=0) > 1]
    if not nets:
        return None
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, net in zip(figure.subplots(1, len(nets), squeeze=False, sharey=True)[0], nets, strict=True):
        for way, colour in WAYS:
            own = [r for r in single(results, facts, net) if facts[r["stages"][0]]["way"] == way]
            scales = sorted({r["scales"][0] for r in own})
            if scales:
                name = next(f["scale"] for f in facts.values() if (f["net"], f["way"]) == (net, way))
                series(
                    axis,
                    scales,
                    [[r["top1_error"] for r in own if r["scales"] == [q]] for q in scales],
                    colour,
                    f"S = {name}",
                )
        finish(axis, f"net {net}, dense", "test scale Q")
    return figure


def single(results: Results, facts: Facts, net: str) -> Results:
    """The dense results of a net at one test scale, those on the most photos."""
    most = max((r["photos"] for r in results), default=0)
    return [
        r
        for r in results
        if len(r["stages"]) == len(r["scales"]) == 1
        and r["protocol"] == "dense"
        and r["photos"] == most
        and facts[r["stages"][0]]["net"] == net
    ]


def series(axis: Axes, at: Sequence[float], values: Sequence[Sequence[float]], colour: str, words: str) -> None:
    """Means as a line, each seed as a dot."""
    if not at:
        return
    order = sorted(range(len(at)), key=lambda i: at[i])
    axis.plot(
        [at[i] for i in order],
        [sum(values[i]) / len(values[i]) for i in order],
        color=colour,
        marker="o",
        markersize=4,
        label=words,
    )
    if any(len(v) > 1 for v in values):
        axis.plot(
            [x for x, v in zip(at, values, strict=True) for _ in v],
            [y for v in values for y in v],
            ".",
            color=colour,
            alpha=0.5,
            markersize=4,
        )


def finish(axis: Axes, title: str, below: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(below)
    axis.set_ylabel("top-1 error, %")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
