"""What boxes ask of the loop: the targets, the loss in float64, what a crop hardly shows, and a run that goes on."""

import json

import numpy as np
import pytest
import torch
from boxed import CLASSES, WORDS, make_list
from PIL import Image

import verydeep
from verydeep.box_config import BoxConfig
from verydeep.data.augment import Geometry
from verydeep.data.batches import Batches, Cut
from verydeep.data.photo import PixelSize
from verydeep.data.reading import Room, kept
from verydeep.data.record import Names, Photos
from verydeep.data.source import open_data
from verydeep.data.statistics import Statistics
from verydeep.errors import DataError, Interrupted, PhotoError, RunError
from verydeep.localise.boxes import iou
from verydeep.localise.task import box_loss, targets_of, train_boxes, with_boxes
from verydeep.progress import Progress
from verydeep.train import loop

WHOLE = Geometry(80, 0, 0, False)


def photos_with(*boxes, label=0):
    image = Image.new("RGB", (100, 80))
    return Photos("train", Names.of(["a"]), np.array([label]), lambda id: image, boxes={0: boxes}, in_memory=True)


def asked(photos, geometry=WHOLE, **more):
    config = BoxConfig(net="A", crop=64, scale=80, **more)
    cut = Cut(np.zeros((64, 64, 3), np.uint8), geometry, PixelSize(80, 100, (80, 100)))
    return targets_of(photos, 3, config)(0, cut)


def test_a_target_is_centre_and_size_in_crops():
    found = asked(photos_with(((16, 8, 48, 40), 1), label=1))
    assert found.shape == (3, 5)
    assert found[1].tolist() == [0.5, 0.375, 0.5, 0.5, 1.0]
    assert not found[[0, 2]].any()
    mirrored = asked(photos_with(((0, 8, 32, 40), 1), label=1), Geometry(80, 0, 0, True))
    assert mirrored[1].tolist() == [0.75, 0.375, 0.5, 0.5, 1.0]
    log = asked(photos_with(((16, 8, 48, 40), 1), label=1), log_size=True)
    assert log[1].tolist() == pytest.approx([0.5, 0.375, np.log(0.5), np.log(0.5), 1])


def test_each_class_is_asked_for_what_the_crop_shows_most_of():
    boxes = ((0, 0, 10, 10), 1), ((20, 20, 60, 60), 1), ((5, 5, 25, 25), 2), ((70, 0, 100, 80), 0)
    found = asked(photos_with(*boxes), box_classes="all")
    assert found[1, :4].tolist() == [40 / 64, 40 / 64, 40 / 64, 40 / 64]
    assert found[:, 4].tolist() == [0, 1, 1]  # nothing of the last is in the crop
    own = asked(photos_with(*boxes, label=2))
    assert own[2].tolist() == found[2].tolist()
    assert not own[:2].any()
    any_class = asked(photos_with(*boxes, label=2), boxes="SCR", box_classes="all")
    assert any_class.tolist() == found[1:2].tolist()
    shared = asked(photos_with(*boxes, label=2), boxes="SCR")
    assert shared.tolist() == [[15 / 64, 15 / 64, 20 / 64, 20 / 64, 1]]
    lacking = photos_with(boxes[0], boxes[1], label=0)
    assert asked(lacking, boxes="SCR")[0, :2].tolist() == [40 / 64, 40 / 64]
    assert asked(lacking)[:, 4].tolist() == [0, 1, 0]


@pytest.mark.parametrize(("least", "wanted"), [(0.0, 1), (0.49, 1), (0.51, 0)])
def test_a_box_mostly_outside_is_not_asked_for(least, wanted):
    found = asked(photos_with(((54, 10, 74, 30), 0)), least_seen=least)
    assert found[0, 4] == wanted
    assert found[0, 2] == wanted * 20 / 64  # whole, where it is asked for


def test_a_box_beyond_the_photo_ends_with_it():
    assert asked(photos_with(((-30, -10, 32, 40), 0)))[0, :4].tolist() == [0.25, 0.3125, 0.5, 0.625]
    assert not asked(photos_with(((200, 10, 300, 40), 0))).any()


