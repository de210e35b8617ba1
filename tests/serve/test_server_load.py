"""Many clients, bad clients, and the end: points 13 to 18 of what the server promises."""

from __future__ import annotations

import resource
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")

from serving import Limits, apart, ask, jpeg, process, save_net, serving, slowly

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_net(tmp_path_factory.mktemp("net") / "net.safetensors")


def until(true, seconds=20):
    """Waits for what other threads do; how long that may take is no matter of taste on a busy machine."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def head(length, more=""):
    return f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def rest_of(s):
    """All that comes until the other end closes."""
    found = b""
    try:
        while data := s.recv(65_536):
            found += data
    except ConnectionResetError:
        pass
    return found


def at_once(n, work):
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, range(n)))


def test_a_photo_alone_in_a_batch_and_beside_any_neighbour(model):
    """Neighbours of other sizes, ones that are no photos, and ones whose work fails."""
    photos = [jpeg(i, 60 + 8 * (i % 3), 48) for i in range(12)] + [b"no photo", jpeg(90, 800, 80)]
    with serving(model) as running:
        slowly(running.service, 0.01)
        for protocol in ("centre", "dense"):
            alone = [running.ask(f"/v1/classify?top=3&protocol={protocol}", data)[:2] for data in photos]
            found = at_once(
                28, lambda i, p=protocol: running.ask(f"/v1/classify?top=3&protocol={p}", photos[i // 2])[:2]
            )
            for i, (status, answer) in enumerate(found):
                assert status == alone[i // 2][0]
                if status == 200:
                    pairs = zip(answer["classes"], alone[i // 2][1]["classes"], strict=True)
                    for one, other in pairs:
                        assert one["name"] == other["name"]
                        assert one["probability"] == pytest.approx(other["probability"], abs=TOLERANCE)
        text = running.metrics
    count, total = (float(text.split(f'verydeep_batch_photos_{what}{{task="classify centre"}} ')[1].split()[0])
                    for what in ("count", "sum"))  # fmt: skip
    assert total > count + 10  # there were batches


def test_one_that_fails_takes_no_neighbour_with_it(model, caplog):
    with serving(model) as running:
        task = running.service.tasks["classify centre"]

        def compute(made):
            time.sleep(0.1)
            if any(top == 3 for _, top in made):
                raise ValueError("a secret of the machine")
            return task.compute(made)

        running.service.tasks["classify centre"] = task._replace(compute=compute)
        found = at_once(6, lambda i: running.ask(f"/v1/classify?top={3 if i == 2 else 2}", jpeg(i))[:2])
    assert [status for status, _ in found] == [200, 200, 500, 200, 200, 200]
    assert "secret" not in str(found[2])
    assert "secret" in caplog.text


def test_bodies_are_limited_while_they_are_read(model):
    with serving(model, body=10_000) as running:
        for sent in (head(10_001), head(10**15), b"%s%x\r\n%s\r\n" % (
            head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"), 20_000, bytes(20_000)
        )):  # fmt: skip
            with socket.create_connection(("127.0.0.1", running.port), 30) as s:
                s.sendall(sent)
                assert s.recv(12) == b"HTTP/1.1 413"
        with socket.create_connection(("127.0.0.1", running.port), 30) as s:  # who asks first hears it first
            s.sendall(head(20_000, "Expect: 100-continue\r\n"))
            said = rest_of(s)
        assert said.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in said
        assert running.ask("/v1/classify", bytes(9_999))[0] == 422
        assert running.service.room.left == running.service.limits.bodies


def test_all_bodies_together_are_limited(model):
    with serving(model, body=50_000, bodies=60_000) as running:
        with socket.create_connection(("127.0.0.1", running.port), 30) as s:
            s.sendall(head(45_000) + bytes(44_000))
            until(lambda: running.service.room.left == 16_000)
            status, found, headers = running.ask("/v1/classify", bytes(40_000))
            assert (status, found["error"]["code"], headers["retry-after"]) == (429, "busy", "1")
        until(lambda: running.service.room.left == 60_000)


def test_slow_senders_are_closed(model):
    with serving(model, body_seconds=0.3, patience=0.3, idle_seconds=1) as running:
        slow = [b"", b"POST /v1/cla", head(100)[:-2], head(100) + b"x"]  # nothing, half a line, no end, half a body
        sockets = [socket.create_connection(("127.0.0.1", running.port), 30) for _ in slow]
        for s, sent in zip(sockets, slow, strict=True):
            s.sendall(sent)
        for s in sockets:
            with s:
                assert rest_of(s).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", running.port), 30) as s:  # a refused body that does not end
            s.sendall(head(10**15))
            assert rest_of(s).startswith(b"HTTP/1.1 413 ")
        assert running.ask("/v1/classify", jpeg())[0] == 200
        until(lambda: not running.server.server_state.connections)


def test_connections_are_limited(model):
    with serving(model, connections=4) as running:
        sockets = [socket.create_connection(("127.0.0.1", running.port), 30) for _ in range(4)]
        until(lambda: len(running.server.server_state.connections) == 4)
        with socket.create_connection(("127.0.0.1", running.port), 30) as s:
            said = rest_of(s)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in said
        for s in sockets:
            s.close()
        until(lambda: not running.server.server_state.connections)
        assert running.ask("/v1/classify", jpeg())[0] == 200


def test_the_work_of_who_has_gone_is_dropped(model):
    with serving(model) as running:
        slowly(running.service, 0.4)
        first = threading.Thread(target=running.ask, args=("/v1/classify", jpeg()))
        first.start()
        until(lambda: running.service.batcher.pending.total() == 1)
        time.sleep(0.1)  # it is computed by now
        gone = [socket.create_connection(("127.0.0.1", running.port), 30) for _ in range(5)]
        for s in gone:
            s.sendall(head(len(jpeg())) + jpeg())
        until(lambda: running.service.batcher.pending.total() == 6)
        for s in gone:
            s.close()
        first.join()
        until(lambda: running.service.batcher.pending.total() == 0)
        began = time.monotonic()
        assert running.ask("/v1/classify", jpeg())[0] == 200
        assert time.monotonic() - began < 1.5  # 0.4, and not 2.4
        text = running.metrics
    assert 'verydeep_rejected_total{reason="gone"} 5.0' in text
    assert 'verydeep_batch_photos_sum{task="classify centre"} 2.0' in text


def test_a_slow_route_holds_up_a_quick_one_for_one_turn(model):
    with serving(model, deadline=60.0) as running, ThreadPoolExecutor(9) as pool:
        slowly(running.service, 0.3, "explain")
        pending = running.service.batcher.pending
        slow = [pool.submit(running.ask, "/v1/explain", jpeg(i)) for i in range(8)]
        until(lambda: pending["explain"] >= 5)
        quick = pool.submit(running.ask, "/v1/classify", jpeg())
        until(lambda: pending["classify centre"] or quick.done())
        before = pending["explain"]
        assert quick.result()[0] == 200
        assert pending["explain"] >= before - 2  # one that was at work, and one turn
        assert {f.result()[0] for f in slow} == {200}


def test_an_answer_that_comes_too_late_is_refused(model):
    with serving(model, deadline=0.5) as running:
        slowly(running.service, 0.4)
        found = at_once(6, lambda i: running.ask("/v1/classify", jpeg(i)))
        codes = Counter((status, answer["error"]["code"] if status != 200 else "") for status, answer, _ in found)
        assert codes[200, ""] >= 1
        assert codes[503, "late"] >= 3
        assert len(codes) == 2
        assert all(int(headers["retry-after"]) >= 1 for status, _, headers in found if status == 503)
        until(lambda: running.ask("/v1/classify", jpeg())[0] == 200)  # one alone is always tried


def overloaded(port, clients, seconds, body):
    """What so many clients, each asking on at once, got: seconds by status."""
    took, end, lock = {200: [], 429: [], 503: []}, time.monotonic() + seconds, threading.Lock()

    def client(i):
        while time.monotonic() < end:
            began = time.monotonic()
            status, found, headers = ask(port, "/v1/classify", body)
            with lock:
                took[status].append(time.monotonic() - began)
            if status != 200:
                assert int(headers["retry-after"]) >= 1
                assert found["error"]["code"] in ("busy", "late")
                time.sleep(0.02)

    at_once(clients, client)
    return took


def test_overload_is_refused_at_once_and_leaves_nothing_behind(model):
    """3 and 10 times what it can hold; the net is made slow, so that its capacity is known: 100 photos a second."""
    with serving(model, waiting=8, deadline=5.0) as running:
        slowly(running.service, 0.01)
        running.ask("/v1/classify", jpeg())
        for times in (3, 10):
            took = overloaded(running.port, 8 * times, 1.5, jpeg())
            assert took[200]
            assert took[429]
            assert max(took[200]) < 5
            assert running.service.batcher.pending.total() == 0
            began = time.monotonic()
            assert running.ask("/v1/classify", jpeg())[0] == 200
            assert time.monotonic() - began < 5
        assert running.service.due == 0
        assert running.service.room.left == running.service.limits.bodies


def memory(pid):
    """Megabytes that a process holds."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.slow
