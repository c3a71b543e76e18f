"""WebSocket sessions as at /listen that also save what was recognized, and nearly, for review."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.websockets import WebSocket

from speechgru.audio.samples import Samples
from speechgru.decoding.events import Event
from speechgru.decoding.verdicts import Verdict
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.recording import EventClips
from speechgru.serve.own_words.places import Places
from speechgru.serve.service import Service
from speechgru.serve.stream import Answer, Stream
from speechgru.serve.websocket import WebSocketSession

#: Clips that one session may save.
_MOST_CLIPS = 1000
_NO_SAMPLES = np.empty(0, np.float32)


class CatcherSession(WebSocketSession):
    """One connection with one stream, whose clips are saved as `listen --save-dir` saves them.

    For each clip the client gets a message `saved` with its file. If a clip cannot be saved it gets
    an `error`, and the stream goes on without saving.
    """

    def __init__(self, service: Service, socket: WebSocket, places: Places) -> None:
        super().__init__(service, socket)
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._clips: EventClips | None = None
        self._saved = 0
        #: Samples and events in their order, outside the event loop: a disk may be slow.
        self._writer = ThreadPoolExecutor(1)
        self._is_released = False

    async def _handle(self, kind: Any, options: Mapping[str, Any]) -> None:
        if kind == "reset":
            raise UsageError("reset: not while clips are saved")
        await super()._handle(kind, options)

    def _start(self, options: Mapping[str, Any]) -> Stream:
        if self._places.caught is None:
            raise UsageError("clips are saved if the server has --caught DIR")
        self._places.check_free()
        stream = super()._start(options)
        model = stream.model
        name = model.name if model.is_bundled else str(model.path)
        late_s = self._service.limits.lost_s  # a gap arrives before the events ahead of it
        self._clips = EventClips(self._places.caught, model.backend.sample_rate, name, late_s)
        return stream

    def _push(self, stream: Stream, samples: Samples, lost: int = 0) -> None:
        super()._push(stream, samples, lost)
        if lost:
            samples = np.concatenate([np.zeros(lost, np.float32), samples])
        self._writer.submit(self._save, samples)

    def _answer(self, answer: Answer) -> None:
        super()._answer(answer)
        if answer.events or answer.near_misses:
            self._writer.submit(self._save, _NO_SAMPLES, answer.events, answer.near_misses)

    async def _finish(self) -> None:
        await super()._finish()
        if not self._is_released:
            await asyncio.wrap_future(self._writer.submit(self._flush))

    async def _release(self) -> None:
        await super()._release()
        self._is_released = True
        self._writer.submit(self._flush)
        self._writer.shutdown(wait=False)

    def _save(
        self, samples: Samples, events: Sequence[Event] = (), near_misses: Sequence[Verdict] = ()
    ) -> None:
        """Add samples and what was recognized in them; in the writer's thread."""
        if self._clips is None:
            return
        try:
            if events or near_misses:
                self._places.check_free()
            for path in self._clips.push(samples, events, near_misses):
                self._report(path.relative_to(self._clips.folder).as_posix())
            if self._saved >= _MOST_CLIPS:
                raise SpeechGRUError(f"the limit of {_MOST_CLIPS:,} clips per session is reached")
        except SpeechGRUError as error:
            self._fail(error)

    def _flush(self) -> None:
        if self._clips is not None:
            try:
                for path in self._clips.flush():
                    self._report(path.relative_to(self._clips.folder).as_posix())
            except SpeechGRUError as error:
                self._fail(error)

    def _report(self, file: str) -> None:
        self._saved += 1
        self._tell({"type": "saved", "file": file})

    def _fail(self, error: SpeechGRUError) -> None:
        self._clips = None
        self._tell({"type": "error", "error": f"{error}; clips are no longer saved"})

    def _tell(self, message: Mapping[str, Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, message)
