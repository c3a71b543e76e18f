"""The HTTP application: page, models and thresholds, health, metrics, WebSocket."""

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from speechgru.serve.access import Access
from speechgru.serve.content import errors_as_json, json_object
from speechgru.serve.models import ServedModel, keep_thresholds
from speechgru.serve.own_words.places import Places
from speechgru.serve.own_words.routes import own_words_routes
from speechgru.serve.own_words.trainer import Trainer
from speechgru.serve.page_files import PAGE, page_routes
from speechgru.serve.service import Service
from speechgru.serve.websocket import WebSocketSession
from speechgru.version import __version__

#: Paths that need no token: the health check, and the page, which asks for the token.
PUBLIC = frozenset({"/health", *PAGE})

_SENTENCES = {
    "host": "this server answers its own machine only; open it as localhost, or start it with "
    "--host and --token-file",
    "origin": "pages of this site may not use this server; --origin allows them",
    "token": "a token is needed: Authorization: Bearer TOKEN",
}
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """Middleware that refuses requests that `Access` does not allow, on every path."""

    def __init__(self, app: ASGIApp, access: Access, service: Service) -> None:
        self._app, self._access, self._service = app, access, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or answer 401 if it only lacks a token, otherwise 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        refusal = self._access.refusal(
            connection.headers,
            scheme,
            scope.get("subprotocols", ()),
            public=scope["path"] in PUBLIC,
        )
        if refusal is None:
            await self._app(scope, receive, with_headers(send))
            return
        self._service.metrics.refused[refusal] += 1
        status = 401 if refusal == "token" else 403
        headers = {"WWW-Authenticate": "Bearer"} if refusal == "token" else None
        response = JSONResponse({"error": _SENTENCES[refusal]}, status, headers)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, with_headers(send))


def with_headers(send: Send) -> Send:
    """`send`, with the security headers added to every response."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sending


def make_app(
    service: Service,
    access: Access,
    places: Places | None = None,
    trainer: Trainer | None = None,
    is_alone: bool = True,
) -> Starlette:
    """The application.

    Args:
        places: where the page may write; None: nowhere.
        trainer: trains there.
        is_alone: no other process serves the same address; thresholds can be kept.
    """

    keeping = asyncio.Lock()

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(
            {"status": "stopping" if service.stopping else "ok", "version": __version__},
            503 if service.stopping else 200,
        )

    async def metrics(request: Request) -> PlainTextResponse:
        text = service.metrics.text()
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(request: Request) -> JSONResponse:
        found = service.models.values()
        return JSONResponse([_described(m) | {"streams": service.streams(m)} for m in found])

    async def thresholds(request: Request) -> JSONResponse:
        model = service.models.get(request.path_params["name"])
        if model is None:
            return JSONResponse({"error": "there is no such model"}, 404)
        if not is_alone:
            return JSONResponse({"error": "thresholds are kept with one process only"}, 409)
        wanted = await json_object(request, "a JSON object of words and thresholds")
        async with keeping:
            model = service.models[model.name]
            changed, note = await asyncio.to_thread(keep_thresholds, model, wanted)
            service.configure(changed)
        return JSONResponse(
            {"thresholds": changed.thresholds(), "written": note is None, "note": note}
        )

    async def listen(socket: WebSocket) -> None:
        await WebSocketSession(service, socket).run()

    routes = [
        *page_routes(),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/models", models),
        Route("/models/{name}/thresholds", errors_as_json(thresholds), methods=["PUT"]),
        WebSocketRoute("/listen", listen),
        *own_words_routes(places, trainer, service),
    ]
    middleware = [Middleware(Guard, access=access, service=service)]
    if access.origins:  # their pages may send requests, and read the answers
        cors = Middleware(
            CORSMiddleware,
            allow_origins=sorted(access.origins),
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type"],
        )
        middleware.insert(0, cors)
    app = Starlette(routes=routes, middleware=middleware)
    app.router.redirect_slashes = False  # behind a proxy the address may be another
    return app


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "words": list(model.words),
        "labels": list(model.labels),
        "thresholds": model.thresholds(),
        "sample_rate": model.backend.sample_rate,
        "step_s": model.step_s,
    }
