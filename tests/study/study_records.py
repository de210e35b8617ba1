"""Hand-made results of a study: what each net had right is written down, photo by photo."""

from __future__ import annotations

from typing import Any

import numpy as np

PHOTOS = 400
SCALES = {"256": 36, "384": 54, "[256;512]": 54}
SEVERAL = {"256": [32, 36, 40], "384": [49, 54, 59], "[256;512]": [36, 54, 72]}
NETS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19, "shallow-B": 8}


def stage(net: str, way: str, seed: int = 0) -> tuple[str, dict[str, Any]]:
    name = f"{net}-{way}-seed{seed}"
    return name, {
        "net": net, "way": way, "seed": seed, "scale": {"256": "36", "384": "54"}.get(way, "[36;72]"), "test_scale": SCALES[way],
        "parent": None, "lr": 0.01, "epochs": 12, "epochs_done": 12, "ended": "training ends after epoch 12, the last", "val_error": 10.0,
        "sha256": "0123456789abcdef", "parameters": 910954, "multiply_adds": 10212352, "weight_layers": NETS[net],
    }  # fmt: skip


def wrong_first(wrong: int, start: int = 0) -> np.ndarray:
    """Right everywhere but on `wrong` photos from `start` on."""
    right = np.ones(PHOTOS, bool)
    right[start : start + wrong] = False
    return right


def result(
    stages: list[str], right: np.ndarray, protocol: str, scales: list[int], tested: np.ndarray | None = None
) -> dict[str, Any]:
    tested = np.ones(len(right), bool) if tested is None else tested
    right, n = right & tested, int(tested.sum())
    errors = n - int(right.sum())
    packed = np.packbits(right).tobytes().hex()
    return {
        "stages": stages, "protocol": protocol, "scales": scales, "mirror": protocol != "centre", "split": "test", "photos": n,
        "top1_errors": errors, "top5_errors": errors, "top1_error": 100 * errors / n, "top5_error": 100 * errors / n,
        "right": {"top1": packed, "top5": packed}, "tested": np.packbits(tested).tobytes().hex(), "limit": None if n == len(right) else n,
        "crop": 32, "pooling": "up", "seconds": 1.0,
    }  # fmt: skip


def study(results: list[dict[str, Any]], stages: dict[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    from verydeep.config import Config, plain
    from verydeep.hardware import machine

    config = plain(Config(net="A", crop=32, scale=36, fc_width=512, epochs=12, drop_at=(8, 10)))
    return {
        "version": "0.0", "data": "photos <b>|", "location": "/photos", "fingerprint": "f",
        "photos": {"train": 6000, "val": 1000, "test": PHOTOS},
        "classes": 10, "held_out": False, "split": "test", "config": config, "nets": sorted({f["net"] for f in stages.values()}),
        "seeds": sorted({f["seed"] for f in stages.values()}), "train_scales": "table3", "tuning_epochs": None, "crops_photos": None,
        "test_photos": None,
        "made_with": machine(), "stages": stages, "results": results,
    } | changes  # fmt: skip
