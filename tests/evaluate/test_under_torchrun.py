"""Several ranks under torchrun find exactly what one finds, in all protocols, and save it in one file.

What one rank does: torchrun ... test_under_torchrun.py ROOT OUT.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from slow import evaluated, made, noisy_folder

from verydeep.evaluate.scores import unpack
from verydeep.evaluate.views import PROTOCOLS
from verydeep.ranks import joined

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By number of ranks the folder with records and saved posteriors; six photos are two batches, none for rank 3."""
    root = tmp_path_factory.mktemp("ranks")
    noisy_folder(root / "photos", "abcdef", 1, bad=["c/0.png"])
    for n in range(2):
        made("abcdef"[:: 1 - 2 * n], (33, 41), n).save(root / f"{n}.safetensors")
    found = {size: root / f"{size}" for size in (1, 2, 3)}
    for size, out in found.items():
        out.mkdir()
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)] if size > 1 else []
        command = [sys.executable, *torchrun, __file__, root, out]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    return found


def plainly(value):
    """Without times and folders, which differ."""
    if isinstance(value, list):
        return [plainly(v) for v in value]
    if isinstance(value, dict):
        return {k: plainly(v) for k, v in value.items() if k not in ("seconds", "model")}
    return value.split(" when ")[0] if isinstance(value, str) else value


@pytest.mark.parametrize("size", [2, 3])
def test_several_ranks_count_what_one_counts_and_save_it_in_one_file(results, size):
    one, several = (json.loads((results[n] / "records.json").read_text()) for n in (1, size))
    assert plainly(several) == plainly(one)
    assert [r["protocol"] for r in one[0]] == ["centre", "dense", "dense", "crops", "both"] * 3
    for r in one[0]:
        assert (r["photos"], [s["photo"] for s in r["skipped"]]) == (5, ["c/0.png"])
        assert unpack(r["tested"], 6).tolist() == [True, True, False, True, True, True]
        assert not unpack(r["right"]["top1"], 6)[2]
    assert len({r["right"]["top1"] for r in one[0]}) > 1
    one, several = (safetensors.numpy.load_file(results[n] / "p.safetensors") for n in (1, size))
    assert one.keys() == several.keys()
    assert all(np.allclose(t, several[name], rtol=1e-6, equal_nan=t.dtype == np.float32) for name, t in one.items())
    assert sorted(p.name for p in results[size].iterdir()) == ["p.safetensors", "records.json"]


def work_of_a_rank(root, out):
    models, photos = [root / "0.safetensors", root / "1.safetensors"], root / "photos"
    with joined() as ranks:
        given = {"precision": "fp64", "batch": 3, "bad_photos": "skip", "ranks": ranks}
        found = evaluated(models, photos, PROTOCOLS, "several", save=out / "p.safetensors", **given)
        again = evaluated([out / "p.safetensors", models[1]], photos, ["dense", "both"], "several", **given)
        few = evaluated(models[:1], photos, ["centre"], limit=3, **given)
    if ranks.first:
        (out / "records.json").write_text(json.dumps([found, again, few]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    work_of_a_rank(Path(sys.argv[1]), Path(sys.argv[2]))
