"""A net at work for many clients: who may ask, bodies read under limits, and the way from a photo to its answer."""

import asyncio
from ipaddress import ip_address
from secrets import compare_digest
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from verydeep.data.reading import Room
from verydeep.near import meant
from verydeep.net.classifier import Classifier
from verydeep.serve.batcher import Batcher, RouteTask
from verydeep.serve.limits import WANTED, Problem

ASSETS = {
    "page.html": "text/html", "page.js": "text/javascript", "look.css": "text/css", "page.css": "text/css"
}  # fmt: skip
OPEN = ("/", "/healthz", "/readyz", *(f"/web/{name}" for name in ASSETS))  # without a token
NAMES = ("127.0.0.1", "localhost", "::1")


def is_here(name: str | None) -> bool:
    """Whether a name can lead to this machine alone: an address of it, to which no name of a page can be bound."""
    try:
        return ip_address(name or "").is_loopback
    except ValueError:
        return name == "localhost"


class Service:
    """The tasks of a net by name, and what is said of it. near: only this machine reaches the server."""

    def __init__(
        self,
        net: Classifier,
        tasks: dict[str, RouteTask],
        batcher: Batcher,
        about: dict[str, Any],
        token: str,
        near: bool,
    ) -> None:
        self.net, self.tasks, self.batcher, self.about, self.token, self.near = net, tasks, batcher, about, token, near
        self.limits, self.room = batcher.limits, Room(batcher.limits.bodies)
        self.leaving, self.due = 0.0, 0  # when it was told to end, and the answers that it owes

    def refused(self, path: str, headers: Headers) -> Problem | None:
        """Why a request is not even looked at.

        The page of another site can neither read an answer, as none has CORS headers, nor cause work. Where only this
        machine is served its names alone are taken, or a page could have a name of its own lead here.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.near and not is_here(name := split_url(f"//{host}").hostname):
            return Problem(403, "other_host", f"the request is for {name!s:.60}; expected {', '.join(NAMES)}")
        if origin is not None and split_url(origin).netloc != host:
            return Problem(403, "other_origin", f"a page of {origin:.60} asks; expected one of {host:.60}")
        given = headers.get("authorization", "").encode()
        if self.token and path not in OPEN and not compare_digest(given, f"Bearer {self.token}".encode()):
            words = "the token lacks or is wrong; expected Authorization: Bearer TOKEN"
            return Problem(401, "no_token", words, headers={"www-authenticate": "Bearer"})
        return None

    async def answer(self, request: Request, name: str, asked: Any) -> Response:
        """JSON of the photo in a request's body. Raises Problem."""
        parameters = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
        if unknown := next((one for one in request.query_params if one not in parameters), None):
            self.batcher.refuse(400, "wrong_parameter", f"{unknown:.60} is no parameter{meant(unknown, parameters)}")
        self.batcher.admit()
        if self.leaving:
            self.batcher.refuse(503, "draining", "the server is about to end; try again later", 1)
        held, self.due = [0], self.due + 1
        try:
            data = await self.body(request, held)
            gone = asyncio.ensure_future(departed(request))
            try:
                return JSONResponse(await self.batcher.answer(self.tasks[name], asked, data, gone))
            finally:
                gone.cancel()
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        finally:
            self.due -= 1
            self.room.take(-held[0])

    async def body(self, request: Request, held: list[int]) -> bytes:
        """held: becomes the bytes that it takes of the room."""
        refuse, most, seconds = self.batcher.refuse, self.limits.body, self.limits.body_seconds
        large = f"the body has more than the {most >> 20} MiB allowed; send a smaller photo"
        close = {"connection": "close"}
        waits = close if "expect" in request.headers else None  # whose body will not come
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            refuse(415, "form", f"the body is a form; {WANTED}", headers=waits)
        if int(request.headers.get("content-length", 0)) > most:
            refuse(413, "too_large", large, headers=waits)
        parts = list[bytes]()
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    if held[0] + len(part) > most:
                        refuse(413, "too_large", large)
                    if not self.room.take(len(part)):
                        refuse(429, "busy", "too many large photos wait already; try again later", 1)
                    held[0] += len(part)
                    parts.append(part)
        except TimeoutError:
            refuse(408, "slow", f"the body did not arrive within {seconds:g} s; send a smaller photo", headers=close)
        return b"".join(parts)


def split_url(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # of brackets that do not close
        return urlsplit("")


async def departed(request: Request) -> None:
    """Ends when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
