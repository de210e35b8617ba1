"""Tables 3 to 6 for the photos of a study, beside the paper's; its comparisons and stages as rows."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verydeep.evaluate.scores import known_of
from verydeep.paper import TABLE_1, TABLE_3, TABLE_4
from verydeep.report.tables import by_column, map_side
from verydeep.study.claims import JITTER, PRINTED, WAYS, Facts, Kind, Outcome, Results, TableRow, by_seed
from verydeep.study.reasons import reason

MUCH_WORSE = 1.5  # times the error of the centre crop
Result = Mapping[str, Any]
Columns = Mapping[str, tuple[str, bool]]  # title -> the protocol, several test scales


class TableLayout(NamedTuple):
    """What one of the paper's tables shows of each net, on the photos that its `main` protocol was tested on."""

    title: str
    main: tuple[str, bool]
    own: Columns
    paper: Columns
    paper_scales: str = ""  # title of the column of the paper's S and Q
    fused: bool = False


DENSE, CENTRE, ONE_Q = ("dense", True), ("centre", False), ("dense", False)
LADDER = {"centre crop, one Q": CENTRE, "dense": DENSE, "crops": ("crops", True), "crops and dense": ("both", True)}
PAPERS = {"paper: dense": DENSE, "paper: crops": ("crops", True), "paper: both": ("both", True)}
LAYOUTS = (
    TableLayout("Table 3: one test scale", ONE_Q,
        {"centre crop": CENTRE, "dense": ONE_Q}, {"paper: dense": ONE_Q}, "paper: S | Q"),
    TableLayout("Table 4: several test scales", DENSE,
        {"centre crop, one Q": CENTRE, "dense, one Q": ONE_Q, "dense, all Q": DENSE},
        {"paper: dense": DENSE}, "paper: Q"),
    TableLayout("Table 5: dense evaluation and crops", ("crops", True), LADDER, PAPERS),
    TableLayout("Table 6: fusion", ("crops", True), LADDER, PAPERS, fused=True),
)  # fmt: skip
PAPER_SCALES = {TableRow(net, s, "dense"): f"{s} | {q}" for net, s, q, *_ in TABLE_3} | {
    TableRow(net, s, "dense", True): ", ".join(map(str, qs)) for net, s, qs, *_ in TABLE_4
}
COMPARED = {
    "first": "{first}", "second": "{second}", "photos": "{photos:,}",
    "only first right": "{first_better:,}", "only second right": "{second_better:,}", "p": "{p}",
    "fewer errors, points": "{gain:+.2f}", "by seed": "{each}",
    "95 % interval": "{interval[0]:+.2f} to {interval[1]:+.2f}", "paper": "{paper}",
    "where the paper's order is not seen": "{reason}",
}  # fmt: skip
PLANNED = {
    "stage": "{name}", "parameters": "{parameters:,}", "multiply-adds": "{multiply_adds:,}", "starts from": "{start}",
    "rate": "{lr:g}", "epochs": "{epochs}", "time": "{time}", "state": "{state}",
}  # fmt: skip
TRIED = {
    "test of": "{models}", "protocols": "{protocols}", "Q": "{scales}", "photos": "{photos:,}",
    "passes": "{passes:g}", "time": "{time}",
}  # fmt: skip
TRAINED = {
    "stage": "{name}", "S": "{scale}", "starts from": "{start}", "rate": "{lr:g}",
    "epochs": "{epochs_done} of {epochs}", "parameters": "{parameters:,}", "multiply-adds": "{multiply_adds:,}",
    "training error": "{train_error:.2f} %", "validation error": "{val_error:.2f} %", "weights": "{sha256:.12}",
}  # fmt: skip


