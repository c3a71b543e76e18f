"""The HTTP front door: health, metrics, models, the WebSocket and the page."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from speechgru.serve.access import Access
from speechgru.serve.service import Service
from speechgru.serve.websocket import WebSocketSession
from speechgru.version import __version__

#: What needs no token: whether the server lives.
PUBLIC = frozenset({"/health"})

_SENTENCES = {
    "host": "this server is for its own machine: ask for localhost, or start it with --host",
    "origin": "this page may not use this server; --origin allows it",
    "token": "a token is needed: Authorization: Bearer TOKEN",
}
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Lets requests through that `Access` does not refuse, whatever they ask for."""

    def __init__(self, app: ASGIApp, access: Access, service: Service) -> None:
        self._app, self._access, self._service = app, access, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or 401 where a token would help."""
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
        response = JSONResponse({"error": _SENTENCES[refusal]}, status)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)


def with_headers(send: Send) -> Send:
    """The same, with the headers that every answer has."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sending


def make_app(
    service: Service, access: Access, transport_of: Callable[[Any], asyncio.Transport]
) -> Starlette:
    """The application; `transport_of` finds a connection by the client's address."""

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(
            {"status": "stopping" if service.stopping else "ok", "version": __version__},
            503 if service.stopping else 200,
        )

    async def metrics(request: Request) -> PlainTextResponse:
        text = service.metrics.text()
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(request: Request) -> JSONResponse:
        return JSONResponse(
            [
                {
                    "name": model.name,
                    "words": list(model.words),
                    "thresholds": model.thresholds(),
                    "sample_rate": model.backend.sample_rate,
                    "step_s": model.step_s,
                    "streams": service.streams(model),
                }
                for model in service.models.values()
            ]
        )

    async def listen(socket: WebSocket) -> None:
        transport = transport_of(socket.scope["client"])
        await WebSocketSession(service, socket, transport).run()

    routes = [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/models", models),
        WebSocketRoute("/listen", listen),
    ]
    guard = Middleware(Guard, access=access, service=service)
    return Starlette(routes=routes, middleware=[guard])
