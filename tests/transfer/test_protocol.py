"""The verb on small folders: splits, measures, the table, what is saved, and what cannot be done."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from verydeep.cli import main
from verydeep.collections import Kit
from verydeep.contract import Contract
from verydeep.data.photo import from_file
from verydeep.evaluate.passes import Settings
from verydeep.net.classifier import build
from verydeep.shape import Shape
from verydeep.transfer import fitted, transfer_models
from verydeep.transfer.parts import parts_of
from verydeep.weights import load

QUIET = Settings(device="cpu", batch=8, workers=0)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A net of random weights, crop 32, S = 36."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("nets") / "tiny.safetensors"
    shape = Shape("A", 4, 32, 24, 8, False, "up")
    contract = Contract.of(
        shape, ["a", "b", "c", "d"], mean=(100.0,) * 3, std=(50.0,) * 3, scales=(36, 36), origin="random"
    )
    build(contract).save(path)
    return str(path)


def transfer(*words, capsys):
    capsys.readouterr()
    assert main(["transfer", *map(str, words), "--workers", "0", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def failure(*words, capsys):
    assert main(["transfer", *map(str, words), "--workers", "0"]) in (1, 2)
    return capsys.readouterr().err.splitlines()[-1]


def test_colours_are_told_apart(model, photo_folder, capsys):
    record = transfer(model, photo_folder, capsys=capsys)
    (row,) = record["rows"]
    assert record["photos"] == 36
    assert "5 random splits, up to 30 a class to train on and up to 50 to test on (seed 0)" in record["protocol"]
    assert row["accuracy"] > 60 > record["guessing"] == pytest.approx(100 / 3)
    assert row["recall"] == pytest.approx(100 * np.mean(list(row["by_class"].values())))
    assert len(row["constants"]) == 5
    again = transfer(model, photo_folder, capsys=capsys)
    assert again["rows"] == record["rows"]
    assert main(["transfer", model, str(photo_folder), "--splits", "2", "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["class", "1", "2", "10"]


def test_the_measures_are_those_of_an_svm_trained_by_hand(model, photo_folder, tmp_path):
    """Splits of DATA's own; the constant and the answers as scikit-learn's LinearSVC finds them."""
    svm = pytest.importorskip("sklearn.svm")
    parts = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    for split, numbers in parts.items():
        for name in ("1", "2", "10"):
            (tmp_path / "own" / split / name).mkdir(parents=True)
            for i in numbers:
                (file,) = (photo_folder / name).glob(f"{i}.*")
                shutil.copy(file, tmp_path / "own" / split / name)
    record = transfer_models([model], str(tmp_path / "own"), "single", QUIET)
    assert "trained on 27, tested on 9 of test; constants chosen on val, which is trained on then" in record["protocol"]
    net, rows, labels = load(model).eval(), {}, {}
    for split in parts:
        paths = [p for name in ("1", "2", "10") for p in sorted((tmp_path / "own" / split / name).iterdir())]
        labels[split] = [("1", "2", "10").index(p.parent.name) for p in paths]
        rows[split] = np.stack([descriptor_of(net, p) for p in paths])
    scores = []
    for constant in (both := [10 ** (k / 2) for k in range(-4, 6)]):
        found = svm.LinearSVC(C=constant, tol=1e-8, max_iter=100_000).fit(rows["train"], labels["train"])
        scores.append(found.score(rows["val"], labels["val"]))
    best = both[int(np.argmax(scores))]
    assert record["rows"][0]["constants"] == [pytest.approx(best)]
    whole = np.concatenate([rows["train"], rows["val"]]), labels["train"] + labels["val"]
    found = svm.LinearSVC(C=best, tol=1e-8, max_iter=100_000).fit(*whole)
    assert record["rows"][0]["accuracy"] == pytest.approx(100 * found.score(rows["test"], labels["test"]))


def descriptor_of(net, path, length_1=True):
    """The mean over space, and over both ways round, of fc7's positive part; Q = 36."""
    from verydeep.data.photo import rescale

    pixels = torch.from_numpy(np.array(rescale(from_file(path), 36))).permute(2, 0, 1)[None]
    with torch.no_grad():
        ways = [net.taps(x, ["fc7"])["fc7"].relu().flatten(2).mean(2) for x in (pixels, pixels.flip(3))]
    found = torch.stack(ways).mean(0)[0].numpy()
    return found / np.linalg.norm(found) if length_1 else found


