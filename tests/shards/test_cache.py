"""Shards on an object store, played by fsspec's memory and by a server on this machine that fails on demand."""

from __future__ import annotations

import hashlib
import http.server
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.shards.test_pack import packed as pack_into
from verydeep.cli import main
from verydeep.data import order
from verydeep.data.record import DataSet
from verydeep.data.source import open_data
from verydeep.errors import DataError
from verydeep.shards import cache as remote
from verydeep.shards import store
from verydeep.shards.cache import Cache
from verydeep.shards.index import read_index
from verydeep.shards.plan import Plan


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """240 small photos in shards of about 50 kB, and a cache of its own."""
    random = np.random.default_rng(0)
    for i in range(240):
        path = tmp_path / "photos" / f"c{i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    monkeypatch.setattr("verydeep.shards.packing.MB", 50_000)
    pack_into(tmp_path / "photos", tmp_path / "shards" / "f-%05d.tar", shard_mb=1)
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("VERYDEEP_CACHE_GB", raising=False)
    monkeypatch.setattr(store, "PAUSE", 0.01)
    return tmp_path / "shards"


@pytest.fixture
def in_memory(packed: Path) -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    for path in packed.iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    yield "memory://bucket/f-*.tar"
    memory.rm("/bucket", recursive=True)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a folder. `fails` says how a name fails each time: an error, half the content, another, silence."""

    folder: Path
    fails: dict[str, list[str]]
    asked: Counter[str]
    lock = threading.Lock()

    def do_GET(self) -> None:
        name, body = self.path.rpartition("/")[2], self.command == "GET"
        path = self.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        content, how = path.read_bytes(), ""
        if body:
            with self.lock:
                self.asked[name] += 1
                how = self.fails[name].pop(0) if self.fails.get(name) else ""
        if how == "silence":
            time.sleep(60)
        if how == "error":
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        self.end_headers()
        if body and how == "half":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(bytes(len(content)) if how == "other" else content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(packed: Path, serve: Any) -> tuple[str, type[Server]]:
    handler = type("Own", (Server,), {"folder": packed, "fails": {}, "asked": Counter()})
    return f"{serve(handler).url}/f-%05d.tar", handler


def same(found: DataSet, folder: Path) -> None:
    local = open_data(str(folder / "f-*.tar"))
    assert found.fingerprint() == local.fingerprint()
    photos, other = found.split("all"), local.split("all")
    assert all(photos.content(i) == other.content(i) for i in range(len(photos)))


def settled() -> None:
    """Waits until what is fetched in the background is there."""
    for thread in threading.enumerate():
        if thread.name == "shards":
            thread.join(20)


def cached(folder: Path) -> list[Path]:
    return [p for p in (folder / "shards").iterdir() if p.suffix == ".tar"]


def test_a_store_gives_what_the_folder_gives(packed: Path, in_memory: str, tmp_path: Path) -> None:
    same(open_data(in_memory), packed)
    index = read_index(packed / "f.index")
    assert len(index.shards) > 5
    assert {p.stem for p in cached(tmp_path / "cache")} == {s.sha256 for s in index.shards}
    assert not list((tmp_path / "cache" / "shards").glob("*.part"))
    divided, local = (open_data(data, (0.2, 0.2)) for data in (in_memory, str(packed / "f-*.tar")))
    assert divided.fingerprint() == local.fingerprint()


def test_a_store_is_shuffled_by_shards_and_then_a_window(
    in_memory: str, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "WINDOW", 20)
    photos = open_data(in_memory).split("all")
    assert open_data(str(packed / "f-*.tar")).split("all").shards is None
    assert photos.shards is not None
    first, again, other = (order.epoch_order(5, epoch, photos).ids for epoch in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert sorted(first.tolist()) == list(range(240))
    assert Plan(photos.shards.astype(np.int32), first).overlap(np.ones(99, np.int64)) <= 5


def test_http_with_failures_gives_the_same(served: tuple[str, type[Server]], packed: Path, tmp_path: Path) -> None:
    url, server = served
    server.fails |= {"f.index": ["error"], "f-00000.tar": ["error", "half", "other"], "f-00002.tar": ["half"] * 4}
    same(open_data(url), packed)
    assert server.asked["f-00000.tar"] == 4
    assert server.asked["f-00001.tar"] == 1
    server.asked.clear()
    same(open_data(url), packed)
    assert not server.asked, "the index has an ETag, and all is here"
    (packed / "f.index").touch()
    same(open_data(url), packed)
    assert server.asked == {"f.index": 1}


@pytest.mark.parametrize(
    ("how", "expected"),
    [("error", "503|Service"), ("half", r"bytes|payload"), ("other", "SHA-256 is not the one in the index")],
)
def test_what_cannot_be_fetched_is_named(
    how: str, expected: str, served: tuple[str, type[Server]], tmp_path: Path
) -> None:
    url, server = served
    photos = open_data(url).split("all")
    server.fails |= {f"f-{n:05d}.tar": [how] * 5 for n in range(20)}
    with pytest.raises(DataError, match=rf"http://.*/f-\d+.tar cannot be fetched \(.*({expected}).*\), tried 5 times"):
        photos.content(0)
    assert not list((tmp_path / "cache" / "shards").glob("*.part"))
    assert photos.content(0)


def test_what_is_missing_is_named(in_memory: str, served: tuple[str, type[Server]], packed: Path) -> None:
    photos = open_data(in_memory).split("all")
    fsspec.filesystem("memory").rm("/bucket/f-00000.tar")
    with pytest.raises(DataError, match=r"memory://bucket/f-00000.tar does not exist; copy the shards there"):
        [photos.content(i) for i in range(240)]
    for url in ("memory://bucket/g-*.tar", served[0].replace("f-", "g-")):
        with pytest.raises(DataError, match=r"/g.index does not exist; shards need the index"):
            open_data(url)
    with pytest.raises(DataError, match=r"nope:// is not known"):
        open_data("nope://x/f-*.tar")
    with pytest.raises(DataError, match="expected a pattern"):
        open_data("s3://bucket/photos")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(url: str, **_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without)
    with pytest.raises(DataError, match=r"s3:// needs a package that is missing .*pip install 'verydeep\[s3\]'"):
        open_data("s3://bucket/f-*.tar")


@pytest.mark.parametrize("given", ["much", "0", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(given: str, in_memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERYDEEP_CACHE_GB", given)
    with pytest.raises(DataError, match="VERYDEEP_CACHE_GB is"):
        open_data(in_memory)


def test_a_cache_that_cannot_hold_what_is_read_side_by_side_says_so(
    in_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERYDEEP_CACHE_GB", "0.00001")
    with pytest.raises(DataError, match=r"one shard has .* set VERYDEEP_CACHE_GB=2 or more"):
        open_data(in_memory)
    monkeypatch.setenv("VERYDEEP_CACHE_GB", "0.0002")
    photos = open_data(in_memory).split("all")
    photos.expect(photos.in_turn())
    with pytest.raises(DataError, match=r"the shards that are read side by side have"):
        photos.expect(order.epoch_order(0, 0, photos).ids)
    settled()


def cache_of(packed: Path, in_memory: str, folder: Path, shards: int) -> tuple[Cache, Any]:
    index = read_index(packed / "f.index")
    return Cache("memory://bucket/", index, folder, shards * max(s.bytes for s in index.shards)), index


def watched(cache: Cache, done: threading.Event, most: list[int]) -> None:
    """The bytes in the folder, a .part counted whole, again and again."""
    while not done.is_set():
        with cache.alone():
            parts = [int(p.name.split(".")[1]) for p in cache.folder.glob("*.part")]
            most.append(sum(parts) + sum(p.stat().st_size for p in cache.folder.glob("*.tar")))
        time.sleep(0.001)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_a_tiny_cache_serves_many_threads_and_keeps_its_bound(
    shards: int, packed: Path, in_memory: str, tmp_path: Path
) -> None:
    cache, _ = cache_of(packed, in_memory, tmp_path / "tiny", shards)
    local, most, done = open_data(str(packed / "f-*.tar")).split("all"), list[int](), threading.Event()
    watcher = threading.Thread(target=watched, args=(cache, done, most))
    watcher.start()

    ids = np.random.default_rng(1).permutation(240)[:120].tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda id: cache.read(id, "x"), ids))
    done.set()
    watcher.join()
    assert found == [local.content(id) for id in ids]
    assert max(most) <= cache.limit


def test_what_is_expected_is_fetched_ahead_within_the_bound(
    packed: Path, in_memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verydeep.shards.plan.SLACK", 0)
    monkeypatch.setattr("verydeep.shards.plan.STEP", 1)
    cache, index = cache_of(packed, in_memory, tmp_path / "tiny", 3)
    fetched: list[tuple[str, bool]] = []
    get = remote.get

    def noted(url: str, *rest: Any) -> None:
        fetched.append((url[-9:-4], threading.current_thread().name == "shards"))
        get(url, *rest)

    monkeypatch.setattr(remote, "get", noted)
    ids = np.argsort(index.shard, kind="stable")
    cache.expect(ids)
    settled()
    assert fetched == [("00000", True), ("00001", True), ("00002", True)], "no more than the cache holds"
    for id in ids.tolist():
        cache.read(id, "x")
        settled()
    assert [name for name, _ in fetched] == [s.name[2:7] for s in index.shards], "each once, in turn"
    assert all(ahead for _, ahead in fetched)


def test_another_epoch_keeps_what_it_needs_first(packed: Path, in_memory: str, tmp_path: Path) -> None:
    cache, index = cache_of(packed, in_memory, tmp_path / "tiny", 3)
    for shard in (0, 1, 2):
        cache.fetch(shard)
    shards = len(index.shards)
    ids = np.argsort((index.shard + shards - 2) % shards, kind="stable")  # 2, 3, ... 0, 1
    cache.expect(ids)
    settled()
    assert {p.name for p in (tmp_path / "tiny").glob("*.tar")} == {f"{index.shards[i].sha256}.tar" for i in (2, 3, 4)}


def test_a_shard_that_is_read_is_not_removed(packed: Path, in_memory: str, tmp_path: Path) -> None:
    cache, index = cache_of(packed, in_memory, tmp_path / "tiny", 1)
    with cache.opened(0):
        assert not cache.fetch(1, ahead=True)
        assert (tmp_path / "tiny" / f"{index.shards[0].sha256}.tar").exists()
    assert cache.fetch(1, ahead=True)
    assert not (tmp_path / "tiny" / f"{index.shards[0].sha256}.tar").exists()


def test_a_shard_that_another_user_fetched_is_read(
    packed: Path, in_memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only its owner may set the time of a file."""
    same(open_data(in_memory), packed)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.utime", refused)
    out = str(tmp_path / "again" / "f-%05d.tar")
    assert main(["pack", in_memory, "--out", out, "--bad_photos", "skip", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["photos"], found["skipped"]) == ({"all": 240}, [])


def test_a_cache_that_cannot_be_used_is_no_fault_of_a_photo(packed: Path, in_memory: str, tmp_path: Path) -> None:
    photos = open_data(in_memory).split("all")
    for shard in read_index(packed / "f.index").shards:
        (tmp_path / "cache" / "shards" / f"{shard.sha256}.tar").mkdir()
    with pytest.raises(DataError, match=r"cannot be used \(Is a directory\); set VERYDEEP_DATA") as caught:
        photos.content(0)
    assert type(caught.value) is DataError, "--bad_photos skip would leave out all photos"


def test_what_a_killed_process_left_is_removed_and_a_cut_shard_fetched_again(
    packed: Path, in_memory: str, tmp_path: Path
) -> None:
    cache, index = cache_of(packed, in_memory, tmp_path / "tiny", 2)
    left = tmp_path / "tiny" / f"{'a' * 64}.99999999.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    cache.fetch(0)
    assert not left.exists()
    (tmp_path / "tiny" / f"{index.shards[0].sha256}.tar").write_bytes(b"cut")
    with cache.opened(0) as file:
        assert len(file.read()) == index.shards[0].bytes


def read_all(url: str, folder: str, barrier: Any, answers: Any) -> None:
    os.environ["VERYDEEP_DATA"] = folder
    photos = open_data(url).split("all")
    barrier.wait(60)
    photos.expect(photos.in_turn())
    answers.put(hashlib.sha256(b"".join(photos.content(int(i)) for i in photos.in_turn())).hexdigest())  # type: ignore[arg-type]


def test_two_processes_share_a_cache(served: tuple[str, type[Server]], packed: Path, tmp_path: Path) -> None:
    url, server = served
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    both = [context.Process(target=read_all, args=(url, str(tmp_path / "cache"), barrier, answers)) for _ in range(2)]
    for p in both:
        p.start()
    first, second = answers.get(timeout=60), answers.get(timeout=60)
    for p in both:
        p.join(60)
        assert p.exitcode == 0
    assert first == second
    assert {n for name, n in server.asked.items() if name.endswith(".tar")} == {1}, (
        "each shard is fetched by one of them"
    )


def test_the_process_ends_though_shards_are_being_fetched(served: tuple[str, type[Server]], packed: Path) -> None:
    script = (
        "import sys; from verydeep.data.source import open_data\n"
        "p = open_data(sys.argv[1]).split('all'); p.content(0); p.expect(p.in_turn())"
    )
    served[1].fails |= {f"f-{n:05d}.tar": ["silence"] for n in range(20)}
    index = read_index(packed / "f.index")
    served[1].fails.pop(index.shards[int(index.shard[0])].name)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, served[0]], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert time.perf_counter() - began < 20
