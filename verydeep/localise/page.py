"""The page of boxes: localisation.html with tables 8 and 9 for this data, curves over IoU, and the most wrong boxes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from verydeep.data.record import Photos
from verydeep.data.source import open_data
from verydeep.errors import VeryDeepError
from verydeep.files.disk import write_text
from verydeep.localise.answer import with_boxes_drawn
from verydeep.localise.measure import COLUMNS, KINDS
from verydeep.localise.results import keep_results
from verydeep.paper import TABLE_8, TABLE_9
from verydeep.report import figures
from verydeep.report.page import rendered, write_report
from verydeep.words import aligned

GREEN, RED = "#1f8a4c", "#d33b2c"
PICTURE = 240  # pixels of the longer side
MEANING = {
    "given": "class given, centre crop", "dense": "class given, all places", "top1": "top-1", "top5": "top-5",
}  # fmt: skip


def of_boxes(record: dict[str, Any]) -> bool:
    return "errors" in record


def share(wrong: int, photos: int) -> str:
    return f"{100 * wrong / max(photos, 1):.1f} % ({wrong:,})"


def box_rows(records: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row a record, and below the last the answers that need no net."""
    rows = []
    for r in records:
        scales = " and ".join(", ".join(map(str, s)) for s in r["scales"])
        for kind in KINDS if r is records[-1] else KINDS[:1]:
            name = " and ".join(r["models"]) if kind == "net" else kind
            errors = [share(r["errors"][kind][c], r["photos"]) for c in COLUMNS]
            rows.append((name, scales if kind == "net" else "-", *errors))
    last = records[-1]
    classes = [share(last["class_errors"][c], last["photos"]) for c in ("top1", "top5")]
    return [*rows, ("the class alone", "-", "-", "-", *classes)]


COLUMN_NAMES = ("answer", "Q", *(MEANING[c] for c in COLUMNS))


def results_words(records: Sequence[dict[str, Any]]) -> str:
    """The records for a reader: what was found, then the table."""
    boxes, maps = [r for r in records if of_boxes(r)], [r for r in records if not of_boxes(r)]
    said = [verdict_of(boxes[-1]), "", aligned(COLUMN_NAMES, box_rows(boxes))] if boxes else []
    return "\n".join(said + [map_words(r) for r in maps])


def verdict_of(r: dict[str, Any]) -> str:
    n, net, mean = r["photos"], r["errors"]["net"], r["errors"]["mean box"]
    words = (
        f"{share(net['top1'], n)} of {n:,} photos of {r['split']} have a wrong class or a wrong place (IoU of 0.5 or "
        f"less); given the class {share(net['given'], n)}, with the mean box {share(mean['given'], n)}"
    )
    collapsed = ". Warning: the net is no better than one box for all photos, so it has not learnt where things are"
    return words + collapsed * bool(r["collapsed"])


def map_words(r: dict[str, Any]) -> str:
    right, chosen = share(r["right"]["largest"], r["photos"]), f"the threshold of {r['chosen_on']}, {r['threshold']:g}"
    return (
        f"{r['model']}, boxes of its class map at Q = {r['scale']}, class given: {right} of {r['photos']:,} photos "
        f"right at IoU 0.5 with {chosen}; MaxBoxAcc {r['max_box_acc']:.1f} %, MaxBoxAccV2 {r['max_box_acc_v2']:.1f} %"
    )


def box_report(place: Path | str, records: Sequence[dict[str, Any]], data: str) -> Path | None:
    """Writes the page, into a run with the records beside it; returns its path, or None where place is no run."""
    path, boxes = Path(place).expanduser(), [r for r in records if of_boxes(r)]
    learnt = (path / "run.json").is_file()
    if learnt:
        keep_results(path, records)
        write_report(path)
        path = path / "localisation.html"
    elif path.suffix != ".html":
        return None
    last = boxes[-1] if boxes else None
    facts: dict[str, Any] = {
        "records": records, "learnt": learnt, "last": last, "data": data, "columns": COLUMN_NAMES, "table_8": TABLE_8,
        "table_9": [[x or "-" for x in row] for row in TABLE_9],
        "maps": [map_words(r) for r in records if not of_boxes(r)],
    }  # fmt: skip
    if last:
        facts |= {"verdict": verdict_of(last), "rows": box_rows(boxes), "pictures": pictures(last),
                  "curve": figures.svg_uri(curve_of(last))}  # fmt: skip
    write_text(path, rendered("localise/page.html.j2", facts))
    return path


def curve_of(r: dict[str, Any]) -> Figure:
    """Errors over the IoU that a right box must have more of."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, colour in zip(COLUMNS, (figures.BLUE, figures.GREEN, figures.ORANGE, figures.GREY), strict=True):
        rates = [100 * n / r["photos"] for n in r["curve"][name]]
        axis.plot(r["curve"]["iou"], rates, color=colour, marker="o", markersize=3, label=MEANING[name])
    axis.set_ylim(0, 100)
    axis.legend(frameon=False)
    figures.framed(axis, "error in %", "IoU that is needed")
    return figure


def pictures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The most wrong boxes: the answer red, the truth green; without photos where the data has gone."""
    try:
        photos = open_data(record["location"]).split(record["split"])
    except VeryDeepError:
        return []
    return [w | {"source": source} for w in record["worst"] if (source := picture(photos, w))]


def picture(photos: Photos, w: dict[str, Any]) -> str:
    try:
        image = photos.open(w["id"])
    except (VeryDeepError, IndexError):
        return ""
    if photos.keys[w["id"]] != w["photo"]:
        return ""
    scale = PICTURE / max(image.size)
    shown = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    boxes = [(t["box"], GREEN) for t in w["truth"]] + [(w["box"], RED)]
    drawn = with_boxes_drawn(shown, [([x * scale for x in box], "", colour) for box, colour in boxes])
    out = io.BytesIO()
    drawn.save(out, "JPEG", quality=85)
    return figures.uri(out.getvalue(), "image/jpeg")
