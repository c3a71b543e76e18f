"""The paths below /own-words: recording, review and training; without `Places`, none of it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from speechgru.errors import UsageError
from speechgru.serve.content import errors_as_json, json_object
from speechgru.serve.models import open_model
from speechgru.serve.own_words.catcher import CatcherSession
from speechgru.serve.own_words.places import Places
from speechgru.serve.own_words.recorder import RecorderSession
from speechgru.serve.own_words.reviewer import Reviewer
from speechgru.serve.own_words.trainer import Trainer
from speechgru.serve.service import Service

_LONGEST_NAME = 64


def own_words_routes(
    places: Places | None, trainer: Trainer | None, service: Service
) -> list[BaseRoute]:
    """The routes; without `places` and `trainer` only the one that says so."""
    if places is None or trainer is None:
        return [Route("/own-words", _nothing)]
    return _OwnWords(places, trainer, service).routes()


async def _nothing(request: Request) -> Response:
    return JSONResponse({"data": None})


class _OwnWords:
    """What each path answers. What may take a while is done in a thread."""

    def __init__(self, places: Places, trainer: Trainer, service: Service) -> None:
        self.places, self.trainer, self.service = places, trainer, service
        self.reviewer = Reviewer(places)

    def routes(self) -> list[BaseRoute]:
        def route(
            method: str, path: str, answer: Callable[[Request], Awaitable[Response]]
        ) -> BaseRoute:
            return Route(f"/own-words{path}", errors_as_json(answer), methods=[method])

        return [
            route("GET", "", self.overview),
            WebSocketRoute("/own-words/record", self.record),
            WebSocketRoute("/own-words/listen", self.listen),
            Route("/own-words/takes/{name:path}", self.take),
            route("POST", "/deletions", self.delete),
            route("GET", "/clips", self.clips),
            route("GET", "/clips/{name:path}", self.clip),
            route("POST", "/decisions", self.decide),
            route("GET", "/training", self.training),
            route("POST", "/training/start", self.start),
            route("POST", "/training/stop", self.stop),
            route("POST", "/training/use", self.use),
        ]

    async def overview(self, request: Request) -> Response:
        places = self.places
        words = await asyncio.to_thread(places.words)
        models = self.service.models.values()
        return JSONResponse(
            {
                "data": str(places.data),
                "words": words,
                "caught": str(places.caught) if places.caught else None,
                "recipe": Path(places.recipe).stem,
                "refinable": [m.name for m in models if m.path.suffix == ".safetensors"],
            }
        )

    async def record(self, socket: WebSocket) -> None:
        await RecorderSession(self.service, socket, self.places).run()

    async def listen(self, socket: WebSocket) -> None:
        await CatcherSession(self.service, socket, self.places).run()

    async def take(self, request: Request) -> Response:
        path = await asyncio.to_thread(self.places.take, request.path_params["name"])
        if path is None:
            return JSONResponse({"error": "there is no such recording"}, 404)
        return FileResponse(path, media_type="audio/wav")

    async def delete(self, request: Request) -> Response:
        name = (await json_object(request)).get("file")
        if not isinstance(name, str) or not await asyncio.to_thread(self.places.delete, name):
            return JSONResponse({"error": "there is no such recording"}, 404)
        return JSONResponse({"deleted": name})

    async def clips(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self.reviewer.list))

    async def clip(self, request: Request) -> Response:
        content = await asyncio.to_thread(self.reviewer.sound, request.path_params["name"])
        return Response(content, media_type="audio/wav")

    async def decide(self, request: Request) -> Response:
        wish = await json_object(request)
        return JSONResponse(await asyncio.to_thread(self.reviewer.decide, wish))

    async def training(self, request: Request) -> Response:
        return JSONResponse(self.trainer.status())

    async def start(self, request: Request) -> Response:
        """Train anew (`{}`), refine a model (`refine`: its name), or go on (`resume`: true)."""
        wish = await json_object(request)
        if unknown := wish.keys() - {"refine", "resume"}:
            raise UsageError(f"{min(unknown)!r:.60}: only refine and resume are known")
        if "resume" in wish:
            if wish["resume"] is not True or len(wish) > 1:
                raise UsageError("resume: is true, and alone")
            await asyncio.to_thread(self.trainer.resume)
            return JSONResponse(self.trainer.status())
        models, name = self.service.models, wish.get("refine")
        if name is not None and not (isinstance(name, str) and name in models):
            raise UsageError(f"refine {name!r:.60}: one of {', '.join(models)} is needed")
        begin_with = models[name].path if name is not None else None
        await asyncio.to_thread(self.trainer.start, begin_with)
        return JSONResponse(self.trainer.status())

    async def stop(self, request: Request) -> Response:
        await json_object(request)
        self.trainer.stop()
        return JSONResponse(self.trainer.status())

    async def use(self, request: Request) -> Response:
        """Serve the model of the last training; answers with its name."""
        await json_object(request)
        trainer = self.trainer
        if trainer.status()["state"] not in ("done", "stopped", "failed") or trainer.model is None:
            raise UsageError("there is no finished training with a model")
        models = self.service.models.values()
        served = (m.name for m in models if m.path == trainer.model)
        name = next(served, None) or _free_name(trainer.model.parent.name, self.service)
        model = await asyncio.to_thread(open_model, name, trainer.model)
        self.service.configure(model)
        return JSONResponse({"name": name})


def _free_name(run: str, service: Service) -> str:
    """A name for the model of a run that no served model has, and that can be in an address."""
    base = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in run)
    base = base.strip("-.")[: _LONGEST_NAME - 4] or "own"
    name, number = base, 1
    while name in service.models:
        number += 1
        name = f"{base}-{number}"
    return name
