"""One downloader, from a server on this machine that breaks, forgets, lies or does not answer."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from verydeep.errors import DataError, ModelError
from verydeep.files import download as module
from verydeep.files.download import CHUNK, TRIES, Wanted, download
from verydeep.progress import Progress

CONTENT = os.urandom(3 * CHUNK + 1234)
QUIET = Progress("none")


class Server(http.server.ThreadingHTTPServer):
    """What it sends and how: `ranges`, `tag`, bytes after which the line breaks once each; and every request."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.content, self.ranges, self.tag, self.status = CONTENT, True, '"one"', 200
        self.breaks: list[int] = []
        self.asked: list[dict[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Those who asked may hang up before all is sent."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def of(self, name: str = "net.bin") -> str:
        return f"{self.url}/{name}"  # type: ignore[attr-defined]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *given: object) -> None:
        pass

    def do_GET(self) -> None:
        s, wanted = self.server, self.headers.get("Range")
        s.asked.append(dict(self.headers))
        if not s.status:
            self.wfile.write(b"not http at all\r\n\r\n")
            return
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
def server(serve):
    return serve(Handler, Server)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "folder"


def right(path: Path) -> None:
    if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(CONTENT).digest():
        raise ValueError("its SHA-256 differs")


@pytest.fixture
def fetch(folder):
    """Fetches net.bin from these addresses, and returns its bytes."""

    def fetched(*urls: str, most: int = 2 * len(CONTENT), kind: type = ModelError) -> bytes:
        target = folder / "net.bin"
        download(Wanted(target, urls, len(CONTENT), most, right, kind, "set THIS to another folder"), QUIET)
        assert {p.name for p in folder.iterdir()} == {"net.bin", ".net.bin.lock"}
        return target.read_bytes()

    return fetched


def test_a_file_comes_whole(server, fetch, capsys):
    assert fetch(server.of()) == CONTENT
    assert len(server.asked) == 1
    assert capsys.readouterr().err == ""


def test_a_broken_line_goes_on_where_it_stopped(server, fetch):
    """With its last byte, so that a part that is whole is no special case."""
    server.breaks = [CHUNK + 99, 2 * CHUNK]
    assert fetch(server.of()) == CONTENT
    assert [a.get("Range") for a in server.asked] == [None, f"bytes={CHUNK + 98}-", f"bytes={2 * CHUNK - 1}-"]
    assert [a.get("If-Range") for a in server.asked] == [None, '"one"', '"one"']


@pytest.mark.parametrize("had", [300, len(CONTENT)])
def test_a_later_command_goes_on_where_an_earlier_one_gave_up(server, fetch, folder, had):
    """A process may end between the last byte and the check too."""
    server.breaks = [100, 200, 300]
    with pytest.raises(
        ModelError, match=r"net\.bin cannot be fetched .* broke .*; put net\.bin into .* by hand, from one of"
    ):
        fetch(server.of())
    assert {p.name for p in folder.iterdir()} == {".net.bin.lock", "net.bin.part", "net.bin.part.from"}
    (folder / "net.bin.part").write_bytes(CONTENT[:had])
    assert fetch(server.of()) == CONTENT
    assert server.asked[3]["Range"] == f"bytes={had - 1}-"


def test_a_server_without_ranges_sends_all_again(server, fetch):
    server.ranges, server.breaks = False, [CHUNK]
    assert fetch(server.of()) == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, fetch):
    server.breaks, server.content = [5000, 5000, 5000], bytes(len(CONTENT))
    with pytest.raises(ModelError):
        fetch(server.of())
    server.content, server.tag = CONTENT, '"two"'
    assert fetch(server.of()) == CONTENT


@pytest.mark.parametrize("tag", ["", 'W/"one"'])
def test_without_an_exact_version_nothing_is_continued(server, fetch, tag):
    server.tag, server.breaks = tag, [5000]
    assert fetch(server.of()) == CONTENT
    assert "Range" not in server.asked[1]


def test_a_part_that_is_too_long_is_thrown_away(server, fetch, folder):
    folder.mkdir(parents=True)
    (folder / "net.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    (folder / "net.bin.part.from").write_text(f'{server.of()}\n"one"')
    assert fetch(server.of()) == CONTENT
    assert len(server.asked) == 2


def test_a_wrong_file_never_gets_its_name(server, fetch, folder):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DataError, match=r"the file is not the published one .its SHA-256 differs., and was deleted"):
        fetch(server.of(), kind=DataError)
    assert [p.name for p in folder.iterdir()] == [".net.bin.lock"]


def test_the_second_address_helps_where_the_first_lies_or_is_silent(server, serve, fetch, folder, capsys):
    liar = serve(Handler, Server)
    liar.content = bytes(len(CONTENT))
    assert fetch(liar.of(), server.of()) == CONTENT
    liar.shutdown()
    liar.server_close()
    assert "is not the published one" in capsys.readouterr().err
    for url, why in ((liar.of(), "Connection refused"), ("file:///etc/passwd", "only http:// and https://")):
        (folder / "net.bin").unlink()
        assert fetch(url, server.of()) == CONTENT
        assert f"warning: {url}: " in (err := capsys.readouterr().err)
        assert why in err


def test_the_address_that_began_goes_on_first(server, fetch):
    server.breaks = [100] * TRIES + [5000] * TRIES
    with pytest.raises(ModelError):
        fetch(server.of("a"), server.of("b"))
    assert "Range" not in server.asked[TRIES]  # no part of another address is continued
    asked = len(server.asked)
    assert fetch(server.of("a"), server.of("b")) == CONTENT
    assert [a["Range"] for a in server.asked[asked:]] == ["bytes=4999-"]


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (503, TRIES), (0, TRIES)])
def test_what_the_server_says_is_passed_on(server, fetch, status, times):
    server.status = status
    with pytest.raises(ModelError, match=f"the server says {status}" if status else "not http"):
        fetch(server.of())
    assert len(server.asked) == times


