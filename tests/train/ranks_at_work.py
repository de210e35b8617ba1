"""What one rank does in test_ranks.py: torchrun ... ranks_at_work.py DATA OUT. Not a test, a tool of one."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import safetensors.torch
import tiny
import torch
import torch.nn.functional as F

from verydeep.data.source import open_data
from verydeep.evaluate.classify import count
from verydeep.evaluate.passes import Settings
from verydeep.progress import Progress
from verydeep.ranks import joined
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.prepare import prepare


def fp64(outputs, targets, weight=None):
    weight = None if weight is None else weight.double()
    return F.cross_entropy(outputs, targets, weight, reduction="sum"), (outputs.argmax(1) != targets).sum()


def gradients(job, opened, ranks):
    """Of a step over 13 photos in two parts, and of one photo, which leaves a rank empty, by the way training takes."""
    found = {}
    together = ranks.together(job.classifier.net, job.device)
    for batch in job.batches.epoch(0):
        n = int(ranks.sum(torch.tensor(len(batch.targets))))
        if batch.number in (0, len(job.batches) - 1):
            sums = loop.gradients(job, together, batch, 0, n)
            found |= {
                f"{batch.number} {name}": p.grad.contiguous().clone()
                for name, p in job.classifier.net.named_parameters()
            }
            found[f"{batch.number} sums"] = sums
            job.classifier.net.zero_grad()
    return found


def work(data, out, ranks, **changes):
    config = tiny.config(dropout=0.0, accumulate=2, **changes)
    with open_run(out / "run", config, ranks) as run:
        job = prepare(run, opened := open_data(data), config, Progress("none"), ranks)
        job.classifier.double().train()
        job = replace(job, objective=partial(fp64, **job.objective.keywords))
        found = gradients(job, opened, ranks)
        scores = {}
        for protocol in ("centre", "dense"):
            for batch in (1, 4, 32):
                s, bad = count(
                    job.classifier,
                    opened.split("train"),
                    Settings(batch=batch, workers=0),
                    ranks=ranks,
                    protocol=protocol,
                )
                scores[f"{protocol} {batch}"] = [
                    s.as_dict(),
                    s.confusion.tolist(),
                    sorted(id for _, id, _, _ in s.mistakes),
                    bad,
                ]
        told = ranks.gather({"rank": ranks.rank, "text": "é" * ranks.rank})
    if ranks.first:
        safetensors.torch.save_file(found, out / "gradients.safetensors")
        (out / "scores.json").write_text(json.dumps(scores))
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
