"""What all protocols share: the models with their engines, the sessions and the limits."""

import asyncio
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Literal

from speechgru.decoding.factory import DecoderConfig
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.serve.engine import Engine
from speechgru.serve.limits import Limits
from speechgru.serve.memory import free_memory
from speechgru.serve.metrics import Metrics
from speechgru.serve.models import ServedModel
from speechgru.serve.stream import Answer, Extras, Stream

#: Why the server closed a session, as the metrics name it.
Cause = Literal["idle", "invalid", "slow", "model", "stopping", "refused", "lost"]

#: How long clients have to take the reason why they are closed when the server stops.
FAREWELL_S = 1.0
#: Seconds between two returns of memory, if clients have left.
_TRIM_S = 10.0


def cut(transport: asyncio.WriteTransport) -> None:
    """Close a connection at once, without waiting for a client that reads nothing."""
    try:
        connection = transport.get_extra_info("socket")
    except AttributeError:  # a TLS transport of asyncio's that was closed twice has let go of it
        return
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_LINGER,
            struct.pack("hh" if os.name == "nt" else "ii", 1, 0),
        )
    transport.abort()


class Session(ABC):
    """A connected client."""

    #: The protocol's name in the metrics.
    door: str
    #: Whether it may pause for long: at least `Limits.pause_s`.
    may_pause = False

    def __init__(self) -> None:
        self.last_sound_s = monotonic()

    @abstractmethod
    def expire(self, cause: Cause, reason: str) -> None:
        """Close the session now and send the client the reason."""

    @abstractmethod
    def drop(self) -> None:
        """Cut the connection: the client does not take the reason."""

    @abstractmethod
    async def stop(self) -> None:
        """The server is stopping: process waiting sound, send its events, and close."""