def test_offline_names_the_file_and_its_place_and_asks_nobody(server, fetch, folder, monkeypatch):
    monkeypatch.setenv("VERYDEEP_OFFLINE", "1")
    with pytest.raises(ModelError, match=rf"OFFLINE is set .* put net\.bin into {folder} by hand, from {server.of()}"):
        fetch(server.of())
    assert not server.asked


def test_a_folder_that_cannot_be_written_is_named(server, fetch, folder):
    folder.parent.write_text("")
    with pytest.raises(ModelError, match=r"net\.bin cannot be written .*; set THIS to another folder"):
        fetch(server.of())


def test_a_full_disk_ends_it_at_once(server, fetch, monkeypatch):
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "receive", full)
    with pytest.raises(ModelError, match=r"net\.bin cannot be written \(No space left on device\); set THIS"):
        fetch(server.of(), server.of("b"))


def test_more_bytes_than_any_such_file_has_are_refused(server, fetch):
    with pytest.raises(ModelError, match=rf"the server sends {len(CONTENT):,} bytes, expected about"):
        fetch(server.of(), most=len(CONTENT) - 1)
    assert len(server.asked) == 1


def test_two_at_once_do_not_write_one_file(server, fetch, folder):
    folder.mkdir(parents=True)
    with (folder / ".net.bin.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="is being fetched by another process; wait for it"):
            fetch(server.of())
    assert not server.asked
    assert fetch(server.of()) == CONTENT


def test_a_proxy_is_used_where_the_environment_names_one(server, fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{server.server_port}")
    assert fetch("http://nowhere.invalid/net.bin") == CONTENT
    assert server.asked[0]["Host"] == "nowhere.invalid"


def test_where_no_address_helps_one_error_has_each_once(server, fetch, folder, capsys, monkeypatch):
    server.status = 404
    with pytest.raises(ModelError) as e:
        fetch(server.of("a"), "file:///b", server.of("c"))
    gone, other = "the server says 404 Not Found", "only http:// and https:// addresses are fetched"
    why = f"{server.of('a')}: {gone}; file:///b: {other}; {server.of('c')}: {gone}"
    by_hand = f"put net.bin into {folder} by hand, from one of these addresses"
    assert str(e.value) == f"net.bin cannot be fetched ({why}); {by_hand}"
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{server.server_port}")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"; with HTTP_PROXY set it is asked of that proxy, .* cause; put") as e:
        fetch(server.of())
    assert "secret" not in str(e.value)
