"""What uvicorn leaves open: how many connections there are, how long a client may let them wait, and how to end."""

import asyncio
import json
import os
import socket
import sys
import time
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from verydeep.serve.limits import Problem
from verydeep.serve.service import Service


class Connection(H11Protocol):
    """since: when it was opened, or its last answer sent, from which on it waits for its client."""

    def __init__(self, service: Service, **how: Any) -> None:
        super().__init__(**how)
        self.service, self.since = service, time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio leaves this out for a socket that is made here; headers and body are two writes, 40 ms apart without
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > (most := self.service.limits.connections):
            self.refuse(Problem(503, "connections", f"{most} connections are open already; try again later", 1))

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self.refuse(Problem(400, "not_http", "the request is not HTTP/1.1 or has too many headers; try another client"))

    def look(self) -> None:
        """Ends it where its client sent no whole request, not all of a refused body, or did not read its answer."""
        patience, waits = self.service.limits.patience, self.cycle is None or self.cycle.response_complete
        if waits and time.monotonic() > self.since + patience:
            self.refuse(Problem(408, "slow", f"no whole request came within {patience:g} s; send it at once"))
            if self.transport.get_write_buffer_size():
                self.transport.abort()

    def refuse(self, problem: Problem) -> None:
        """Past the application, which has no request to answer."""
        self.service.batcher.rejected.labels(problem.code).inc()
        if not (self.cycle and self.cycle.response_started):
            body, line = json.dumps(problem.content).encode(), HTTPStatus(problem.status_code)
            about = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            fields = [f"{name}: {value}" for name, value in (about | dict(problem.headers or {})).items()]
            head = "\r\n".join([f"HTTP/1.1 {line.value} {line.phrase}", *fields, "", ""])
            self.transport.write(head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Leaves with status 0 once what was accepted is answered; a second signal ends it at once."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        kind: Any = partial(Connection, service)
        super().__init__(uvicorn.Config(
            app, http=kind, ws="none", lifespan="off", loop="asyncio", log_config=None, log_level="error",
            access_log=False, proxy_headers=False, server_header=False, timeout_graceful_shutdown=1,
            timeout_keep_alive=service.limits.idle_seconds,
        ))  # fmt: skip
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.leaving:
            os._exit(128 + sig)
        print("ending: accepted photos are answered first; a second signal ends at once", file=sys.stderr, flush=True)
        self.service.leaving = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        ended, service = await super().on_tick(counter), self.service
        for connection in list(self.server_state.connections):
            connection.look()  # type: ignore[union-attr]
        over = service.leaving and time.monotonic() > service.leaving + service.limits.grace and not service.due
        return ended or bool(over)
