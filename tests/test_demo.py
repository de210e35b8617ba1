from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from verydeep.cli import main
from verydeep.config import Config
from verydeep.recipes import recipe_file


def test_a_small_demo_ends_with_a_report_and_is_quick_when_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--epochs", "1", "--drop_at", "[]", "--base_width", "4", "--fc_width", "16", "--batch", "500"]
    words = ["demo", "--out", str(tmp_path / "demo"), *small]
    assert main([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert Path(first["report"]).is_file()
    assert len(first["answers"]) == 5
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == first["results"], "nothing is tested twice"


def test_the_demo_recipe_is_what_the_demo_runs() -> None:
    recipe = Config(**yaml.safe_load(recipe_file("demo").read_text()))
    assert (recipe.net, recipe.crop, recipe.fc_width, recipe.batch, recipe.scale) == ("A", 32, 512, 64, 36)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_whole_demo_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    import torch

    torch.set_num_threads(2)
    began = time.time()
    assert main(["demo", "--out", str(tmp_path / "demo"), "--seed", str(seed), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["results"][0]
    print(f"seed {seed}: {result['top1_error']} %, {time.time() - began:.0f} s")
    assert result["top1_error"] <= 16
