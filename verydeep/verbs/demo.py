from dataclasses import KW_ONLY, dataclass
from typing import Any

from verydeep.config import Config
from verydeep.recipes import layered
from verydeep.verbs import FilePath, Trains
from verydeep.verbs.train import Train

DEMO = layered("demo")
SHOWN = 5


@dataclass(frozen=True)
class Demo(Trains):
    """train, test and explain a net on embedded photos, start to finish"""

    _: KW_ONLY
    out: FilePath = "runs/demo"
    """the run folder"""
    config: Config = DEMO

    def run(self) -> dict[str, Any]:
        """The record of a training, and the answers for a few test photos."""
        from verydeep.data.builtin import open_builtin
        from verydeep.weights import load

        record = Train("builtin:fashion-mini", out=self.out, config=self.config).run()
        classifier, test = load(self.out), open_builtin("fashion-mini").split("test")
        ids = [i * len(test) // SHOWN for i in range(SHOWN)]
        best = classifier.predict([test.open(i) for i in ids]).max(1)
        names, truths = classifier.contract.classes, test.targets()
        answers = [
            {"photo": test.keys[i], "truth": names[int(truths[i])], "answer": names[c], "probability": round(p, 4)}
            for i, p, c in zip(ids, best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return {**(record or {}), "answers": answers}

    def text(self, record: dict[str, Any]) -> str:
        answers = [
            f"test photo {a['photo']}: answer {a['answer']} ({100 * a['probability']:.1f} %), true class {a['truth']}"
            for a in record["answers"]
        ]
        yours = "your own photos, in a folder for each class: verydeep train PHOTOS --recipe auto --out runs/mine"
        return "\n".join([super().text(record), *answers, yours])
