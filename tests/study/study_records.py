"""Hand-made results of a study: what each net had right is written down, photo by photo."""

from typing import Any

import numpy as np

from verydeep.config import Config, plain
from verydeep.hardware import machine
from verydeep.study.claims import JITTER

PHOTOS = 400
SCALES = {"256": 36, "384": 54, JITTER: 54}
SEVERAL = {"256": [32, 36, 40], "384": [49, 54, 59], JITTER: [36, 54, 72]}
NETS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19, "shallow-B": 8}
Record = dict[str, Any]


def stage(net: str, way: str, seed: int = 0) -> tuple[str, Record]:
    return f"{net}-{way}-seed{seed}", {
        "net": net, "way": way, "seed": seed, "scale": {"256": "36", "384": "54"}.get(way, "[36;72]"),
        "test_scale": SCALES[way], "parent": None, "lr": 0.01, "epochs": 12, "epochs_done": 12,
        "ended": "training ends after epoch 12, the last", "train_error": 12.0, "val_error": 10.0,
        "sha256": "0123456789abcdef",
        "parameters": 910954, "multiply_adds": 10212352, "weight_layers": NETS[net],
    }  # fmt: skip


def wrong_first(wrong: int, start: int = 0) -> np.ndarray:
    """Right everywhere but on `wrong` photos from `start` on."""
    right = np.ones(PHOTOS, bool)
    right[start : start + wrong] = False
    return right


def hexed(flags: np.ndarray) -> str:
    return np.packbits(flags).tobytes().hex()


def result(
    stages: list[str], right: np.ndarray, protocol: str, scales: list[int], tested: np.ndarray | None = None
) -> Record:
    tested = np.ones(len(right), bool) if tested is None else tested
    n, errors = int(tested.sum()), int((tested & ~right).sum())
    return {
        "stages": stages, "protocol": protocol, "scales": scales, "mirror": protocol != "centre", "split": "test",
        "photos": n, "limit": None if n == len(right) else n, "crop": 32, "pooling": "up", "seconds": 1.0,
        "top1_errors": errors, "top5_errors": errors, "top1_error": 100 * errors / n, "top5_error": 100 * errors / n,
        "right": dict.fromkeys(("top1", "top5"), hexed(right & tested)), "tested": hexed(tested),
    }  # fmt: skip


def study(results: list[Record], stages: dict[str, Record], **changes: Any) -> Record:
    config = plain(Config(net="A", crop=32, scale=36, fc_width=512, epochs=12, drop_at=(8, 10)))
    return {
        "version": "0.0", "data": "photos <b>|", "location": "/photos", "fingerprint": "f", "split": "test",
        "photos": {"train": 6000, "val": 1000, "test": PHOTOS}, "classes": 10, "config": config,
        "nets": sorted({f["net"] for f in stages.values()}), "seeds": sorted({f["seed"] for f in stages.values()}),
        "train_scales": "table3", "tuning_epochs": None, "crops_photos": None, "test_photos": None,
        "made_with": machine(), "stages": stages, "results": results,
    } | changes  # fmt: skip


def whole_study(seeds: int = 1) -> tuple[list[Record], dict[str, Record]]:
    """Every stage of Table 3 by every protocol; errors fall by 10 photos from net to net and with every refinement."""
    facts, results = dict[str, Record](), list[Record]()

    def add(names: list[str], wrong: int, protocol: str, scales: list[int]) -> None:
        results.append(result(names, wrong_first(wrong), protocol, scales))

    for seed in range(seeds):
        for n, net in enumerate(("A", "A-LRN", "B", "C", "D", "E")):
            for w, (way, scale) in enumerate(list(SCALES.items())[: 1 if net in ("A", "A-LRN", "B") else 3]):
                name, facts_of_it = stage(net, way, seed)
                facts[name], wrong = facts_of_it, 150 - 10 * n - 10 * w + seed
                add([name], wrong + 20, "centre", [scale])
                add([name], wrong, "dense", [scale])
                add([name], wrong - 10, "dense", SEVERAL[way])
                for q in sorted({36, 54, 72} - {scale}) if net in "DE" else ():
                    add([name], wrong + abs(q - scale) * 2, "dense", [q])
        d, e = (f"{net}-{JITTER}-seed{seed}" for net in "DE")
        for names in ([d], [e], [d, e]):
            for protocol, wrong in (("crops", 40), ("both", 30), ("dense", 50)):
                add(names, wrong - 10 * len(names), protocol, SEVERAL[JITTER])
    return results, facts
