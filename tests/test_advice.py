"""What the command line says when it cannot go on: every option it names exists where it is given."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image

import verydeep
from verydeep.cli import main, verb_names
from verydeep.fields import Parser
from verydeep.verbs import verb_class

PACKAGE = Path(verydeep.__file__).parent
TRAINING = ("demo", "study", "train")
MODEL = ("evaluate", "predict", "train", "weights show", "weights verify")
DATA = ("check", "evaluate", "pack", "study", "train")  # verbs that open DATA
ENGINES = "predict", "evaluate", "describe", "transfer", "localise evaluate", "localise predict"
BOXES = ("localise train", "localise evaluate", "localise predict")
# The verbs that meet the messages of a file; of a room where no file is named. The longest that fits counts.
MET_BY = {
    "config.py": TRAINING, "together.py": TRAINING, "fields.py": ("train",), "recipes": TRAINING, "run.py": TRAINING,
    "cli.py": ("train",),
    "train": TRAINING, "choose": ("train",), "net": TRAINING, "data": TRAINING, "data/builtin.py": DATA,
    "doctor": ("train",), "describe": ("describe",), "transfer": ("transfer",), "explain": ("explain",),
    "evaluate": ("evaluate",), "evaluate/classify.py": ("evaluate", *TRAINING), "study": ("study",),
    "shards": DATA, "collections": DATA,
    "localise": BOXES, "localise/measure.py": BOXES[:2], "report/page.py": ("localise train",),
    "shards/packing.py": ("pack",), "shards/write.py": ("pack",), "report": ("train",),
    "engines": ENGINES, "export": ("export",), "serve": ("serve",),
    "hardware.py": ("evaluate", "predict", *TRAINING), "predict.py": ("predict",), "verbs/__init__.py": TRAINING,
    "weights": (*MODEL, "weights convert"),
    **dict.fromkeys(("weights/convert.py", "weights/model.py"), ("weights convert",)),  # which alone has --expects
    "weights/published.py": ("weights list",), "verbs/weights.py": ("weights convert",),
    "verbs/localise.py": ("localise train",), "recipes/modern-boxes.yaml": ("localise train",),
    "files": ("pack", *TRAINING),  # make_folder is also called for the results of `evaluate`, in a run that is there
} | {f"verbs/{name}.py": (name,) for name in verb_names() if name not in ("weights", "localise")}  # fmt: skip

TINY = ["--recipe", "small", "--base_width", "4", "--fc_width", "8", "--crop", "32", "--scale", "36"]
MINI, FASHION = "builtin:fashion-mini", "builtin:fashion-a"


def no_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def no_photo(*args, **kwargs):
    raise MemoryError


@pytest.mark.parametrize(
    ("words", "where", "failing", "advice"),
    [
        (["train", MINI, *TINY], "verydeep.net.vgg.VGG.forward", no_memory, "--accumulate"),
        (["study", MINI, *TINY, "--nets", "A", "--dry-run"], "verydeep.net.vgg.VGG.forward", no_memory, "--base_width"),
        (["evaluate", FASHION, MINI], "verydeep.net.classifier.Classifier.dense", no_memory, "--batch"),
        (["evaluate", FASHION, "PHOTOS"], "PIL.ImageFile.ImageFile.load", no_photo, "--workers"),
        (
            ["predict", FASHION, "PHOTOS", "--engine", "torch"],
            "verydeep.net.classifier.Classifier.dense",
            no_memory,
            "--protocol centre",
        ),
        (["predict", FASHION, "PHOTOS"], "PIL.ImageFile.ImageFile.load", no_photo, "--workers"),
        (["check", "PHOTOS"], "PIL.ImageFile.ImageFile.load", no_photo, "--workers"),
    ],
)
def test_memory_that_runs_out_is_one_line(words, where, failing, advice, photo_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(where, failing)
    monkeypatch.setattr("verydeep.hardware.multiplies_bf16", lambda device: False)
    for number, name in (("1", "Trouser"), ("2", "Dress"), ("10", "Coat")):  # which the model knows
        (photo_folder / number).rename(photo_folder / name)
    words = [w if w != "PHOTOS" else str(photo_folder) for w in words]
    out = ["--out", str(tmp_path / "out")] if words[0] in ("train", "study") else []
    assert main([*words, *out]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"verydeep {words[0]}: the memory does not hold")
    assert advice in said


def test_a_long_photo_is_told_what_predict_has(tmp_path, capsys):
    Image.new("RGB", (40, 900)).save(tmp_path / "long.png")
    assert main(["predict", FASHION, str(tmp_path / "long.png"), "--protocol", "dense", "--json"]) == 1
    said = capsys.readouterr().out
    assert "longer than 8:1" in said
    assert "--protocol centre" in said
    assert "--long_photos" not in said
    assert "crops" not in said


@cache
def options(verb):
    """What --help shows of a verb, such as `weights convert`."""
    kind, *own = verb.split()
    kind = verb_class(kind).own()[own[0]] if own else verb_class(kind)
    kind.describe(parser := Parser(prog="verydeep"))
    return set(re.findall(r"^  (?:-h, )?--([a-z_]+)", parser.format_help(), re.MULTILINE))


def texts(path):
    """Strings of a module, those with values in them whole; a template line by line, but for CSS."""
    text = path.read_text()
    if path.suffix == ".yaml":
        return [text]
    if path.suffix == ".j2":
        return [line for line in text.splitlines() if not re.search(r"var\(--|^ +--\w+:|:root", line)]
    found, inner = [], set()
    for node in ast.walk(ast.parse(text)):  # from the outside in
        if isinstance(node, ast.JoinedStr):
            inner |= {id(n) for n in node.values}
            found.append("".join(n.value if isinstance(n, ast.Constant) else "X" for n in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    return found


FILES = [
    p for p in sorted(PACKAGE.rglob("*")) if p.suffix in (".py", ".j2", ".yaml") and p.name != "package.py"
]  # pip's


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_option_that_is_named_is_there(path):
    """In all verbs that may meet it, or in one that the sentence names."""
    name = str(path.relative_to(PACKAGE))
    verbs = next(
        (MET_BY[n] for n in sorted(MET_BY, key=len, reverse=True) if name == n or name.startswith(f"{n}/")), ()
    )
    for text in texts(path):
        named = [v for v in verb_names() if re.search(rf"\b{v}\b", text)] + [v for v in BOXES if v in text]
        named += ["weights convert"] * ("convert" in text)
        for option in re.findall(r"(?<![\w-])--([a-z][a-z_-]*)", text.replace("curl --data-binary", "curl")):
            option = option.replace("-", "_")
            assert verbs or named, f"who meets --{option} of {text!r}?"
            lacking = [v for v in verbs if option not in options(v) | {"version"}]
            assert not lacking or any(option in options(v) for v in named), f"{lacking} lacks --{option}: {text!r}"
