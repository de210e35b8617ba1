"""The commands at the heads of the recipes are understood, and shortened too."""

import re
import shlex
from pathlib import Path

import pytest

from verydeep.box_config import BoxConfig
from verydeep.cli import parse
from verydeep.config import Config
from verydeep.recipes import recipe_file, recipes


@pytest.mark.parametrize(("recipe", "kind"), [(name, kind) for kind in (Config, BoxConfig) for name in recipes(kind)])
@pytest.mark.parametrize("more", [[], ["--epochs", "4"], ["--epochs", "1"]])
def test_the_command_at_the_head_of_a_recipe_is_understood(
    recipe: str, kind: type[Config], more: list[str], tmp_path: Path
) -> None:
    head = recipe_file(recipe, kind).read_text().split("\n\n")[0]
    [command] = re.findall(r"^#     (verydeep .*)$", head, re.MULTILINE)
    words = shlex.split(command.replace("MODEL", "builtin:fashion-a"))[1:]
    verb, _ = parse([*words, *more])
    assert recipe == "demo" or recipe in words
    if more:
        config = verb.config  # type: ignore[attr-defined]
        assert config.epochs == int(more[1])
        assert all(0 < epoch < config.epochs for epoch in config.drop_at)
