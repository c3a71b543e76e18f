"""What all WebSocket sessions share: JSON messages, limits, and an end with a reason."""

import asyncio
import json
from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from speechgru.errors import SpeechGRUError, UsageError
from speechgru.serve.service import Cause, Service, Session, cut

#: The subprotocol, for clients that offer some.
PROTOCOL = "speechgru"
#: Close codes of RFC 6455: normal, going away, invalid data, policy violation, try again later.
DONE, GOING_AWAY, UNEXPECTED, REFUSED, LATER = 1000, 1001, 1007, 1008, 1013
_CODES: Mapping[Cause, int] = {"invalid": UNEXPECTED, "stopping": GOING_AWAY, "slow": LATER}
_MOST_REASON_BYTES = 120
#: Options that are texts, even if they look like numbers.
_TEXTS = frozenset({"model", "format", "speaker"})


class SocketSession(Session):
    """One WebSocket connection: sound and JSON messages in, JSON messages out.

    The query, if there is one, is a first `start` message.
    """

    def __init__(self, service: Service, socket: WebSocket) -> None:
        super().__init__()
        self._service, self._socket = service, socket
        #: The connection's, to abort it if the client reads nothing.
        self._transport: asyncio.Transport = socket.state.transport
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._wake_writer = asyncio.Event()
        #: Whether all messages that have arrived are handled.
        self._caught_up = asyncio.Event()
        #: Whether the last sound is being processed: what arrives now is too late.
        self._stopping = False
        self._closing: tuple[int, str] | None = None
        self._cause: Cause | None = None

    @abstractmethod
    async def _receive(self, content: bytes) -> None:
        """Handle sound."""

    @abstractmethod
    async def _handle(self, kind: Any, options: Mapping[str, Any]) -> None:
        """Handle a message of a type; its other values are the options."""

    @abstractmethod
    async def _finish(self) -> None:
        """Process all sound received so far, and send what it settles."""

    async def _release(self) -> None:
        """The connection has ended: give back what the session holds."""

    async def run(self) -> None:
        """Serve the client until either side closes the connection."""
        offered = self._socket.scope.get("subprotocols", [])
        try:
            self._service.admit(self)
        except SpeechGRUError as error:
            await self._socket.accept(PROTOCOL if PROTOCOL in offered else None)
            await self._socket.close(LATER, str(error))
            return
        writer = None
        try:
            await self._socket.accept(PROTOCOL if PROTOCOL in offered else None)
            writer = asyncio.ensure_future(self._write())
            reader = asyncio.ensure_future(self._read())
            done, _ = await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            if reader in done and (failure := reader.exception()) is not None:
                if not isinstance(failure, SpeechGRUError):
                    raise failure
                self.fail(failure)
            if reader in done and self._closing is not None:
                await asyncio.wait({writer}, timeout=self._service.limits.hello_s)
        finally:
            self._caught_up.set()
            if writer is not None and not writer.done():  # the client reads nothing
                writer.cancel()
                cut(self._transport)
            try:
                await self._release()
            finally:
                self._service.leave(self, self._cause)

    def fail(self, error: SpeechGRUError) -> None:
        """The client is at fault, or cannot be served any longer: close with the reason."""
        self.expire("invalid", str(error))

    def expire(self, cause: Cause, reason: str) -> None:
        """Send the client the reason, and close."""
        if self._closing is None:
            self._cause = cause
            self._close(_CODES.get(cause, REFUSED), reason)

    def drop(self) -> None:
        """Cut the connection."""
        cut(self._transport)

    async def stop(self) -> None:
        """Send what the sound received so far settles, then close."""
        await self._caught_up.wait()
        self._stopping = True
        await self._finish()
        self.expire("stopping", "the server is stopping")

    async def _read(self) -> None:
        """Handle the client's messages, one after the other, up to the last.

        Raises:
            SpeechGRUError: a message is invalid.
        """
        query = dict(self._socket.query_params)
        for name in query:
            if len(self._socket.query_params.getlist(name)) > 1:
                raise UsageError(f"{name!r:.40}: is given more than once")
        if query:
            await self._handle("start", with_numbers(query))
        while self._closing is None:
            try:
                self._caught_up.set()
                message = await self._socket.receive()
                self._caught_up.clear()
            except (WebSocketDisconnect, RuntimeError):
                return
            if message["type"] == "websocket.disconnect":
                return
            if self._stopping:
                continue
            if (content := message.get("bytes")) is not None:
                await self._receive(content)
            else:
                options = _parsed(message.get("text") or "")
                await self._handle(options.pop("type", None), options)

    def _send(self, message: Mapping[str, Any]) -> None:
        """Queue a message for the writer; a client that does not read is dropped."""
        if self._closing is not None:
            return
        text = json.dumps(message, ensure_ascii=False)
        self._unsent.append(text)
        self._unsent_bytes += len(text)
        if self._unsent_bytes > self._service.limits.unsent_bytes:
            self._unsent.clear()
            self.expire("slow", "the client does not read its messages")
            cut(self._transport)
        self._wake_writer.set()

    def _close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = code, reason.encode()[:_MOST_REASON_BYTES].decode(errors="ignore")
            # A client that does not complete the closing handshake is cut off.
            limit_s = self._service.limits.hello_s
            asyncio.get_running_loop().call_later(limit_s, cut, self._transport)
        self._wake_writer.set()

    async def _write(self) -> None:
        """Send queued messages, and close the connection when that is requested."""
        while True:
            await self._wake_writer.wait()
            self._wake_writer.clear()
            try:
                while self._unsent:
                    if self._transport.is_closing():
                        return
                    text = self._unsent.popleft()
                    await self._socket.send_text(text)
                    self._unsent_bytes -= len(text)
                if self._closing is not None:
                    await self._socket.close(*self._closing)
                    return
            except (WebSocketDisconnect, RuntimeError):
                return


def check_known(options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise UsageError for an option of a message that has no effect there."""
    for name in options:
        if name not in known:
            needed = f"one of {', '.join(known)}" if known else "nothing else"
            raise UsageError(f"{name!r:.40}: {needed} is needed")


def with_numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options read as JSON, as the query has texts only; those that are texts only if in quotes."""
    read = {name: _read(value) for name, value in options.items()}
    texts = {n: options[n] for n in _TEXTS & read.keys() if not isinstance(read[n], str)}
    return read | texts


def _read(value: Any) -> Any:
    """A text as JSON (a number, boolean, list or text in quotes), if it is that."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _parsed(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise UsageError(f"{text!r:.40}: a JSON object with a type is needed")
    return message