class Table(NamedTuple):
    """A table, and for its caption on which photos of which split, over how many seeds."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    photos: str
    split: str
    seeds: int


def tables_of_paper(results: Results, facts: Facts) -> list[Table]:
    """Those of Tables 3 to 6 that have a row; the nets in the order of Tables 1 and 3."""
    trained = {(f["net"], f["way"]) for f in facts.values()}
    nets = [(net, way) for net in TABLE_1 for way in WAYS if (net, way) in trained]
    found = [filled(layout, [("D+E", JITTER)] if layout.fused else nets, results, facts) for layout in LAYOUTS]
    return [table for table in found if table]


def filled(layout: TableLayout, trained: Sequence[tuple[str, str]], results: Results, facts: Facts) -> Table | None:
    """A row for each (nets, way) that was tested so."""
    rows, mains = list[dict[str, str]](), list[Result]()
    for nets, way in trained:
        main = TableRow(nets, way, *layout.main)
        if not (found := list(by_seed(main, results, facts).values())):
            continue
        mains += found
        r, first = found[0], facts[found[0]["stages"][0]]
        sides = dict.fromkeys(map_side(q, r["crop"], r["pooling"] == "up") for q in r["scales"])
        row = {"net": nets, "train S": str(first["scale"]), "test Q": ", ".join(map(str, r["scales"]))}
        row["class maps" if layout.main[1] else "class map"] = ", ".join(f"{n} x {n}" for n in sides)
        row |= {t: rates_text(TableRow(nets, way, *test), main, results, facts) for t, test in layout.own.items()}
        if layout.paper_scales:
            row[layout.paper_scales] = PAPER_SCALES.get(main, "-")
        printed = {title: PRINTED.get(TableRow(nets, way, *test), "-") for title, test in layout.paper.items()}
        rows.append(row | {title: " / ".join(map(str, errors)) for title, errors in printed.items()})
    if not rows:
        return None
    photos = " or ".join(f"{n:,}" for n in sorted({r["photos"] for r in mains}))
    limited = any(r.get("limit") is not None for r in mains)
    seeds = {facts[s]["seed"] for r in mains for s in r["stages"]}
    photos = f"{'the first' if limited else 'all'} {photos}"
    cells = [list(row.values()) for row in rows]
    return Table(layout.title, list(rows[0]), cells, photos, mains[0]["split"], len(seeds))


def error_rates(row: TableRow, among: TableRow, results: Results, facts: Facts, top: str = "top1") -> list[float]:
    """Error rates in percent, one a seed, on the photos that another row saw too; none of a top-5 that cannot fail."""
    own, other = by_seed(row, results, facts), by_seed(among, results, facts)
    found = []
    for r, o in ((own[s], other[s]) for s in own if s in other and own[s]["right"][top] is not None):
        seen, others, right = known_of([r["tested"], o["tested"], r["right"][top]])
        if (tested := seen & others).any():
            found.append(100 * float(np.mean(~right[tested])))
    return found


def rates_text(row: TableRow, among: TableRow, results: Results, facts: Facts) -> str:
    """Top-1 / top-5: the rate of one seed, or mean and standard deviation of several."""
    cells = []
    for top in ("top1", "top5"):
        rates = error_rates(row, among, results, facts, top)
        deviation = f" ± {statistics.stdev(rates):.2f}" if len(rates) > 1 else ""
        cells.append(f"{statistics.mean(rates):.2f}{deviation}" if rates else "-")
    return "-" if cells[0] == "-" else " / ".join(cells)


def map_sizes(results: Results) -> dict[str, Any]:
    """How large the class maps of dense evaluation are at the smallest and the largest Q, if there is one."""
    if not (dense := [r for r in results if r["protocol"] == "dense"]):
        return {}
    crop, up, scales = dense[0]["crop"], dense[0]["pooling"] == "up", sorted({q for r in dense for q in r["scales"]})
    hanging = up and scales[0] < 2 * crop and any(q % 32 for q in scales)
    sides = [map_side(scales[i], crop, up) for i in (0, -1)]
    return {"crop": crop, "scales": scales, "sides": sides, "hanging": hanging}


def much_worse(results: Results) -> dict[str, Any]:
    """Where dense evaluation is much worse than the centre crop of the same net, and why that is so on small photos."""
    one_scale = [r for r in results if len(r["scales"]) == 1]
    pairs = [
        (centre, dense)
        for dense in one_scale if dense["protocol"] == "dense"
        for centre in one_scale if centre["protocol"] == "centre"
        and all(centre[same] == dense[same] for same in ("stages", "photos", "scales"))
    ]  # fmt: skip
    worse = [(c, d) for c, d in pairs if d["top1_error"] > MUCH_WORSE * c["top1_error"]]
    if not worse:
        return {}
    centre, dense = max(worse, key=lambda pair: pair[1]["top1_error"] - pair[0]["top1_error"])
    hanging = any(d["pooling"] == "up" and d["scales"][0] % 32 for _, d in worse)
    return {"worse": len(worse), "tests": len(pairs), "centre": centre, "dense": dense, "hanging": hanging}


def border_share(side: int) -> float:
    """The share of zeros of the padding in all 3x3 neighbourhoods of a map of side x side."""
    return 1 - ((3 * side - 2) / (3 * side)) ** 2


def stage_table(columns: Mapping[str, str], stages: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row for each stage, planned or trained."""
    return by_column(columns, [{**s, "start": s["parent"] or "random weights"} for s in stages])


def comparison_table(kind: Kind, outcomes: Sequence[Outcome], facts: Facts) -> tuple[list[str], list[list[str]]]:
    """A row for each comparison that was made for a claim; S as it is here, not as the paper's."""
    scales, told = {f["way"]: str(f["scale"]) for f in facts.values()}, []
    for o in outcomes:
        first, second = (str(row._replace(way=scales[row.way])) for row in o.comparison)
        each = zip(o.seeds, o.gains, strict=True)
        paper = " -> ".join("-" if e is None else str(e) for e in o.comparison.paper)
        told.append(o._asdict() | {
            "first": first, "second": second,
            "each": ", ".join(f"{seed}:\N{NO-BREAK SPACE}{gain:+.2f}" for seed, gain in each),
            "p": "<\N{NO-BREAK SPACE}0.0001" if o.p < 1e-4 else f"{o.p:.4f}",
            "paper": "-" if paper == "- -> -" else paper, "reason": reason(kind, o, facts),
        })  # fmt: skip
    return by_column(COMPARED, told)
