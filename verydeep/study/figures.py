"""Figures of a study: error against depth, and against the test scale."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verydeep.paper import TABLE_3
from verydeep.report.figures import BLUE, GREEN, GREY, ORANGE, framed
from verydeep.study.claims import WAYS, Facts, Results, TableRow
from verydeep.study.tables import error_rates

WEIGHT_LAYERS = {"A": 11, "B": 13, "C": 16, "D": 16, "E": 19}  # of the nets that are drawn (Table 1)


def over_depth(results: Results, facts: Facts) -> Figure | None:
    """Top-1 error of A to E, trained at the first S, over their weight layers, beside the paper's; None of one net."""

    def trained(protocol: str) -> dict[str, list[float]]:
        rows = {net: TableRow(net, WAYS[0], protocol) for net in WEIGHT_LAYERS}
        found = {net: error_rates(row, row, results, facts) for net, row in rows.items()}
        return {net: rates for net, rates in found.items() if rates}

    dense, centre = trained("dense"), trained("centre")
    if max(len(dense), len(centre)) < 2:
        return None
    printed = {n: [error] for n, s, _, error, _ in TABLE_3 if s == WAYS[0] and n in WEIGHT_LAYERS}
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, ours, colour, words in (
        (left, dense, BLUE, "dense, one Q"), (left, centre, ORANGE, "centre crop"),
        (right, printed, GREY, "dense, Q = S = 256"),
    ):  # fmt: skip
        seeds_line(axis, [(WEIGHT_LAYERS[n], rates) for n, rates in ours.items()], colour, words)
    for axis, named, title in (
        (left, centre or dense, "these photos, first S"), (right, printed, "the paper, ILSVRC-2012 validation"),
    ):  # fmt: skip
        finish(axis, title, "weight layers")
        axis.set_xticks(sorted(set(WEIGHT_LAYERS.values())))
        for net, rates in named.items():
            at = (WEIGHT_LAYERS[net], sum(rates) / len(rates))
            axis.annotate(net, at, xytext=(5, 5), textcoords="offset points", fontsize=9)
    return figure


def over_scales(results: Results, facts: Facts) -> Figure | None:
    """Top-1 error over the test scale Q for the three ways to train, one panel a net that was tested at several Q."""
    most = max((r["photos"] for r in results), default=0)
    dense = [
        r for r in results
        if r["protocol"] == "dense" and len(r["stages"]) == len(r["scales"]) == 1 and r["photos"] == most
    ]  # fmt: skip
    swept = {facts[name]["net"] for name, tests in Counter(r["stages"][0] for r in dense).items() if tests > 1}
    nets = [net for net in WEIGHT_LAYERS if net in swept]
    if not nets:
        return None
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, net in zip(figure.subplots(1, len(nets), squeeze=False, sharey=True)[0], nets, strict=True):
        for way, colour in zip(WAYS, (BLUE, ORANGE, GREEN), strict=True):
            own = {name: f["scale"] for name, f in facts.items() if (f["net"], f["way"]) == (net, way)}
            by_scale: dict[int, list[float]] = {}
            for r in dense:
                if r["stages"][0] in own:
                    by_scale.setdefault(r["scales"][0], []).append(r["top1_error"])
            seeds_line(axis, list(by_scale.items()), colour, f"S = {next(iter(own.values()), '')}")
        finish(axis, f"net {net}, dense", "test scale Q")
    return figure


def seeds_line(axis: Axes, values: Sequence[tuple[float, Sequence[float]]], colour: str, words: str) -> None:
    """(place, rate of each seed): means as a line, each seed as a dot where there are several."""
    if not values:
        return
    ordered = sorted(values, key=lambda v: v[0])
    means = [sum(rates) / len(rates) for _, rates in ordered]
    axis.plot([x for x, _ in ordered], means, color=colour, marker="o", markersize=4, label=words)
    if any(len(rates) > 1 for _, rates in ordered):
        dots = [(x, y) for x, rates in ordered for y in rates]
        axis.plot(*zip(*dots, strict=True), ".", color=colour, alpha=0.5, markersize=4)


def finish(axis: Axes, title: str, below: str) -> None:
    framed(axis, title, below)
    axis.set_ylabel("top-1 error, %")
    axis.legend(frameon=False)
