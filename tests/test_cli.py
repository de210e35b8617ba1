from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from verydeep.cli import VERBS, main, parse

TINY = ["--recipe", "small", "--base_width", "4", "--fc_width", "8", "--crop", "32", "--scale", "36", "--epochs", "1"]


def test_help_does_not_import_torch() -> None:
    script = "import sys; from verydeep.cli import main; main(['--help']); assert not {'torch', 'numpy', 'jsonargparse'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert "--json" in out
    assert not re.search(r"type:|<class|Literal", out)


@pytest.mark.parametrize(
    ("verb", "names"),
    [("evaluate", ("split", "mirror", "pooling", "limit")), ("study", ("tuning_epochs", "crops_photos"))],
)
def test_help_says_what_null_means(verb: str, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    entries = {
        e.split()[0]: " ".join(e.split()) for e in capsys.readouterr().out.split("\noptions:")[1].split("\n  --")[1:]
    }
    assert all(re.search(r"null: .*default: null", entries[name]) for name in names), entries


WRONG = {
    "no verb": ([], 2, "usage"),
    "unknown verb": (["fly"], 2, "'fly' is not a verb; expected one of demo"),
    "missing DATA": (["train", "--out", "x"], 2, "missing: DATA"),
    "missing RUN": (["train", "photos"], 2, "missing: --out;"),
    "missing folder": (["train", "nowhere", "--out", "x"], 1, "nowhere does not exist; expected a folder"),
    "unknown recipe": (
        ["train", "nowhere", "--out", "x", "--recipe", "nope"],
        2,
        "recipe 'nope' is not known; expected one of demo",
    ),
    "recipe without a name": (["train", "nowhere", "--out", "x", "--recipe"], 2, "--recipe needs a name"),
    "a word for a number": (
        ["train", "nowhere", "--out", "x", "--epochs", "many"],
        2,
        "epochs: 'many' is not a whole number",
    ),
    "a word for a switch": (
        ["train", "nowhere", "--out", "x", "--flip", "maybe"],
        2,
        "flip: 'maybe' is not true or false",
    ),
    "a word for a side": (
        ["train", "nowhere", "--out", "x", "--scale", "big"],
        2,
        "scale: 'big' is not understood; expected one number, or two",
    ),
    "three sides": (
        ["train", "nowhere", "--out", "x", "--scale", "72,128,256"],
        2,
        "or two with a comma; write 72,128 or [72,128]",
    ),
    "a word for a list": (
        ["train", "nowhere", "--out", "x", "--drop_at", "six"],
        2,
        "drop_at: 'six' is not a list of whole numbers; write 6,10",
    ),
    "a word in a list": (
        ["train", "nowhere", "--out", "x", "--drop_at", "[6,x]"],
        2,
        "drop_at: 'x' is not a whole number",
    ),
    "unknown net": (
        ["train", "nowhere", "--out", "x", "--net", "F"],
        2,
        "net: 'F' is not known; expected one of 'A', 'A-LRN'",
    ),
    "unknown field": (["train", "nowhere", "--out", "x", "--nett", "A"], 2, "--nett"),
    "crop off the grid": (["train", "nowhere", "--out", "x", "--crop", "100"], 2, "crop: 100 is not a multiple of 32"),
    "S below the crop": (["train", "nowhere", "--out", "x", "--crop", "64", "--scale", "40"], 2, "scale and crop"),
    "fine-tuning nothing": (
        ["train", "nowhere", "--out", "x", "--recipe", "finetune"],
        2,
        "finetune is for a start from learnt weights",
    ),
    "fine-tuning no features": (
        ["train", "nowhere", "--out", "x", "--recipe=finetune-features"],
        2,
        "add --from MODEL",
    ),
    "two starts": (
        ["train", "nowhere", "--out", "x", "--from", "builtin:fashion-a", "--init_from=y"],
        2,
        "from and init_from: a net starts from one model",
    ),
    "two starts by one name": (
        ["train", "nowhere", "--out", "x", "--from", "y", "--from=z"],
        2,
        "give one of them once",
    ),
    "drops of a recipe": (
        [
            "train",
            "nowhere",
            "--out",
            "x",
            "--from",
            "builtin:fashion-a",
            "--recipe",
            "finetune-features",
            "--epochs",
            "2",
            "--scale",
            "256",
        ],
        2,
        "[15], which a recipe may have set, must rise and lie between 1 and 1; give --drop_at 1 too",
    ),
    "nothing left to train": (
        ["train", "nowhere", "--out", "x", "--from", "builtin:fashion-a", "--freeze", "fc8"],
        2,
        "freeze: fc8 is the last layer of net A, so nothing would be left to train; try fc7",
    ),
    "missing config": (["train", "nowhere", "--out", "x", "--config", "none.yaml"], 2, "does not exist"),
    "unknown protocol": (
        ["evaluate", "builtin:fashion-a", "builtin:fashion-mini", "--protocol", "ten"],
        2,
        "'ten' is not known",
    ),
    "Q below the crop": (
        ["evaluate", "builtin:fashion-a", "builtin:fashion-mini", "--scales", "16"],
        2,
        "Q = 16 is smaller than the crop",
    ),
    "scales that are no numbers": (
        ["evaluate", "x", "builtin:fashion-mini", "--scales", "big"],
        2,
        "scales: 'big' is not understood",
    ),
    "no photos wanted": (
        ["evaluate", "builtin:fashion-a", "builtin:fashion-mini", "--limit", "0"],
        2,
        "limit: 0 is too small",
    ),
    "unknown average": (["evaluate", "x", "y", "--average", "best"], 2, "average: 'best' is not known"),
    "unknown pooling": (["evaluate", "x", "y", "--pooling", "out"], 2, "pooling: 'out'"),
    "a limit in words": (["evaluate", "x", "y", "--limit", "few"], 2, "limit: 'few' is not"),
    "nowhere to save": (
        ["evaluate", "builtin:fashion-a", "builtin:fashion-mini", "--save", "nowhere/p.safetensors"],
        1,
        "nowhere/p.safetensors cannot be saved",
    ),
    "no batch": (["evaluate", "builtin:fashion-a", "builtin:fashion-mini", "--batch", "0"], 2, "batch: 0"),
    "unknown split": (
        ["evaluate", "builtin:fashion-a", "builtin:fashion-mini", "--split", "dev"],
        1,
        "has no split 'dev'; it has train",
    ),
    "unknown net in the box": (
        ["predict", "builtin:nope", "x.png"],
        1,
        "builtin:nope is not a built-in net; try builtin:fashion-a",
    ),
    "missing model": (["predict", "nowhere", "x.png"], 1, "nowhere does not exist"),
    "two forms": (["predict", "builtin:fashion-a", "x.png", "--json", "--csv"], 2, "json and csv"),
    "no classes wanted": (["predict", "builtin:fashion-a", "x.png", "--top", "0"], 2, "top: 0"),
    "not a run": (["report", "nowhere"], 1, "nowhere is not a run folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gives_one_clear_line(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("verydeep.hardware.multiplies_bf16", lambda device: False)  # which would be hinted at
    words, status, expected = WRONG[name]
    assert main(words) == status
    captured = capsys.readouterr()
    said = captured.err if words else captured.out
    assert expected in said
    assert not words or len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "nothing may be left behind"


@pytest.mark.parametrize("verb", ["train", "study"])
@pytest.mark.parametrize(
    ("words", "drop_at", "scale"),
    [
        (["--drop_at", "6,10", "--scale", "256,512"], (6, 10), (256, 512)),
        (["--drop_at=6, 10", "--scale=256, 512"], (6, 10), (256, 512)),
        (["--drop_at", "[6,10]", "--scale", "[256,512]"], (6, 10), (256, 512)),
        (["--drop_at", "6", "--scale", "256"], (6,), 256),
        (["--drop_at", "[]"], (), 256),
    ],
)
def test_lists_need_no_brackets(verb: str, words: list[str], drop_at: tuple[int, ...], scale: object) -> None:
    found = parse(verb, ["photos", "--out", "run", *words])
    assert (found.drop_at, found.scale) == (drop_at, scale)


def test_train_evaluate_predict_report(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", str(photo_folder), "--out", run, *TINY, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert [r["protocol"] for r in trained["results"]] == ["centre", "dense"]
    assert trained["results"][0]["split"] == "test"

    assert main(["evaluate", run, str(photo_folder), "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)["results"]
    assert [r["top1_errors"] for r in tested] == [r["top1_errors"] for r in trained["results"]]
    assert {
        "model",
        "data",
        "split",
        "protocol",
        "scales",
        "photos",
        "top1_errors",
        "top5_errors",
        "top1_error",
        "top5_error",
    } <= set(tested[0])
    assert tested[0]["top1_error"] == pytest.approx(100 * tested[0]["top1_errors"] / tested[0]["photos"], abs=1e-4)

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 not a photo")
    assert main(["predict", run, str(photo_folder / "2"), str(broken), "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["error"]
    assert not lines[-1]["classes"]
    assert all(sum(c["probability"] for c in row["classes"]) == pytest.approx(1, abs=1e-4) for row in lines[:-1])

    page = Path(run) / "report.html"
    before = page.read_bytes()
    assert main(["report", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"reports": [str(page)]}
    assert page.read_bytes()[:200] == before[:200]


def test_a_run_evaluates_the_photos_it_held_out(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(photo_folder), "--out", str(run), *TINY]) == 0
    moved = photo_folder.rename(tmp_path / "moved")
    alone = shutil.copy(run / "best.safetensors", tmp_path / "alone.safetensors")
    capsys.readouterr()
    found = []
    for model in (run, run / "best.safetensors", alone):
        assert main(["evaluate", str(model), str(moved), "--protocol", "centre", "--json"]) == 0
        said = capsys.readouterr()
        found.append(json.loads(said.out)["results"][0])
        assert ("may have been trained on some of them" in said.err) == (model == alone)
    assert [r["split"] for r in found] == ["test", "test", "all"]
    assert [r["photos"] for r in found] == [3, 3, 36]


def test_tests_that_differ_are_kept_apart(photo_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(photo_folder), "--out", str(run), *TINY]) == 0
    assert main(["evaluate", str(run), str(photo_folder), "--mirror", "true", "--protocol", "centre"]) == 0
    kept = [json.loads(f.read_text())["results"][0] for f in (run / "results").iterdir()]
    assert sorted((r["protocol"], r["mirror"]) for r in kept) == [("centre", False), ("centre", True), ("dense", True)]


def test_the_whole_ladder_saved_and_fused_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = str(tmp_path / "p.safetensors")
    words = [
        "builtin:fashion-mini",
        "--protocol",
        "centre,dense,crops,both",
        "--scales",
        "32,36",
        "--limit",
        "4",
        "--workers",
        "0",
    ]
    assert main(["evaluate", "builtin:fashion-a", *words, "--save", saved]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:7]] == ["centre", "dense", "dense", "crops", "both"]
    assert main(["evaluate", saved, "builtin:fashion-a", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert len(found) == 15
    assert (
        [r["top1_errors"] for r in found[:5]]
        == [r["top1_errors"] for r in found[5:10]]
        == [r["top1_errors"] for r in found[10:]]
    )
    assert [r["passes"] for r in found[3:15:5]] == [100, 100, 200]


def test_a_field_overrules_config_and_config_overrules_the_recipe(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("lr: 0.004\nmomentum: 0.8\n")
    words = [
        "train",
        str(photo_folder),
        "--lr",
        "0.003",
        "--out",
        str(tmp_path / "run"),
        "--config",
        str(tmp_path / "own.yaml"),
        *TINY,
    ]
    words.remove("--lr")
    words.remove("0.003")
    assert main([*words, "--lr", "0.003"]) == 0
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert "lr: 0.003" in written
    assert "momentum: 0.8" in written
    assert "patience: 3" in written


def test_train_and_predict_survive_odd_names(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photo_folder / "10").rename(photo_folder / "三 <b>角形 | x")
    run = tmp_path / "my run"
    assert main(["train", str(photo_folder), "--out", str(run), *TINY]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "三 &lt;b&gt;角形 | x" in page
    assert "<b>角形" not in page


def test_a_photo_that_is_removed_after_a_failure_is_forgotten(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = photo_folder / "1" / "broken.jpg"
    broken.write_bytes((photo_folder / "1" / "1.jpg").read_bytes()[:300])
    words = [
        "train",
        str(photo_folder),
        "--out",
        str(tmp_path / "run"),
        *TINY,
        "--val_share",
        "0.05",
        "--test_share",
        "0.05",
        "--seed",
        "3",
    ]
    assert main(words) == 1
    assert "broken.jpg" in capsys.readouterr().err
    broken.unlink()
    assert main(words) == 0


def test_a_long_photo_does_not_cost_the_report(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(photo_folder, tmp_path / "split" / split)
    with Image.open(photo_folder / "1" / "0.png") as photo:
        photo.resize((40, 900)).save(tmp_path / "split" / "test" / "1" / "long.png")
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "split"), "--out", str(run), *TINY]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), str(tmp_path / "split")]) == 1
    assert (
        "longer than 8:1, too long for dense evaluation; test its middle part with --long_photos middle"
        in capsys.readouterr().err
    )
    assert main(["evaluate", str(run), str(tmp_path / "split"), "--long_photos", "middle", "--json"]) == 0
    assert {r["photos"] for r in json.loads(capsys.readouterr().out)["results"]} == {37}
