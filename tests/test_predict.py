from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import verydeep
from verydeep import load
from verydeep.cli import main
from verydeep.colours import Reading
from verydeep.errors import DataError
from verydeep.predict import Row, photos_in, predictions, print_rows
from verydeep.serve.limits import Limits
from verydeep.serve.run import service_of

SMALL = "--net A --crop 32 --scale 32 --fc_width 8 --base_width 4 --epochs 1 --batch 8 --device cpu".split()  # noqa: SIM905


def test_folders_are_searched_in_natural_order_without_hidden_ones(photo_folder: Path) -> None:
    (photo_folder / ".cache").mkdir()
    (photo_folder / ".cache" / "x.png").touch()
    (photo_folder / "notes.txt").touch()
    found = photos_in([str(photo_folder)])
    assert [Path(p).parent.name for p in found] == sorted((Path(p).parent.name for p in found), key=int)
    assert not any(".cache" in p or p.endswith(".txt") for p in found)


def test_a_folder_without_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no photos"):
        photos_in([str(tmp_path)])


@pytest.mark.parametrize("workers", [0, 3])
def test_rows_come_in_order_with_the_bad_ones_in_their_place(photo_folder: Path, tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no photo")
    good = photos_in([str(photo_folder)])
    paths = [str(bad), *good[:40], "missing.jpg", *good[:3], str(bad)]
    rows = list(predictions(load("builtin:fashion-a"), paths, top=3, workers=workers))
    assert [r.photo for r in rows] == paths
    assert [i for i, r in enumerate(rows) if r.error] == [0, paths.index("missing.jpg"), len(paths) - 1]
    assert all(len(r.classes) == 3 for r in rows if not r.error)


def test_the_answers_are_those_of_the_library(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verydeep.engines.choice.multiplies_bf16", lambda device: False)  # the library computes in fp32
    classifier = load("builtin:fashion-a")
    paths = photos_in([str(photo_folder)])[:5]
    expected = classifier.predict(paths)
    for row, posteriors in zip(predictions(classifier, paths, top=10), expected, strict=True):
        assert [p for _, p in row.classes] == pytest.approx(posteriors.sort(descending=True).values.tolist(), abs=1e-5)
        assert row.classes[0][0] == classifier.contract.classes[int(posteriors.argmax())]


@pytest.mark.parametrize("protocol", ["centre", "dense"])
def test_both_protocols_answer_from_python_as_the_verb_does(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch, protocol: Literal["centre", "dense"]
) -> None:
    """To the bit, photo by photo: where photos of one size go through together, sums are rounded otherwise."""
    monkeypatch.setattr("verydeep.engines.choice.multiplies_bf16", lambda device: False)  # the library computes in fp32
    classifier = load("builtin:fashion-a")
    for path in photos_in([str(photo_folder)])[::9]:
        (row,) = predictions(classifier, [path], 10, protocol, engine="torch")
        ways = path, Path(path), Path(path).read_bytes(), Image.open(path), np.asarray(Image.open(path))
        assert all(classifier.predict([way], protocol, top=10) == [row.classes] for way in ways)
    posteriors = classifier.predict(paths := photos_in([str(photo_folder)]), protocol)
    for row, found in zip(predictions(classifier, paths, 1, protocol), posteriors, strict=True):
        assert row.classes == [(classifier.contract.classes[int(found.argmax())], pytest.approx(float(found.max())))]


def test_the_net_in_the_box_knows_clothes() -> None:
    from verydeep.data.builtin import open_builtin

    test = open_builtin("fashion-mini").split("test")
    ids = range(0, 1000, 10)
    posteriors = load("builtin:fashion-a").predict([test.open(i) for i in ids])
    right = (posteriors.argmax(1) == torch.from_numpy(test.targets()[list(ids)])).sum()
    assert int(right) >= 85


ROWS = [Row("a,b.png", [("cat", 0.75), ("dog", 0.25)]), Row("c.png", [], "is empty")]


def test_json_is_one_object_a_line() -> None:
    out = io.StringIO()
    assert print_rows(ROWS, "json", out) == 1
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first == {
        "photo": "a,b.png",
        "classes": [{"name": "cat", "probability": 0.75}, {"name": "dog", "probability": 0.25}],
        "error": None,
    }
    assert second == {"photo": "c.png", "classes": [], "error": "is empty"}


def test_csv_is_one_class_a_line() -> None:
    out = io.StringIO()
    print_rows(ROWS, "csv", out)
    found = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(r["photo"], r["class"], r["error"]) for r in found] == [
        ("a,b.png", "cat", ""),
        ("a,b.png", "dog", ""),
        ("c.png", "", "is empty"),
    ]


def test_the_table_is_for_people() -> None:
    out = io.StringIO()
    print_rows(ROWS, "table", out)
    assert out.getvalue().splitlines() == ["a,b.png: cat 75.0 %, dog 25.0 %", "c.png: error: is empty"]


@pytest.mark.parametrize("how", [{"range": "0,4095"}, {"colour_profiles": "ignore"}, {"background": "black"}])
def test_a_model_reads_as_it_was_trained_to(tmp_path, capsys, how):
    """Train, evaluate and predict from files give the posteriors of the photos as they were meant."""
    random = np.random.default_rng(5)
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"rXYZ", b"?XYZ")
    swapped = swapped.replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")  # red for green
    meant = []
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            path, grey = tmp_path / "photos" / label / f"{i}.png", random.integers(0, 4096, (40, 40))
            if "range" in how:
                Image.fromarray(grey.astype(np.uint16)).save(path)
                meant.append(np.repeat(np.rint(grey[..., None] * (255 / 4095)).astype(np.uint8), 3, 2))
                continue
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            clear = Image.fromarray(np.where(grey > 2000, 255, 0).astype(np.uint8))
            if "background" in how:
                Image.merge("RGBA", (*Image.fromarray(pixels).split(), clear)).save(path)
                pixels = np.where(np.asarray(clear)[..., None] > 0, pixels, 0).astype(np.uint8)
            else:
                Image.fromarray(pixels).save(path, icc_profile=swapped)
            meant.append(pixels)
    run, flags = str(tmp_path / "run"), [word for name, value in how.items() for word in (f"--{name}", value)]
    assert main(["train", str(tmp_path / "photos"), "--out", run, *SMALL, *flags]) == 0
    model = verydeep.load(run)
    assert model.contract.reading == Reading(**{n: (0, 4095) if n == "range" else v for n, v in how.items()})
    files = [str(tmp_path / "photos" / label / f"{i}.png") for label in ("a", "b") for i in range(12)]
    wanted = model.predict(meant)
    assert torch.equal(model.predict(files), wanted)
    capsys.readouterr()
    assert main(["predict", run, *files, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row, posterior in zip(rows, wanted, strict=True):
        assert {c["name"]: c["probability"] for c in row["classes"]} == pytest.approx(
            dict(zip("ab", posterior.tolist(), strict=True)), abs=2e-3
        )
    assert main(["evaluate", run, str(tmp_path / "photos"), "--protocol", "centre", "--json"]) == 0
    split = {r["path"]: r["split"] for r in csv.DictReader((tmp_path / "run" / "split.csv").read_text().splitlines())}
    chosen = [i for i, f in enumerate(files) if split[str(Path(f).relative_to(tmp_path / "photos"))] == "test"]
    errors = sum(int(wanted[i].argmax()) != i // 12 for i in chosen)
    assert json.loads(capsys.readouterr().out)["results"][0]["top1_errors"] == errors


def test_a_net_that_learnt_without_mirror_images_is_shown_none(tmp_path, photo_folder, capsys, monkeypatch):
    """By hand from its logits; from Python, in `predict`, on the server and in a test, alone or with a net that did."""
    monkeypatch.setattr("verydeep.engines.choice.multiplies_bf16", lambda device: False)
    models = {way: str(tmp_path / way) for way in ("true", "false")}
    for flip, run in models.items():
        assert main(["train", str(photo_folder), "--out", run, *SMALL, "--flip", flip]) == 0
        assert verydeep.load(run).contract.flip == (flip == "true")
    model = verydeep.load(models["false"])
    model.net.fc8.bias.data = torch.arange(len(model.contract.classes)) / 9
    model.save(only := str(tmp_path / "only.safetensors"))
    path = photos_in([str(photo_folder)])[0]
    image = Image.open(path).convert("RGB").resize((48, 32))
    image.save(path := str(tmp_path / "wide.png"))
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None]
    wanted = model(pixels).softmax(1)[0].detach()
    assert not torch.allclose(wanted, (wanted + model(pixels.flip(3)).softmax(1)[0]) / 2, rtol=1e-5)
    assert torch.allclose(model.predict([path], "dense")[0], wanted, rtol=1e-6)
    [row] = predictions(verydeep.load(only), [path], 10, "dense", engine="torch")
    classify = service_of(only, None, "torch", "cpu", "", False, Limits()).tasks["classify dense"]
    [served] = classify.compute([classify.prepare(image, 10)])
    for found in (dict(row.classes), {c["name"]: c["probability"] for c in served["classes"]}):
        assert [found[name] for name in model.contract.classes] == pytest.approx(wanted.tolist(), rel=1e-5)
    capsys.readouterr()
    for asked, mirrors in [
        ([only], [False]), ([only, "--mirror", "true"], [True]), ([models["true"]], [True]),
        ([models["true"], only], [False] * 3),
    ]:  # fmt: skip
        assert main(["evaluate", *asked, str(photo_folder), "--protocol", "dense", "--json"]) == 0
        assert [r["mirror"] for r in json.loads(capsys.readouterr().out)["results"]] == mirrors


def test_models_that_read_otherwise_are_not_tested_together(tmp_path, photo_folder, capsys):
    for name in ("convert", "ignore"):
        run = str(tmp_path / name)
        assert main(["train", str(photo_folder), "--out", run, *SMALL, "--colour_profiles", name]) == 0
    assert main(["evaluate", str(tmp_path / "convert"), str(tmp_path / "ignore"), str(photo_folder)]) == 1
    assert (
        "with --colour_profiles ignore --range full --background white; save the posteriors of each"
        in capsys.readouterr().err
    )
    saved = [str(tmp_path / f"{name}.safetensors") for name in ("convert", "ignore")]
    for name, file in zip(("convert", "ignore"), saved, strict=True):
        assert main(["evaluate", str(tmp_path / name), str(photo_folder), "--save", file]) == 0
    assert main(["evaluate", *saved, str(photo_folder)]) == 0
    capsys.readouterr()
    resumed = ["train", str(photo_folder), "--out", str(tmp_path / "ignore"), *SMALL, "--epochs", "2"]
    assert main(resumed) == 1
    assert "add --colour_profiles ignore" in capsys.readouterr().err
    assert main([*resumed, "--colour_profiles", "ignore"]) == 0


def test_a_photo_from_standard_input_and_none_from_the_network(tmp_path, monkeypatch, capsys):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    assert main(["predict", "builtin:fashion-a", str(tmp_path / "a.png"), "--csv"]) == 0
    of_file = capsys.readouterr().out.replace(str(tmp_path / "a.png"), "-")
    for data, said in (((tmp_path / "a.png").read_bytes(), of_file), (b"", "is empty"), (b"\0" * (129 << 20), "MiB")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main(["predict", "builtin:fashion-a", "-", "--csv"]) == (said != of_file)
        assert said in capsys.readouterr().out
    assert main(["predict", "builtin:fashion-a", "https://host/a b.jpg"]) == 1
    assert "curl -sL 'https://host/a b.jpg' | verydeep predict MODEL -" in capsys.readouterr().err


def test_an_empty_name_is_no_folder(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell gives it for a variable that is not set."""
    monkeypatch.chdir(photo_folder)
    with pytest.raises(DataError, match="a photo has an empty name"):
        photos_in([""])
