"""The routes: JSON of raw photos, the state, the page. And the gate before them all."""

from pathlib import Path
from typing import Annotated, Any, Literal

import prometheus_client
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import verydeep
from verydeep.errors import VeryDeepError
from verydeep.explain import class_number
from verydeep.near import meant
from verydeep.serve.limits import Problem, problem_of
from verydeep.serve.service import ASSETS, Service
from verydeep.serve.shapes import BODY, responses

WEB = Path(__file__).parent / "web"
SECURE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store",
}  # fmt: skip
DESCRIPTION = "Send the bytes of one photo as the body: curl --data-binary @photo.jpg URL. Nothing is kept or fetched."
Top = Annotated[int, Query(ge=1, le=1000, description="so many classes, the best first")]
Protocol = Annotated[Literal["centre", "dense"], Query(description="the centre crop, or the whole photo")]
Name = Annotated[str | None, Query(alias="class", max_length=300, description="a class; by default the best")]


def app_for(service: Service) -> ASGIApp:
    """Routes that the service has no task for are not there."""
    app = FastAPI(
        title="verydeep", version=verydeep.__version__, description=DESCRIPTION, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    for kind in (VeryDeepError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, lambda request, error: refused_as(request, error, service))
    add_photo_routes(app, service)
    add_plain_routes(app, service)
    return Gate(app, service)


def add_photo_routes(app: FastAPI, service: Service) -> None:
    async def classify(request: Request, top: Top = 5, protocol: Protocol = "centre") -> Response:
        """What is on a photo."""
        return await service.answer(request, f"classify {protocol}", top)

    async def localise(request: Request, top: Top = 1) -> Response:
        """What is on a photo and where: classes, each with its best box (appendix A of the paper)."""
        return await service.answer(request, "localise", top)

    async def describe(request: Request) -> Response:
        """The paper's descriptor: the last hidden layer over the whole photo, as `describe` (appendix B)."""
        return await service.answer(request, "describe", None)

    async def explain(request: Request, name: Name = None) -> Response:
        """The saliency of a class: how much its score depends on each place of the photo."""
        label = None if name is None else class_number(name, service.net.contract.classes)
        return await service.answer(request, "explain", label)

    for route in (classify, localise, describe, explain):
        if (path := f"/v1/{route.__name__}") in service.about["routes"]:
            app.post(path, responses=responses(route.__name__), openapi_extra=BODY, response_model=None)(route)


def add_plain_routes(app: FastAPI, service: Service) -> None:
    files = {name: (WEB / name).read_bytes() for name in ASSETS}

    @app.get("/v1/model", responses=responses("model", 401, 403), response_model=None)
    async def model() -> Response:
        """What the net knows, eats and is."""
        return JSONResponse(service.about)

    @app.get("/healthz", responses=responses("state", 403), response_model=None)
    async def healthz() -> Response:
        """Whether the process answers at all."""
        return JSONResponse({"state": "alive"})

    @app.get("/readyz", responses=responses("state", 403, 503), response_model=None)
    async def readyz() -> Response:
        """Whether photos are taken; no longer once the server was told to end."""
        if service.leaving:
            raise Problem(503, "draining", "the server is about to end; try again later", 1)
        return JSONResponse({"state": "ready"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(prometheus_client.generate_latest(service.batcher.registry), media_type="text/plain")

    @app.get("/", include_in_schema=False)
    @app.get("/web/{name}", include_in_schema=False)
    async def asset(name: str = "page.html") -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=ASSETS[name])


def refused_as(request: Request, error: Exception, service: Service) -> Response:
    """What an error says to a client."""
    path = request.url.path[:60]
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        words = f"{first['loc'][-1]}: {first['msg'].lower()}, and not {str(first['input'])[:60]!r}"
        error = Problem(400, "wrong_parameter", f"{words}; see GET /openapi.json")
    elif isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        error = Problem(405, "wrong_method", f"{request.method} {path}; expected {allowed}", headers=error.headers)
    elif isinstance(error, HTTPException) and not isinstance(error, Problem):
        more = meant(path, [*service.about["routes"], "/v1/model", "/healthz", "/readyz", "/metrics"])
        error = Problem(404, "no_route", f"{path} is no route here{more}; see GET /openapi.json")
    problem = problem_of(error)
    return JSONResponse(problem.content, problem.status_code, problem.headers)


class Gate:
    """Before all routes: who may ask. Behind them: headers, and the count of answers."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app, self.service, registry = app, service, service.batcher.registry
        self.routes = {getattr(route, "path", "") for route in app.routes}
        self.answers = prometheus_client.Counter("verydeep_answers", "sent", ["route", "status"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURE | ({"connection": "close"} if self.service.leaving else {}))
                path = scope["path"] if scope["path"] in self.routes else "other"
                self.answers.labels(path, str(message["status"])).inc()
            await send(message)

        problem = self.service.refused(scope["path"], Headers(scope=scope))
        if problem:
            self.service.batcher.rejected.labels(problem.code).inc()
        answer: Any = JSONResponse(problem.content, problem.status_code, problem.headers) if problem else self.app
        await answer(scope, receive, sending)