def test_overload_for_longer_with_flat_memory(model):
    """Photos of 3 megapixels; the server is a process of its own, and its capacity at most 50 photos a second.

    The first round fills the room for bodies; a second adds nothing.
    """
    body, bodies = jpeg(0, 2000, 1500, quality=90), Limits().bodies / 1e6
    with apart(model, 16, 0.02) as (pid, port):
        overloaded(port, 16, 10, body)
        before = memory(pid)
        for times in (3, 10):
            held = []
            for _ in range(2):
                took = overloaded(port, 16 * times, 15, body)
                held.append(memory(pid))
            began = time.monotonic()
            assert ask(port, "/v1/classify", body)[0] == 200
            again = time.monotonic() - began
            counts = {status: len(some) for status, some in took.items()}
            longest = {status: round(max(some), 2) for status, some in took.items() if some}
            print(f"{times} times: {counts}, longest {longest} s, MB {[before, *held]}, recovery {again:.2f} s")
            assert held[1] < 1.05 * held[0] + 10
            assert held[1] < before + 2 * bodies
            assert again < 5
            assert max(took[200]) < 10.5


def test_sigterm_answers_what_was_accepted(model):
    """Readiness falls, what was received is answered, what comes is refused, and it ends with 0."""
    with process(model, "--engine", "torch") as (running, said):
        port = said["port"]
        bodies = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(20)]
        for s in bodies:
            s.sendall(head(len(jpeg())) + jpeg()[:-1])
        idle = socket.create_connection(("127.0.0.1", port), 30)
        until(lambda: len(ask(port, "/readyz")[1]) == 1)
        running.send_signal(signal.SIGTERM)
        until(lambda: ask(port, "/readyz")[0] == 503)
        status, found, headers = ask(port, "/v1/classify", jpeg())
        assert (status, found["error"]["code"], headers["connection"]) == (503, "draining", "close")
        time.sleep(2.5)  # uvicorn alone would wait for a second
        for s in bodies:
            s.sendall(jpeg()[-1:])
        for s in bodies:
            with s:
                assert rest_of(s).startswith(b"HTTP/1.1 200 ")
        idle.close()
        assert running.wait(30) == 0


def test_a_second_signal_ends_at_once(model):
    with process(model, "--engine", "torch") as (running, said):
        s = socket.create_connection(("127.0.0.1", said["port"]), 30)
        s.sendall(head(100) + b"x")
        until(lambda: ask(said["port"], "/readyz")[0] == 200)
        running.send_signal(signal.SIGTERM)
        until(lambda: ask(said["port"], "/readyz")[0] == 503)
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 143
        s.close()
