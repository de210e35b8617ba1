"""The programs of docs/export.md, as they stand there, answer from exported files as the model does."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

import verydeep
from verydeep.cli import main
from verydeep.data import photo
from verydeep.export import export_model
from verydeep.export.checking import made_up

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
NODE_MODULES = os.environ.get("VERYDEEP_NODE_MODULES", "")
EXACT, WITHOUT_FLOAT64 = 1e-4, 2e-3  # of a probability, printed with four places
NAMES = tuple(f'{i}: "a"], ["b", \\c, é鸟' for i in range(10))


def block(title, language):
    """The one code block of a language in a section; what is before the first title has none."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)[0] if not title else PAGE.split(f"\n## {title}\n")[1]
    (found,) = re.findall(rf"```{language}\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    return found


def run(commands, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=folder, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a photo that EXIF turns, the page's file, and one whose classes have names that are hard to read.

    And what the model says of the photo, by the file: the class and its probability.
    """
    folder = tmp_path_factory.mktemp("files")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(made_up(60, 85, 8)).save(folder / "photo.png", exif=turned)
    with chdir(folder):
        _, *words = shlex.split(block("", "sh"))
        assert main(words) == 0
    net = verydeep.load("builtin:fashion-a").eval()
    seen = photo.rescale(photo.from_file(folder / "photo.png"), net.contract.test_scale)
    with torch.no_grad():
        posteriors = net(torch.from_numpy(seen.copy())[None].permute(0, 3, 1, 2)).softmax(1)[0]
    best, probability = int(posteriors.argmax()), float(posteriors.max())
    classes = net.contract.classes
    net.contract = replace(net.contract, classes=NAMES)
    net.save(folder / "named.safetensors")
    export_model(str(folder / "named.safetensors"), "onnx", folder / "named.onnx", dense=True)
    run(block("A photo without a decoder", "sh"), folder)
    return folder, {"clothes.onnx": (classes[best], probability), "named.onnx": (NAMES[best], probability)}


def check_answers(files, folder, code, commands, most):
    """Builds and runs a program in a folder, and runs it again on the other file."""
    path, text = code
    there, wanted = files
    (folder / path).write_text(text, encoding="utf-8")
    for name in ("photo.png", "photo.ppm"):
        shutil.copy(there / name, folder)
    *_, last = lines = [line for line in commands.splitlines() if not re.match("(pip|npm) install ", line)]
    for todo, file in (("\n".join(lines), "clothes.onnx"), (last, "named.onnx")):
        shutil.copy(there / file, folder / "clothes.onnx")
        label, _, probability = run(todo, folder).removesuffix("\n").rpartition(" ")
        assert label == wanted[file][0]
        assert float(probability) == pytest.approx(wanted[file][1], abs=most)


def test_python(files, tmp_path):
    code = block("Python", "python")
    imported = [n for n in ast.walk(ast.parse(code)) if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", None) or node.names[0].name for node in imported}
    assert names == {"json", "numpy", "onnxruntime", "PIL"}
    check_answers(files, tmp_path, ("answer.py", code), block("Python", "sh"), EXACT)


@pytest.mark.parametrize("package", ["onnxruntime-web", "onnxruntime-node"])
def test_javascript(package, files, tmp_path):
    if not shutil.which("node"):
        pytest.skip("there is no node")
    if not NODE_MODULES or not Path(NODE_MODULES, package).is_dir():
        pytest.skip(f"VERYDEEP_NODE_MODULES names no node_modules with {package}")
    (tmp_path / "node_modules").symlink_to(Path(NODE_MODULES).resolve())
    code = block("JavaScript", "js").replace('"onnxruntime-web"', f'"{package}"')
    assert f'from "{package}"' in code
    check_answers(files, tmp_path, ("answer.mjs", code), block("JavaScript", "sh"), EXACT)


def test_cpp(files, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("there is no g++")
    folders = getattr(find_spec("openvino"), "submodule_search_locations", None) or [""]
    if not Path(folders[0], "include", "openvino", "openvino.hpp").is_file():
        pytest.skip("OpenVINO's headers are not installed")
    check_answers(files, tmp_path, ("answer.cpp", block("C++", "cpp")), block("C++", "sh"), WITHOUT_FLOAT64)
