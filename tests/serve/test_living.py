"""The living page answers as the net does, to the pixel and to 1e-3 of a score, in a real browser, and stays in it."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tests import chromium
from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.errors import ConfigError, ModelError
from verydeep.evaluate.classify import answers, entrant
from verydeep.evaluate.frames import windows
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.views import Step, View
from verydeep.net.classifier import build
from verydeep.serve import living, living_page, write_living_page
from verydeep.shape import Shape
from verydeep.verbs.export import Export
from verydeep.weights import load

browser = chromium.browser
ROOT = Path(__file__).parent.parent.parent
NAMES = ("a 'cat'", 'the "dog" </script><script>alert(1)</script>', "鸟", "a,b\nc & ${x} $model", "é<!--&amp;>")
SHAPES = {
    "A-LRN": {}, "B": {"pooling": "down"}, "C": {"batch_norm": True}, "shallow-B": {"base_width": 5, "fc_width": 7},
    "A": {"crop": 64},
}  # fmt: skip
# What the page makes of files, given as [base64, what is asked]: pixels, maps and layers as plain numbers.
ASK = """async (asked) => {
  const answers = [];
  for (const [text, how] of asked) {
    const made = await opened(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));
    photo = {...made, number: photo.number + 1};
    await send({photo: {...photo, canvas: null}});
    const {pixels, map, maps} = await see(how), plain = ({data, ...x}) => ({...x, data: [...data]});
    const taps = Object.fromEntries(Object.entries(maps).map(([name, x]) => [name, plain(x)]));
    answers.push({size: [photo.height, photo.width], pixels: plain(pixels), map: map && plain(map), taps});
  }
  return answers;
}"""
IDLE = "() => photo && Object.keys(steps).every((name) => name in busy && !busy[name])"


@pytest.fixture
def opened(browser):
    """Opens a page from its file; fails where it says anything on the console or asks for anything elsewhere."""
    said, contexts = [], []

    def open_page(path, width=1280, **how):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=how.pop("locale", "en-GB"), **how
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(m.text))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on(
            "request", lambda r: said.extend([r.url] * (r.url != path.as_uri() and r.url[:5] not in ("data:", "blob:")))
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "fashion.html"
    return write_living_page("builtin:fashion-a", path) and path


def toy(net, **fields):
    """A classifier with weights and biases far from 0, and what its page says of them by another way."""
    torch.manual_seed(5)
    shape = Shape(net, len(NAMES), **{"crop": 32, "base_width": 8, "fc_width": 24} | fields)
    contract = Contract.of(shape, NAMES, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0),
                           scales=(shape.crop + 4, shape.crop + 30), licence="MIT; 照片")  # fmt: skip
    classifier = build(contract).eval()
    with torch.no_grad():
        for name, p in classifier.net.state_dict().items():
            if "running_var" in name:
                p.uniform_(0.5, 2)
            elif name.endswith(("bias", "running_mean")):
                p.normal_(0, 0.1)
        classifier.net.fc8.weight *= 4
    return classifier


def as_stored(classifier, stored):
    """The net with the weights that its page holds, in float64, by torch's own folding of batch normalisation."""
    contract = replace(classifier.contract, batch_norm=False)
    other = build(contract).eval()
    for name, layer in other.net.named_children():
        own = getattr(classifier.net, name)
        if classifier.net.batch_norm and name.startswith("conv"):
            own = fuse_conv_bn_eval(own, getattr(classifier.net, name.replace("conv", "bn")))
        weight = own.weight.detach()
        if stored == "int8":
            scale = weight.flatten(1).abs().amax(1).div(127).view(-1, *[1] * (weight.ndim - 1))
            weight = (weight / scale).round() * scale
        with torch.no_grad():
            layer.weight.copy_(weight.half() if stored == "fp16" else weight)
            layer.bias.copy_(own.bias)
    return other.double()


def png(pixels, **how):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, how.pop("format", "PNG"), **how)
    return file.getvalue()


