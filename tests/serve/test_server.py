"""What the server answers: the same as library and command line; and what it refuses, each by its own name."""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi")

from serving import CLASSES, ROOT, in_fp32, jpeg, save_net, serving

import verydeep
from verydeep import load
from verydeep.cli import main
from verydeep.data import photo
from verydeep.errors import PhotoError
from verydeep.explain import explain_photo, heat_of
from verydeep.predict import predictions

sys.path.append(str(Path(__file__).parent.parent / "data"))
TOLERANCE = 1e-5  # between batches, whose sums are added in another order


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_net(tmp_path_factory.mktemp("net") / "net.safetensors")


@pytest.fixture(scope="module")
def server(model):
    with serving(model) as running:
        yield running


def classes(found):
    return [(one["name"], one["probability"]) for one in found["classes"]]


@pytest.mark.parametrize("protocol", ["centre", "dense"])
def test_an_answer_is_that_of_the_library_to_the_last_bit(server, model, protocol):
    data = jpeg(1, 90, 60)
    status, found, _ = server.ask(f"/v1/classify?top=2&protocol={protocol}", data)
    assert status == 200
    [expected] = load(model).predict([data], protocol, top=2)
    assert classes(found) == expected
    assert found["photo"] == {"width": 90, "height": 60}
    assert set(found["milliseconds"]) == {"decode", "queue", "net"}
    assert all(0 <= t < 30_000 for t in found["milliseconds"].values())
    # at S = 36..44, Q = 40: 90 x 60 becomes 60 x 40, of which 32 x 32 are seen; 1.5 pixels each
    assert found["window"] == ([21.0, 6.0, 69.0, 54.0] if protocol == "centre" else [0, 0, 90, 60])


def test_the_descriptor_is_the_papers(server, model):
    data = jpeg(2, 90, 60)
    status, found, _ = server.ask("/v1/describe", data)
    assert (status, found["tap"]) == (200, "relu7")
    net, pixels = load(model), photo.rescale(photo.decode(data, ""), 40)
    both = np.stack([pixels, np.ascontiguousarray(pixels[:, ::-1])])
    maps = net.taps(torch.from_numpy(both).permute(0, 3, 1, 2), ["relu7"])["relu7"].detach().numpy()
    mean = maps.mean((2, 3)).mean(0) if maps.ndim == 4 else maps.mean(0)
    assert found["descriptor"] == pytest.approx((mean / np.linalg.norm(mean)).tolist(), abs=1e-5)


def test_saliency_is_a_grey_picture_of_its_window(server, model):
    data = jpeg(3, 800, 80)  # beyond 8:1
    status, found, _ = server.ask("/v1/explain?class=K%C3%A4se", data)
    assert (status, found["class"]) == (200, "Käse")
    assert found["window"] == [80.0, 0.0, 720.0, 80.0]
    picture = Image.open(io.BytesIO(base64.b64decode(found["map"].removeprefix("data:image/png;base64,"))))
    assert (picture.mode, picture.width / picture.height) == ("L", 8)
    [one] = explain_photo(load(model), photo.decode(data, ""), [2], ["saliency"])
    assert np.array_equal(np.asarray(picture), np.rint(255 * heat_of(one.maps["saliency"], "saliency")))
    assert np.asarray(picture).max() == 255
    best = server.ask("/v1/explain", data)[1]["class"]
    assert best == CLASSES[max(range(3), key=lambda i: load(model)(pixels_of(data)).flatten()[i])]


def pixels_of(data):
    return torch.from_numpy(photo.middle(photo.decode(data, ""), 40).copy()).permute(2, 0, 1)[None]


def corpus(most):
    pytest.importorskip("pillow_heif")
    import test_strangers as strangers

    cases = strangers.colours() | strangers.lies() | strangers.containers()
    cases |= {f"cut: {name}": case for name, case in list(strangers.truncated().items())[::7]}
    return {name: data for name, (data, _) in cases.items() if len(data) <= most}


def check_corpus(server, model, folder, cases):
    """Library, command line and server: one answer, or one reason."""
    net, paths = load(model), []
    for i, data in enumerate(cases.values()):
        paths.append(folder / f"{i}.jpg")
        paths[-1].write_bytes(data)
    with in_fp32():
        rows = list(predictions(net, [str(path) for path in paths], top=3, device="cpu", engine="torch"))
    for (name, data), row in zip(cases.items(), rows, strict=True):
        status, found, _ = server.ask("/v1/classify?top=3", data)
        try:
            [expected], reason = net.predict([data], top=3), None
        except PhotoError as e:
            expected, reason = [], e.reason
        assert row.error == reason, name
        if reason:
            assert (status, found["error"]["code"]) == (422, "not_a_photo"), name
            assert found["error"]["message"].startswith(f"the photo {reason}; "), name
        else:
            assert status == 200, (name, found)
            assert classes(found) == expected, name
            assert [n for n, _ in row.classes] == [n for n, _ in expected], name
            assert [p for _, p in row.classes] == pytest.approx([p for _, p in expected], abs=TOLERANCE), name


