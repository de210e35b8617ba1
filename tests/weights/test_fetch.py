"""Fetching published files, from a server on this machine that breaks, forgets, lies or does not answer."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from verydeep.errors import ModelError
from verydeep.progress import Progress
from verydeep.weights import catalogue, fetch
from verydeep.weights.catalogue import Entry, Stated

CONTENT = os.urandom(3 * fetch.CHUNK + 1234)
QUIET = Progress("none")


class Server(http.server.ThreadingHTTPServer):
    """What it sends and how: `ranges`, `tag`, bytes after which the line breaks once each, and every request that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.tag, self.status = CONTENT, True, '"one"', 200
        self.breaks: list[int] = []
        self.asked: list[dict[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Those who asked may hang up before all is sent."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def url(self, name: str = "net.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *given: object) -> None:
        pass

    def do_GET(self) -> None:
        s, wanted = self.server, self.headers.get("Range")
        s.asked.append(dict(self.headers))
        if s.status != 200:
            self.send_error(s.status)
            return
        begin = 0
        if wanted and s.ranges and self.headers.get("If-Range") in (None, s.tag):
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(s.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(s.content) - 1}/{len(s.content)}")
        else:
            self.send_response(200)
        if s.tag:
            self.send_header("ETag", s.tag)
        self.send_header("Content-Length", str(len(s.content) - begin))
        self.end_headers()
        end = s.breaks.pop(0) if s.breaks else len(s.content)
        self.wfile.write(s.content[begin : max(begin, end)])
        self.close_connection = True


@pytest.fixture
def server():
    with Server() as s:
        threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield s
        s.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "VERYDEEP_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VERYDEEP_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def made(*urls: str, **sums: str) -> Entry:
    sums = sums or {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    stated = {kind: Stated(value, "a test", False) for kind, value in sums.items()}
    addresses = tuple(Stated(u, "a test", False) for u in urls)
    return Entry("net", "A", "a test", "rgb-255", (), "net.bin", len(CONTENT), True, stated, addresses, ())


def left(cache: Path) -> set[str]:
    return {p.name for p in cache.iterdir() if not p.name.endswith(".lock")}


def test_a_file_comes_whole_and_is_not_fetched_twice(server, cache, capsys):
    for _ in range(2):
        path = fetch.fetch(made(server.url()), QUIET)
    assert path.read_bytes() == CONTENT
    assert left(cache) == {"net.bin"}
    assert len(server.asked) == 1
    assert capsys.readouterr().err == ""


def test_a_broken_line_goes_on_where_it_stopped(server, cache):
    server.breaks = [fetch.CHUNK + 99, 2 * fetch.CHUNK]
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT
    assert [a.get("Range") for a in server.asked] == [None, f"bytes={fetch.CHUNK + 99}-", f"bytes={2 * fetch.CHUNK}-"]
    assert [a.get("If-Range") for a in server.asked] == [None, '"one"', '"one"']
    assert left(cache) == {"net.bin"}


def test_a_later_command_goes_on_where_an_earlier_one_gave_up(server, cache):
    server.breaks = [100, 200, 300]
    with pytest.raises(
        ModelError, match=r"net cannot be fetched .*; put net\.bin into .* by hand, from one of these addresses"
    ):
        fetch.fetch(made(server.url()), QUIET)
    assert left(cache) == {"net.bin.part", "net.bin.part.json"}
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT
    assert server.asked[3]["Range"] == "bytes=300-"


def test_a_server_without_ranges_sends_all_again(server):
    server.ranges, server.breaks = False, [fetch.CHUNK]
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server):
    server.breaks, server.content = [5000, 5000, 5000], bytes(len(CONTENT))
    with pytest.raises(ModelError):
        fetch.fetch(made(server.url()), QUIET)
    server.content, server.tag = CONTENT, '"two"'
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT


def test_without_a_version_nothing_is_continued(server):
    server.tag, server.breaks = "", [5000]
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT
    assert "Range" not in server.asked[1]


def test_a_part_that_is_too_long_is_thrown_away(server, cache):
    cache.mkdir()
    (cache / "net.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    (cache / "net.bin.part.json").write_text(json.dumps({"url": server.url(), "version": '"one"'}))
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["sha256", "sha256_prefix", "sha1", "md5"])
def test_a_wrong_checksum_leaves_no_file(server, cache, kind):
    with pytest.raises(
        ModelError, match=r"the file is not the published one .its .* is .*, expected 0000., and was deleted"
    ):
        fetch.fetch(made(server.url(), **{kind: "0000"}), QUIET)
    assert left(cache) == set()


def test_the_second_mirror_helps_where_the_first_lies_or_is_silent(server, cache, capsys):
    with Server() as liar:
        threading.Thread(target=liar.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        liar.content = CONTENT[:-1] + b"?"
        assert fetch.fetch(made(liar.url(), server.url()), QUIET).read_bytes() == CONTENT
        liar.shutdown()
    assert "is not the published one" in capsys.readouterr().err
    (cache / "net.bin").unlink()
    assert fetch.fetch(made(liar.url(), server.url()), QUIET).read_bytes() == CONTENT
    assert "Connection refused" in capsys.readouterr().err
    (cache / "net.bin").unlink()
    server.asked.clear()
    assert fetch.fetch(made("file:///etc/passwd", server.url()), QUIET).read_bytes() == CONTENT
    assert "only http:// and https://" in capsys.readouterr().err


def test_a_part_that_is_whole_is_not_fetched_again(server, cache):
    """A process may end between the last byte and the check."""
    server.breaks = [len(CONTENT) - 1] * fetch.TRIES
    with pytest.raises(ModelError):
        fetch.fetch(made(server.url()), QUIET)
    (cache / "net.bin.part").write_bytes(CONTENT)
    asked = len(server.asked)
    assert fetch.fetch(made(server.url()), QUIET).read_bytes() == CONTENT
    assert [a["Range"] for a in server.asked[asked:]] == [f"bytes={len(CONTENT)}-"]
    assert left(cache) == {"net.bin"}


def test_the_mirror_that_began_goes_on_first(server):
    server.breaks = [100] * fetch.TRIES + [5000] * fetch.TRIES
    with pytest.raises(ModelError):
        fetch.fetch(made(server.url("a"), server.url("b")), QUIET)
    asked = len(server.asked)
    assert fetch.fetch(made(server.url("a"), server.url("b")), QUIET).read_bytes() == CONTENT
    assert [a["Range"] for a in server.asked[asked:]] == ["bytes=5000-"]


def test_a_part_of_another_mirror_is_not_continued(server, cache):
    server.breaks = [5000, 5000, 5000]
    assert fetch.fetch(made(server.url("a"), server.url("b")), QUIET).read_bytes() == CONTENT
    assert "Range" not in server.asked[3]


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (503, fetch.TRIES)])
def test_what_the_server_says_is_passed_on(server, status, times):
    server.status = status
    with pytest.raises(ModelError, match=f"the server says {status}"):
        fetch.fetch(made(server.url()), QUIET)
    assert len(server.asked) == times