def test_the_table_compares_scales_and_nets(model, photo_folder, capsys):
    record = transfer(model, model, photo_folder, "--scales", "32,36,48", "--splits", "2", capsys=capsys)
    ways = [(len(r["models"]), len(r["scales"]), r["several"]) for r in record["rows"]]
    each = [(1, "average"), (3, "average"), (3, "stack")]
    assert ways == [(nets, *way) for nets in (1, 1, 2) for way in each]
    assert main(["transfer", model, model, str(photo_folder), "--scales", "32,36,48", "--splits", "2"]) == 0
    text = capsys.readouterr().out
    assert "32, 36, 48 stacked" in text
    assert "guessing 33 %" in text.splitlines()[0]


def test_the_saved_net_answers_as_the_svm(model, photo_folder, tmp_path, capsys):
    saved = tmp_path / "svm.safetensors"
    record = transfer(model, photo_folder, "--engine", "torch", "--save", saved, capsys=capsys)
    made, net = load(str(saved)).eval(), load(model).eval()
    assert made.contract.classes == ("1", "2", "10")
    assert made.contract.scales == (36, 36)
    assert "margins are no probabilities" in made.contract.origin
    paths = [path for name in made.contract.classes for path in sorted((photo_folder / name).iterdir())]
    raw = np.stack([descriptor_of(net, path, False) for path in paths])
    lengths = np.linalg.norm(raw, axis=1)
    truth = (2 * np.eye(3)[np.repeat([0, 1, 2], 12)] - 1).astype(np.int8)
    rows = (raw / lengths[:, None]).astype(np.float32)
    svm = next(fitted(rows, truth, [float(np.median(record["rows"][0]["constants"]))]))
    assert np.allclose(made.net.fc8.weight.detach() * lengths.mean(), svm.weights, atol=0.01)
    assert np.allclose(made.net.fc8.bias.detach(), svm.bias, atol=0.01)
    posteriors = made.predict(paths, "dense")
    own, theirs = svm.scores(rows), made.net.fc8(torch.from_numpy(raw)).detach()
    assert torch.allclose(posteriors.log() - posteriors.log().mean(1, True), theirs - theirs.mean(1, True), atol=0.25)
    assert (own.argmax(1) == posteriors.numpy().argmax(1)).mean() >= 0.94
    exported = tmp_path / "svm.onnx"
    assert main(["export", str(saved), "--to", "onnx", "--out", str(exported)]) == 0
    capsys.readouterr()
    for file in (saved, exported):
        assert main(["evaluate", str(file), str(photo_folder), "--protocol", "dense", "--json"]) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        assert result["top1_errors"] == (posteriors.numpy().argmax(1) != truth.argmax(1)).sum()


def test_convolutions_alone_are_described_and_saved(photo_folder, tmp_path, capsys, monkeypatch):
    torch.manual_seed(4)
    contract = Contract.of(
        Shape("A", 1, 32, 1, 8, False, "down"), [""], mean=(100.0,) * 3, std=(50.0,) * 3, scales=(36, 36)
    )
    bare = build(contract).eval()
    for name in ("fc6", "fc7", "fc8"):
        setattr(bare.net, name, None)
    monkeypatch.setattr("verydeep.transfer.protocol.load_describing", lambda name: bare)
    saved = tmp_path / "svm.safetensors"
    record = transfer("bare", photo_folder, "--scales", "64", "--save", saved, capsys=capsys)
    assert record["rows"][0]["scales"] == [64]
    several = transfer("bare", photo_folder, "--scales", "several", "--splits", "1", "--limit", "9", capsys=capsys)
    assert [row["scales"] for row in several["rows"]] == [[112], [98, 112, 126], [98, 112, 126]]
    made = load(str(saved)).eval()
    assert (made.contract.crop, made.contract.fc_width) == (64, 64)
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        descriptor = bare.taps(pixels, ["pool5"])["pool5"].mean((2, 3))
        expected = descriptor @ made.net.fc8.weight.T + made.net.fc8.bias
        assert torch.allclose(made(pixels), expected, atol=1e-4)
        assert torch.allclose(made.net.taps(made.normalise(pixels), "relu7")["relu7"][0], descriptor[0], atol=1e-5)


