"""Every answer of a test as lists for a spreadsheet: predictions.csv, mistakes.csv, confusion.csv in the run."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from verydeep.data.record import Photos
from verydeep.evaluate.scores import TESTED, TOP1, Scores
from verydeep.files.disk import write_text

LISTS = ("predictions.csv", "mistakes.csv", "confusion.csv")
HEAD = ("photo", "true class", "answer", "probability", "right")


def write_lists(run: Path, photos: Photos, scores: Scores, classes: Sequence[str], truths: Sequence[str]) -> None:
    """Writes the three; truths: names of the data's classes. Mistakes come with the most confident first."""
    targets, right = photos.targets().tolist(), (scores.known & TOP1).tolist()
    ids = np.flatnonzero(scores.known.numpy() & TESTED).tolist()
    rows = [
        (photos.keys[i], truths[targets[i]], classes[int(scores.answers[i])], f"{float(scores.sure[i]):.4f}", i)
        for i in ids
    ]
    wrong = sorted((row for row in rows if not right[row[4]]), key=lambda row: row[3], reverse=True)
    cells = [(classes[t], classes[a], n) for t, a, n in scores.cells()]
    write_csv(run / LISTS[0], HEAD, [(*row[:4], "yes" if right[row[4]] else "no") for row in rows])
    write_csv(run / LISTS[1], HEAD[:4], [row[:4] for row in wrong])
    write_csv(run / LISTS[2], ("true class", "answer", "photos"), cells)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(head)
    lines.writerows(rows)
    write_text(path, out.getvalue().encode(errors="backslashreplace").decode())  # names of files need not be text
