"""The paths below /own-words: recording, review and training; without `Places`, none of it."""

import asyncio
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

        async def nothing(request: Request) -> Response:
            return JSONResponse({"data": None})

        return [Route("/own-words", nothing)]
    reviewer = Reviewer(places)

    async def overview(request: Request) -> Response:
        words = await asyncio.to_thread(places.words)
        refinable = [m.name for m in service.models.values() if m.path.suffix == ".safetensors"]
        return JSONResponse(
            {
                "data": str(places.data),
                "words": words,
                "caught": str(places.caught) if places.caught else None,
                "recipe": Path(places.recipe).stem,
                "refinable": refinable,
            }
        )

    async def record(socket: WebSocket) -> None:
        await RecorderSession(service, socket, places).run()

    async def listen(socket: WebSocket) -> None:
        await CatcherSession(service, socket, places).run()

    async def take(request: Request) -> Response:
        path = await asyncio.to_thread(places.take, request.path_params["name"])
        if path is None:
            return JSONResponse({"error": "there is no such recording"}, 404)
        return FileResponse(path, media_type="audio/wav")

    async def delete(request: Request) -> Response:
        name = (await json_object(request)).get("file")
        if not isinstance(name, str) or not await asyncio.to_thread(places.delete, name):
            return JSONResponse({"error": "there is no such recording"}, 404)
        return JSONResponse({"deleted": name})

    async def clips(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(reviewer.list))

    async def clip(request: Request) -> Response:
        content = await asyncio.to_thread(reviewer.sound, request.path_params["name"])
        return Response(content, media_type="audio/wav")

    async def decide(request: Request) -> Response:
        wish = await json_object(request)
        return JSONResponse(await asyncio.to_thread(reviewer.decide, wish))

    async def training(request: Request) -> Response:
        return JSONResponse(trainer.status())

    async def start(request: Request) -> Response:
        wish = await json_object(request)
        if unknown := wish.keys() - {"refine", "resume"}:
            raise UsageError(f"{min(unknown)!r:.60}: only refine and resume are known")
        if "resume" in wish:
            if wish["resume"] is not True or len(wish) > 1:
                raise UsageError("resume: is true, and alone")
            await asyncio.to_thread(trainer.resume)
            return JSONResponse(trainer.status())
        name = wish.get("refine")
        if name is not None and not (isinstance(name, str) and name in service.models):
            raise UsageError(f"refine {name!r:.60}: one of {', '.join(service.models)} is needed")
        begin_with = service.models[name].path if name is not None else None
        await asyncio.to_thread(trainer.start, begin_with)
        return JSONResponse(trainer.status())

    async def stop(request: Request) -> Response:
        await json_object(request)
        trainer.stop()
        return JSONResponse(trainer.status())

    async def use(request: Request) -> Response:
        await json_object(request)
        if trainer.status()["state"] not in ("done", "stopped") or trainer.model is None:
            raise UsageError("there is no finished training with a model")
        served = (m.name for m in service.models.values() if m.path == trainer.model)
        name = next(served, None) or _free_name(trainer.model.parent.name, service)
        model = await asyncio.to_thread(open_model, name, trainer.model)
        service.configure(model)
        return JSONResponse({"name": name})

    return [
        Route("/own-words", errors_as_json(overview)),
        WebSocketRoute("/own-words/record", record),
        WebSocketRoute("/own-words/listen", listen),
        Route("/own-words/takes/{name:path}", take),
        Route("/own-words/deletions", errors_as_json(delete), methods=["POST"]),
        Route("/own-words/clips", errors_as_json(clips)),
        Route("/own-words/clips/{name:path}", errors_as_json(clip)),
        Route("/own-words/decisions", errors_as_json(decide), methods=["POST"]),
        Route("/own-words/training", errors_as_json(training)),
        Route("/own-words/training/start", errors_as_json(start), methods=["POST"]),
        Route("/own-words/training/stop", errors_as_json(stop), methods=["POST"]),
        Route("/own-words/training/use", errors_as_json(use), methods=["POST"]),
    ]


def _free_name(run: str, service: Service) -> str:
    """A name for the model of a run that no served model has, and that can be in an address."""
    base = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in run)
    base = base.strip("-.")[: _LONGEST_NAME - 4] or "own"
    name, number = base, 1
    while name in service.models:
        number += 1
        name = f"{base}-{number}"
    return name