@pytest.fixture(scope="module")
def asked(browser, fashion):
    """One page of builtin:fashion-a for all questions about its numbers."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(fashion.as_uri())
    yield page
    context.close()


def ask(page, photos, hows):
    given = [[base64.b64encode(data).decode(), how] for data, how in zip(photos, hows, strict=True)]
    page.wait_for_function("() => photo")
    return page.evaluate(ASK, given)


def array(found):
    return np.array(found["data"]).reshape(found["height"], found["width"], -1)


def drawn(height, width, random):
    """Soft colours with sharp edges and noise, as photos have."""
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse, np.int16) + random.integers(-20, 21, (height, width, 1))
    pixels[height // 3 :, : width // 2] //= 2
    return pixels.clip(0, 255).astype(np.uint8)


def in_mode(mode, pixels):
    image = Image.fromarray(pixels)
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray((pixels[..., 0] > 90).astype(np.uint8) * 255)
        image.putalpha(alpha)
    return image.convert(mode)


def scores(classifier, pixels):
    with torch.no_grad():
        found = classifier.dense(torch.from_numpy(np.asarray(pixels).copy()).permute(2, 0, 1)[None])
    return found[0].permute(1, 2, 0).numpy()


def test_scores_of_100_photos(asked):
    random, net = np.random.default_rng(0), as_stored(load("builtin:fashion-a").eval(), "fp16")
    exact, c = load("builtin:fashion-a").eval().double(), net.contract
    modes = ("RGB", "L", "P", "RGBA", "LA", "1", "RGB")
    sizes = [(28, 28), (1, 1), (3, 200), (300, 21), (900, 1200), (1, 40), (32, 32), (1210, 33)]
    sizes += [tuple(random.integers(2, 260, 2)) for _ in range(92)]
    files = [png(in_mode(modes[n % 7], drawn(*size, random))) for n, size in enumerate(sizes)]
    corners = [photo.centre_window(*photo.scaled_size(*size, c.test_scale), c.crop)[:2] for size in sizes]
    found = ask(asked, files, [{"scale": c.test_scale, "at": at, "net": True} for at in corners])
    worst = of_rounding = 0.0
    for data, answer in zip(files, found, strict=True):
        crop = photo.centre_crop(photo.decode(data, "it", reading=c.reading), c.test_scale, c.crop)
        np.testing.assert_array_equal(array(answer["pixels"]), crop)
        worst = max(worst, np.abs(array(answer["map"]) - scores(net, crop)).max())
        of_rounding = max(of_rounding, np.abs(scores(net, crop) - scores(exact, crop)).max())
    assert len(files) == 100
    assert worst < 1e-3
    assert of_rounding == 0  # the model's own file has halves


def test_maps_of_20_sizes(asked):
    random, net = np.random.default_rng(1), as_stored(load("builtin:fashion-a").eval(), "fp16")
    photos = [drawn(*random.integers(20, 150, 2), random) for _ in range(18)] + [
        drawn(20, 400, random),
        drawn(90, 28, random),
    ]
    scales = [*range(32, 68, 2), 47, 73]
    hows = [{"scale": q, "mirror": n % 2 == 1} for n, q in enumerate(scales)]
    for pixels, how, answer in zip(photos, hows, ask(asked, map(png, photos), hows), strict=True):
        whole = photo.middle(Image.fromarray(pixels), how["scale"])[:, :: -1 if how["mirror"] else 1]
        np.testing.assert_array_equal(array(answer["pixels"]), whole)
        np.testing.assert_allclose(array(answer["map"]), scores(net, whole), atol=1e-3, rtol=0)


def test_pixels_are_pillows(asked):
    random, page = np.random.default_rng(2), asked
    photos = [drawn(*(random.integers(1, 400, 2)), random) for _ in range(60)]
    scales = [int(n) for n in random.integers(32, 200, 60)]
    windows_of = [photo.scaled_size(*p.shape[:2], s) for p, s in zip(photos, scales, strict=True)]
    corners = [[int(random.integers(0, h - 31)), int(random.integers(0, w - 31))] for h, w in windows_of]
    hows = [{"scale": s, "at": at, "net": False, "mirror": n % 3 == 0}
            for n, (s, at) in enumerate(zip(scales, corners, strict=True))]  # fmt: skip
    for pixels, how, answer in zip(photos, hows, ask(page, map(png, photos), hows), strict=True):
        wanted = photo.rescale(Image.fromarray(pixels), how["scale"], (*how["at"], 32, 32), how["mirror"])
        np.testing.assert_array_equal(array(answer["pixels"]), wanted)
    halves = [[page.evaluate("(x) => even(x)", n / 2), round(n / 2)] for n in range(12)]
    assert all(a == b for a, b in halves)


@pytest.mark.parametrize("stored", ["fp16", "int8"])
@pytest.mark.parametrize("net", SHAPES)
def test_every_kind_of_net(opened, tmp_path, monkeypatch, net, stored):
    classifier = toy(net, **SHAPES[net])
    monkeypatch.setattr(living, "MOST", {stored: 40_000_000} if stored == "int8" else living.MOST)
    page, kept, _ = living_page(classifier, "toy")
    assert kept == stored
    (tmp_path / "toy.html").write_text(page, encoding="utf-8")
    other, c, random = as_stored(classifier, stored), classifier.contract, np.random.default_rng(3)
    photos = [drawn(*size, random) for size in ((50, 60), (40, 171), (90, 61))]
    page = opened(tmp_path / "toy.html")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(photos[0])})
    corner = photo.centre_window(*photo.scaled_size(50, 60, c.test_scale), c.crop)[:2]
    asked = [{"scale": c.test_scale, "at": corner, "maps": True}, {"scale": c.crop + 1}, {"scale": c.crop + 13}]
    found = ask(page, map(png, photos), asked)
    crop = photo.centre_crop(Image.fromarray(photos[0]), c.test_scale, c.crop)
    wholes = [photo.rescale(Image.fromarray(p), how["scale"]) for p, how in zip(photos[1:], asked[1:], strict=True)]
    for pixels, answer in zip([crop, *wholes], found, strict=True):
        np.testing.assert_array_equal(array(answer["pixels"]), pixels)
        np.testing.assert_allclose(array(answer["map"]), scores(other, pixels), atol=1e-3, rtol=0)
    check_layers(other, found[0]["taps"], crop)


def check_layers(net, found, crop):
    names = net.net.tap_names()
    after = {name: name.replace("conv", "relu").replace("fc", "relu") for name in found}
    after |= {name: tap.replace("relu", "norm") for name, tap in after.items() if tap.replace("relu", "norm") in names}
    taps = {name: {"relu8": "fc8"}.get(tap, tap) for name, tap in after.items()}
    assert list(found) == [n for n in names if n.startswith(("conv", "pool", "fc"))]
    with torch.no_grad():
        maps = net.taps(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None], taps.values())
    for name, tap in taps.items():
        own = maps[tap][0].relu() if name.startswith("pool") else maps[tap][0]
        own = own[:, None, None] if own.ndim == 1 else own
        np.testing.assert_allclose(array(found[name]), own.permute(1, 2, 0).numpy(), atol=1e-3)


def test_a_cell_sees_what_its_gradient_reaches(opened, tmp_path):
    classifier = toy("C", crop=96, base_width=2)
    (tmp_path / "c.html").write_text(living_page(classifier, "toy")[0], encoding="utf-8")
    page, net = opened(tmp_path / "c.html"), classifier.double()
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        for p in net.net.parameters():
            p.abs_()  # no ReLU is shut
    for name in ("conv1_1", "conv2_2", "pool3", "conv4_3", "pool5", "fc6"):
        tap = net.net.taps(x, [name])[name].view(-1)
        side = int((tap.numel() / max(1, net.net.taps(x, [name])[name].shape[1])) ** 0.5)
        for i, j in {(0, 0), (side // 2, side // 3), (side - 1, 0)}:
            value = net.net.taps(x, [name])[name].reshape(-1, side, side)[:, i, j].sum()
            (slope,) = torch.autograd.grad(value, x)
            rows, columns = (slope.abs().sum((0, 1)).sum(d).nonzero().flatten().tolist() for d in (1, 0))
            x0, y0, x1, y1 = page.evaluate("([name, i, j]) => fieldOf(name, i, j)", [name, i, j])
            assert [y0 <= rows[0], rows[-1] < y1, x0 <= columns[0], columns[-1] < x1] == [True] * 4
            if name.startswith("conv1"):
                assert [y0, y1, x0, x1] == [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]


def test_awkward_names_are_shown_as_they_are(opened, tmp_path):
    (tmp_path / "toy.html").write_text(living_page(toy("A"), "a </script>$model' \"")[0], encoding="utf-8")
    page = opened(tmp_path / "toy.html")
    assert page.locator("#steps").is_hidden()
    page.set_input_files(
        "#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(drawn(40, 50, np.random.default_rng(4)))}
    )
    page.wait_for_function(IDLE)
    shown = page.locator("#answer-list li span:first-child").all_text_contents()
    assert sorted(shown) == sorted(NAMES)
    assert page.locator("#label option").all_text_contents() == list(NAMES)
    assert "a </script>$model' \"" in page.locator("#about").text_content()
    assert "MIT; 照片" in page.locator("#about").text_content()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photos_stand_upright(asked, kind):
    halves = np.zeros((40, 64, 3), np.uint8)
    halves[:, :32] = 255
    files = []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files.append(png(halves, format=kind, exif=exif, **({} if kind == "PNG" else {"quality": 95})))
    for data, answer in zip(files, ask(asked, files, [{"scale": 40, "net": False}] * 8), strict=True):
        wanted = photo.decode(data, "it")
        assert answer["size"] == [wanted.height, wanted.width]
        assert np.abs(array(answer["pixels"]) - photo.rescale(wanted, 40).astype(int)).max() <= 3


def test_half_transparent_photos_lie_on_the_background(asked):
    random = np.random.default_rng(6)
    image = Image.fromarray(drawn(60, 80, random)).convert("RGBA")
    image.putalpha(Image.fromarray(random.integers(0, 256, (60, 80), np.uint8)))
    [answer] = ask(asked, [png(image)], [{"scale": 60, "net": False}])
    wanted = np.asarray(photo.decode(png(image), "it")).astype(int)
    assert np.abs(array(answer["pixels"]) - wanted).max() <= 2


def test_the_sliders_change_what_is_shown(opened, fashion):
    page = opened(fashion)
    page.wait_for_function(IDLE)
    shown = {id: f"() => $('{id}').toDataURL()" for id in ("training-photo", "training-pixels", "dense-photo", "field")}
    before = {id: page.evaluate(script) for id, script in shown.items()}
    first = page.locator("#training-said").text_content()
    slide(page, "S", 73)
    assert page.evaluate(shown["training-photo"]) != before["training-photo"]
    assert page.evaluate(shown["training-pixels"]) != before["training-pixels"]
    assert first != page.locator("#training-said").text_content()
    assert "73 × 73" in page.locator("#training-said").text_content()
    assert "19 %" in page.locator("#training-said").text_content()
    pixels = page.evaluate(shown["training-pixels"])
    slide(page, "x", 0)
    assert page.evaluate(shown["training-pixels"]) != pixels
    slide(page, "most", 40)
    draws = page.locator("#draws span").all_text_contents()
    assert len(draws) == 50
    assert {int(s) for s in draws} == set(range(37, 41))
    page.click("#fixed")
    page.wait_for_function(IDLE)
    assert set(page.locator("#draws span").all_text_contents()) == {"36"}
    answers = page.locator("#crops-list").text_content()
    slide(page, "Q2", 60)
    assert page.input_value("#Q") == "60"
    assert page.locator("#crops-list").text_content() != answers
    assert page.evaluate("() => [found.places.height, found.places.width]") == [2, 2]
    page.hover("#maps", position={"x": 20, "y": 20})
    assert page.evaluate(shown["field"]) != before["field"]
    assert "conv1_1, map 1" in page.locator("#maps-said").text_content()
    page.click("#layers button[value=conv4_2]")
    assert "128 maps of 4 × 4; a cell sees 62 × 62" in page.locator("#maps-said").text_content()


def slide(page, id, value):
    page.locator(f"#{id}").fill(str(value))
    page.wait_for_function(IDLE)


def test_answers_are_those_of_the_protocols(opened, fashion):
    """What stands beside Q is what `evaluate` says: centre, dense with mirror images, 25 crops with theirs."""
    page, net, pixels = opened(fashion), load("builtin:fashion-a").eval(), drawn(50, 67, np.random.default_rng(8))
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(pixels)})
    for q in (36, 45):
        slide(page, "Q", q)
        found = answers(
            [entrant("", net, [Step(p) for p in ("centre", "dense", "crops")], (q,))],
            lambda id: Image.fromarray(pixels), range(1), Settings(), workers=0, on_bad=None,
        )  # fmt: skip
        [(_, [by_step])] = found
        for way in ("centre", "dense", "crops"):
            best = by_step[Step(way)][0].topk(3)
            wanted = [
                f"{net.contract.classes[k]}{in_percent(p)}"
                for p, k in zip(*map(torch.Tensor.tolist, best), strict=True)
            ]
            assert page.locator(f"#{way}-list li").all_text_contents() == wanted, (way, q)


def in_percent(p):
    return f"{100 * p:.{int(p < 0.0995)}f} %"


def test_an_example_of_each_kind_is_there_at_once(opened, fashion):
    page = opened(fashion)
    page.wait_for_function(IDLE)
    assert page.locator("#examples button").count() == len(living.EXAMPLES)
    assert page.locator("#answer-list li").first.text_content().startswith("Sneaker")
    page.locator("#examples button").nth(4).click()
    page.wait_for_function("() => photo.height === 28 && photo.width === 84")
    page.wait_for_function(IDLE)
    places = np.array(page.evaluate("() => windowOf([0, 32])"))
    wanted = windows(View("dense", 36), 32, (36, 108), 0, (2, 4))[0, 1]
    np.testing.assert_array_equal(places, wanted)


def test_two_languages_and_no_wider_than_a_phone(opened, fashion):
    page = opened(fashion, width=360, locale="zh-CN", color_scheme="dark")
    page.wait_for_function(IDLE)
    assert page.evaluate("() => document.documentElement.lang") == "zh-Hans"
    assert "训练尺度 S" in page.locator("main").text_content()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.click("#language")
    page.wait_for_function(IDLE)
    assert page.evaluate("() => document.documentElement.lang") == "en"
    assert "Training scale S" in page.locator("main").text_content()
    assert not set("训练测试照片") & set(page.locator("main").text_content())
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    empty = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select, canvas[tabindex], [role=img]')].filter((e) =>"
        " !e.ariaLabel && !e.textContent.trim() && ![...(e.labels || [])].some((l) =>"
        " l.textContent.trim()) && !e.querySelector('img[alt]'))"
        ".map((e) => e.outerHTML)"
    )
    assert empty == []


def test_both_languages_say_the_same(fashion):
    words = json.loads(living.asset("living.json"))
    gaps = {key: [sorted(set(living.re.findall(r"\{\w+\}", text))) for text in texts] for key, texts in words.items()}
    assert {key: found for key, found in gaps.items() if found[0] != found[1]} == {}
    code = "".join(living.asset(name) for name in ("living.html", *(f"{s}.js" for s in living.SCRIPTS)))
    assert [key for key in words if key not in code and not key.endswith(("_text", "_photo"))] == []


def test_the_keyboard_reaches_everything(opened, fashion):
    page = opened(fashion)
    page.wait_for_function(IDLE)
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.value"))
    controls = page.evaluate("() => [...document.querySelectorAll('button, input, select, canvas[tabindex]')]"
                             ".filter((e) => !e.closest('[hidden]')).map((e) => e.id || e.value)")  # fmt: skip
    assert set(controls) <= reached
    page.focus("#maps")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "row 2, column 2" in page.locator("#maps-said").text_content()
    page.focus("#places-photo")
    page.keyboard.press("ArrowRight")
    assert "column 2" in page.locator("#places-said").text_content()
    before = page.locator("#x").input_value()
    page.focus("#training-photo")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#x").input_value() != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(opened, fashion, scheme):
    """WCAG AA: 4.5 for text, 3 for what is only seen."""
    page = opened(fashion, color_scheme=scheme)
    names = ("ink", "soft", "ground", "raised", "accent", "on-accent", "warm", "good", "bad")
    tokens = {n: page.evaluate("(n) => colour(n).trim()", n) for n in names}

    def light(name):
        text = tokens[name].lstrip("#")
        text = "".join(2 * c for c in text) if len(text) == 3 else text
        parts = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(a, b):
        low, high = sorted((light(a), light(b)))
        return (high + 0.05) / (low + 0.05)

    assert contrast("ink", "ground") > 7
    for ground in ("ground", "raised"):
        assert min(contrast(text, ground) for text in ("ink", "soft", "accent", "warm", "good", "bad")) >= 4.5
    assert contrast("on-accent", "accent") >= 4.5


def test_what_is_no_photo_is_told(opened, fashion):
    page = opened(fashion)
    page.wait_for_function(IDLE)
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    page.wait_for_function("() => $('said').classList.contains('wrong')")
    assert "a.txt" in page.locator("#said").text_content()
    page.click("#camera")
    page.wait_for_function("() => $('said').textContent.includes('no camera')")


def test_the_page_in_docs_is_up_to_date(fashion):
    assert (ROOT / "docs" / "living.html").read_bytes() == fashion.read_bytes(), (
        "run: verydeep export builtin:fashion-a --to page --out docs/living.html"
    )
    assert fashion.stat().st_size <= 3_000_000


def test_the_scripts_stay_small():
    scripts = [living.asset(f"{name}.js") for name in living.SCRIPTS]
    assert sum(bool(line.strip()) for text in scripts for line in text.split("\n")) <= 500
    assert all(sum(not c.isspace() for c in text) <= 9_000 for text in scripts)
    files = [*scripts, living.asset("living.html"), living.asset("living.css")]
    assert max(len(line) for text in files for line in text.split("\n")) <= 120


def test_what_has_no_page_is_refused(tmp_path, monkeypatch):
    huge = build(replace(toy("A").contract, fc_width=8192, base_width=256, crop=32), device="meta", drawn=False)
    with pytest.raises(ConfigError, match=r"would have 309 MB in int8, and a browser is given at most 40"):
        living_page(huge, "huge")
    wild = toy("A")
    with torch.no_grad():
        wild.net.conv3_1.weight[0, 0, 0, 0] = 1e5
    with pytest.raises(ModelError, match="conv3_1 has weights that fp16 does not hold"):
        living_page(wild, "wild")
    model = tmp_path / "toy.safetensors"
    toy("A").save(model)
    for out in ("page.txt", "page"):
        with pytest.raises(ConfigError, match=r"try page\.html"):
            write_living_page(str(model), tmp_path / out)
    with pytest.raises(ConfigError, match="int8: a page"):
        Export(str(model), to="page", int8="fc").run()
    boxes = build(replace(toy("A").contract, task="SCR"))
    boxes.save(tmp_path / "boxes.safetensors")
    with pytest.raises(ModelError, match="says where things are"):
        Export(str(tmp_path / "boxes.safetensors"), to="page").run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boxes.safetensors", "toy.safetensors"]


def test_the_verb_writes_it_and_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy("A").save("toy.safetensors")
    verb = Export("toy.safetensors", to="page")
    record = verb.run()
    assert (tmp_path / "toy.html").stat().st_size == record["bytes"]
    assert record["weights"] == "fp16"
    assert 0 < max(record["differences"].values()) < 0.01
    assert "weights are in fp16" in verb.text(record)
    assert "32 x 73" in verb.text(record)
