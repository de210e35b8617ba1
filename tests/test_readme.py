"""The commands of both READMEs, executed as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verydeep.cli import main, parse
from verydeep.weights.catalogue import catalogue

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    )


def test_both_readmes_have_the_same_commands() -> None:
    assert all(blocks("README.md", language) == blocks("README.zh.md", language) for language in ("sh", "console"))


def test_the_set_up_commands_are_targets_that_end_in_a_demo_and_in_all_tests() -> None:
    assert [b.strip() for b in blocks("README.md", "sh")][:2] == ["make demo", "make test"]
    assert ".venv/bin/verydeep demo" in run(["make", "-n", "demo"], ROOT).stdout
    planned = run(["make", "-n", "test"], ROOT).stdout
    assert all(f".venv/bin/{tool}" in planned for tool in ("ruff format --check", "ruff check", "mypy", "pytest"))
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def check_serving(serve: str, curl: str, folder: Path) -> None:
    """Both as they stand there, but for the port."""
    words = [*shlex.split(serve.replace("8000", "0")), "--json"]
    words[0] = str(Path(sys.executable).parent / words[0])
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = json.loads(server.stdout.readline())["url"]  # type: ignore[union-attr]
            if shutil.which("curl"):
                done = run(shlex.split(curl.replace("http://127.0.0.1:8000", url)), folder)
                assert "probability" in json.loads(done.stdout)["classes"][0], done.stderr
        finally:
            server.terminate()
    assert server.returncode == 0


def test_the_commands_for_own_photos(tmp_path: Path, photo_folder: Path) -> None:
    commands = [line for block in blocks("README.md", "sh")[2:] for line in block.splitlines()]
    assert photo_folder == tmp_path / "photos"
    (photo_folder / "1").rename(photo_folder / "cat")
    assert any("train photos" in c for c in commands)
    served = [c for c in commands if c.startswith(("verydeep serve", "curl"))]
    for command in commands:
        if command in served:
            continue
        verbs = ("verydeep train", "verydeep study", "localise train")
        small = " --epochs 2" if any(verb in command for verb in verbs) else ""
        small += " --most_photos 300 --steps 10" if "builtin:fashion-scenes" in command else ""
        if small and not re.search("--from|--classifier", command):  # which bring the widths of their net
            small += " --base_width 8 --fc_width 32"
        done = run(shlex.split(command + small), tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    check_serving(*served, tmp_path)
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert "seeds 0, 1, 2" in (tmp_path / "runs" / "study" / "study.html").read_text(encoding="utf-8")
    assert "'verydeep train' would run" in (tmp_path / "check.html").read_text(encoding="utf-8").replace("&#39;", "'")
    from_folder, from_shards = (
        next((tmp_path / "runs" / run / "last").glob("weights*")).read_bytes() for run in ("mine", "shards")
    )
    assert from_folder == from_shards
    assert (tmp_path / "runs" / "tuned" / "report.html").is_file()
    for script in blocks("README.md", "python"):
        done = run([sys.executable, "-W", "error", "-c", script], tmp_path)
        assert done.returncode == 0, done.stderr


def test_commands_for_published_nets_say_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of the language console need files that no test has: each is understood up to a net of the catalogue."""
    monkeypatch.setenv("VERYDEEP_WEIGHTS", str(tmp_path))
    commands = [shlex.split(line) for block in blocks("README.md", "console") for line in block.splitlines()]
    assert len(commands) == 5
    for program, *words in commands:
        assert program == "verydeep"
        if words[:2] == ["weights", "fetch"]:
            assert parse(words)[0].name in catalogue()
            continue
        assert main(words) == 1
        assert "is not at hand; 'verydeep weights fetch oxford-d' brings it (528 MiB)" in capsys.readouterr().err


def test_the_links_lead_somewhere() -> None:
    """Of both READMEs and every page of docs; an anchor is left to the reader's browser."""
    for page in (*(ROOT / readme for readme in READMES), *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        assert links or page.parent != ROOT
        assert not [link for link in links if not (page.parent / link).exists()], page


@pytest.mark.parametrize("page", ["docs/tour.md", "docs/tour.zh.md"])
def test_the_python_of_the_tour_runs_and_prints_what_stands_below_it(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = blocks(page, "python")
    assert len(scripts) == 7
    for script in scripts:
        exec(compile(script, page, "exec"), {})
        told = re.findall(r"^# (\w[\w-]+ [\d.]+ \S+|Geometry\(.*?\))", script, re.MULTILINE)
        assert not set(told) - set(capsys.readouterr().out.splitlines()), script


def test_each_number_of_a_decision_is_used_once() -> None:
    numbers = [int(page.name[:4]) for page in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
def test_make_demo_from_a_fresh_clone(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    done = run(["make", "demo"], tmp_path / "clone")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clone" / "runs" / "demo" / "report.html").is_file()
