"""Serves the files of the web page, which are in the package."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HTML, _CSS, _JS = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript"

_SCRIPTS = (
    *("page.js", "dom.js", "server.js", "microphone-worklet.js"),
    *("listen.js", "record.js", "review.js", "train.js"),
)
#: File name and content type, by path.
PAGE = {
    "/": ("index.html", _HTML),
    "/page.css": ("page.css", _CSS),
    **{f"/{name}": (name, _JS) for name in _SCRIPTS},
}
#: The page loads nothing from elsewhere, and no other page may frame it.
_POLICY = "default-src 'self'; img-src data:; media-src blob:; frame-ancestors 'none'"


def page_routes() -> list[Route]:
    """A route for each file; the files are read once."""
    return [_route(path, name, kind) for path, (name, kind) in PAGE.items()]


def _route(path: str, name: str, kind: str) -> Route:
    content = (files("speechgru.serve") / "page" / name).read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"Content-Security-Policy": _POLICY})

    return Route(path, send)
