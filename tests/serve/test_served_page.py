"""The page of the server in a real browser, against a small server of the same interface with made-up answers."""

import base64
import io
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image, ImageOps

import verydeep
from tests import chromium

browser = chromium.browser
WEB = Path(verydeep.__file__).parent / "serve" / "web"
KINDS = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
HOSTILE = [
    "<img src=x onerror=document.title='broken'>",
    "\"quoted\" 'name' {n} $&",
    "猫：一只很长很长很长很长很长很长的名字",
    "dog",
    "b",
]
CLASSES = [*HOSTILE, "never"]
ALL = ["/v1/classify", "/v1/localise", "/v1/explain"]
DIALS = {"lang": "en-GB", "width": 1280, "height": 900, "scheme": "light"}


def window_of(width, height, protocol):
    """Three quarters of the photo's smaller side, in the middle; all of it if dense."""
    if protocol == "dense":
        return [0, 0, width, height]
    side = 0.75 * min(width, height)
    return [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2]


def red_of(image):
    """The box around what is red, in pixels of the upright photo."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 180) & (pixels[..., 1:].max(2) < 90))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


class Fake(BaseHTTPRequestHandler):
    """`server.routes`, `.token`, `.fail` (statuses to answer next, with Retry-After) and `.asked` are the test's."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def reply(self, status, body, kind="application/json", **more):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**HEADERS, "content-type": kind, "content-length": str(len(data)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message="given; expected; try", **more):
        self.reply(status, {"error": {"code": "x", "message": message}}, **more)

    def allowed(self):
        if self.server.token and self.headers.get("authorization") != f"Bearer {self.server.token}":
            self.refuse(401)
            return False
        return True

    def do_GET(self):
        name = "page.html" if self.path == "/" else self.path.removeprefix("/web/")
        if self.path == "/v1/model":
            if self.allowed():
                self.reply(200, {
                    "classes": CLASSES, "crop": 32, "scale": 36, "origin": "made up", "licence": "",
                    "sha256": "ab" * 32,
                    "net": "A", "engine": "torch", "precision": "fp32", "routes": self.server.routes,
                    "versions": {"verydeep": "0.1.0"},
                })  # fmt: skip
        elif "/" not in name and (WEB / name).is_file():
            self.reply(200, (WEB / name).read_bytes(), KINDS[name.rsplit(".")[-1]])
        else:
            self.refuse(404)

    def do_POST(self):
        body, url = self.rfile.read(int(self.headers["content-length"])), urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append((url.path, asked, len(body)))
        if not self.allowed():
            return None
        if self.server.fail:
            return self.refuse(self.server.fail.pop(0), **{"retry-after": "1"})
        self.server.go.wait(20)
        try:
            image = Image.open(io.BytesIO(body))
        except OSError:
            return self.refuse(422, "the photo is text; expected a JPEG; send one")
        image = ImageOps.exif_transpose(image)
        seen = {
            "photo": {"width": image.width, "height": image.height},
            "milliseconds": {"decode": 1, "queue": 0.25, "net": 98},
        }
        window = window_of(image.width, image.height, asked.get("protocol", "centre"))
        shares = [0.9, 0.05, 0.03, 0.01, 0.01]
        if url.path == "/v1/classify":
            classes = [{"name": n, "probability": p} for n, p in zip(CLASSES, shares, strict=False)]
            return self.reply(200, {"classes": classes, "window": window, **seen})
        if url.path == "/v1/localise":
            return self.reply(200, {"places": [{"name": CLASSES[0], "probability": 0.9, "box": red_of(image)}], **seen})
        grey = np.zeros((int(window[3] - window[1]), int(window[2] - window[0])), np.uint8)
        grey[: len(grey) // 2] = 255
        return self.reply(200, {"class": asked.get("class", CLASSES[0]), "window": window, "map": png(grey), **seen})


@pytest.fixture
def server(serve):
    server = serve(Fake)
    server.routes, server.token, server.fail, server.asked, server.go = ALL, "", [], [], threading.Event()
    server.go.set()
    return server


@pytest.fixture
def open_page(browser, server, tmp_path):
    """Opens the page; at the end nothing may have been said in the console or asked elsewhere."""
    contexts, wrong, expected = [], [], []

    def begin(url="", permissions=("camera",), **dials):
        d = SimpleNamespace(**{**DIALS, **dials})
        context = browser.new_context(
            locale=d.lang, viewport={"width": d.width, "height": d.height}, color_scheme=d.scheme,
            permissions=list(permissions),
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.expected = expected
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("console", lambda m: wrong.append(m.text))
        page.on("request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else wrong.append(r.url))
        page.add_init_script(
            "window.jumps = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) "
            "window.jumps += e.value }).observe({ type: 'layout-shift', buffered: true });"
            "document.addEventListener('securitypolicyviolation', e => console.error('csp', e.violatedDirective));"
        )
        page.goto(url or server.url)
        page.set_default_timeout(5000)
        until(page, "document.getElementById('facts').children.length || !document.getElementById('ask').hidden")
        return page

    yield begin
    for context in contexts:
        context.close()
    assert [w for w in wrong if not any(re.search(e, w) for e in expected)] == []


def photo_file(path, width=300, height=200, box=(30, 20, 90, 120), turn=None):
    """Grey, with a red rectangle; with `turn` stored as a camera held otherwise would, upright by its EXIF."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (230, 20, 20)
    image, exif = Image.fromarray(pixels), Image.Exif()
    if turn:
        back = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE}[turn]
        image, exif[0x0112] = image.transpose(back), turn
    image.save(path, quality=95, exif=exif)
    return path


def until(page, condition):
    """Waits for what a script says; Playwright's own waiting would evaluate text, which the policy forbids."""
    deadline = time.monotonic() + 5
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, (condition, page.locator("#said").inner_text())
        page.wait_for_timeout(5)


def give(page, *files):
    page.set_input_files("#file", [str(f) for f in files])


def done(page, text="90.0%"):
    page.locator("#said").filter(has_text=text).wait_for()


def marks(page, kind):
    """The rectangle drawn on the photo, in pixels of the screen."""
    return page.locator(f"#marks rect[class='{kind}']").evaluate_all(
        "all => all.map(e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] })"
    )


def test_a_photo_is_answered_with_bars_shares_times_and_the_window(open_page, server, tmp_path):
    page = open_page()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    rows = page.locator("#answers li")
    assert rows.count() == 5
    assert [rows.nth(i).locator("button").inner_text() for i in range(5)] == HOSTILE
    assert [rows.nth(i).locator(".n").inner_text() for i in range(3)] == ["90.0%", "5.0%", "3.0%"]
    widths = page.locator("#answers i").evaluate_all("all => all.map(e => e.offsetWidth / e.parentElement.offsetWidth)")
    assert widths == pytest.approx([0.9, 0.05, 0.03, 0.01, 0.01], abs=0.01)
    assert re.fullmatch(r"decode 1.0 · queue 0.3 · net 98 · round trip [\d.]+ ms", page.locator("#times").inner_text())
    assert page.title() == "What is on the photo? · verydeep"
    assert page.locator("#answers img").count() == 0
    assert server.asked[0] == ("/v1/classify", {"top": "5", "protocol": "centre"}, (tmp_path / "a.jpg").stat().st_size)
    assert page.locator("#said").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(("turn", "shape"), [(None, (300, 200)), (6, (300, 200)), (3, (120, 400)), (5, (120, 400))])
def test_boxes_and_window_lie_on_what_they_mark_even_where_the_photo_is_turned(open_page, tmp_path, turn, shape):
    page = open_page(height=1200)
    give(page, photo_file(tmp_path / "a.jpg", *shape, turn=turn))
    done(page)
    (box,), (seen,) = marks(page, "box"), marks(page, "seen")
    page.locator("#marks").evaluate("e => e.style.visibility = 'hidden'")
    stage = page.locator("#photo").bounding_box()
    shot = Image.open(io.BytesIO(page.screenshot(clip=stage)))
    x, y = stage["x"], stage["y"]
    assert np.abs(np.subtract(box, np.add(red_of(shot), (x, y, x, y)))).max() <= 2.5
    scale = min(stage["width"] / shape[0], stage["height"] / shape[1])
    x, y = stage["x"] + (stage["width"] - scale * shape[0]) / 2, stage["y"] + (stage["height"] - scale * shape[1]) / 2
    wanted = [v * scale + (x, y)[i % 2] for i, v in enumerate(window_of(*shape, "centre"))]
    assert seen == pytest.approx(wanted, abs=2.5)


def test_the_whole_photo_is_shown_to_the_net_where_chosen(open_page, server, tmp_path):
    page = open_page()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    page.get_by_role("button", name="Whole photo").click()
    until(page, "document.querySelector('#marks .seen:not(.under)').getAttribute('width') === '300'")
    assert server.asked[-1][1]["protocol"] == "dense"
    assert page.locator("#dense").get_attribute("aria-pressed") == "true"
    assert page.locator("#centre").get_attribute("aria-pressed") == "false"
    assert Counter(path for path, *_ in server.asked)["/v1/localise"] == 1  # the place is known


def test_what_an_answer_hangs_on_is_asked_for_on_demand_and_fades_by_the_slider(open_page, server, tmp_path):
    page = open_page()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    assert "/v1/explain" not in {path for path, *_ in server.asked}
    assert page.locator("#strength").is_disabled()
    page.locator("#explain").click()
    page.wait_for_selector("#marks .map")
    assert server.asked[-1][:2] == ("/v1/explain", {"class": HOSTILE[0]})
    page.locator("#strength").fill("100")
    page.locator("#marks rect:not(.map)").evaluate_all("all => all.forEach(e => e.remove())")
    (x0, y0, x1, y1) = marks(page, "map")[0]
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    at = lambda share: shot[int(y0 + share * (y1 - y0)), int(x0 + 0.95 * (x1 - x0))]  # noqa: E731
    assert np.abs(at(0.25) - (255, 180, 0)).max() < 12  # bright where the map says 255
    assert np.abs(at(0.75) - 128).max() < 12  # the photo where it says 0
    page.locator("#strength").fill("0")
    assert page.locator("#marks .map").get_attribute("opacity") == "0"
    page.locator("#answers button").nth(3).click()
    until(page, "document.getElementById('legend').textContent.includes('dog')")
    assert server.asked[-1][1] == {"class": "dog"}
    assert page.locator("#answers button").nth(3).get_attribute("aria-pressed") == "true"
    page.locator("#explain").click()
    assert page.locator("#marks .map").count() == 0
    before = len(server.asked)
    page.locator("#answers button").nth(3).click()
    page.wait_for_selector("#marks .map")
    assert len(server.asked) == before  # what is known is not asked for again


def test_routes_that_are_not_there_are_not_offered(open_page, server, tmp_path):
    server.routes = ["/v1/classify"]
    page = open_page()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    assert not page.locator("#why").is_visible()
    assert page.locator("#answers button").count() == 0
    assert {path for path, *_ in server.asked} == {"/v1/classify"}
    assert page.locator("#marks .box").count() == 0


def test_several_photos_go_one_after_another_and_can_be_gone_back_to(open_page, server, tmp_path):
    page = open_page()
    server.go.clear()
    files = [photo_file(tmp_path / f"{i}.jpg", 200 + 50 * i) for i in range(3)]
    give(page, *files)
    until(page, "document.querySelectorAll('#strip li').length === 3")
    page.wait_for_timeout(200)
    assert len(server.asked) == 1
    page.locator("#strip button").nth(2).click()
    assert page.locator("#said").inner_text() == "Waiting, 2 before it."
    server.go.set()
    done(page)
    sizes = [size for path, _, size in server.asked if path == "/v1/classify"]
    assert sizes == [f.stat().st_size for f in files]
    page.locator("#strip button").nth(1).click()
    assert page.locator("#marks").get_attribute("viewBox") == "0 0 250 200"
    assert [b.get_attribute("aria-pressed") for b in page.locator("#strip button").all()] == ["false", "true", "false"]
    assert page.locator("#strip span").nth(0).inner_text() == HOSTILE[0]


TRANSFER = """([kind, bytes]) => {
  const data = new DataTransfer();
  const numbers = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
  if (bytes) data.items.add(new File([numbers], 'p.jpg', { type: 'image/jpeg' }));
  const event = kind === 'paste' ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  return document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_photos_are_dropped_and_pasted(open_page, server, tmp_path, kind):
    page = open_page()
    data = base64.b64encode(photo_file(tmp_path / "a.jpg").read_bytes()).decode()
    if kind == "drop":
        assert page.evaluate(TRANSFER, ["dragover", data]) is False  # it is ours, not the browser's to open
        assert "over" in page.locator("#stage").get_attribute("class")
    page.evaluate(TRANSFER, [kind, data])
    done(page)
    assert server.asked[0][2] == (tmp_path / "a.jpg").stat().st_size
    assert "over" not in page.locator("#stage").get_attribute("class")
    if kind == "drop":
        page.evaluate(TRANSFER, ["drop", ""])
        done(page, "What was dropped is no file.")


def test_a_photo_is_taken_with_the_camera(open_page, server):
    page = open_page()
    page.get_by_role("button", name="Camera").click()
    until(page, "document.getElementById('video').videoWidth > 0")
    assert not page.locator("#choose").is_visible()
    page.get_by_role("button", name="Cancel").click()
    assert page.locator("#choose").is_visible()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    page.get_by_role("button", name="Camera").click()
    until(page, "document.getElementById('video').videoWidth > 0")
    server.routes = ["/v1/classify"]
    page.evaluate("model.routes = ['/v1/classify']")  # the made-up box is of what is red
    page.get_by_role("button", name="Take the photo").click()
    done(page)
    assert page.locator("#photo").is_visible()
    assert not page.locator("#video").is_visible()


def test_a_camera_that_is_refused_is_a_sentence(open_page):
    page = open_page(permissions=())
    for name, words in (("NotAllowedError", "The camera was refused."), ("NotFoundError", "No camera was found.")):
        refuse = f"() => Promise.reject(new DOMException('no', '{name}'))"
        page.evaluate(f"void (navigator.mediaDevices.getUserMedia = {refuse})")
        page.get_by_role("button", name="Camera").click()
        done(page, words)


ERRORS = {422: "cannot read this as a photo. given; expected; try", 413: "larger than", 408: "too slowly", 500: "(500)"}


def test_errors_are_sentences_and_the_photo_may_be_tried_again(open_page, server, tmp_path):
    page, retry = open_page(), lambda: page.get_by_role("button", name="Retry").click()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    for status, words in ERRORS.items():
        page.expected.append(f"status of {status}")
        server.fail = [status] * 9  # as chromium tries again by itself after a 408
        retry()
        done(page, words)
        assert "wrong" in page.locator("#said").get_attribute("class")
        server.fail.clear()
        retry()
        done(page)
        assert "wrong" not in page.locator("#said").get_attribute("class")


def test_a_busy_server_is_tried_again_after_the_time_it_says_and_not_for_ever(open_page, server, tmp_path):
    page = open_page()
    page.expected += ["status of 429", "status of 503"]
    server.fail = [429, 503]
    began = time.monotonic()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page, "The server is busy. Trying again in 1 s (1 of 3).")
    done(page)
    assert time.monotonic() - began >= 2
    server.fail = [429] * 9
    page.evaluate("void (window.setTimeout = f => queueMicrotask(f))")
    page.get_by_role("button", name="Retry").click()
    done(page, "still busy")
    assert len(server.fail) == 5


def test_a_server_that_has_gone_is_said(open_page, server, tmp_path):
    page = open_page()
    page.expected.append("ERR_")
    server.shutdown()
    server.server_close()
    page.context.set_offline(True)
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page, "The server does not answer.")
    assert page.locator("#again").is_enabled()


def test_a_token_is_asked_for_once_and_kept_in_memory_only(open_page, server, tmp_path):
    server.token = "s3cret"
    page = open_page()
    page.expected.append("status of 401")
    done(page, "asks for a token")
    page.locator("#token").fill("wrong")
    page.locator("#token").press("Enter")
    done(page, "does not know this token")
    page.locator("#token").fill("s3cret")
    page.get_by_role("button", name="Go on").click()
    page.locator("#facts dt").first.wait_for(state="attached")
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    assert not page.locator("#ask").is_visible()
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "s3cret" not in stored
    assert "s3cret" not in page.content()
    page.reload()
    done(page, "asks for a token")


def test_a_photo_that_the_browser_cannot_show_is_sent_all_the_same(open_page, server, tmp_path):
    page = open_page()
    photo_file(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.tif")
    give(page, tmp_path / "a.tif")
    done(page)
    assert page.locator("#unseen").is_visible()
    assert not page.locator("#photo").is_visible()
    assert len(marks(page, "box")) == 1


def test_the_model_is_told_in_full(open_page):
    page = open_page()
    assert not page.locator("#facts").is_visible()
    page.get_by_text("The model", exact=True).click()
    facts = page.locator("#facts").inner_text()
    assert all(some in facts for some in ("ab" * 32, "made up", "not said", "crop 32, Q = 36", "torch, fp32", *CLASSES))


def test_both_languages_by_the_browser_and_by_the_switch(open_page, tmp_path):
    page = open_page(lang="zh-CN")
    assert page.locator("h1").inner_text() == "照片上是什么？"
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    assert "毫秒" in page.locator("#times").inner_text()
    page.get_by_role("button", name="English").press("Enter")
    assert page.locator("h1").inner_text() == "What is on the photo?"
    assert "round trip" in page.locator("#times").inner_text()
    table = json.loads(re.search(r'id="words">(.*?)</script>', (WEB / "page.html").read_text(), re.DOTALL)[1])
    used = set(re.findall(r'data-(?:word|label)="(\w+)"', (WEB / "page.html").read_text()))
    used |= set(re.findall(r'word\((?:\w+ \? )?"(\w+)"', (WEB / "page.js").read_text()))
    assert used <= set(table)
    blanks = [[set(re.findall(r"\{\w+\}", text)) for text in pair] for pair in table.values()]
    assert all(a == b for a, b in blanks)
    assert all(len(pair) == 2 for pair in table.values())


def luminance(rgb):
    parts = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    """WCAG 2.2, 1.4.3."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(open_page, server, tmp_path, scheme):
    """Every text that is shown, against the ground that it stands on."""
    page = open_page(scheme=scheme)
    page.expected.append("status of 422")
    (tmp_path / "no.jpg").write_text("no photo")
    for files in ([photo_file(tmp_path / "a.jpg")], [tmp_path / "no.jpg"]):
        give(page, *files)
        done(page, "90.0%" if files[0].name == "a.jpg" else "cannot read")
        page.get_by_text("The model", exact=True).click()
        found = page.evaluate("""() => [...document.querySelectorAll('body *')].flatMap(e => {
          const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
          if (!own || !e.checkVisibility() || e.closest('svg, :disabled')) return [];
          let ground = e;
          const clear = c => c === 'rgba(0, 0, 0, 0)';
          while (ground.parentElement && clear(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
          const numbers = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
          return [[e.textContent.slice(0, 30), numbers(getComputedStyle(e).color),
            numbers(getComputedStyle(ground).backgroundColor)]];
        })""")
        assert len(found) > 12
        poor = [(text, contrast(ink, ground)) for text, ink, ground in found if contrast(ink, ground) < 4.5]
        assert poor == []
    assert ((255, 255, 255) in {tuple(ground) for *_, ground in found}) == (scheme == "light")


def test_the_theme_is_chosen(open_page):
    page = open_page(scheme="dark")
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    dark = ground()
    page.get_by_label("Colours").select_option("light")
    assert ground() == "rgb(255, 255, 255)" != dark
    page.emulate_media(color_scheme="light")
    page.get_by_label("Colours").select_option("dark")
    assert ground() == dark
    page.get_by_label("Colours").select_option("automatic")
    assert ground() == "rgb(255, 255, 255)"


@pytest.mark.parametrize("lang", ["en-US", "zh-CN"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows_and_nothing_jumps(open_page, server, tmp_path, lang, width):
    page = open_page(lang=lang, width=width, height=1600)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    server.go.clear()
    page.evaluate("window.jumps = 0")
    give(page, photo_file(tmp_path / "a.jpg", 400, 300))
    page.wait_for_selector("#strip li")
    ids = "['answers', 'times', 'centre', 'explain', 'strength', 'choose', 'strip']"
    tops = f"{ids}.map(i => document.getElementById(i).getBoundingClientRect().top)"
    before = page.evaluate(tops)
    server.go.set()
    done(page)
    assert page.evaluate(tops) == before
    page.locator("#explain").click()
    page.wait_for_selector("#marks .map")
    assert page.evaluate(tops) == before
    assert page.evaluate("window.jumps") < 0.05
    page.locator("summary").click()
    assert page.evaluate(fits)
    page.get_by_role("button", name=re.compile("Camera|拍照")).click()
    until(page, "document.getElementById('video').videoWidth > 0")
    assert page.evaluate(fits)


def test_the_keyboard_goes_through_in_reading_order_and_works(open_page, server, tmp_path):
    page = open_page()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    page.evaluate("document.activeElement.blur()")
    order = []
    for _ in range(16):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.closest('[id]')?.id"))
    answers = ["answers"] * 5
    ring = page.evaluate("getComputedStyle(document.getElementById('language')).outlineStyle")
    wanted = ["language", "theme", "choose", "camera", "again", *answers, "centre", "dense", "explain", "strip"]
    assert order[: len(wanted)] == wanted
    assert ring == "none"  # only where the keyboard is
    page.locator("#answers button").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#marks .map")
    assert page.evaluate("[...document.querySelectorAll('#answers button')].indexOf(document.activeElement)") == 1
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_every_control_has_a_name_and_every_id_is_there_once(open_page, tmp_path):
    page = open_page()
    give(page, photo_file(tmp_path / "a.jpg"))
    done(page)
    controls = page.locator("button, select, input, summary").evaluate_all(
        "all => all.filter(e => e.checkVisibility())"
        ".map(e => e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent)"
    )
    assert len(controls) > 12
    assert all(controls)
    assert (
        page.evaluate("(i => i.length - new Set(i).size)([...document.querySelectorAll('[id]')].map(e => e.id))") == 0
    )
    assert page.locator("#photo").get_attribute("alt") == HOSTILE[0]


def test_the_files_keep_the_strict_policy():
    text = (WEB / "page.html").read_text()
    assert not re.search(r"\son\w+=|style=|https?://", text)
    assert re.findall(r"<script(?![^>]*(?:src=\"/web/|application/json))", text) == []
    script = (WEB / "page.js").read_text()
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|\beval\b|https?://(?!www\.w3\.org)", script)
    assert script.count("\n") <= 250
