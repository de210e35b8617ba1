"""How many threads compute: those that the machine has free, and in a run those that it was begun with."""

import json
import multiprocessing
import os
import sys

import pytest
import torch

from verydeep import hardware
from verydeep.cli import main


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("free", "asked", "used", "said"),
    [
        (2, None, 2, False),
        (1, None, 1, True),
        (0, None, 1, True),
        (8, None, 2, False),
        (0, 2, 2, False),
        (2, 1, 1, False),
    ],
)
def test_as_many_threads_as_are_free_or_asked_for(monkeypatch, two_threads, free, asked, used, said):
    monkeypatch.setattr(hardware, "free_cores", lambda: free)
    lines = []
    with hardware.computing(asked, lines.append):
        assert torch.get_num_threads() == used
    assert torch.get_num_threads() == 2
    assert bool(lines) == said == any("'train --threads 2' takes all" in line for line in lines)


def test_a_number_in_the_environment_is_a_choice(monkeypatch, two_threads):
    monkeypatch.setattr(hardware, "free_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with hardware.computing(None, print):
        assert torch.get_num_threads() == 2


def spin(ready):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ready.set()
    while True:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say it")
def test_a_busy_core_is_not_free(monkeypatch):
    core = min(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    neighbour = context.Process(target=spin, args=(ready := context.Event(),), daemon=True)
    neighbour.start()
    try:
        assert ready.wait(60)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {core})
        assert hardware.free_cores() == 0
    finally:
        neighbour.kill()
        neighbour.join()


def test_a_container_with_part_of_the_cores(monkeypatch, tmp_path):
    def at(text):
        (tmp_path / "cpu.max").write_text(text)
        (tmp_path / "stat").write_text("cpu0 0 0 0 1 0 0 0 0\n")
        return lambda path: tmp_path / path.rpartition("/")[2]

    monkeypatch.setattr(hardware, "LOOK", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    for text, cores in (("200000 100000", 2), ("max 100000", 64), ("", 64)):
        monkeypatch.setattr(hardware, "Path", at(text))
        assert hardware.free_cores() == cores


def test_a_run_goes_on_with_the_threads_it_was_begun_with(monkeypatch, two_threads, tmp_path, capsys):
    monkeypatch.setattr(hardware, "free_cores", lambda: 1)
    words = ["train", "builtin:fashion-mini", "--recipe", "demo", "--out", str(tmp_path / "run"), "--device", "cpu"]
    small = ["--base_width", "2", "--fc_width", "4", "--most_photos", "64", "--batch", "32"]
    assert main([*words, *small, "--epochs", "1", "--schedule", "drops"]) == 0
    assert "computing with 1 of 2 threads" in capsys.readouterr().err
    monkeypatch.setattr(hardware, "free_cores", lambda: 2)  # which a new run would take
    assert main([*words, *small, "--epochs", "2", "--schedule", "drops"]) == 0
    assert "the same bit for bit" not in capsys.readouterr().err
    made = json.loads((tmp_path / "run/run.json").read_text())["made_with"]
    assert made["threads"] == 1
    assert main([*words, *small, "--epochs", "3", "--schedule", "drops", "--threads", "2"]) == 0
    assert "begun with another threads (1 then, 2 now)" in capsys.readouterr().err
