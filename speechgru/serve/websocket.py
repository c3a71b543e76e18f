"""WebSocket sessions: PCM in, events out as JSON, in the form that `listen --jsonl` prints.

The query, or a first text message `{"type": "start", ...}`, describes what the client sends
(`model`, `rate`, `format`, `channels`) and what it wants in addition to events (`near_misses`,
`posteriors` of every nth step) or changes (`threshold`, `thresholds`). Binary messages hold sound.
Other text messages are `reset`, `lost` (`samples`: how many, at the client's rate, never came
between the sound before and after the message), `thresholds` and `end`. A message from the server
without a `type` is an event.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

import numpy as np
from starlette.websockets import WebSocket

from speechgru.audio.samples import Samples
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.serve.models import ServedModel
from speechgru.serve.service import Service
from speechgru.serve.socket_protocol import SocketProtocol
from speechgru.serve.socket_session import DONE, SocketSession, check_known, with_numbers
from speechgru.serve.sound import Sound
from speechgru.serve.stream import Answer, Extras, Stream

_END_S = 30.0

_START = (
    "model",
    "rate",
    "format",
    "channels",
    "channel",
    "near_misses",
    "posteriors",
    "threshold",
    "thresholds",
)
#: What messages of other types may have besides their type.
_OPTIONS: Mapping[Any, tuple[str, ...]] = {
    "reset": (),
    "lost": ("samples",),
    "thresholds": ("threshold", "thresholds"),
    "end": (),
}
_DEFAULTS: Mapping[str, Any] = {"rate": 16_000, "format": "s16le", "channels": 1}


class WebSocketSession(SocketSession):
    """One connection with one stream."""

    door = "websocket"

    def __init__(self, service: Service, socket: WebSocket) -> None:
        super().__init__(service, socket)
        self._stream: Stream | None = None
        self._sound: Sound
        self._ended = asyncio.Event()

    async def _release(self) -> None:
        if self._stream is not None:
            self._service.close(self._stream)
        self._ended.set()  # a stop need not wait for a last answer that has nobody to go to

    async def _receive(self, content: bytes) -> None:
        stream = self._stream or self._start({})
        self._hear(stream, content)
        await self._service.catch_up(self, stream)

    def _hear(self, stream: Stream, content: bytes) -> None:
        samples = self._sound.push(content)
        self._service.metrics.sound_s += len(samples) / self._sound.to_rate
        self._push(stream, samples)

    def _take(self, content: bytes) -> bool:
        """Process sound as it arrives, unless a message before it or the stream has to wait."""
        stream = self._stream
        if stream is None or stream.closed or self._stopping or self._closing is not None:
            return False
        if not self._caught_up.is_set() or not self._service.takes_more(stream):
            return False
        try:
            self._hear(stream, content)
        except SpeechGRUError as error:
            self.fail(error)
        self.last_sound_s = monotonic()
        return True

    async def _handle(self, kind: Any, options: Mapping[str, Any]) -> None:
        if kind == "start":
            if self._stream is not None:
                raise UsageError("start: the stream has already started")
            self._start(options)
            return
        if isinstance(kind, str) and kind in _OPTIONS:
            check_known(options, _OPTIONS[kind])
        stream = self._stream or self._start({})
        if kind == "reset":
            self._push(stream, self._sound.flush())
            stream.reset()
        elif kind == "lost":
            await self._skip(stream, options)
        elif kind == "thresholds":
            stream.configure(_config(self._service.model_of(stream), options))
            stream.has_model_settings = not _has_own(options)
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
        self._push(stream, settled)
        self._push(stream, np.empty(0, np.float32), lost)
        await self._service.catch_up(self, stream)

    def _start(self, options: Mapping[str, Any]) -> Stream:
        check_known(options, _START)
        given = {**_DEFAULTS, **with_numbers(options)}
        model = self._service.model(given.get("model"))
        self._sound = Sound(
            given["rate"],
            given["format"],
            given["channels"],
            model.backend.sample_rate,
            given.get("channel"),
        )
        every = given.get("posteriors", 0)
        if isinstance(every, float) or not isinstance(every, int) or not 0 <= every <= 1000:
            raise UsageError(f"posteriors {every!r:.40}: every nth step, 0 to 1000, is needed")
        near_misses = given.get("near_misses", False)
        if near_misses not in (False, True):  # 0 and 1 too
            raise UsageError(f"near_misses {near_misses!r:.40}: true or false is needed")
        extras = Extras(bool(near_misses), int(every))
        config = _config(model, given)
        own = config if _has_own(given) else None
        self._stream = self._service.open(model, self._answer, extras, own)
        protocol = self._transport.get_protocol()
        assert isinstance(protocol, SocketProtocol)
        protocol.take = self._take
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

    def _push(self, stream: Stream, samples: Samples, lost: int = 0) -> None:
        """Process samples, (S,), after `lost` that never came."""
        stream.push(samples, lost)

    def _answer(self, answer: Answer) -> None:
        """Send an answer of the stream to the client; runs in the event loop."""
        delay_ms = 1000 * answer.delay_s
        for event in answer.events:
            self._send(event.as_dict(delay_ms))
        for miss in answer.near_misses:
            self._send({"type": "near_miss", **_rounded(miss)})
        for t, log_posteriors in answer.posteriors:
            values = np.exp(log_posteriors, dtype=np.float64).round(4).tolist()
            self._send({"type": "posteriors", "t": round(t, 3), "values": values})
        if answer.error is not None:
            self.expire("model", answer.error)
        if answer.ended:
            self._send({"type": "end", "t": round(answer.t, 3)})
            self._ended.set()

    async def _finish(self) -> None:
        """Process the waiting sound, and wait for the last answer."""
        if self._stream is None or self._ended.is_set():
            return
        self._push(self._stream, self._sound.flush())
        self._stream.finish()
        try:
            await asyncio.wait_for(self._ended.wait(), _END_S)
        except TimeoutError:
            self.expire("slow", "the stream could not be processed to its end in time")


def _has_own(options: Mapping[str, Any]) -> bool:
    """Whether thresholds are given: without any, those of the model hold, also when they change."""
    return options.get("threshold") is not None or bool(options.get("thresholds"))


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