def test_several_classes_a_photo_are_ranked(model, tmp_path, capsys):
    """VOC's own form: difficult photos count neither in training nor in the test."""
    root, random = tmp_path / "VOC2007", np.random.default_rng(5)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    truth = random.choice([1, -1], (60, 2)).astype(int)
    truth[::17, 0] = 0
    for i, (red, blue) in enumerate(truth):
        pixels = random.uniform(0, 90, (40, 44, 3))
        pixels[:, :, 0] += 150 * (red >= 0)
        pixels[:, :, 2] += 150 * (blue > 0)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "JPEGImages" / f"{i:06d}.jpg")
    for split, ids in (("train", range(24)), ("val", range(24, 36)), ("test", range(36, 60))):
        for c, name in enumerate(("red", "blue")):
            lines = "".join(f"{i:06d} {truth[i, c]:2d}\n" for i in ids)
            (root / "ImageSets" / "Main" / f"{name}_{split}.txt").write_text(lines)
    record = transfer(model, root, capsys=capsys)
    (row,) = record["rows"]
    assert row["map_every"] > 85 > record["guessing"]
    assert {"map_eleven", "map_every", "map_steps"} < set(row)
    assert row["map_every_deviation"] is None
    assert main(["transfer", model, str(root), "--workers", "0"]) == 0
    assert "the paper, Table 11: D 89.3, E 89.3, D and E 89.7" in capsys.readouterr().out
    assert "expected one net, and one class a photo" in failure(
        model, root, "--save", tmp_path / "x.safetensors", capsys=capsys
    )
    assert "has splits of its own" in failure(model, root, "--splits", "3", capsys=capsys)


