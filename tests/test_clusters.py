"""The examples for clusters say what the command line understands."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from verydeep.cli import parse

FOLDER = Path(__file__).parents[1] / "docs" / "clusters"


def words_after_verydeep(text):
    return re.sub(r"\\\n", " ", text).split("-m verydeep train", 1)[1].split("\n")[0].replace('"', "").split()


def test_the_slurm_script_is_a_script_and_its_command_is_understood():
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    train, _ = parse(["train", *words_after_verydeep(script.read_text())])
    assert (train.data, train.out, train.config.net) == ("$DATA", "$RUN", "D")


def test_the_kubernetes_job_is_yaml_and_its_command_is_understood():
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    train, _ = parse(command[command.index("train") :])
    assert (train.data, train.out, train.config.net) == ("s3://your-bucket/ilsvrc-*.tar", "/shared/runs/net-d", "D")
    assert pod["subdomain"] == service["metadata"]["name"]
    assert {m["name"] for m in pod["containers"][0]["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_commands_of_the_page_are_understood(page):
    (block,) = re.findall(r"```sh\n(.*?)```", (FOLDER / page).read_text(), re.DOTALL)
    assert parse(["train", *words_after_verydeep(block)])[0].data == "photos"