def test_a_checksum_known_in_part_is_warned_of(server, capsys):
    fetch.fetch(made(server.url(), sha256_prefix=hashlib.sha256(CONTENT).hexdigest()[:8]), QUIET)
    assert "only the SHA-256 (first 8 digits) is known" in capsys.readouterr().err


def test_offline_names_the_file_and_its_place_and_asks_nobody(server, cache, monkeypatch):
    monkeypatch.setenv("VERYDEEP_OFFLINE", "1")
    with pytest.raises(
        ModelError, match=rf"VERYDEEP_OFFLINE is set .* put net\.bin into {cache} by hand, from {server.url()}"
    ):
        fetch.fetch(made(server.url()), QUIET)
    assert not server.asked
    cache.mkdir()
    (cache / "net.bin").write_bytes(CONTENT)
    assert fetch.fetch(made(server.url()), QUIET) == cache / "net.bin"


def test_a_damaged_file_in_the_cache_is_named(server, cache):
    cache.mkdir()
    (cache / "net.bin").write_bytes(CONTENT[1:])
    with pytest.raises(ModelError, match=r"is not the published file .* delete it and fetch it again"):
        fetch.fetch(made(server.url()), QUIET)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERYDEEP_WEIGHTS", str(tmp_path / "file" / "weights"))
    with pytest.raises(ModelError, match=r"cannot be written .*; set VERYDEEP_WEIGHTS"):
        fetch.fetch(made(server.url()), QUIET)


def test_more_bytes_than_any_net_has_are_refused(server, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", 1000)
    with pytest.raises(ModelError, match="the server offers"):
        fetch.fetch(made(server.url()), QUIET)


def test_a_proxy_is_used_where_the_environment_names_one(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch.fetch(made("http://nowhere.invalid/net.bin"), QUIET).read_bytes() == CONTENT
    assert server.asked[0]["Host"] == "nowhere.invalid"


def test_where_no_mirror_helps_one_error_has_each_once(server, cache, capsys, monkeypatch):
    server.status = 404
    with pytest.raises(ModelError) as e:
        fetch.fetch(made(server.url("a"), "file:///b", server.url("c")), QUIET)
    assert str(e.value) == (
        f"net cannot be fetched ({server.url('a')}: the server says 404 Not Found; file:///b: only http:// and https:// addresses are "
        f"fetched; {server.url('c')}: the server says 404 Not Found); put net.bin into {cache} by hand, from one of these addresses"
    )
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{server.server_port}")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(
        ModelError, match="; with HTTP_PROXY set it is asked of that proxy, which may be the cause; put"
    ) as e:
        fetch.fetch(made(server.url()), QUIET)
    assert "secret" not in str(e.value)


def test_the_net_in_the_box_needs_no_network(monkeypatch):
    monkeypatch.setenv("VERYDEEP_OFFLINE", "1")
    entry = catalogue.entry("builtin:fashion-a")
    assert fetch.fetch(entry, QUIET).name == "fashion-a.safetensors"