def test_actions_are_shown_in_three_ways(model, tmp_path, capsys):
    root = tmp_path / "VOC2012"
    for folder in ("ImageSets/Action", "JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True)
    random, lines = np.random.default_rng(2), {}
    box = "<object><bndbox><xmin>{}</xmin><ymin>4</ymin><xmax>{}</xmax><ymax>44</ymax></bndbox></object>"
    for i in range(30):
        pixels, text, first = random.uniform(0, 60, (48, 80, 3)), "", bool(random.integers(2))
        for person, x in ((1, 2), (2, 42)):
            jumps = first if person == 1 or i % 4 else not first  # the other person mostly does the same
            pixels[4:44, x : x + 34] += (150, 0, 0) if jumps else (0, 0, 150)
            text += box.format(x, x + 34)
            split = "train" if i < 18 else "val"
            lines.setdefault(("jumping", split), []).append(f"{i:06d}  {person} {1 if jumps else -1:2d}")
            lines.setdefault(("walking", split), []).append(f"{i:06d}  {person} {-1 if jumps else 1:2d}")
        Image.fromarray(pixels.astype(np.uint8)).save(root / "JPEGImages" / f"{i:06d}.jpg")
        (root / "Annotations" / f"{i:06d}.xml").write_text(f"<annotation>{text}</annotation>")
    for (name, split), own in lines.items():
        (root / "ImageSets" / "Action" / f"{name}_{split}.txt").write_text("\n".join(own) + "\n")
    record = transfer(model, root, "--actions", capsys=capsys)
    whole, person, both = (row["map_every"] for row in record["rows"])
    assert [row["shown"] for row in record["rows"]] == [["photo"], ["person"], ["photo", "person"]]
    assert person > 95 > whole > 65 > record["guessing"]  # the photo has both persons, and cannot tell them apart
    assert both > whole
    assert main(["transfer", model, str(root), "--actions", "--workers", "0"]) == 0
    assert "Table 12, D and E: photo 79.2, photo and person 84.0" in capsys.readouterr().out


def test_what_cannot_be_done_is_explained(model, photo_folder, tmp_path, capsys):
    for i in range(3, 12):
        next((photo_folder / "10").glob(f"{i}.*")).unlink()
    assert "10 with 3" in (said := failure(model, photo_folder, "--train_per_class", "4", capsys=capsys))
    assert "give 2 or fewer" in said
    for i in (1, 2):
        next((photo_folder / "10").glob(f"{i}.*")).unlink()
    record = transfer(model, photo_folder, capsys=capsys)
    assert record["classes"] == ["1", "2"]
    assert "1 class of one photo (10)" in record["notes"][-1]
    assert transfer(model, photo_folder, "--limit", "9", capsys=capsys)["photos"] == 9
    shutil.rmtree(photo_folder / "1")
    assert "has 1 class of two photos or more" in failure(model, photo_folder, capsys=capsys)
    two = tmp_path / "two"
    for name in "ab":
        (two / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(two / name / "1.png")
    assert "has 0 classes of two photos or more" in failure(model, two, capsys=capsys)
    for name in "ab":
        Image.new("RGB", (40, 40)).save(two / name / "2.png")
    assert "too few photos" in failure(model, two, capsys=capsys)


def test_a_class_that_a_split_lacks_is_told(model, photo_folder, tmp_path, capsys):
    shutil.copytree(photo_folder, tmp_path / "own" / "train")
    shutil.copytree(photo_folder, tmp_path / "own" / "test")
    shutil.rmtree(tmp_path / "own" / "test" / "10")
    record = transfer(model, tmp_path / "own", capsys=capsys)
    assert "warning: 10 has no photo to test on" in record["notes"]
    assert record["rows"][0]["by_class"]["10"] is None


def test_photos_that_cannot_be_read_are_left_out_and_named(model, photo_folder, capsys):
    (photo_folder / "2" / "0.png").write_bytes(b"no photo")
    rest = transfer(model, photo_folder, capsys=capsys)
    assert "left out: 1 photo that cannot be read (2/0.png is not" in "".join(rest["notes"])
    (photo_folder / "2" / "0.png").unlink()
    without = transfer(model, photo_folder, capsys=capsys)
    assert (without["photos"], without["rows"]) == (35, rest["rows"])
    for path in photo_folder.rglob("*.*"):
        path.write_bytes(b"no photo")
    assert "none of its photos can be read" in failure(model, photo_folder, capsys=capsys)


def test_answers_that_are_no_numbers_are_told(model, photo_folder, tmp_path, capsys):
    net = load(model)
    net.net.fc7.bias.data[3] = float("nan")
    net.save(broken := tmp_path / "broken.safetensors")
    assert "photos/1/0.png what is no number" in failure(broken, photo_folder, "--engine", "torch", capsys=capsys)
    assert "some weights are no finite numbers" in failure(broken, photo_folder, capsys=capsys)


@pytest.mark.parametrize("photos", [1, 4, 9])
def test_photos_of_one_patient_are_trained_or_tested_on_and_never_choose_beside_themselves(photos):
    """Patients have photos of two classes each; some photos are nobody's."""
    n = 12 * photos + 12
    classes = np.arange(n) % 3
    patients = tuple(f"p{i // photos}" if i < 12 * photos else "" for i in range(n))
    kit = Kit("it", ("a", "b", "c"), np.where(np.arange(3) == classes[:, None], 1, -1), ("",) * n, {}, True,
              groups=patients)  # fmt: skip
    parts, how = parts_of(kit, None, 4, 7)
    assert "groups whole" in how
    for part in parts:
        trained, chose, tested = ({patients[i] for i in ids} - {""} for ids in part)
        rest = {patients[i] for i in set(part.train.tolist()) - set(part.choosing.tolist())} - {""}
        assert not trained & tested
        assert not chose & rest
        assert set(part.choosing) <= set(part.train)
        assert not set(part.train) & set(part.test)
        for ids in part:
            assert set(classes[ids]) == {0, 1, 2}
    alone, _ = parts_of(kit._replace(groups=()), None, 4, 7)
    assert any({patients[i] for i in p.train} & {patients[i] for i in p.test} - {""} for p in alone) == (photos > 1)
