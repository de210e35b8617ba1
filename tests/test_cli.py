from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from verydeep import verbs
from verydeep.cli import main, parse, verb_class, verb_names
from verydeep.config import Config
from verydeep.errors import ConfigError
from verydeep.fields import Parser

TINY = ["--recipe", "small", "--base_width", "4", "--fc_width", "8", "--crop", "32", "--scale", "36", "--epochs", "1"]
TRAIN = ["train", "nowhere", "--out", "x"]
EVALUATE = ["evaluate", "builtin:fashion-a", "builtin:fashion-mini"]
FLY = '''
from dataclasses import KW_ONLY, dataclass
from verydeep.verbs import Verb

@dataclass(frozen=True)
class Fly(Verb):
    """leave the ground"""

    where: str
    """a direction"""
    _: KW_ONLY
    far: bool = False
    """not only near"""

    def run(self):
        return {"where": self.where, "how": "far" if self.far else "near"}

    def text(self, record):
        return f"flown {record['how']} {record['where']}"
'''
VERBS = [*([verb] for verb in verb_names()), *(["weights", v] for v in verb_class("weights").own())]
PREDICT = ["predict", "builtin:fashion-a", "x.png"]


def test_help_imports_neither_torch_nor_numpy() -> None:
    script = (
        "import sys; from verydeep.cli import main; main(['--help']); assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in verb_names())


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_explains_itself_and_what_null_means(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    entries = [" ".join(e.split()) for e in out.split("\noptions:")[1].split("\n  --")]
    assert any(e.startswith("json print one machine-readable object") for e in entries)
    null = {e.split()[0]: "null: " in e for e in entries if e.endswith("(default: null)")}
    of_config = {"init_variance", "init_sigma", "init_from", "freeze", "most_photos"}  # which say it otherwise
    assert all(said for name, said in null.items() if name not in of_config), null


WRONG = {
    "no verb": ([], 2, "usage"),
    "unknown verb": (["fly"], 2, "'fly' is not a verb; expected one of check, demo"),
    "missing DATA": (["train", "--out", "x"], 2, "required: DATA; see verydeep train --help"),
    "missing RUN": (["train", "photos"], 2, "required: --out;"),
    "missing folder": (TRAIN, 1, "nowhere does not exist; expected a folder"),
    "unknown recipe": ([*TRAIN, "--recipe", "nope"], 2, "recipe 'nope' is not known; expected one of auto, demo"),
    "recipe without a name": ([*TRAIN, "--recipe"], 2, "argument --recipe: expected one argument"),
    "two recipes": ([*TRAIN, "--recipe", "small", "--recipe=demo"], 2, "recipe: small and demo are named; give one"),
    "a word for a number": ([*TRAIN, "--epochs", "many"], 2, "epochs: 'many' is not a whole number, 1 or more"),
    "digits without end": ([*TRAIN, "--epochs", "9" * 5000], 2, "epochs: '999"),
    "a word for a switch": ([*TRAIN, "--flip", "maybe"], 2, "flip: 'maybe' is not true or false"),
    "a word for a side": ([*TRAIN, "--scale", "big"], 2, "scale: 'big' is not a whole number, or two whole numbers"),
    "three sides": ([*TRAIN, "--scale", "72,128,256"], 2, "scale: '72,128,256' is not a whole number, or two whole"),
    "a word for a list": ([*TRAIN, "--drop_at", "six"], 2, "drop_at: 'six' is not a list of whole numbers, with"),
    "a word in a list": ([*TRAIN, "--drop_at", "[6,x]"], 2, "drop_at: '[6,x]' is not a list"),
    "unknown net": ([*TRAIN, "--net", "F"], 2, "net: 'F' is not one of A, A-LRN"),
    "unknown field": ([*TRAIN, "--nett", "A"], 2, "unrecognized arguments: --nett A"),
    "crop off the grid": ([*TRAIN, "--crop", "100"], 2, "crop: 100 is not a multiple of 32"),
    "S below the crop": ([*TRAIN, "--crop", "64", "--scale", "40"], 2, "scale and crop"),
    "fine-tuning nothing": ([*TRAIN, "--recipe", "finetune"], 2, "'verydeep train --from MODEL' names one"),
    "a study of fine-tuning": (["study", *TRAIN[1:], "--recipe=finetune"], 2, "is for a start from learnt weights"),
    "one net in a study": (["study", *TRAIN[1:], "--net", "A"], 2, "net: a study trains several; give --nets"),
    "two starts": ([*TRAIN, "--from", "x", "--init_from=y"], 2, "from and init_from: a net starts from one"),
    "two starts by one name": ([*TRAIN, "--from", "y", "--from=z"], 2, "from: y and z are named; give one"),
    "drops beyond the end": ([*TRAIN, "--epochs", "2", "--drop_at", "15"], 2, "[15] must rise and lie between 1 and 1"),
    "nothing left to train": (
        [*TRAIN, "--from", "builtin:fashion-a", "--freeze", "fc8"], 2,
        "freeze: fc8 is the last layer of net A, so nothing would be left to train; try fc7",
    ),
    "missing config": ([*TRAIN, "--config", "none.yaml"], 2, "config: none.yaml cannot be read (No such file"),
    "unknown protocol": ([*EVALUATE, "--protocol", "ten"], 2, "'ten' is not a list of values, each one of centre"),
    "Q below the crop": ([*EVALUATE, "--scales", "16"], 2, "Q = 16 is smaller than the crop"),
    "scales that are no numbers": (["evaluate", "x", "y", "--scales", "big"], 2, "scales: 'big' is not understood"),
    "no photos wanted": ([*EVALUATE, "--limit", "0"], 2, "limit: '0' is not a whole number, 1 or more, or null"),
    "a limit in words": ([*EVALUATE, "--limit", "x"], 2, "limit: 'x' is not a whole number, 1 or more, or null"),
    "a side in words": (["pack", "x", "--out", "y", "--smallest-side", "x"], 2, "smallest_side: 'x' is not a whole"),
    "a switch of three": ([*EVALUATE, "--mirror", "maybe"], 2, "mirror: 'maybe' is not true or false, or null"),
    "unknown average": ([*EVALUATE, "--average", "best"], 2, "average: 'best' is not one of scores, posteriors"),
    "unknown pooling": ([*EVALUATE, "--pooling", "out"], 2, "pooling: 'out' is not one of up, down, or null"),
    "nowhere to save": ([*EVALUATE, "--save", "nowhere/p.safetensors"], 1, "nowhere/p.safetensors cannot be saved"),
    "no batch": ([*EVALUATE, "--batch", "0"], 2, "batch: '0' is not a whole number, 1 or more"),
    "unknown split": ([*EVALUATE, "--split", "dev"], 1, "has no split 'dev'; it has train"),
    "unknown net in the box": (["predict", "builtin:nope", "x.png"], 1, "builtin:nope is not a built-in net; try"),
    "missing model": (["predict", "nowhere", "x.png"], 1, "nowhere does not exist"),
    "two forms": ([*PREDICT, "--json", "--csv"], 2, "json and csv"),
    "no classes wanted": ([*PREDICT, "--top", "0"], 2, "top: '0' is not a whole number, 1 or more"),
    "not a run": (["report", "nowhere"], 1, "nowhere is not a run folder"),
    "no verb of weights": (["weights"], 2, "required: VERB; see verydeep weights --help"),
    "no such verb of weights": (["weights", "lift"], 2, "'lift' is not a verb of weights; did you mean list?"),
}  # fmt: skip


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
        (["--drop-at", "[6,10]", "--scale", "[256,512]"], (6, 10), (256, 512)),
        (["--drop_at", "6", "--scale", "256"], (6,), 256),
        (["--drop-at=[]"], (), 256),
    ],
)
def test_lists_need_no_brackets(verb: str, words: list[str], drop_at: tuple[int, ...], scale: object) -> None:
    found = parse([verb, "photos", "--out", "run", *words])[0].config  # type: ignore[attr-defined]
    assert (found.drop_at, found.scale) == (drop_at, scale)