def test_odd_photos_are_answered_as_elsewhere(server, model, tmp_path):
    check_corpus(server, model, tmp_path, cases := corpus(200_000))
    assert len(cases) > 100
    assert server.ask("/v1/classify", jpeg())[0] == 200


@pytest.mark.slow
def test_heavy_photos_are_answered_as_elsewhere(server, model, tmp_path):
    import test_strangers as strangers

    heavy = {name: data for name, (data, _) in strangers.heavy().items()}
    check_corpus(server, model, tmp_path, corpus(60 << 20) | heavy)


LONG = jpeg(0, 800, 80)
WRONG = {  # path and query, body, headers: status, code, what the message says
    "nothing": ("/v1/classify", b"", {}, 422, "not_a_photo", "is empty"),
    "a page": ("/v1/classify", b"<!doctype html><p>", {"Content-Type": "image/jpeg"}, 422, "not_a_photo", "a web page"),
    "top 0": ("/v1/classify?top=0", jpeg(), {}, 400, "wrong_parameter", "top: "),
    "top abc": ("/v1/classify?top=abc", jpeg(), {}, 400, "wrong_parameter", "'abc'"),
    "protocol": ("/v1/classify?protocol=foo", jpeg(), {}, 400, "wrong_parameter", "'centre' or 'dense'"),
    "parameter": ("/v1/classify?tpo=1", jpeg(), {}, 400, "wrong_parameter", "one of top, protocol"),
    "class": ("/v1/explain?class=catt", jpeg(), {}, 400, "wrong_parameter", "did you mean cat"),
    "long": ("/v1/classify?protocol=dense", LONG, {}, 422, "long_photo", "longer than 8:1"),
    "route": ("/v1/clasify", jpeg(), {}, 404, "no_route", "did you mean /v1/classify"),
    "boxes": ("/v1/localise", jpeg(), {}, 404, "no_route", "/v1/localise"),
    "method": ("/v1/classify", None, {}, 405, "wrong_method", "expected POST"),
    "form": ("/v1/classify", b"--x", {"Content-Type": "multipart/form-data; boundary=x"}, 415, "form", "--data-binary"),
    "host": ("/v1/classify", jpeg(), {"Host": "evil.example"}, 403, "other_host", "evil.example"),
    "brackets": ("/readyz", None, {"Host": "[::1"}, 403, "other_host", ""),
    "origin": ("/v1/classify", jpeg(), {"Origin": "http://evil.example"}, 403, "other_origin", "evil.example"),
    "sandbox": ("/v1/classify", jpeg(), {"Origin": "null"}, 403, "other_origin", "null"),
    "path": ("/web/../app.py", None, {}, 404, "no_route", ""),
    "escaped path": ("/web/%2e%2e%2fapp.py", None, {}, 404, "no_route", ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_has_a_name(server, case):
    path, body, headers, status, code, words = WRONG[case]
    found = server.ask(path, body, headers=headers)
    assert (found[0], found[1]["error"]["code"]) == (status, code)
    assert words in found[1]["error"]["message"]
    assert "access-control-allow-origin" not in found[2]


def test_requests_of_the_own_page_are_taken(server):
    assert server.ask("/v1/classify", jpeg(), headers={"Origin": f"http://127.0.0.1:{server.port}"})[0] == 200


def test_what_is_not_http_is_told_so(server):
    for sent in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 40_000):
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(sent)
            assert s.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_state_page_and_headers(server, model):
    about = server.ask("/v1/model")[1]
    assert (about["classes"], about["crop"], about["scale"], about["net"]) == (list(CLASSES), 32, 40, "A")
    assert about["sha256"] == load(model).contract.sha256
    assert about["routes"] == ["/v1/classify", "/v1/describe", "/v1/explain"]
    assert [server.ask(path)[1] for path in ("/healthz", "/readyz")] == [{"state": "alive"}, {"state": "ready"}]
    for path, kind in (
        ("/", "text/html"),
        ("/web/page.js", "text/javascript"),
        ("/web/look.css", "text/css"),
        ("/web/page.css", "text/css"),
    ):
        status, found, headers = server.ask(path)
        assert (status, headers.get_content_type()) == (200, kind)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert found == (ROOT / "verydeep/serve/web" / {"/": "page.html"}.get(path, path[5:])).read_bytes()


def test_the_description_names_what_is_there(server):
    found = server.ask("/openapi.json")[1]
    assert set(found["paths"]) == {"/v1/classify", "/v1/describe", "/v1/explain", "/v1/model", "/healthz", "/readyz"}
    answers = found["paths"]["/v1/classify"]["post"]["responses"]
    assert set(answers) == {"200", *map(str, (400, 401, 403, 405, 408, 413, 415, 422, 429, 503))}
    assert all(a["content"]["application/json"]["example"] for a in answers.values())


def test_metrics_tell_stages_batches_and_answers(model):
    with serving(model) as running:
        for body in (jpeg(), jpeg(), b"no photo"):
            running.ask("/v1/classify", body)
        running.ask("/nowhere/at/all")
        lines = running.metrics.splitlines()
    assert 'verydeep_answers_total{route="/v1/classify",status="200"} 2.0' in lines
    assert 'verydeep_answers_total{route="/v1/classify",status="422"} 1.0' in lines
    assert 'verydeep_answers_total{route="other",status="404"} 1.0' in lines
    assert 'verydeep_stage_seconds_count{stage="net"} 2.0' in lines
    assert 'verydeep_batch_photos_count{task="classify centre"} 2.0' in lines
    assert "verydeep_queue_photos 0.0" in lines


def test_any_address_of_this_machine_alone_is_one_to_ask(model):
    """Debian calls a machine by its own name 127.0.1.1."""
    with serving(model) as running:
        for host, status in (
            ("127.0.1.1:8000", 200),
            ("[::1]:8000", 200),
            ("localhost", 200),
            ("127.0.0.1.evil.example", 403),
        ):
            assert running.ask("/v1/model", headers={"Host": host})[0] == status


def test_a_token_is_asked_for_where_there_is_one(model):
    with serving(model, token="s3cret", near=False) as running:
        for given in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer é"},
        ):
            for path, body in (("/v1/classify", jpeg()), ("/metrics", None), ("/v1/model", None)):
                status, found, headers = running.ask(path, body, headers=given)
                assert (status, found["error"]["code"], headers["www-authenticate"]) == (401, "no_token", "Bearer")
        assert running.ask("/v1/classify", jpeg(), headers={"Authorization": "Bearer s3cret"})[0] == 200
        assert [running.ask(path)[0] for path in ("/healthz", "/readyz", "/")] == [200, 200, 200]
        assert running.ask("/readyz", headers={"Host": "photos.example"})[0] == 200  # it is not for this machine alone


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_those_of_the_command_line(tmp_path, capsys, orientation):
    """Of a photo that a telephone took on its side too, which is turned once."""
    sys.path.append(str(Path(__file__).parent.parent / "localise"))
    import boxed

    what, where = tmp_path / "what.safetensors", tmp_path / "where.safetensors"
    boxed.net_of("classes", (0.0, 2.0, 1.0)).save(what)
    boxed.net_of("PCR", [[0.3, 0.6, 0.25, 0.5], [0.6, 0.5, 0.3, 0.4], [0.4, 0.3, 0.5, 0.2]]).save(where)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(io.BytesIO(jpeg(4, 90, 60))).save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    assert main(["localise", "predict", str(where), str(tmp_path / "a.jpg"), "--classifier", str(what), "--top", "2",
                 "--json", "--engine", "torch"]) == 0  # fmt: skip
    expected = json.loads(capsys.readouterr().out)["places"]
    with serving(str(what), str(where)) as running:
        assert "/v1/localise" in running.ask("/openapi.json")[1]["paths"]
        status, found, _ = running.ask("/v1/localise?top=2", data)
        long = running.ask("/v1/localise", LONG)
    width, height = (60, 90) if orientation == 6 else (90, 60)
    assert (status, found["photo"], long[0]) == (200, {"width": width, "height": height}, 200)
    for one, other in zip(found["places"], expected, strict=True):
        assert (one["name"], one["box"]) == (other["name"], other["box"])
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


