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
    models = [str(root / f"{n}.safetensors") for n in range(2)]
    settings = Settings(precision="fp64", batch=3, workers=0, bad_photos="skip")
    quiet = {"settings": settings, "progress": Progress("none")}
    with joined() as ranks:
        found = evaluate_models(
            models, str(root / "photos"), PROTOCOLS, "several", save=out / "p.safetensors", ranks=ranks, **quiet
        )
        again = evaluate_models(
            [str(out / "p.safetensors"), models[1]],
            str(root / "photos"),
            ["dense", "both"],
            "several",
            limit=None,
            ranks=ranks,
            **quiet,
        )
        few = evaluate_models(models[:1], str(root / "photos"), ["centre"], limit=3, ranks=ranks, **quiet)
    if ranks.first:
        (out / "records.json").write_text(json.dumps([found, again, few]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
