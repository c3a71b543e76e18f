"""WebSocket sessions: PCM in, events out as JSON, in the form that `listen --jsonl` prints.

The query, or a first text message `{"type": "start", ...}`, describes what the client sends
(`model`, `rate`, `format`, `channels`) and what it wants in addition to events (`near_misses`,
`posteriors` of every nth step) or changes (`threshold`, `thresholds`). Binary messages hold sound.
Other text messages are `reset`, `lost` (`samples`: how many, at the client's rate, never came
between the sound before and after the message), `thresholds` and `end`. A message from the server
without a `type` is an event.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from speechgru.errors import SpeechGRUError, UsageError
from speechgru.serve.models import ServedModel
from speechgru.serve.service import Cause, Service, Session, cut
from speechgru.serve.sound import Sound
from speechgru.serve.stream import Answer, Extras, Stream

#: The subprotocol, for clients that offer some.
PROTOCOL = "speechgru"
#: Close codes of RFC 6455: normal, going away, invalid data, policy violation, try again later.
DONE, GOING_AWAY, UNEXPECTED, REFUSED, LATER = 1000, 1001, 1007, 1008, 1013
_CODES: Mapping[Cause, int] = {"invalid": UNEXPECTED, "stopping": GOING_AWAY, "slow": LATER}
_END_S = 30.0
_MOST_REASON_BYTES = 120

_START = ("model", "rate", "format", "channels", "near_misses", "posteriors", "threshold")
_DEFAULTS: Mapping[str, Any] = {"rate": 16_000, "format": "s16le", "channels": 1}


class WebSocketSession(Session):
    """One connection with one stream.

    Args:
        transport: the connection's, to abort it if the client reads nothing.
    """

    door = "websocket"

    def __init__(self, service: Service, socket: WebSocket, transport: asyncio.Transport) -> None:
        super().__init__()
        self._service, self._socket, self._transport = service, socket, transport
        self._stream: Stream | None = None
        self._sound: Sound
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._wake_writer = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._cause: Cause | None = None

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
                self.expire("invalid", str(failure))
            if reader in done and self._closing is not None:
                await asyncio.wait({writer}, timeout=self._service.limits.hello_s)
        finally:
            if writer is not None and not writer.done():  # the client reads nothing
                writer.cancel()
                cut(self._transport)
            if self._stream is not None:
                self._service.close(self._stream)
            self._service.leave(self, self._cause)

    def expire(self, cause: Cause, reason: str) -> None:
        """Send the client the reason, and close."""
        if self._closing is None:
            self._cause = cause
            self._close(_CODES.get(cause, REFUSED), reason)

    def drop(self) -> None:
        """Cut the connection."""
        cut(self._transport)

    async def stop(self) -> None:
        """Send the events of the sound received so far, then close."""
        await self._finish()
        self.expire("stopping", "the server is stopping")

    async def _read(self) -> None:
        """Handle the client's messages, one after the other, up to the last.

        Raises:
            SpeechGRUError: a message is invalid.
        """
        query = dict(self._socket.query_params)
        if query:
            self._start(query)
        while self._closing is None:
            try:
                message = await self._socket.receive()
            except (WebSocketDisconnect, RuntimeError):
                return
            if message["type"] == "websocket.disconnect":
                return
            if (content := message.get("bytes")) is not None:
                await self._receive(content)
            else:
                await self._handle(_parsed(message.get("text") or ""))

    async def _receive(self, content: bytes) -> None:
        stream = self._stream or self._start({})
        samples = self._sound.push(content)
        self._service.metrics.sound_s += len(samples) / stream.model.backend.sample_rate
        stream.push(samples)
        await self._service.room(self, stream)

    async def _handle(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        options = {name: value for name, value in message.items() if name != "type"}
        if kind == "start":
            if self._stream is not None:
                raise UsageError("start: the stream has already started")
            self._start(options)
            return
        stream = self._stream or self._start({})
        if kind == "reset":
            stream.reset()
        elif kind == "lost":
            await self._skip(stream, options)
        elif kind == "thresholds":
            stream.configure(_config(self._service.models[stream.model.name], options))
        elif kind == "end":
            await self._finish()
            self._close(DONE, "")
        else:
            raise UsageError(
                f"type {kind!r:.40}: one of start, reset, lost, thresholds, end is needed"
            )

    async def _skip(self, stream: Stream, options: Mapping[str, Any]) -> None:
        frames, limit_s = options.get("samples"), self._service.limits.lost_s
        most = round(limit_s * self._sound.rate)
        if isinstance(frames, bool) or not isinstance(frames, int) or not 1 <= frames <= most:
            raise UsageError(f"lost samples {frames!r:.40}: 1 to {most} ({limit_s:g} s) are needed")
        self._service.metrics.lost_s += frames / self._sound.rate
        settled, lost = self._sound.skip(frames)
        stream.push(settled)
        stream.push(np.empty(0, np.float32), lost)
        await self._service.room(self, stream)

    def _start(self, options: Mapping[str, Any]) -> Stream:
        known = (*_START, "thresholds")
        if unknown := [name for name in options if name not in known]:
            raise UsageError(f"{unknown[0]!r:.40}: one of {', '.join(known)} is needed")
        given = {**_DEFAULTS, **{name: _number(value) for name, value in options.items()}}
        model = self._service.model(given.get("model"))
        self._sound = Sound(
            given["rate"], given["format"], given["channels"], model.backend.sample_rate
        )
        every = given.get("posteriors", 0)
        if isinstance(every, float) or not isinstance(every, int) or not 0 <= every <= 1000:
            raise UsageError(f"posteriors {every!r:.40}: every nth step, 0 to 1000, is needed")
        extras = Extras(bool(given.get("near_misses", False)), int(every))
        self._stream = self._service.open(model, self._answer, extras, _config(model, given))
        self._send(
            {
                "type": "ready",
                "model": model.name,
                "words": list(model.words),
                "labels": list(model.labels),
                "thresholds": model.thresholds(),
                "rate": self._sound.rate,
                "step_s": model.step_s,
            }
        )
        return self._stream

    def _answer(self, answer: Answer) -> None:
        """Send an answer of the stream to the client; runs in the event loop."""
        delay_ms = 1000 * answer.delay_s
        for event in answer.events:
            self._send(event.as_dict(delay_ms))
        for miss in answer.near_misses:
            self._send({"type": "near_miss", **_rounded(miss)})
        if answer.posteriors is not None:
            values = [round(value, 4) for value in _exp(answer.posteriors)]
            self._send({"type": "posteriors", "t": round(answer.t, 3), "values": values})
        if answer.error is not None:
            self.expire("model", answer.error)
        if answer.ended:
            self._send({"type": "end", "t": round(answer.t, 3)})
            self._ended.set()

    async def _finish(self) -> None:
        """Process the waiting sound, and wait for the last answer."""
        if self._stream is None or self._ended.is_set():
            return
        self._stream.push(self._sound.flush())
        self._stream.finish()
        try:
            await asyncio.wait_for(self._ended.wait(), _END_S)
        except TimeoutError:
            self.expire("slow", "the stream could not be processed to its end in time")

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


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise UsageError(f"{text!r:.40}: a JSON object with a type is needed")
    return message


def _number(value: Any) -> Any:
    """A text from the query as a number or boolean, if it is one."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _config(model: ServedModel, options: Mapping[str, Any]) -> Any:
    thresholds = options.get("thresholds")
    if thresholds is not None and not isinstance(thresholds, dict):
        raise UsageError(f"thresholds {thresholds!r:.40}: an object with numbers by word is needed")
    return model.with_thresholds(options.get("threshold"), thresholds)


def _rounded(miss: Any) -> dict[str, Any]:
    return {
        "t": round(miss.t, 3),
        "start": round(miss.start_s, 3),
        "end": round(miss.end_s, 3),
        "word": miss.word,
        "score": round(miss.score, 4),
        "threshold": round(miss.threshold, 4),
        "gate": miss.gate,
    }


def _exp(log_posteriors: Any) -> list[float]:
    return [float(value) for value in np.exp(log_posteriors)]
