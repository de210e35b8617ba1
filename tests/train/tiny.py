"""A training that takes a second: few photos of Fashion-MNIST, a narrow net A, and what a run left behind.

A test file takes a fixture by its name: `data = tiny.data`.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import verydeep
from verydeep.config import Config
from verydeep.data.builtin import open_builtin
from verydeep.data.source import open_data
from verydeep.errors import Interrupted
from verydeep.net.vgg import VGG
from verydeep.progress import Progress
from verydeep.run import open_run
from verydeep.train import loop
from verydeep.train.prepare import prepare, run_training
from verydeep.train.remember import remember

CONFIG = {
    "net": "A", "crop": 32, "scale": (36, 40), "fc_width": 16, "base_width": 4, "batch": 6, "epochs": 2, "lr": 1e-3,
    "workers": 0, "save_every": 3, "precision": "fp32", "device": "cpu", "patience": 99,
}  # fmt: skip
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"}


def config(**changes):
    return Config(**(CONFIG | changes))


def make_photos(folder, train=10, val=3, classes=3):
    """30 training photos, five batches of six, and 9 to validate on, as class folders; `train`: of all or of each."""
    data = open_builtin("fashion-mini")
    for split, numbers in (("train", train), ("val", val)):
        photos = data.split(split)
        for c, n in enumerate(numbers if isinstance(numbers, tuple) else (numbers,) * classes):
            (folder / split / f"c{c}").mkdir(parents=True)
            for i in (photos.targets() == c).nonzero()[0][:n]:
                photos.open(int(i)).save(folder / split / f"c{c}" / f"{i}.png")
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    go(data, run := tmp_path_factory.mktemp("whole") / "run")
    return run


@pytest.fixture(scope="module")
def uninterrupted(whole):
    return left(whole)


def job_of(data, run, **changes):
    with open_run(run, config(**changes)) as opened:
        remember(opened, open_data(data), data)
        return prepare(opened, open_data(data), config(**changes), Progress("none"))


def step_of(job, batch, step=0):
    return loop.gradients(job, job.classifier.net, batch, step, len(batch.targets))


def go(data, run, **changes):
    return run_training(data, config(**changes), run, progress=Progress("none"))


def stopped_at(step, monkeypatch, action):
    """From now on `action` happens while the gradients of a step are computed."""
    compute = loop.gradients

    def gradients(job, net, batch, now, n):
        if now == step:
            action()
        return compute(job, net, batch, now, n)

    monkeypatch.setattr(loop, "gradients", gradients)


terminate = partial(signal.raise_signal, signal.SIGTERM)


def stop(data, run, step, action=terminate, error=Interrupted, said=None, **changes):
    """A run that ends with an error, for what happens while the gradients of a step are computed."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(error, match=said):  # noqa: PT012
        stopped_at(step, patch, action)
        go(data, run, **changes)


def fp64(outputs, targets, weight=None, smoothing=0.0):
    loss = F.cross_entropy(
        outputs, targets, None if weight is None else weight.double(), reduction="sum", label_smoothing=smoothing
    )
    return loss, (outputs.argmax(1) != targets).sum()


def trained(seed=0, steps=1, **options):
    """A net and an optimizer with momenta."""
    torch.manual_seed(seed)
    net = VGG("A", classes=3, crop=32, fc_width=8, base_width=4, **options)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    for _ in range(steps):
        net(torch.randn(2, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def numbers(net, optimizer):
    momenta = [optimizer.state[p]["momentum_buffer"] for p in net.parameters() if optimizer.state.get(p)]
    return [t.clone() for t in [*net.state_dict().values(), *momenta]]


def equal(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


def command(data, run, **changes):
    """The same training by the command line."""
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in (CONFIG | changes).items()}
    words = [f"--{name}={v}" for name, v in fields.items()]
    return [sys.executable, "-m", "verydeep", "train", data, "--out", str(run), *words]


def call(*words, timeout=300):
    """A process that has ended, and what it said."""
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT)


def started(words, run, lines):
    """A process that trains and has written so many records."""
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") >= lines):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def metrics(run):
    """The records without the times, which differ between two runs."""
    timed = {"photos_per_second", "waiting_share", "seconds"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def epochs(run, name):
    return [row[name] for row in metrics(run) if name in row]


def counters(run):
    return json.loads((run / "last" / "state.json").read_text())["counters"]


def left(run):
    """What two equal runs have equal: SHA-256 of weights and momenta, counters, schedule, the best net, metrics."""
    kept = json.loads((run / "last" / "state.json").read_text())
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (run / "last").glob("*.safetensors")}
    return sums, kept["counters"], kept["schedule"], verydeep.load(run).contract.sha256, metrics(run)


def end_of(data, run, **changes):
    """What a training leaves that begins, or goes on, and comes to its end."""
    go(data, run, **changes)
    return left(run)