@dataclass
class Service:
    """Models by name; the engine of each starts with its first stream.

    Everything runs in the event loop in which `start` was called.
    """

    models: Mapping[str, ServedModel]
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    tell: Callable[[str], None] = lambda sentence: None
    make_engine: Callable[..., Engine] = Engine

    def __post_init__(self) -> None:
        self.sessions: set[Session] = set()
        self.stopping = False
        self._engines: dict[str, Engine] = {}
        #: Engines of models that others have replaced; they end with their streams.
        self._retired: list[Engine] = []
        self._waiting: dict[Stream, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.Task[None] | None = None
        self._has_garbage = False

    def start(self) -> None:
        """Start closing idle sessions; call this in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.create_task(self._close_idle())

    async def stop(self) -> None:
        """End all sessions after their last events, then the engines."""
        self.stopping = True
        sessions = list(self.sessions)
        endings = [asyncio.ensure_future(session.stop()) for session in sessions]
        if endings:
            _, late = await asyncio.wait(endings, timeout=self.limits.stop_s)
            for ending in late:
                ending.cancel()
        for session in list(self.sessions):
            session.expire("stopping", "the server is stopping")
        await self._drop_remaining()
        if self._watch is not None:
            self._watch.cancel()
        for engine in (*self._engines.values(), *self._retired):
            await engine.close()

    async def _drop_remaining(self) -> None:
        """Wait for clients to take the reason, not for long."""
        end_s = monotonic() + FAREWELL_S
        while self.sessions and monotonic() < end_s:
            await asyncio.sleep(0.02)
        for session in list(self.sessions):
            session.drop()

    @property
    def default(self) -> ServedModel:
        """The first model."""
        return next(iter(self.models.values()))

    def configure(self, model: ServedModel) -> None:
        """New streams of this name are of this model, with its settings.

        So are those streams of the same network that were opened without settings of their own.
        """
        self.models = {**self.models, model.name: model}
        engine = self._engines.get(model.name)
        if engine is None:
            return
        if engine.model.backend is model.backend:
            engine.configure(model.config)
        else:
            self._retired.append(self._engines.pop(model.name))

    def model(self, name: str | None) -> ServedModel:
        """A model by its name, or the default.

        Raises:
            UsageError: there is no such model.
        """
        if name is None:
            return self.default
        if name not in list(self.models):  # a client may send a JSON value that has no hash
            raise UsageError(f"model {name!r:.60}: one of {', '.join(self.models)} is needed")
        return self.models[name]

    def model_of(self, stream: Stream) -> ServedModel:
        """A stream's model as it is set now; the one it began with if another took its name."""
        model = self.models[stream.model.name]
        return model if model.backend is stream.model.backend else stream.model

    def admit(self, session: Session) -> None:
        """Register a session.

        Raises:
            SpeechGRUError: there are too many sessions, or the server is stopping.
        """
        if self.stopping:
            raise SpeechGRUError("the server is stopping")
        if len(self.sessions) >= self.limits.clients:
            self.metrics.refused["clients"] += 1
            raise SpeechGRUError(f"too many clients: {self.limits.clients} are allowed at once")
        self.sessions.add(session)
        self.metrics.sessions[session.door] += 1
        self.metrics.opened[session.door] += 1

    def leave(self, session: Session, cause: Cause | None = None) -> None:
        """Unregister a session; `cause` is why the server closed it, if it did."""
        if session in self.sessions:
            self.sessions.remove(session)
            self.metrics.sessions[session.door] -= 1
            self._has_garbage = True
            if cause is not None:
                self.metrics.closed[cause] += 1

    def open(
        self,
        model: ServedModel,
        on_answer: Callable[[Answer], None],
        extras: Extras | None = None,
        config: DecoderConfig | None = None,
    ) -> Stream:
        """Open a stream of a model; `on_answer` is called with its answers in the event loop.

        Without `config` it has the model's settings, also when these are changed.

        Raises:
            UsageError: a threshold is for a word that the model does not have.
        """
        engine = self._engine(model)

        def deliver(answer: Answer) -> None:
            for event in answer.events:
                self.metrics.events[model.name, event.word] += 1
            if answer.caught_up and (caught_up := self._waiting.get(stream)) is not None:
                caught_up.set()
            if not stream.closed:
                on_answer(answer)

        stream = engine.open(deliver, extras, config or self.models[model.name].config)
        stream.has_model_settings = config is None
        return stream

    def close(self, stream: Stream) -> None:
        """End a stream at once; its waiting samples are dropped."""
        if caught_up := self._waiting.pop(stream, None):
            caught_up.set()
        for engine in (*self._engines.values(), *self._retired):
            engine.close_stream(stream)

    def takes_more(self, stream: Stream) -> bool:
        """Whether a stream may get more sound before it has processed what it has."""
        return stream.waiting_samples <= self._most_waiting(stream) or stream.closed

    async def catch_up(self, session: Session, stream: Stream) -> None:
        """Wait while too much of a stream's sound is unprocessed."""
        session.last_sound_s = monotonic()
        if self.takes_more(stream):
            return
        caught_up = self._waiting[stream] = asyncio.Event()
        stream.wanted_waiting = self._most_waiting(stream) // 2
        session.last_sound_s = inf  # not idle: it is the server that makes it wait
        await caught_up.wait()
        session.last_sound_s = monotonic()
        self._waiting.pop(stream, None)

    def _most_waiting(self, stream: Stream) -> int:
        return round(self.limits.waiting_s * stream.model.backend.sample_rate)

    def streams(self, model: ServedModel) -> int:
        """Number of open streams of a model."""
        engines = [self._engines.get(model.name), *self._retired]
        return sum(e.streams for e in engines if e is not None and e.model.name == model.name)

    def _engine(self, model: ServedModel) -> Engine:
        if model.name not in self._engines:
            self._engines[model.name] = self.make_engine(model, observe=self.metrics.observe)
        return self._engines[model.name]

    async def _close_idle(self) -> None:
        """Close sessions that are idle in two checks in a row: the loop may be late for one.

        From time to time, return the memory of those that have left.
        """
        idle: dict[Session, float] = {}
        trimmed_s = monotonic()
        while True:
            await asyncio.sleep(min(1.0, self.limits.idle_s / 4))
            if self._has_garbage and monotonic() - trimmed_s > _TRIM_S:
                free_memory()
                self._has_garbage, trimmed_s = False, monotonic()
            for engine in [engine for engine in self._retired if not engine.streams]:
                self._retired.remove(engine)
                await engine.close()
            before, now_s = idle, monotonic()
            idle = {
                s: s.last_sound_s
                for s in self.sessions
                if now_s - s.last_sound_s > self._patience_s(s)
            }
            for session, last_s in idle.items():
                if before.get(session) == last_s:
                    session.expire("idle", f"no sound for {self._patience_s(session):g} s")

    def _patience_s(self, session: Session) -> float:
        idle_s = self.limits.idle_s
        return max(idle_s, self.limits.pause_s) if session.may_pause else idle_s
