"""A training that takes a second: few photos of Fashion-MNIST, a narrow net A, and what a run left behind."""

import hashlib
import json

from verydeep.config import Config
from verydeep.data.builtin import open_builtin
from verydeep.progress import Progress
from verydeep.train.prepare import run_training

CONFIG = {
    "net": "A", "crop": 32, "scale": (36, 40), "fc_width": 16, "base_width": 4, "batch": 6, "epochs": 2, "lr": 1e-3,
    "workers": 0, "save_every": 3, "precision": "fp32", "device": "cpu", "patience": 99,
}  # fmt: skip


def config(**changes):
    return Config(**(CONFIG | changes))


def make_photos(folder, train=10, val=3, classes=3):
    """30 training photos, five batches of six, and 9 to validate on, as class folders."""
    data = open_builtin("fashion-mini")
    for split, n in (("train", train), ("val", val)):
        photos = data.split(split)
        for c in range(classes):
            (folder / split / f"c{c}").mkdir(parents=True)
            for i in (photos.targets() == c).nonzero()[0][:n]:
                photos.open(int(i)).save(folder / split / f"c{c}" / f"{i}.png")
    return str(folder)


def go(data, run, **changes):
    return run_training(data, config(**changes), run, progress=Progress("none"))


def metrics(run):
    """The records without the times, which differ between two runs."""
    timed = {"photos_per_second", "waiting_share", "seconds"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def state(run):
    return json.loads((run / "last" / "state.json").read_text())


def left(run):
    """What two equal runs have equal: SHA-256 of weights and momenta, counters, schedule, the best net, metrics."""
    import verydeep

    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (run / "last").glob("*.safetensors")}
    kept = state(run)
    return sums, kept["counters"], kept["schedule"], verydeep.load(run).contract.sha256, metrics(run)
