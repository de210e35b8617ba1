"""What one rank does in test_under_torchrun.py: torchrun ... ranks_at_test.py ROOT OUT. Not a test, a tool of one."""

import json
import sys
from pathlib import Path

import torch

from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import PROTOCOLS
from verydeep.progress import Progress
from verydeep.ranks import joined


def main(root, out):
    models, photos, saved = (
        [str(root / f"{n}.safetensors") for n in range(2)],
        str(root / "photos"),
        out / "p.safetensors",
    )
    settings = Settings(precision="fp64", batch=3, workers=0, bad_photos="skip")
    with joined() as ranks:
        given = {"settings": settings, "progress": Progress("none"), "ranks": ranks}
        found = evaluate_models(models, photos, PROTOCOLS, "several", save=saved, **given)
        again = evaluate_models([str(saved), models[1]], photos, ["dense", "both"], "several", **given)
        few = evaluate_models(models[:1], photos, ["centre"], limit=3, **given)
    if ranks.first:
        (out / "records.json").write_text(json.dumps([found, again, few]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
