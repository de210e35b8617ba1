"""A server from its start to its end: the socket, the nets at work, and where it listens."""

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import verydeep
from verydeep.data import photo
from verydeep.engines import Engine, chosen
from verydeep.errors import ConfigError, ModelError
from verydeep.evaluate.passes import Settings, settled
from verydeep.files.disk import saying
from verydeep.hardware import device_for
from verydeep.serve import tasks
from verydeep.serve.app import app_for
from verydeep.serve.batcher import Batcher
from verydeep.serve.connection import Server
from verydeep.serve.limits import Limits
from verydeep.serve.service import Service
from verydeep.weights import check_task, load

TOKEN, LONGEST_TOKEN = "VERYDEEP_TOKEN", 4096


def run_server(
    model: str, boxes: str | None = None, host: str = "127.0.0.1", port: int = 8000, engine: Engine = "auto",
    token_file: Path | None = None, device: str = "auto", limits: Limits | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Where it listens and what it answers, once; asked for more, it serves until SIGTERM or SIGINT.

    Raises ConfigError and ModelError.
    """
    token, v6 = token_of(token_file), ":" in host
    with saying(f"host and port: {host} {port} cannot be listened at", "try another --port", ConfigError):
        place = socket.create_server((host, port), family=socket.AF_INET6 if v6 else socket.AF_INET, backlog=256)
    with place:
        address, number = place.getsockname()[:2]
        near = ipaddress.ip_address(address).is_loopback
        url = f"http://{f'[{address}]' if v6 else address}:{number}"
        if not (near or token):
            more = "anybody who reaches it may use it; --token_file FILE or --host 127.0.0.1 keeps others out"
            print(f"warning: {url} listens beyond this machine, and {more}", file=sys.stderr, flush=True)
        service = service_of(model, boxes, engine, device, token, near, limits or Limits())
        try:
            computes = {name: service.about[name] for name in ("engine", "precision", "routes")}
            yield {"url": url, "model": model} | computes
            Server(app_for(service), service).run([place])
        finally:
            service.batcher.close()


def token_of(file: Path | None) -> str:
    """The token of a file or else the environment; none where neither says one. Raises ConfigError."""
    if file is None and TOKEN not in os.environ:
        return ""
    with saying(f"token_file: {file} cannot be read", kind=ConfigError):
        given = os.environ[TOKEN] if file is None else file.read_bytes()[: LONGEST_TOKEN + 1].decode("latin-1")
    if not ((token := given.strip()).isascii() and token.isprintable() and 0 < len(token) <= LONGEST_TOKEN):
        raise ConfigError(f"token: {file or TOKEN} holds none; expected one line of ASCII, as 'openssl rand -hex 32'")
    return token


def service_of(
    model: str, boxes: str | None, engine: Engine, device: str, token: str, near: bool, limits: Limits
) -> Service:
    """The nets, ready to answer."""
    net, place = load(model).eval(), device_for(device).type
    check_task(model, net, "classes")
    computes, precision, _ = chosen(engine, place, nets=[net])
    settings = Settings(precision=precision, device=place, batch=limits.batch, engine=computes)
    settings, c = settled(settings, [net]), net.contract
    found = [tasks.classifying(net, protocol, settings) for protocol in ("centre", "dense")]
    for task in found:
        if not isfinite(tasks.warmed(task, c.crop)["classes"][0]["probability"]):
            raise ModelError(f"{model} answers with no finite numbers; 'verydeep weights verify' looks at it")
    found += [tasks.localising((boxes, model), (load(boxes), net), place)] if boxes else []
    found += [tasks.describing(net, place), tasks.explaining(net)]
    routes = list(dict.fromkeys(f"/v1/{task.name.split()[0]}" for task in found))
    about = {
        "classes": list(c.classes), "crop": c.crop, "scale": c.test_scale, "origin": c.origin, "licence": c.licence,
        "sha256": c.sha256, "net": c.net, "engine": computes, "precision": precision, "routes": routes,
        "versions": {"verydeep": verydeep.__version__} | {name: version(name) for name in ("torch", "pillow")},
    }  # fmt: skip
    batcher = Batcher(partial(photo.decode, name="the photo", reading=c.reading), limits)
    return Service(net, {task.name: task for task in found}, batcher, about, token, near)
