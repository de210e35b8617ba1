"""Maps against captum, finite differences in fp64 and nets whose answer is known; pictures; the verb."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import verydeep
from tests.conftest import draw_photo
from verydeep.cli import main
from verydeep.contract import Contract
from verydeep.explain import METHODS, explain_photo, pictures
from verydeep.explain.maps import FINER, gradient, occlusion, smoothed
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.report import lettering
from verydeep.shape import Shape

CLASSES = ("cat", "dog", "n02123045 tabby, tabby cat")


def toy(batch_norm=False, classes=CLASSES, task="classes", seed=0):
    outputs = {"task": task, "log_size": False} if task != "classes" else {}
    shape = Shape("A", len(classes), 32, 8, 4, batch_norm)
    about = Contract.of(shape, classes, mean=(120.0, 115.0, 100.0), std=(60.0, 55.0, 50.0), scales=(40, 40), **outputs)
    net = build(about)
    initialise(net.net, "he", seed)
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def photo_of(width=61, height=40, seed=1):
    return draw_photo(seed % 3, height, width, np.random.default_rng(seed))


def pixels_of(net, image):
    from verydeep.data.photo import middle

    return torch.from_numpy(middle(image, net.contract.test_scale).copy()).permute(2, 0, 1)[None]


def forward_of(net):
    """Scores of float pixels, by the plain parts of the net."""
    return lambda x: net.net.dense((x - net.mean.to(x)) / net.std.to(x)).mean((2, 3))


def relative(found, expected):
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max() / np.abs(np.asarray(expected)).max())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_saliency_is_the_finite_difference_in_fp64(batch_norm):
    net, image = toy(batch_norm), photo_of()
    found = explain_photo(net, image, [1], ["saliency"])[0].maps["saliency"]
    x, score = pixels_of(net, image).double(), forward_of(net.double())
    for row, column in ((3, 5), (20, 30), (39, 60)):
        slopes = []
        for colour in range(3):
            up, down = x.clone(), x.clone()
            up[0, colour, row, column] += 1e-4
            down[0, colour, row, column] -= 1e-4
            slopes.append(abs(float((score(up) - score(down)).detach()[0, 1]) / 2e-4))
        assert found[row, column] == pytest.approx(max(slopes), rel=1e-4, abs=1e-9)


def test_saliency_and_its_smooth_form_are_captums():
    attr = pytest.importorskip("captum.attr")
    net, image = toy(), photo_of()
    x, score = pixels_of(net, image).float(), forward_of(net)
    with pytest.warns(UserWarning, match="required_grads"):
        theirs = attr.Saliency(score).attribute(x, target=2).amax(1)[0]
    assert relative(explain_photo(net, image, [2], ["saliency"])[0].maps["saliency"], theirs) < 1e-5
    drawn, copies = torch.Generator().manual_seed(5), 6
    noise = torch.stack([torch.randn(x.shape[1:], generator=drawn) for _ in range(copies)])
    noisy = x + 0.15 * (x.max() - x.min()) * noise
    with pytest.warns(UserWarning, match="required_grads"):
        signed = attr.Saliency(score).attribute(noisy, target=2, abs=False)
    assert relative(smoothed(net, x, 2, copies, 5, print), signed.mean(0).abs().amax(0)) < 1e-5


def test_occlusion_is_captums():
    attr = pytest.importorskip("captum.attr")
    net, image = toy(), photo_of(47)
    x = pixels_of(net, image)
    found = explain_photo(net, image, [0], ["occlusion"])[0].maps["occlusion"]
    grey = net.mean.round().expand_as(x).to(torch.uint8)
    theirs = attr.Occlusion(lambda p: net(p).softmax(1).double()).attribute(
        x, sliding_window_shapes=(3, 6, 6), strides=(3, 3, 3), baselines=grey, target=0
    )
    assert relative(found, theirs[0, 0]) < 1e-5


def red_where(low, high):
    """A net whose second score is the greater, the redder the photo: identity convolutions, and hand-set FC layers."""
    shape = Shape("A", 2, 32, 1, 4)
    net = build(Contract.of(shape, ("other", "red"), mean=(0.0,) * 3, std=(1.0,) * 3, scales=(64, 64)))
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
        for layer in net.net.convolutions():
            layer.weight[0, 0, 1, 1] = 1.0
        for fc in (net.net.fc6, net.net.fc7):
            fc.weight[0, 0] = 1.0
        net.net.fc8.weight[:, 0] = torch.tensor([low, high])
    return net.eval()


def spot(x, y, side=64, size=4):
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[y : y + size, x : x + size, 0] = 200
    return Image.fromarray(pixels)


def test_occlusion_and_class_map_of_a_net_that_finds_red():
    net = red_where(0.0, 0.05)
    found = explain_photo(net, spot(40, 12), methods=["occlusion", "map", "saliency"])[0]
    assert (found.label, net.contract.classes[found.label]) == (1, "red")
    p = 1 / (1 + np.exp(-0.05 * 200 / 4))  # one of four windows has red of 200
    assert found.probability == pytest.approx(p, abs=1e-6)
    lost, over = np.zeros((64, 64)), np.array([2, 2, 1, 1, 2, 2])  # patches of 6 x 6, every 4 pixels
    lost[12:18, 40:46] = (p - 0.5) / np.outer(over, over)  # only that at 40, 12 hides the whole spot
    assert found.maps["occlusion"] == pytest.approx(lost, abs=1e-6)
    slope = np.zeros((64, 64))  # the greatest red alone counts, the first of equals
    slope[12, 40] = 0.05 / 4
    assert found.maps["saliency"] == pytest.approx(slope, abs=1e-8)
    heat = found.maps["map"]  # at three times Q each window sees a third of the side
    assert heat.max() == pytest.approx(0.05 * 200, rel=0.05)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (abs(x - 44) < 12, abs(y - 16) < 12) == (True, True)
    assert heat[50:, :20].max() == 0


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_class_map_values_are_those_of_the_dense_map_at_the_centres_of_its_windows():
    net = toy()
    image = photo_of(90, 60)
    found = explain_photo(net, image, [1], ["map"])[0].maps["map"]
    from verydeep.data.photo import middle

    seen = torch.from_numpy(middle(image, FINER * 40).copy()).permute(2, 0, 1)[None]
    cells = net.dense(seen)[0, 1].detach().numpy()
    for i, j in ((0, 0), (1, 2), (2, 4)):
        y, x = (32 * i + 16) / 120 * 40 - 0.5, (32 * j + 16) / 180 * 60 - 0.5
        y0, x0 = int(y), int(x)
        near = found[y0 : y0 + 2, x0 : x0 + 2]
        weights = np.outer([1 - (y - y0), y - y0], [1 - (x - x0), x - x0])
        assert float((near * weights).sum()) == pytest.approx(cells[i, j], rel=0.1, abs=float(np.ptp(cells)) / 10)


def test_the_noise_is_seeded_and_does_not_depend_on_other_photos():
    net, image = toy(), photo_of()
    one, two, three = (smoothed(net, pixels_of(net, image), 0, 3, seed, print) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)


def test_copies_go_through_together_or_alone_with_one_result(monkeypatch):
    net, image = toy(), photo_of()
    together = smoothed(net, pixels_of(net, image), 0, 5, 0, print)
    monkeypatch.setattr("verydeep.explain.maps.BACKWARD_PIXELS", 1)
    alone = smoothed(net, pixels_of(net, image), 0, 5, 0, print)
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("size", [(40, 40), (33, 97), (700, 40), (1, 1), (3000, 2)])
def test_any_size(size):
    image = Image.new("RGB", size, "orange")
    found = explain_photo(toy(), image)[0]
    short, long = sorted(size)
    wanted = (40, min(8 * 40, round(long * 40 / short)))
    assert all(sorted(map.shape) == sorted(wanted) and np.isfinite(map).all() for map in found.maps.values())
    part = pictures.explained_part(image, 200)
    assert max(part.shape[:2]) <= 200
    assert all(pictures.heated(part, map, method).shape == part.shape for method, map in found.maps.items())


def test_occlusion_is_of_bounded_cost(monkeypatch):
    net, seen = toy(), []
    occlusion(net, torch.zeros(1, 3, 40, 320, dtype=torch.uint8), 0, seen.append)
    assert int(seen[-1].split("/")[1]) <= 330
    assert len(seen) > 1


def test_no_gradient_is_left_behind():
    net = toy()
    gradient(net, pixels_of(net, photo_of()).float(), 0)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.fixture
def model(tmp_path):
    toy().save(tmp_path / "toy.safetensors")
    return str(tmp_path / "toy.safetensors")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos" / "again").mkdir(parents=True)
    photo_of(120, 80).save(tmp_path / "photos" / "a.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    photo_of(90, 60, 2).save(tmp_path / "photos" / "again" / "a.jpg", exif=turned)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no photo")
    return tmp_path / "photos"


def test_the_verb_writes_pictures_arrays_and_one_sheet(model, folder, tmp_path, capsys):
    out = tmp_path / "seen"
    words = ["explain", model, str(folder), "--out", str(out), "--copies", "2", "--arrays", "--json"]
    assert main(words) == 1  # one cannot be read
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert "1 of the photos could not be read" in said.err
    good = [row for row in record["photos"] if "error" not in row]
    assert [Path(row["photo"]).name for row in record["photos"] if "error" in row] == ["bad.png"]
    assert record["sheets"] == [str(out / "sheet.png")]
    assert {tuple(row["pictures"]) for row in good} == {METHODS}
    assert {Path(row["pictures"]["map"]).name for row in good} == {"a-map.png", "a-2-map.png"}
    upright = {(120, 80): (40, 60), (60, 90): (60, 40)}
    for row in good:
        size = size_of(row["pictures"]["occlusion"])
        shape = np.load(row["arrays"]["smooth"]).shape
        assert upright[size] == shape
        assert row["class"] in CLASSES
        assert row["probability"] == pytest.approx(
            float(verydeep.load(model)(pixels_of(toy(), turned_up(row["photo"]))).detach().softmax(1).max()), abs=1e-5
        )
    width, height = size_of(out / "sheet.png")
    assert width > 5 * 200
    assert height > 2 * 150


def turned_up(name):
    from verydeep.data.photo import from_file

    return from_file(Path(name))


def test_the_verb_from_python_is_that_of_the_command_line(model, folder, tmp_path):
    words = (str(folder / "a.png"),)
    record = verydeep.explain(model, words, out=tmp_path / "o", methods=("map",), classes=("dog", "tabby cat"))
    assert [row["class"] for row in record["photos"]] == ["dog", CLASSES[2]]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["a-1-map.png", "a-2-map.png", "sheet.png"]


def test_many_rows_are_several_sheets(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.explain.photos.ON_A_SHEET", 2)
    words, names = (str(folder / "a.png"),), ("cat", "dog", "tabby")
    record = verydeep.explain(model, words, out=tmp_path / "o", methods=("map",), classes=names)
    assert [Path(s).name for s in record["sheets"]] == ["sheet.png", "sheet-2.png"]


WRONG = {
    "an unknown class": (["--classes", "doog"], 2, "the model has no class 'doog'; did you mean dog?"),
    "an unknown method": (["--methods", "gradcam"], 2, "gradcam"),
    "no copies": (["--copies", "0"], 2, "copies"),
}


@pytest.mark.parametrize(("words", "status", "said"), WRONG.values(), ids=WRONG)
def test_wrong_words_are_one_line(model, folder, tmp_path, capsys, words, status, said):
    assert main(["explain", model, str(folder / "a.png"), "--out", str(tmp_path / "o"), *words]) == status
    assert said in capsys.readouterr().err


def test_pictures_do_not_go_where_the_photos_are(model, folder, capsys):
    assert main(["explain", model, str(folder / "a.png"), "--out", str(folder)]) == 2
    assert "holds photos that are given" in capsys.readouterr().err


def test_a_net_of_boxes_is_told_of_the_verb_that_draws_them(folder, tmp_path, capsys):
    toy(classes=("thing",), task="SCR").save(tmp_path / "boxes.safetensors")
    assert (
        main(["explain", str(tmp_path / "boxes.safetensors"), str(folder / "a.png"), "--out", str(tmp_path / "o")]) == 1
    )
    assert "'verydeep localise predict MODEL PHOTO --draw FOLDER'" in capsys.readouterr().err


def sheet_of(tmp_path, folder, name):
    toy(classes=(name, "dog", "cow")).save(tmp_path / "named.safetensors")
    named, photos = str(tmp_path / "named.safetensors"), (str(folder / "a.png"),)
    record = verydeep.explain(named, photos, out=tmp_path / "o", methods=("map",), classes=(name,))
    with Image.open(record["sheets"][0]) as sheet:
        return record, np.asarray(sheet)


def written(words):
    page = Image.new("RGB", (200, 30), "white")
    lettering.put_words(ImageDraw.Draw(page), (0, 4), words, 15, pictures.INK, 200)
    return np.asarray(page)


def test_a_chinese_class_is_drawn_by_a_font_of_the_system(tmp_path, folder):
    if not any(ord("橘") in lettering.signs_of(file) for file in lettering.system_fonts()):
        pytest.skip("no font of this system has Chinese")
    record, sheet = sheet_of(tmp_path, folder, "橘猫")
    assert record["photos"][0]["class"] == "橘猫"
    title = f"橘猫 {100 * record['photos'][0]['probability']:.1f} %"
    words = written(title)
    rows, columns = np.nonzero(words.min(2) < 255)
    words = words[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width, _ = words.shape
    places = np.lib.stride_tricks.sliding_window_view(sheet[:150, :120], (height, width, 3))
    assert (places == words).all((3, 4, 5)).any()  # it stands on the sheet
    assert not np.array_equal(written(title), written(title.replace("橘猫", "虎犬")))  # no boxes
    assert not np.array_equal(written(title), written(title.replace("%", "$")))


def test_without_such_a_font_the_class_is_a_number_and_that_is_said(tmp_path, folder, monkeypatch):
    lettering.font_file.cache_clear()
    monkeypatch.setattr(lettering, "system_fonts", lambda: ())
    with pytest.warns(UserWarning, match="no font here has the signs of '橘猫', so the sheet shows the number"):
        record, _ = sheet_of(tmp_path, folder, "橘猫")
    assert record["photos"][0]["class"] == "橘猫"
    lettering.font_file.cache_clear()


def test_words_that_do_not_fit_lose_their_middle():
    page = Image.new("RGB", (300, 40), "white")
    used = lettering.put_words(ImageDraw.Draw(page), (0, 0), "a very long name of a photo " * 9, 15, "black", 200)
    assert 150 < used <= 200
    assert np.asarray(page)[:, 205:].min() == 255


def test_a_photo_from_standard_input(model, tmp_path, monkeypatch):
    data = io.BytesIO()
    photo_of().save(data, "PNG")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.getvalue())))
    record = verydeep.explain(model, ("-",), out=tmp_path / "o", methods=("saliency",))
    assert Path(record["photos"][0]["pictures"]["saliency"]).name == "photo-saliency.png"
