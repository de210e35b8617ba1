"""`localise train | evaluate | predict` as people meet them: numbers, lists, COCO, pictures, the page, and refusals."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from boxed import CLASSES, SAME, WORDS, make_list, net_of
from PIL import Image

import verydeep
from verydeep.cli import main
from verydeep.data.photo import from_file
from verydeep.data.source import open_data
from verydeep.localise.answer import kept_threshold
from verydeep.localise.boxes import iou
from verydeep.localise.evaluate import error_counts
from verydeep.localise.measure import Rated

FLAGS = [f"--{name}={value}" for name, value in (SAME | {"lr": 0.01, "epochs": 6}).items()]
BARE = ["--net=A", "--crop=32", "--scale=36", "--base_width=4", "--fc_width=16", *FLAGS[:-2], "--lr=1e-4", "--epochs=1"]


def run(*words):
    return main(list(map(str, words)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photos with boxes, a net of classes, and a net of boxes that was trained and tested by one command."""
    root = tmp_path_factory.mktemp("world")
    data = str(make_list(root / "photos", train=20))
    verydeep.train(data, out=root / "what", **WORDS | {"epochs": 6, "lr": 0.02})
    assert run("localise", "train", data, "--out", root / "where", "--classifier", root / "what", *FLAGS) == 0
    return root, data


def one_class(folder):
    data = make_list(folder)
    data.write_text(re.sub(",(red|green|blue),", ",square,", data.read_text()))
    return data


def record_of(capsys, *words):
    capsys.readouterr()
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_record_counts_what_its_rows_say(world, capsys):
    root, data = world
    found = record_of(capsys, "localise", "evaluate", root / "where", data)
    [r] = found["results"]
    assert (r["photos"], r["split"], r["chosen_on"]) == (12, "test", "val")
    assert (r["task"], r["classes"]) == (["PCR"], list(CLASSES))
    ious = np.array([row["iou"] for row in r["rows"]])
    assert [r["errors"]["net"][c] for c in ("given", "dense", "top1", "top5")] == (ious <= 0.5).sum(0).tolist()
    assert r["curve"]["top5"] == [int((ious[:, 3] <= at).sum()) for at in r["curve"]["iou"]]
    assert (r["curve"]["iou"][0], r["curve"]["iou"][-1]) == (0.3, 0.9)
    assert r["tried"]["top5"][r["tried"]["threshold"].index(r["threshold"])] == min(r["tried"]["top5"])
    assert r["classifier_sha256"] == verydeep.load(root / "what").contract.sha256
    assert r["errors"]["net"]["top5"] >= r["class_errors"]["top5"]
    assert (root / "where" / "localisation.html").exists()


def test_the_mean_box_and_the_whole_photo_by_hand(world, capsys):
    root, data = world
    [r] = record_of(capsys, "localise", "evaluate", root / "where", data)["results"]
    opened = open_data(data)

    def relative(split):
        photos = opened.split(split)
        sizes = [photos.open(i).size * 2 for i in range(len(photos))]
        return np.array([np.array(photos.boxes[i][0][0]) / sizes[i] for i in range(len(photos))])

    mean = relative("val").mean(0)
    assert r["mean_box"] == pytest.approx(mean.tolist())
    test = relative("test")
    assert r["errors"]["mean box"]["given"] == sum(iou(box, mean) <= 0.5 for box in test)
    assert r["errors"]["whole photo"]["given"] == sum(iou(box, np.array([0, 0, 1, 1.0])) <= 0.5 for box in test)


