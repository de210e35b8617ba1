"""The page of boxes: localisation.html with tables 8 and 9 for this data, curves over IoU, and the most wrong boxes."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from verydeep.data.source import open_data
from verydeep.errors import VeryDeepError
from verydeep.evaluate.sample import folder_of
from verydeep.files.disk import read_json, write_bounded, write_text
from verydeep.localise.answer import RESULTS, with_boxes_drawn
from verydeep.localise.evaluate import KINDS
from verydeep.net.saved import read_contract
from verydeep.paper import TABLE_8, TABLE_9
from verydeep.report import figures
from verydeep.report.page import rendered, write_report
from verydeep.words import aligned

GREEN, RED = "#1f8a4c", "#d33b2c"
PICTURE = 240  # pixels of the longer side
MEANING = {
    "given": "class given, centre crop", "dense": "class given, all places", "top1": "top-1", "top5": "top-5",
}  # fmt: skip
HEADER = ("answer", "Q", *MEANING.values())
TEST = ("models", "model", "split", "limit", "scales", "scale", "merge", "mirror", "classifier_sha256", "photos_sha256")
LONG = ("rows", "worst")  # of a record: photo by photo


def of_boxes(records: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """(the records of box nets, the words for those of class maps)."""
    return [r for r in records if "errors" in r], [map_words(r) for r in records if "errors" not in r]


def share(wrong: int, photos: int) -> str:
    return f"{100 * wrong / photos:.1f} % ({wrong:,})"


def box_rows(records: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each record of the last one's photos and classes, and below it the answers that need no net."""
    rows, last = [], records[-1]
    alike = [r for r in records if all(r[name] == last[name] for name in ("photos_sha256", "classifier_sha256"))]
    for r, kind in [(r, "net") for r in alike] + [(last, kind) for kind in KINDS[1:]]:
        scales = " and ".join(", ".join(map(str, s)) for s in r["scales"])
        scales += f" ({r['merge']})" * (r["merge"] != "greedy") + ", not mirrored" * (r.get("mirror") is False)
        about = (" and ".join(r["models"]), scales) if kind == "net" else (kind, "-")
        rows.append((*about, *(share(r["errors"][kind][c], r["photos"]) for c in MEANING)))
    return [*rows, ("the class alone", *"---", *(share(n, last["photos"]) for n in last["class_errors"].values()))]


def results_words(records: Sequence[dict[str, Any]]) -> str:
    """The records for a reader: what was found, then the table."""
    boxes, maps = of_boxes(records)
    said = [verdict_of(boxes[-1]), "", aligned(HEADER, box_rows(boxes))] if boxes else []
    return "\n".join(said + maps)


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


def with_earlier(run: Path, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Behind what other tests found, but of this run only those of its present net; they keep their counts alone."""
    before = read_json(run / RESULTS).get("results", []) if (run / RESULTS).exists() else []
    new, best = [[r.get(name) for name in TEST] for r in records], run / "best.safetensors"
    present = read_contract(best).sha256 if best.exists() else ""

    def stale(r: dict[str, Any]) -> bool:
        nets = zip(r["models"], r["sha256"], strict=True) if "models" in r else [(r["model"], r["sha256"])]
        own = (sha256 for name, sha256 in nets if (folder := folder_of(name)) and folder.resolve() == run.resolve())
        return any(sha256 != present for sha256 in own)

    kept = [r for r in before if not stale(r) and [r.get(name) for name in TEST] not in new]
    long = LONG if of_boxes(records)[0] else ()  # otherwise the page goes on showing the wrong boxes that it has
    return [{name: value for name, value in r.items() if name not in long} for r in kept] + [*records]


def box_report(place: Path | str, records: Sequence[dict[str, Any]], data: str) -> Path | None:
    """Writes the page, into a run with the records beside it; returns its path, or None where place is no run."""
    run = folder_of(str(place))
    records = with_earlier(run, records) if run else records
    boxes, maps = of_boxes(records)
    path = run / "localisation.html" if run else Path(place).expanduser()
    if run:
        write_bounded(run / RESULTS, json.dumps({"results": records}))
        write_report(run)
    elif path.suffix != ".html":
        return None
    facts: dict[str, Any] = {"learnt": run, "last": boxes[-1] if boxes else None, "data": data, "maps": maps}
    if last := facts["last"]:
        facts |= {
            "verdict": verdict_of(last), "columns": HEADER, "rows": box_rows(boxes), "table_8": TABLE_8,
            "table_9": [[x or "-" for x in row] for row in TABLE_9], "curve": figures.svg_uri(curve_of(last)),
            "pictures": pictures(last),
        }  # fmt: skip
    write_text(path, rendered("localise/page.html.j2", facts))
    return path


def curve_of(r: dict[str, Any]) -> Figure:
    """Errors over the IoU that a right box must have more of."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    colours = (figures.BLUE, figures.GREEN, figures.ORANGE, figures.GREY)
    for (name, words), colour in zip(MEANING.items(), colours, strict=True):
        rates = [100 * n / r["photos"] for n in r["curve"][name]]
        axis.plot(r["curve"]["iou"], rates, color=colour, marker="o", markersize=3, label=words)
    axis.set_ylim(0, 100)
    axis.legend(frameon=False)
    figures.framed(axis, "error in %", "IoU that is needed")
    return figure


def pictures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The most wrong boxes: the answer red, the truth green; without photos where the data has gone."""
    found = []
    try:
        splits = open_data(record["location"]).splits.values()
        places = {key: (photos, i) for photos in splits for i, key in enumerate(photos.keys)}
        for w in record.get("worst", ()):
            if w["photo"] in places:
                photos, id = places[w["photo"]]
                found.append(w | {"source": picture(photos.open(id), w)})
    except VeryDeepError:
        return found
    return found


def picture(image: Image.Image, w: dict[str, Any]) -> str:
    scale = PICTURE / max(image.size)
    shown = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    boxes = [(t["box"], GREEN) for t in w["truth"]] + [(w["box"], RED)]
    out = io.BytesIO()
    drawn = with_boxes_drawn(shown, [([x * scale for x in box], "", colour) for box, colour in boxes])
    drawn.save(out, "JPEG", quality=85)
    return figures.uri(out.getvalue(), "image/jpeg")
