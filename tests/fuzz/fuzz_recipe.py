"""Fuzzing of configurations: any config.yaml of a run is a Config or a RunError or ConfigError, within 2 s and 100 MB.

    python tests/fuzz/fuzz_recipe.py -max_total_time=60

Options are libFuzzer's. The seeds are made here, in a temporary folder: the defaults, the recipes, and odd YAML.
"""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path

import atheris
from harness import bounded, fuzz

with atheris.instrument_imports(include=["verydeep", "yaml"]):
    import yaml

    from verydeep.config import Config, from_plain, plain
    from verydeep.errors import VeryDeepError
    from verydeep.run import read_config

SLOWER = 4.0  # instrumented Python beside plain
FOLDER = Path(tempfile.mkdtemp())
ODD = (
    b"crop: 0x7fffffffffffffffffff\nscale: [1:30, .inf]\n",
    b"&a [*a]",
    b"<<: {net: A}\ndrop_at: !!set {1, 2}\nlr: !!timestamp 2014-09-04\n",
    b"net: !!binary aGVsbG8=\nseed: !!omap [a: 1]\nflip: ~\nbalance: [none]\n",
    b"crop: 0x" + b"f" * 4000,  # more digits than Python prints
    b"lr: .nan\nmomentum: -.inf\nepochs: 1e9\ndrop_factor: 1_0\n",
)


def read(data: bytes) -> None:
    (FOLDER / "config.yaml").write_bytes(data)
    found = read_config(FOLDER)
    assert from_plain(yaml.safe_load(yaml.safe_dump(plain(found))), "again") == found


def test_one_input(data: bytes) -> None:
    bounded(read, data, VeryDeepError, SLOWER)


def main() -> None:
    recipes = [f.read_bytes() for f in resources.files("verydeep.recipes").iterdir() if f.name.endswith(".yaml")]
    fuzz(
        test_one_input,
        {str(i): data for i, data in enumerate([yaml.safe_dump(plain(Config())).encode(), *recipes, *ODD])},
        FOLDER,
    )


if __name__ == "__main__":
    main()
