"""The main job on the embedded photos, start to finish: train, test, report, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verydeep.config import Config
from verydeep.data.builtin import open_builtin
from verydeep.experiment import experiment
from verydeep.weights import load

DATA = "builtin:fashion-mini"
SHOWN = 5


def demo(config: Config, out: Path) -> dict[str, Any]:
    """Runs the demo into the run folder `out`; the record also holds answers for a few test photos."""
    record = experiment(DATA, config, out)
    classifier, test = load(out), open_builtin("fashion-mini").split("test")
    ids = [i * len(test) // SHOWN for i in range(SHOWN)]
    best = classifier.predict([test.open(i) for i in ids]).max(1)
    names = classifier.contract.classes
    answers = [
        {"photo": test.keys[i], "truth": names[int(test.targets()[i])], "answer": names[c], "probability": round(p, 4)}
        for i, p, c in zip(ids, best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return {**record, "answers": answers}