def test_wrong_starts_say_what_is_wrong(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VERYDEEP_TOKEN", "  ")
    assert main(["serve", model, "--port", "0"]) == 2
    monkeypatch.delenv("VERYDEEP_TOKEN")
    assert main(["serve", model, "--port", "0", "--token-file", str(tmp_path / "none")]) == 2
    assert main(["serve", model, "--host", "no.such.host.invalid"]) == 2
    assert main(["serve", model, "--port", "70000"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == ["token", "token_file", "host and port", "port"]


@pytest.mark.parametrize("name", ["fastapi", "prometheus_client", "uvicorn"])
def test_without_the_extra_one_line_names_it(name, monkeypatch, capsys):
    for module in [m for m in sys.modules if m.startswith("verydeep.serve.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["serve", "builtin:fashion-a"]) == 2
    said = f"verydeep serve: serve: {name} is not installed; pip install 'verydeep[serve]' brings it\n"
    assert capsys.readouterr().err == said


def test_beyond_this_machine_it_warns_without_a_token(model, tmp_path, capsys, monkeypatch):
    def begun(**how):
        start = verydeep.serve(model, port=0, engine="torch", device="cpu", **how)
        said = next(start)
        start.close()
        return said, capsys.readouterr().err

    said, warned = begun(host="0.0.0.0")
    assert (said["engine"], said["routes"]) == ("torch", ["/v1/classify", "/v1/describe", "/v1/explain"])
    assert "listens beyond this machine" in warned
    (tmp_path / "token").write_text("abc\n")
    monkeypatch.setenv("VERYDEEP_TOKEN", "abc")
    assert [begun(host=host)[1] for host in ("127.0.0.1", "0.0.0.0")] == ["", ""]
    monkeypatch.delenv("VERYDEEP_TOKEN")
    assert begun(host="0.0.0.0", token_file=tmp_path / "token")[1] == ""
