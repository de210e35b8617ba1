"""The example paints: style gets nearer, content stays near, and a wrong file is one line."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.perceptual.test_perceptual import picture, toy
from verydeep import perceptual
from verydeep.progress import Progress

FILE = Path(__file__).parents[2] / "examples" / "style_transfer.py"


def test_style_transfer_brings_style_nearer():
    spec = importlib.util.spec_from_file_location("style_transfer", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net, photo, painting = toy(), picture(40, 48), picture(64, 40, seed=9)
    found = module.stylised(net, photo, painting, 20.0, 12, Progress("none"))
    style, content = perceptual.Style(net), perceptual.Content(net)
    assert style(found, painting) < 0.5 * style(photo, painting)
    assert content(found, photo) < content(painting.new_full((1, 3, 40, 48), 0.5), photo)
    assert (float(found.min()) >= 0, float(found.max()) <= 1) == (True, True)


def test_style_transfer_from_files(tmp_path):
    toy().save(tmp_path / "toy.safetensors")
    for name in ("a", "b"):
        pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")  # whose styles are the same
    words = [sys.executable, str(FILE), "a.png", "b.png", "out.png", "--model", "toy.safetensors", "--steps", "2"]
    how = {
        "cwd": tmp_path,
        "capture_output": True,
        "text": True,
        "env": os.environ | {"PYTHONPATH": str(FILE.parents[1])},
    }
    subprocess.run([*words, "--longest", "40"], check=True, **how)
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (40, 29)
    done = subprocess.run([*words[:2], "none.png", *words[3:]], check=False, **how)
    assert done.returncode == 1
    assert done.stderr == "style_transfer: none.png: cannot be read (No such file or directory)\n"
    assert len(FILE.read_text().splitlines()) < 80