def test_predict_says_what_and_where_in_every_form(world, capsys, tmp_path):
    root, _ = world
    photos = [root / "photos" / "test" / f"{i:02d}.png" for i in range(3)]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no photo")
    capsys.readouterr()
    words = ("localise", "predict", root / "where", *photos, bad)
    assert run(*words, "--json", "--top", 2, "--coco", tmp_path / "a.json", "--draw", tmp_path / "drawn") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["photo"] for row in rows] == [*map(str, photos), str(bad)]
    assert "is not a JPEG" in rows[3]["error"]
    for row, photo in zip(rows[:3], photos, strict=True):
        with Image.open(photo) as image:
            width, height = image.size
        assert [p["probability"] for p in row["places"]] != []
        for place in row["places"]:
            x0, y0, x1, y1 = place["box"]
            assert (0 <= x0 <= x1 <= width, 0 <= y0 <= y1 <= height, place["name"] in CLASSES) == (True, True, True)
    coco = json.loads((tmp_path / "a.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    assert [i["file_name"] for i in coco["images"]] == list(map(str, photos))
    for place, entry in zip([p for row in rows[:3] for p in row["places"]], coco["annotations"], strict=True):
        x, y, w, h = entry["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(place["box"], abs=0.11)
        assert (names[entry["category_id"]], entry["score"]) == (place["name"], place["probability"])
    for photo in photos:
        before, after = (np.asarray(from_file(p)) for p in (photo, tmp_path / "drawn" / photo.name))
        assert (before.shape == after.shape, (before != after).any()) == (True, True)
    assert run(*words, "--csv") == 1
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["class"] for row in table[:3]] == [row["places"][0]["name"] for row in rows[:3]]
    assert run(*words) == 1
    assert " % at " in capsys.readouterr().out


def test_several_nets_are_tested_alone_and_together(world, capsys, tmp_path):
    root, data = world
    shutil.copytree(root / "where", tmp_path / "again")
    words = ("localise", "evaluate", root / "where", tmp_path / "again", data, "--scales", "several")
    alone, twice, both = record_of(capsys, *words)["results"]
    assert alone["errors"] == twice["errors"] == both["errors"]
    assert len(both["models"]) == 2
    assert alone["scales"] == [[32, 36, 41]]


@pytest.mark.parametrize("merge", ["literal", "nms"])
def test_other_ways_to_merge(world, capsys, merge):
    root, data = world
    [r] = record_of(capsys, "localise", "evaluate", root / "where", data, "--merge", merge)["results"]
    assert (r["merge"], r["photos"]) == (merge, 12)


def test_a_net_of_classes_is_tested_by_its_class_map(world, capsys):
    root, data = world
    [r] = record_of(capsys, "localise", "evaluate", root / "what", data, "--scales", "72")["results"]
    assert (r["photos"], r["scale"], r["chosen_on"]) == (12, 72, "val")
    assert 0 <= r["max_box_acc_chosen"] <= r["max_box_acc"] <= 100
    assert run("localise", "evaluate", root / "what", data) == 0
    assert "MaxBoxAccV2" in capsys.readouterr().out


def test_shards_give_the_same_numbers(world, capsys, tmp_path):
    root, data = world
    assert run("pack", data, "--out", tmp_path / "photos-%02d.tar") == 0
    [a] = record_of(capsys, "localise", "evaluate", root / "where", data)["results"]
    [b] = record_of(capsys, "localise", "evaluate", root / "where", tmp_path / "photos-*.tar")["results"]
    assert (a["errors"], a["rows"]) == (b["errors"], b["rows"])


def test_two_ranks_count_what_one_does(world, capsys, tmp_path):
    root, data = world
    [alone] = record_of(capsys, "localise", "evaluate", root / "where", data, "--batch", 5)["results"]
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "verydeep"]
    words += ["localise", "evaluate", str(root / "where"), data, "--batch", "5", "--json"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [together] = json.loads(done.stdout.splitlines()[-1])["results"]
    assert all(together[name] == alone[name] for name in ("errors", "rows", "threshold"))


def test_a_split_that_was_drawn_keeps_its_boxes(tmp_path, capsys):
    data = make_list(tmp_path / "photos")
    rows = list(csv.reader(data.read_text().splitlines()))
    with data.open("w", newline="") as out:
        csv.writer(out).writerows([row[:2] + row[3:] for row in rows])
    verydeep.train(str(data), out=tmp_path / "what", **WORDS | {"epochs": 1})
    words = ("localise", "train", data, "--out", tmp_path / "where", "--classifier", tmp_path / "what", *FLAGS)
    assert run(*words, "--epochs", 1) == 0
    capsys.readouterr()
    assert run(*words, "--epochs", 1) == 0
    assert "is finished" in capsys.readouterr().err
    assert len(open_data(str(data), split=tmp_path / "where" / "split.csv").split("train").boxes) > 0


def test_what_is_wrong_is_said(world, capsys, tmp_path):
    root, data = world
    photo = root / "photos" / "test" / "00.png"
    bare = str(make_list(tmp_path / "bare", boxes=False))
    tested = ("localise", "evaluate", root / "where", data)
    train = ("localise", "train", data, "--out", tmp_path / "x")
    cases = [
        (("localise", "predict", root / "what", photo), 1, "says what they are; expected a net that says where"),
        (("predict", root / "where", photo), 1, "says where things are, not what"),
        (("evaluate", root / "where", data), 1, "says where things are, not what; try 'verydeep localise'"),
        (("localise", "evaluate", root / "where", bare), 1, "has a box"),
        (("localise", "predict", root / "where" / "best.safetensors", photo, "--json", "--csv"), 2, "one form"),
        ((*train, "--classifier", root / "what", "--init_from", "y"), 2, "--classifier"),
        (train, 1, "add --classifier RUN"),
        (("localise", "locate", data), 2, "is not a verb of localise"),
        ((*tested, "--classifier", root / "where"), 1, "expected a net that says what"),
        ((*tested, "--page", tmp_path / "page.txt"), 2, "expected a run folder or a file named .html"),
    ]  # fmt: skip
    for words, status, said in cases:
        capsys.readouterr()
        assert run(*words) == status, words
        assert said in capsys.readouterr().err, words


def test_data_with_boxes_to_test_on_alone_can_be_tested_on(world, tmp_path, capsys):
    """As ILSVRC, whose validation photos alone have boxes, and sets that were labelled to test class maps."""
    root, data = world
    rows = Path(data).read_text().splitlines()
    folder = Path(data).parent
    bare = [row if ",test," in row else row.rpartition(",")[0] + "," for row in rows[1:]]
    (folder / "bare.csv").write_text("\n".join([rows[0], *bare]) + "\n")
    [r] = record_of(capsys, "localise", "evaluate", root / "where", folder / "bare.csv")["results"]
    assert (r["photos"], r["split"], r["chosen_on"]) == (12, "test", "test")
    [maps] = record_of(capsys, "localise", "evaluate", root / "what", folder / "bare.csv")["results"]
    assert (maps["photos"], maps["chosen_on"]) == (12, "test")


def test_a_place_that_cannot_be_written_to_and_a_map_of_no_net_are_told_at_once(world, tmp_path, capsys):
    root, data = world
    photo = next(Path(data).parent.rglob("*.png"))
    assert run("localise", "predict", root / "where", photo, "--coco", tmp_path) == 1
    captured = capsys.readouterr()
    assert (captured.out, "cannot be saved, as it is a folder" in captured.err) == ("", True)
    words = ("localise", "train", one_class(tmp_path / "one"), "--boxes_from", "map", *BARE)
    assert run(*words, "--out", tmp_path / "run") == 2
    assert "boxes_from: a class map is a net's; 'verydeep localise train' takes" in capsys.readouterr().err


def test_a_test_without_mirror_images_and_one_of_another_net_replace_nothing(world, capsys):
    root, data = world
    file = root / "where" / "localisation.json"
    file.unlink(missing_ok=True)
    for words in ((root / "where",), (root / "where", "--mirror", "false"), (root / "what", "--page", root / "where")):
        assert run("localise", "evaluate", words[0], data, *words[1:]) == 0
    assert "36, not mirrored" in capsys.readouterr().out
    kept = json.loads(file.read_text())["results"]
    assert [("errors" in r, r["mirror"], "worst" in r) for r in kept] == [
        (True, True, False), (True, False, True), (False, True, False)
    ]  # fmt: skip


def test_the_page_shows_what_was_found(world):
    root, data = world
    assert run("localise", "evaluate", root / "where", data) == 0
    page = (root / "where" / "localisation.html").read_text()
    for words in (
        "Table 8 of the paper",
        "Table 9 of the paper",
        "mean box",
        "whole photo",
        "How exact must a box be?",
    ):
        assert words in page
    assert Path(root / "where" / "localisation.json").exists()


def test_tests_of_a_run_stand_together_and_a_repeated_one_once(world, capsys):
    root, data = world
    words = ("localise", "evaluate", root / "where", data)
    file = root / "where" / "localisation.json"
    file.unlink(missing_ok=True)
    [first] = record_of(capsys, *words)["results"]
    [nms] = record_of(capsys, *words, "--merge", "nms")["results"]
    assert run(*words, "--merge", "nms", "--limit", 5) == 0  # of other photos
    kept = json.loads(file.read_text())["results"]
    assert [(r["merge"], r["photos"], "rows" in r) for r in kept] == [
        ("greedy", 12, False), ("nms", 12, False), ("nms", 5, True)
    ]  # fmt: skip
    assert kept[0]["errors"] == first["errors"]
    assert record_of(capsys, *words)["results"][0]["errors"] == first["errors"]
    kept = json.loads(file.read_text())["results"]
    assert [(r["merge"], r["photos"]) for r in kept] == [("nms", 12), ("nms", 5), ("greedy", 12)]
    rows = [row.split("</tr>")[0] for row in (root / "where" / "localisation.html").read_text().split("<tr>")[1:]]
    own = [row for row in rows if str(root / "where") in row]
    assert ["(nms)" in row for row in own] == [True, False]
    assert f"({nms['errors']['net']['top1']})" in own[0]
    kept[0]["sha256"] = ["0" * 64]  # of earlier weights
    file.write_text(json.dumps({"results": kept}))
    assert run(*words) == 0
    assert len(json.loads(file.read_text())["results"]) == 2


def test_a_photo_whose_box_lies_outside_is_skipped_and_said(world, capsys, tmp_path):
    root, _ = world
    data = make_list(tmp_path / "photos")
    rows = data.read_text().splitlines()
    rows[-1] = rows[-1].rpartition(",")[0] + ",500 500 600 600"
    data.write_text("\n".join(rows) + "\n")
    [r] = record_of(capsys, "localise", "evaluate", root / "where", data)["results"]
    assert (r["photos"], r["skipped"]) == (11, [{"photo": "test/11.png", "reason": "its boxes lie outside of it"}])


def test_one_class_needs_no_net_that_says_what(tmp_path, capsys):
    """One thing a photo, always of one kind: from a start of other classes, or from random weights."""
    data = one_class(tmp_path / "photos")
    assert run("localise", "train", data, "--out", tmp_path / "where", *BARE) == 0
    [r] = record_of(capsys, "localise", "evaluate", tmp_path / "where", data)["results"]
    assert (r["classifier"], r["classes"], r["class_errors"]) == (None, ["square"], {"top1": 0, "top5": 0})
    assert run("localise", "predict", tmp_path / "where", tmp_path / "photos" / "test") == 0
    assert capsys.readouterr().out.count("square 100.0 % at") == 12
    photo = str(tmp_path / "photos" / "test" / "00.png")
    [[place]] = verydeep.load(tmp_path / "where").locate([photo])
    assert place.name == "square"
    data = make_list(tmp_path / "photos")
    assert run("localise", "train", data, "--out", tmp_path / "x", *BARE) == 1
    assert "has 3 classes; 'verydeep train' makes a net that says which is there" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_two_ranks_train_what_one_does(world, tmp_path):
    """In batches of two one of three ranks has no photo, from the first step on."""
    root, _ = world
    data = make_list(tmp_path / "photos", train=3)
    words = ["localise", "train", data, "--classifier", root / "what", *FLAGS, "--epochs", 1, "--batch", 2]
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "verydeep"]
    for out, how in (("one", ["-m", "verydeep"]), ("three", ranks)):
        command = [sys.executable, *how, *map(str, words), "--out", str(tmp_path / out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, three = (verydeep.load(tmp_path / out).state_dict() for out in ("one", "three"))
    assert all(torch.allclose(three[name], t, rtol=1e-3, atol=1e-4) for name, t in one.items())


def test_the_test_after_training_takes_long_photos_as_predict_does(tmp_path, capsys):
    """A test photo of 10:1, and one that cannot be read: both are for the test as they were for training."""
    data = one_class(tmp_path / "photos")
    Image.new("RGB", (500, 50)).save(tmp_path / "photos" / "test" / "00.png")
    (tmp_path / "photos" / "test" / "01.png").write_bytes(b"no photo")
    words = ("localise", "train", data, "--out", tmp_path / "where", *BARE, "--bad_photos", "skip")
    [r] = record_of(capsys, *words)["results"]
    assert (r["photos"], [s["photo"] for s in r["skipped"]]) == (11, ["test/01.png"])
    assert "None" not in (tmp_path / "where" / "localisation.html").read_text()


def test_a_test_split_without_boxes_gives_way_to_validation(world, capsys, tmp_path):
    root, _ = world
    data = make_list(tmp_path / "photos")
    rows = [row.rpartition(",")[0] + "," if ",test," in row else row for row in data.read_text().splitlines()]
    data.write_text("\n".join(rows) + "\n")
    [r] = record_of(capsys, "localise", "evaluate", root / "where", data)["results"]
    assert (r["split"], r["photos"]) == ("val", 12)
    assert run("localise", "evaluate", root / "where", data, "--split", "test") == 1
    assert "none of the 0 photos of test has a box" in capsys.readouterr().err


def test_the_page_finds_its_photos_where_others_have_no_box(world, capsys, tmp_path):
    root, _ = world
    data = make_list(tmp_path / "photos")
    rows = data.read_text().splitlines()
    first = next(i for i, row in enumerate(rows) if ",test," in row)
    rows[first] = rows[first].rpartition(",")[0] + ","
    data.write_text("\n".join(rows) + "\n")
    page = tmp_path / "page.html"
    [r] = record_of(capsys, "localise", "evaluate", root / "where", data, "--page", page)["results"]
    assert page.read_text().count("<figure>") == len(r["worst"]) > 0


def test_class_maps_skip_what_cannot_be_read_and_refuse_a_scale_below_the_crop(world, capsys, tmp_path):
    root, _ = world
    data = make_list(tmp_path / "photos")
    (tmp_path / "photos" / "test" / "03.png").write_bytes(b"no photo")
    words = ("localise", "evaluate", root / "what", data)
    [r] = record_of(capsys, *words, "--bad_photos", "skip")["results"]
    assert (r["photos"], [s["photo"] for s in r["skipped"]]) == (11, ["test/03.png"])
    assert run(*words, "--scales", 16) == 2
    assert "smaller than the crop" in capsys.readouterr().err


def test_who_makes_no_error_has_learnt_even_if_the_mean_box_makes_none():
    for share, collapsed in ((0.9, False), (0.1, True)):
        row = Rated([[share] * 4] * 3, [True, True], 0, 0.9, [0, 0, 1, 1], [])
        assert error_counts({0: row})["collapsed"] is collapsed


def test_the_threshold_of_a_run_is_known_by_its_net_whatever_its_path(world, capsys, monkeypatch):
    root, data = world
    found = record_of(capsys, "localise", "evaluate", root / "where" / "best.safetensors", data)
    assert found["report"] == str(root / "where" / "localisation.html")
    file = root / "where" / "localisation.json"
    kept = json.loads(file.read_text())
    kept["results"][-1]["threshold"] = 1.25
    file.write_text(json.dumps(kept))
    monkeypatch.chdir(root)
    net = verydeep.load(root / "where")
    for model in (str(root / "where"), "where", "./where/best.safetensors"):
        assert kept_threshold(model, net, "greedy") == 1.25
    assert kept_threshold("where", verydeep.load(root / "what"), "greedy") is None


def test_pictures_replace_neither_each_other_nor_photos(world, capsys, tmp_path, monkeypatch):
    root, _ = world
    photos, where = root / "photos", root / "where"
    given = [photos / "test" / "00.png", photos / "val" / "00.png"]
    assert run("localise", "predict", where, *given, "--draw", tmp_path / "drawn") == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["00-2.png", "00.png"]
    before = given[1].read_bytes()
    capsys.readouterr()
    assert run("localise", "predict", where, *given, "--draw", photos / "val") == 2
    assert (given[1].read_bytes(), "holds photos that are given" in capsys.readouterr().err) == (before, True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(before)))
    assert run("localise", "predict", where, "-", "--draw", tmp_path / "piped") == 0
    assert len(list((tmp_path / "piped").iterdir())) == 1


def test_lists_of_nothing_go_into_new_folders_and_more_than_five_classes_are_said(tmp_path, capsys, world):
    root, _ = world
    (tmp_path / "bad.png").write_bytes(b"no photo")
    coco = tmp_path / "new" / "a.json"
    assert run("localise", "predict", root / "where", tmp_path / "bad.png", "--coco", coco) == 1
    empty = json.loads(coco.read_text())
    assert tuple(c["name"] for c in empty.pop("categories")) == CLASSES
    assert empty == {"images": [], "annotations": []}
    odd = tmp_path / os.fsdecode(b"\xff.png")  # no text in UTF-8
    shutil.copy(root / "photos" / "test" / "00.png", odd)
    assert run("localise", "predict", root / "where", odd, "--coco", coco, "--draw", tmp_path / "drawn") == 0
    assert json.loads(coco.read_text())["images"][0]["file_name"] == str(odd)
    names = tuple("abcdefg")
    what, boxes = net_of("classes", range(7), names), net_of("PCR", [[0.5, 0.5, 0.5, 0.5]] * 7, names)
    [places] = boxes.locate([Image.new("RGB", (40, 40))], what, top=6)
    assert len({p.name for p in places}) == 6


def test_a_classifier_may_know_more_classes_than_the_boxes():
    boxes = net_of("PCR", [[0.5, 0.5, 0.5, 0.5]] * 3)
    what = net_of("classes", [0.0, 3.0, 9.0, 1.0], ("red", "blue", "black", "green"))
    [places] = boxes.locate([Image.new("RGB", (40, 40))], what, top=5)
    assert [p.name for p in places] == ["blue", "green", "red"]
    assert sum(p.probability for p in places) == pytest.approx(1)
