"""A server in a thread of the test or in a process of its own, a narrow net, and a client."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from verydeep.contract import Contract
from verydeep.net.classifier import build
from verydeep.net.initialise import initialise
from verydeep.serve.app import app_for
from verydeep.serve.connection import Server
from verydeep.serve.limits import Limits
from verydeep.serve.run import service_of

ROOT = Path(__file__).parent.parent.parent
CLASSES = ("cat", "dog", "Käse")


def save_net(path):
    """A narrow net whose posteriors are not 0 and 1."""
    colours = {"mean": (100.0, 110.5, 120.25), "std": (50.0, 51.0, 52.0)}
    torch.manual_seed(3)
    made = build(Contract("A", CLASSES, 32, 16, 4, False, "up", scales=(36, 44), origin="a test", **colours))
    initialise(made.net, "he")
    made.net.fc8.weight.data *= 0.3
    made.save(path)
    return str(path)


def jpeg(seed=0, width=60, height=48, **how):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", **how)
    return out.getvalue()


class Running:
    def __init__(self, service, server, port):
        self.service, self.server, self.port = service, server, port

    def ask(self, path, body=None, method=None, headers=None):
        """(status, parsed JSON or bytes, headers)."""
        return ask(self.port, path, body, method, headers)

    @property
    def metrics(self):
        return self.ask("/metrics")[1].decode()


def ask(port, path, body=None, method=None, headers=None, timeout=30):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        client.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = client.getresponse()
        data = answer.read()
        found = json.loads(data) if answer.headers.get_content_type() == "application/json" else data
        return answer.status, found, answer.headers
    finally:
        client.close()


def in_fp32():
    """On machines that multiply bf16 too."""
    return patch("verydeep.engines.choice.multiplies_bf16", return_value=False)


@contextmanager
def serving(model, boxes=None, token="", engine="torch", near=True, **limits):
    """The real thing on a free port of loopback, in a thread, in fp32."""
    with in_fp32():
        service = service_of(model, boxes, engine, "cpu", token, near, Limits(**limits))
    place = socket.create_server(("127.0.0.1", 0), backlog=256)
    server = Server(app_for(service), service)
    thread = threading.Thread(target=server.run, args=([place],))
    thread.start()
    try:
        yield Running(service, server, place.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        place.close()
        service.batcher.close()


def slowly(service, seconds, name="classify centre"):
    """Makes each turn of a task take so many seconds more for each photo."""
    task = service.tasks[name]

    def compute(made):
        time.sleep(seconds * len(made))
        return task.compute(made)

    service.tasks[name] = task._replace(compute=compute)


@contextmanager
def process(*words, **environment):
    """`verydeep serve ... --port 0 --json`: the process and what it said at its start."""
    alone = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-m", "verydeep", "serve", *words, "--port", "0", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=alone, text=True)
    try:
        said = json.loads(running.stdout.readline() or "null")
        yield running, said and said | {"port": int(said["url"].rpartition(":")[2])}
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


@contextmanager
def apart(model, waiting, seconds):
    """A server in a process of its own whose net takes so many seconds for each photo; its id and its port."""
    command = [sys.executable, __file__, model, str(waiting), str(seconds)]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone) as running:
        yield running.pid, int(running.stdout.readline())
        running.stdin.close()


if __name__ == "__main__":
    with serving(sys.argv[1], waiting=int(sys.argv[2])) as running:
        slowly(running.service, float(sys.argv[3]))
        print(running.port, flush=True)
        sys.stdin.read()