@pytest.mark.parametrize("how", ["euclidean", "smooth-l1"])
@pytest.mark.parametrize("log_size", [False, True])
def test_loss_error_and_gradients_are_those_of_float64(how, log_size):
    random = np.random.default_rng(3)
    true = random.uniform(0.1, 1.6, (7, 3, 4))
    said = true + random.normal(0, 0.15, (7, 3, 4))
    wanted = random.random((7, 3)) < 0.6
    wanted[0] = False
    outputs = torch.tensor(said.reshape(7, 12), dtype=torch.float64, requires_grad=True)
    targets = torch.tensor(np.concatenate([true, wanted[..., None]], -1))
    loss, error = box_loss(outputs.float(), targets.float(), how, log_size)
    total, slope, wrong = 0.0, np.zeros_like(said), 0.0
    for n in range(7):
        bad = [0, 0]
        for r in range(3):
            if not wanted[n, r]:
                continue
            for k in range(4):
                d = 10 * (said[n, r, k] - true[n, r, k])  # in tenths
                if how == "euclidean":
                    total, slope[n, r, k] = total + d * d / 2, 10 * d
                else:
                    total += d * d / 2 if abs(d) < 1 else abs(d) - 0.5
                    slope[n, r, k] = 10 * max(-1, min(1, d))
            boxes = []
            for cx, cy, w, h in (said[n, r], true[n, r]):
                w, h = (np.exp(w), np.exp(h)) if log_size else (w, h)
                boxes.append(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
            bad = [bad[0] + bool(iou(*boxes) <= 0.5), bad[1] + 1]
        wrong += 100 * bad[0] / bad[1] if bad[1] else 0
    loss.backward()
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    asking = int(wanted.any(1).sum())
    assert asking == 6
    assert float(error) == pytest.approx(wrong * 7 / asking)  # as if the one that asks nothing were as the others
    assert outputs.grad.numpy() == pytest.approx(slope.reshape(7, 12), abs=1e-4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photos with boxes, and a net that knows their classes."""
    root = tmp_path_factory.mktemp("world")
    data = str(make_list(root / "photos"))
    verydeep.train(data, out=root / "what", **WORDS)
    return root, data


def config(root, **more):
    return BoxConfig(**WORDS | {"init_from": str(root / "what"), "lr": 1e-2} | more)


def test_a_run_goes_on_bit_for_bit_and_tells_what_it_was_started_from(world, tmp_path, monkeypatch):
    root, data = world
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train_boxes(data, config(root), whole, progress=Progress("none")).startswith("training ends")
    compute, steps = loop.gradients, iter(range(100))

    def gradients(*given):
        if next(steps) == 5:
            import signal

            signal.raise_signal(signal.SIGTERM)
        return compute(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "gradients", gradients)
        with pytest.raises(Interrupted):
            train_boxes(data, config(root), cut, progress=Progress("none"))
    train_boxes(data, config(root), cut, progress=Progress("none"))
    files = ["best.safetensors", *(f"last/{p.name}" for p in (whole / "last").glob("*.safetensors"))]
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in files)
    start, contract = json.loads((whole / "run.json").read_text())["started_from"], verydeep.load(whole).contract
    assert start["sha256"] == verydeep.load(root / "what").contract.sha256
    assert (contract.task, contract.classes, contract.shape.classes) == ("PCR", CLASSES, 12)
    assert "fc8 -> fc8" not in start["copied"]
    with pytest.raises(RunError, match="another task"):
        verydeep.train(data, out=whole, **WORDS)
    with pytest.raises(RunError, match="another configuration: boxes"):
        train_boxes(data, config(root, boxes="SCR"), whole)


def test_a_net_of_as_many_classes_as_a_box_has_numbers_gives_its_last_layer_to_none(tmp_path):
    data = str(make_list(tmp_path / "photos"))
    rows = (tmp_path / "photos" / "list.csv").read_text().splitlines()
    more = [row.replace("red", f"red {i % 2}") if "red" in row else row for i, row in enumerate(rows)]
    (tmp_path / "photos" / "list.csv").write_text("\n".join(more) + "\n")
    verydeep.train(data, out=tmp_path / "what", **WORDS | {"epochs": 1})
    train_boxes(data, config(tmp_path, boxes="SCR", epochs=1), tmp_path / "where", progress=Progress("none"))
    copied = json.loads((tmp_path / "where" / "run.json").read_text())["started_from"]["copied"]
    assert "fc8 -> fc8" not in copied
    assert verydeep.load(tmp_path / "where").contract.shape.classes == 4


def test_frozen_convolutions_stay(world, tmp_path):
    root, data = world
    train_boxes(data, config(root, freeze="pool5", epochs=1), tmp_path / "run", progress=Progress("none"))
    before, after = (verydeep.load(p).net.state_dict() for p in (root / "what", tmp_path / "run"))
    same = {
        name for name in before if before[name].shape == after[name].shape and torch.equal(before[name], after[name])
    }
    assert {n for n in before if n.startswith("conv")} <= same
    assert "fc6.weight" not in same


def test_a_net_that_learns_nothing_is_told_of(world, tmp_path, capsys):
    root, data = world
    train_boxes(data, config(root, lr=1e-9, epochs=1), tmp_path / "run", progress=Progress("none"))
    said = capsys.readouterr().err
    assert "nothing is learnt so far" in said
    assert "of one box for all, the mean" in said


def test_photos_without_a_box_are_left_out_and_said(tmp_path):
    data = make_list(tmp_path)
    rows = data.read_text().splitlines()
    rows[1] = rows[1].rpartition(",")[0] + ","
    data.write_text("\n".join(rows) + "\n")
    opened = with_boxes(open_data(str(data)))
    assert len(opened.split("train")) == 23
    assert opened.notes[-1] == "1 of the 24 photos of train have no box and are left out"
    with pytest.raises(
        DataError, match=r"none of the 24 photos of train has a box; expected a list with a column 'box'"
    ):
        with_boxes(open_data(str(make_list(tmp_path / "none", boxes=False))))


def test_a_run_does_not_go_on_with_other_boxes(world, tmp_path):
    root, _ = world
    data = make_list(tmp_path / "photos")
    train_boxes(str(data), config(root, epochs=1), tmp_path / "run", progress=Progress("none"))
    lines = data.read_text().splitlines()
    moved = [line.replace(box := line.rpartition(",")[2], f"0 0 {' '.join(box.split()[2:])}") for line in lines[1:]]
    data.write_text("\n".join([lines[0], *moved]) + "\n")
    with pytest.raises(RunError, match="was begun with other boxes of the same photos"):
        train_boxes(str(data), config(root, epochs=1), tmp_path / "run", progress=Progress("none"))


def test_boxes_of_the_class_map_can_be_learnt(world, tmp_path, capsys):
    root, _ = world
    data = str(make_list(tmp_path / "photos", boxes=False))
    train_boxes(
        data, config(root, boxes="SCR", boxes_from="map", epochs=1), tmp_path / "run", progress=Progress("none")
    )
    assert "boxes are those of the class map of" in capsys.readouterr().err
    assert verydeep.load(tmp_path / "run").contract.task == "SCR"
    (tmp_path / "photos" / "train" / "00.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"train/00\.png"):
        train_boxes(data, config(root, boxes_from="map"), tmp_path / "other", progress=Progress("none"))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_that_is_decoded_smaller_has_the_targets_of_the_same_photo_whole(tmp_path, orientation):
    """A list with boxes, read as training reads it; a photo that stands on its side is turned first."""
    image, boxes = Image.effect_noise((800, 600), 40).convert("RGB"), [(500, 350, 740, 560), (20, 30, 400, 300)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    if orientation == 6:  # a quarter to the right
        image, boxes = image.transpose(Image.Transpose.ROTATE_270), [(600 - d, a, 600 - b, c) for a, b, c, d in boxes]
    image.save(tmp_path / "a.png")
    found, sizes = [], []
    for name in ("a.png", "a.jpg"):
        rows = [f"{name},{c},{' '.join(map(str, box))}" for c, box in zip(("cat", "dog"), boxes, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,box", *rows, f"{name},cat,"]))
        photos = kept(open_data(str(tmp_path / f"{name}.csv")).split("all"), Room(10**9), 64)
        c = BoxConfig(crop=64, scale=64, colour="off", boxes="PCR", box_classes="all", workers=0, batch=1)
        batches = Batches(photos, c, Statistics((0, 0, 0), np.eye(3).tolist(), (1, 1, 1), 1), targets_of(photos, 2, c))
        found.append(np.concatenate([batch.targets.numpy() for epoch in range(4) for batch in batches.epoch(epoch)]))
        sizes.append(min(photos.open(0).size))
    assert sizes == [600, 75]
    assert found[0][..., 4].any()
    assert found[1] == pytest.approx(found[0], abs=0.01)
