"""Fixtures that every room may use."""

import threading
from contextlib import ExitStack
from http.server import ThreadingHTTPServer

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

settings.register_profile("beside others", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside others")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run side by side; more threads would only slow each other down."""
    torch.set_num_threads(1)


@pytest.fixture
def serve(monkeypatch):
    """Starts a server on this machine, by its handler, without a proxy before it; all end with the test."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "VERYDEEP_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as running:

        def begin(handler, kind=ThreadingHTTPServer):
            server = running.enter_context(kind(("127.0.0.1", 0), handler))
            server.url = f"http://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            running.callback(server.shutdown)
            return server

        yield begin


def draw_photo(label, height, width, random):
    """A noisy photo whose class is its colour and the direction of its stripes."""
    rows, columns = np.mgrid[:height, :width]
    stripes = ((rows // 4, columns // 4, (rows + columns) // 4)[label] % 2)[:, :, None]
    pixels = stripes * np.eye(3)[label] * 150 + random.uniform(0, 80, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def photo_folder(tmp_path):
    """36 photos of 32 to 79 pixels a side in the class folders 1, 2 and 10: twelve each, JPEG and PNG."""
    random = np.random.default_rng(7)
    for label, name in enumerate(("1", "2", "10")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            photo = draw_photo(label, *random.integers(32, 80, 2), random)
            photo.save(tmp_path / "photos" / name / f"{i}.{'jpg' if i % 2 else 'png'}", quality=90)
    return tmp_path / "photos"