def test_values_are_of_their_fields() -> None:
    verb, as_json = parse(
        ["train", "photos", "--out=null", "--lr", "1e-3", "--flip=false", "--init-from", "null", "--batch-norm", "true"]
    )
    assert (verb.out, verb.config.lr, verb.config.flip, verb.config.batch_norm) == ("null", 0.001, False, True)  # type: ignore[attr-defined]
    assert (verb.config.init_from, as_json) == (None, False)  # type: ignore[attr-defined]
    verb, as_json = parse(["evaluate", "a", "b", "photos", "--json", "--download", "--mirror=null", "--limit", "3"])
    assert (verb.models, verb.data, verb.download, verb.mirror) == (("a", "b"), "photos", True, None)  # type: ignore[attr-defined]
    assert (verb.limit, as_json) == (3, True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("order", [1, -1])
def test_words_overrule_files_and_files_the_recipe_whatever_the_order(tmp_path: Path, order: int) -> None:
    """Of the start, whose shape lies below them all, the name counts as a word."""
    (tmp_path / "own.yaml").write_text("lr: 4e-3\nmomentum: 0.8\nfc_width: 64\ninit_from: null\nlr_fc: 3e-1")
    (tmp_path / "more.yaml").write_text("momentum: 0.7\nscale: [40, 50]\n")
    groups = [
        ["--lr", "0.003"], ["--recipe", "finetune"], ["--from", "builtin:fashion-a"],
        ["--config", str(tmp_path / "own.yaml"), "--config", str(tmp_path / "more.yaml")],
    ]  # fmt: skip
    c = parse(["train", "photos", *(w for g in groups[::order] for w in g), "--out", "x"])[0].config  # type: ignore[attr-defined]
    assert (c.lr, c.momentum, c.scale, c.fc_width, c.init_from) == (0.003, 0.7, (40, 50), 64, "builtin:fashion-a")
    assert (c.lr_last, c.lr_fc, c.net, c.crop, c.base_width) == (10, 0.3, "A", 32, 16)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate: 1\nlr: 0.1", "own.yaml: unknown fields learning_rate; 'verydeep train --help' lists"),
        ("lr: high", "own.yaml: lr: 'high' is not a number"),
        ("net: &a A\ninit: *a", "own.yaml is not YAML; give lines such as 'lr: 0.01'"),
        ("- lr", "own.yaml holds no fields; give lines such as"),
    ],
)
def test_a_wrong_file_is_named(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text(text)
    assert main([*TRAIN, "--config", str(tmp_path / "own.yaml")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", VERBS)
def test_hyphens_and_underscores_are_alike_in_every_option(words: list[str]) -> None:
    kind = verb_class(words[0])
    kind = kind.own()[words[1]] if words[1:] else kind
    kind.describe(parser := Parser(prog="verydeep"))
    takes = {option: action for action in parser._actions for option in action.option_strings}
    assert "--json" in takes
    for option in filter(lambda option: "_" in option, takes):
        assert not takes[option].required, "each spelling would be"
        for action in parser._actions:
            action.required = False
        value = [] if takes[option].nargs == 0 else ["false"]
        for spelled in (option, f"--{option[2:].replace('_', '-')}"):
            found = vars(parser.parse_args([spelled, *value]))
            assert found == {takes[option].dest: "false" if value else True}, spelled
    assert not [option for option in takes if "-" in option[2:] and f"--{option[2:].replace('-', '_')}" not in takes]


def test_json_stands_before_or_behind_a_verb_of_weights(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for words in (["--json", "list"], ["list", "--json"]):
        assert main(["weights", *words]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] != []


def test_a_new_verb_is_one_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fly.py").write_text(FLY)
    monkeypatch.setattr(verbs, "__path__", [*verbs.__path__, str(tmp_path)])
    assert main(["fly", "up", "--far"]) == 0
    assert main(["--help"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "flown far up"
    assert "  fly       leave the ground" in out


def test_python_calls_a_verb_as_the_command_line_does(
    photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import verydeep

    fields = {"base_width": 4, "fc_width": 8, "crop": 32, "scale": 36, "epochs": 1}
    record = verydeep.train(str(photo_folder), recipe="small", out=tmp_path / "a", **fields)  # type: ignore[operator]
    tested = verydeep.evaluate([str(tmp_path / "a")], str(photo_folder), protocol=["centre"])  # type: ignore[operator]
    assert verydeep.check(str(photo_folder))["verdict"]["trains"] is True
    with pytest.raises(ConfigError, match="train: 2 words are given; it takes data"):
        verydeep.train("a", "b")  # type: ignore[operator]
    again = {"config": tmp_path / "a" / "config.yaml", "out": tmp_path / "again"}
    assert verydeep.train(str(photo_folder), **again)["verdict"] == record["verdict"]  # type: ignore[operator]
    with pytest.raises(ConfigError, match="config: expected a YAML file or several, not Config; fields go by name"):
        verydeep.train("a", out="b", config=Config())  # type: ignore[operator]
    assert capsys.readouterr().out == ""
    assert main(["train", str(photo_folder), "--out", str(tmp_path / "b"), *TINY, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert record == json.loads(json.dumps(record))
    assert [r["sha256"] for r in record["results"]] == [r["sha256"] for r in again["results"]]
    assert tested["results"][0]["top1_errors"] == again["results"][0]["top1_errors"]


def test_train_evaluate_predict_report(photo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", str(photo_folder), "--out", run, *TINY, "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert [r["protocol"] for r in trained["results"]] == ["centre", "dense"]
    assert trained["results"][0]["split"] == "test"

    assert main(["evaluate", run, str(photo_folder), "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)["results"]
    assert [r["top1_errors"] for r in tested] == [r["top1_errors"] for r in trained["results"]]
    assert {"model", "data", "split", "scales", "photos", "top1_errors", "top5_errors", "top5_error"} <= set(tested[0])
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
    words = ["builtin:fashion-mini", "--protocol", "centre,dense,crops,both", "--scales", "32,36", "--limit", "4"]
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


def test_a_faster_way_is_told_where_a_net_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verydeep.hardware.multiplies_bf16", lambda device: True)
    saved, words = str(tmp_path / "p.safetensors"), ["builtin:fashion-mini", "--protocol", "centre", "--limit", "4"]
    for models, told in (["builtin:fashion-a"], True), ([saved], False), ([saved, "builtin:fashion-a"], True):
        assert main(["evaluate", *models, *words, *(["--save", saved] if models[0] != saved else [])]) == 0
        assert ("--precision bf16 is faster here" in capsys.readouterr().err) == told


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
    shares = ["--val_share", "0.05", "--test_share", "0.05", "--seed", "3"]
    words = ["train", str(photo_folder), "--out", str(tmp_path / "run"), *TINY, *shares]
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
