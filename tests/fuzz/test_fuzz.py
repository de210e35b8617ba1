"""Every fuzz_*.py beside this file runs for a minute and finds nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 60


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(HERE.glob("fuzz_*.py")), ids=lambda p: p.stem)
def test_a_minute_of_fuzzing_finds_nothing(script: Path, tmp_path: Path) -> None:
    assert importlib.util.find_spec("atheris"), "fuzzing needs atheris: pip install atheris"
    command = [sys.executable, str(script), f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=5 * SECONDS, cwd=tmp_path, env=alone
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done" in done.stderr, done.stderr[-4000:]  # libFuzzer's last line
