"""What one rank does in test_ranks.py: torchrun ... ranks_at_work.py DATA OUT CHANGES. Not a test, a tool of one."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import safetensors.torch
import tiny
import torch

from verydeep.data.source import open_data
from verydeep.progress import Progress
from verydeep.ranks import joined
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.prepare import prepare


def gradients(job, ranks):
    """Of a step over 13 photos in two parts, and of one photo, which leaves a rank empty, by the way training takes."""
    found, net = {}, job.classifier.net
    together = ranks.together(net, job.device)
    for batch in job.batches.epoch(0):
        n = int(ranks.sum(torch.tensor(len(batch.targets))))
        if batch.number in (0, len(job.batches) - 1):
            found[f"{batch.number} sums"] = loop.gradients(job, together, batch, 0, n)
            found |= {f"{batch.number} {name}": p.grad.contiguous().clone() for name, p in net.named_parameters()}
            net.zero_grad()
    return found


def work(data, out, ranks, **changes):
    config = tiny.config(dropout=0.0, accumulate=2, **changes)
    with open_run(out / "run", config, ranks) as run:
        job = prepare(run, open_data(data), config, Progress("none"), ranks)
        job.classifier.double().train()
        goal = job.goal._replace(objective=partial(tiny.fp64, **job.goal.objective.keywords))
        found = gradients(replace(job, goal=goal), ranks)
        told = ranks.gather({"rank": ranks.rank, "text": "é" * ranks.rank})
    if ranks.first:
        safetensors.torch.save_file(found, out / "gradients.safetensors")
        (out / "told.json").write_text(json.dumps(told))


def connections():
    """The names of this process's threads that keep the ranks connected."""
    return sorted(n for t in Path("/proc/self/task").glob("*/comm") if "gloo" in (n := t.read_text()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[2])
    with joined() as ranks:
        work(sys.argv[1], out, ranks, **json.loads(sys.argv[3]))
        inside = connections()
    (out / f"connections{ranks.rank}.json").write_text(json.dumps({"inside": inside, "after": connections()}))
