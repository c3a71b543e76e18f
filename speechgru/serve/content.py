"""JSON in requests and answers."""

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from speechgru.errors import DataError, SpeechGRUError, UsageError

#: Bytes of a request's content.
MOST_CONTENT = 2**16

Handler = Callable[[Request], Awaitable[Response]]


async def json_object(request: Request, what: str = "a JSON object") -> dict[str, Any]:
    """A request's content; `what` says what it should be.

    Raises:
        UsageError: it is too long, not JSON, or not an object.
    """
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MOST_CONTENT:
            raise UsageError(f"more than {MOST_CONTENT} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError("the content is not JSON") from None
    if not isinstance(found, dict):
        raise UsageError(f"{what} is needed")
    return found


def errors_as_json(handler: Handler) -> Handler:
    """Answer an error with its sentence: 400 if the request or the data is at fault, else 500."""

    @wraps(handler)
    async def handling(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:  # before the end of its request; nobody reads the answer
            return Response(status_code=400)
        except SpeechGRUError as error:
            status = 400 if isinstance(error, UsageError | DataError) else 500
            return JSONResponse({"error": str(error)}, status)

    return handling
