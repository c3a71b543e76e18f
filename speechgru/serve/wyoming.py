"""Wyoming sessions: a wake-word service for Home Assistant; each word of the models is a wake word.

The messages are those of the package `wyoming`. `describe` is answered with `info`; `detect` names
wake words; `audio-start`, `audio-chunk` and `audio-stop` carry the sound. Each recognized word is
reported as `detection`; a stream without one, at its end, as `not-detected`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from time import monotonic

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import Attribution, Describe, Info, WakeModel, WakeProgram
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.serve.models import ServedModel
from speechgru.serve.service import Cause, Service, Session, cut
from speechgru.serve.sockets import keep_alive
from speechgru.serve.sound import BY_WIDTH, Sound
from speechgru.serve.stream import Answer, Stream
from speechgru.serve.wyoming_clock import ClientClock
from speechgru.serve.wyoming_messages import Messages
from speechgru.version import __version__

#: While sound comes in real time, it is read at most this often: satellites and Home Assistant send
#: 10 ms at a time, in three parts, and waking up for each costs more than recognizing it.
READ_S = 0.2
#: While nothing but silence is heard it is read less often: a word that begins lasts about as long.
QUIET_READ_S = 0.4
#: When the server stops: how long it takes at most to read what the system has kept.
_LAST_READ_S = 0.05
_READ_OUT_S = 1.0
_READ_BYTES = 2**16
#: Seconds that the rest of a stream may take once all its sound has arrived.
_END_S = 30.0
#: So many of a stream's `detect` are remembered until the sound before them is recognized.
_MOST_WANTED = 16

#: A model and a word of it.
_Word = tuple[str, str]


def wake_words(models: Mapping[str, ServedModel]) -> dict[str, _Word]:
    """Wake words by name: the word, or MODEL.WORD if an earlier model has the same word."""
    found: dict[str, _Word] = {}
    for model in models.values():
        for word in model.words:
            found[f"{model.name}.{word}" if word in found else word] = model.name, word
    return found


def info(models: Mapping[str, ServedModel]) -> Info:
    """The answer to `describe`."""
    by = Attribution(name="speechgru", url="")
    words = [
        WakeModel(
            name=name,
            attribution=by,
            installed=True,
            description=word if name == word else f"{word} ({model})",
            version=__version__,
            languages=[],
            phrase=word,
        )
        for name, (model, word) in wake_words(models).items()
    ]
    program = WakeProgram(
        name="speechgru",
        attribution=by,
        installed=True,
        description="Spoken commands and wake words",
        version=__version__,
        models=words,
    )
    return Info(wake=[program])


class WyomingSession(Session):
    """One connection with any number of streams, one after the other."""

    door = "wyoming"

    def __init__(
        self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__()
        self._service = service
        self._reader, self._writer = reader, writer
        self._messages = Messages(service.limits.message_bytes)
        #: By when the rest of a message has to be there, in the loop's time.
        self._rest_by_s: float | None = None
        #: Sound of one format that was received and not passed on yet.
        self._chunks: list[AudioChunk] = []
        #: Set once reading does not pause any more; whether all that was read is handled.
        self._resumed, self._caught_up = asyncio.Event(), asyncio.Event()
        #: Whether the last sound is being processed: what arrives now is too late.
        self._stopping = False
        self._names = {pair: name for name, pair in wake_words(service.models).items()}
        #: The words to detect, each set with the seconds of this stream from which it holds.
        self._wanted: list[tuple[float, set[_Word]]] = [(0.0, set(self._names))]
        self._streams: dict[Stream, Sound] = {}
        self._open: set[Stream] = set()
        self._ended = asyncio.Event()
        self._detected = False
        #: Seconds received in this stream, and the client's times of them.
        self._received_s = 0.0
        self._clock = ClientClock()
        #: Whether the last read brought sound.
        self._has_heard = False
        self._writing: set[asyncio.Task[None]] = set()
        self._cause: Cause | None = None
        self._refuses = False

    async def run(self) -> None:
        """Serve the client until either side closes the connection."""
        try:
            self._service.admit(self)
            keep_alive(self._writer.get_extra_info("socket"))
            while content := await self._read():
                self._has_heard = False
                for event in self._messages.push(content):
                    self._rest_by_s = None  # that of the message before
                    await self._handle(event)
                await self._pass_on()
                # If more, the rest may be there already: a pause would let it pile up.
                if self._streams and self._has_heard and len(content) <= _READ_BYTES // 2:
                    await self._pause()
            if self._streams:  # a client that sends no more may still read
                await self._end()
        except SpeechGRUError as error:
            self._refuses = True
            self.expire("invalid", str(error))
        except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError):
            self._refuses = True
            self.expire("invalid", "not a Wyoming message")
        except (EOFError, OSError):  # the client closed the connection, perhaps within a message
            self._cause = self._cause or "lost"
        finally:
            self._caught_up.set()
            self._close_streams()
            self._service.leave(self, self._cause)
            if self._writing:
                await asyncio.wait(self._writing, timeout=1.0)
            if self._writing:  # the client reads nothing
                cut(self._writer.transport)
            elif self._refuses:
                await self._read_out()
            self._writer.close()

    async def _read_out(self) -> None:
        """Let the client close: a reset, by what it still sends, would cost it the reason."""
        with suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_READ_OUT_S):
                while await self._reader.read(_READ_BYTES):
                    pass

    def expire(self, cause: Cause, reason: str) -> None:
        """Send the client the reason, and close."""
        if self._cause is None:
            self._cause = cause
            self._close_streams()
            last = self._write(Error(text=reason, code="closed").event())
            limit_s = self._service.limits.hello_s
            asyncio.get_running_loop().call_later(limit_s, cut, self._writer.transport)
            if last is not None and not self._refuses:
                last.add_done_callback(lambda _: self._writer.close())

    def drop(self) -> None:
        """Cut the connection."""
        cut(self._writer.transport)

    async def stop(self) -> None:
        """Send the detections in the sound received so far, then close."""
        self._resumed.set()
        await self._caught_up.wait()
        # After a pause the loop has yet to read what has arrived meanwhile.
        await asyncio.sleep(_LAST_READ_S)
        await self._caught_up.wait()
        self._stopping = True
        await self._finish()
        self.expire("stopping", "the server is stopping")

    async def _read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            UsageError: the rest of a message does not arrive in time.
        """
        if self._messages.is_partial and self._rest_by_s is None:
            now_s = asyncio.get_running_loop().time()
            self._rest_by_s = now_s + self._service.limits.hello_s
        self._caught_up.set()
        try:
            async with asyncio.timeout_at(self._rest_by_s):
                return await self._reader.read(_READ_BYTES)
        except TimeoutError:
            raise UsageError("the rest of a message did not arrive in time") from None
        finally:
            self._caught_up.clear()

    async def _pause(self) -> None:
        """Let more sound arrive before it is read; the system keeps it meanwhile."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        try:
            await self._resumed_within(READ_S)
            # By now it is known what was read before the pause.
            if all(stream.hears_silence for stream in self._streams):
                await self._resumed_within(QUIET_READ_S - READ_S)
        finally:
            transport.resume_reading()

    async def _resumed_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._resumed.wait(), seconds)

    async def _handle(self, event: Event) -> None:
        if self._stopping:
            return
        kind = event.type
        if AudioChunk.is_type(kind):
            await self._receive(AudioChunk.from_event(event))
            return
        await self._pass_on()
        if AudioStart.is_type(kind):
            await self._finish()  # a client may not say that its last sound has stopped
            self._begin()
        elif AudioStop.is_type(kind):
            await self._end()
        elif Detect.is_type(kind):
            self._select(Detect.from_event(event).names)
        elif Describe.is_type(kind):
            self._write(info(self._service.models).event())
        elif Ping.is_type(kind):
            self._write(Pong(text=Ping.from_event(event).text).event())

    def _select(self, names: list[str] | None) -> None:
        """Detect these wake words from here on; all of them if none are named."""
        if not isinstance(names, list | None):
            raise UsageError(f"names {names!r:.40}: a list of wake words is needed")
        known = {name: pair for pair, name in self._names.items()}
        unknown = [name for name in names or [] if name not in known]
        if unknown:
            text = f"no wake word {unknown[0]!r:.60}; there are {', '.join(known)}"
            self._write(Error(text=text, code="unknown-wake-word").event())
        wanted = known.keys() & names if names else known.keys()
        del self._wanted[:-_MOST_WANTED]
        self._wanted.append((self._received_s, {known[name] for name in wanted}))
        if self._streams:
            self._open_wanted()

    def _begin(self) -> None:
        self._close_streams()
        self._detected = False
        self._received_s = 0.0
        self._clock = ClientClock()
        self._wanted = [(0.0, self._wanted[-1][1])]
        self._open_wanted()

    def _open_wanted(self) -> None:
        """Open a stream of each model whose words are wanted, unless it has one."""
        open_ones = {stream.model.name for stream in self._streams}
        for name in dict.fromkeys(model for model, _ in self._wanted[-1][1]):
            if name in open_ones:
                continue
            model = self._service.models[name]
            stream = self._service.open(model, partial(self._answer, name, self._received_s))
            self._open.add(stream)
            self._streams[stream] = Sound(
                model.backend.sample_rate, "s16le", 1, model.backend.sample_rate
            )

    async def _receive(self, chunk: AudioChunk) -> None:
        """Keep a chunk until all that has arrived with it is there."""
        self._has_heard, self.last_sound_s = True, monotonic()  # even if no model is to hear it
        if not self._streams:
            self._begin()
        for name, value in (("rate", chunk.rate), ("channels", chunk.channels)):
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} {value!r:.40}: a whole number, 1 or more, is needed")
        if chunk.width not in BY_WIDTH:
            raise UsageError(f"width {chunk.width!r:.40}: 1 to 4 bytes are needed")
        self._clock.note(self._received_s, chunk.timestamp)
        self.may_pause = True
        if self._chunks and _format(self._chunks[0]) != _format(chunk):
            await self._pass_on()
        self._chunks.append(chunk)
        self._received_s += chunk.seconds
        self._service.metrics.sound_s += chunk.seconds

    async def _pass_on(self) -> None:
        """Pass the chunks on to the streams, as one."""
        if not self._chunks or self._stopping:
            return
        first, content = self._chunks[0], b"".join(chunk.audio for chunk in self._chunks)
        self._chunks.clear()
        for stream, sound in self._streams.items():
            if _format(first) != (sound.rate, sound.width, sound.channels):
                stream.push(sound.flush())
                rate, channels = stream.model.backend.sample_rate, first.channels
                sound = Sound(first.rate, BY_WIDTH[first.width], channels, rate)
                self._streams[stream] = sound
            stream.push(sound.push(content))
        for stream in list(self._streams):  # the server may stop meanwhile, and close them
            await self._service.catch_up(self, stream)

    def _answer(self, model: str, began_s: float, answer: Answer) -> None:
        if answer.error is not None:
            self.expire("model", answer.error)
            return
        for event in answer.events:
            at_s = began_s + event.t
            before = [words for from_s, words in self._wanted if from_s <= at_s]
            if (model, event.word) in (before or [self._wanted[0][1]])[-1]:
                self._detected = True
                moment_ms = round(self._clock.moment_ms(at_s))
                name = self._names[model, event.word]
                self._write(Detection(name=name, timestamp=moment_ms).event())
        if answer.ended:
            self._open = {s for s in self._open if s.model.name != model}
            if not self._open:
                self._ended.set()

    async def _end(self) -> None:
        """The client's stream is over: send what is left of it."""
        await self._finish()
        if not self._detected:
            self._write(NotDetected().event())

    async def _finish(self) -> None:
        """Process the waiting sound, and wait for the last answer."""
        if not self._streams:
            return
        self._ended.clear()
        for stream, sound in self._streams.items():
            stream.push(sound.flush())
            stream.finish()
        try:
            await asyncio.wait_for(self._ended.wait(), _END_S)
        except TimeoutError:
            raise DataError("the stream could not be processed to its end in time") from None
        self._close_streams()

    def _close_streams(self) -> None:
        for stream in self._streams:
            self._service.close(stream)
        self._streams.clear()
        self._open.clear()
        self._ended.set()

    def _write(self, event: Event) -> asyncio.Task[None] | None:
        """Send a message, in the order of the calls; a client that does not read is dropped."""
        transport = self._writer.transport
        if transport.is_closing():
            return None
        if transport.get_write_buffer_size() > self._service.limits.unsent_bytes:
            self._cause = self._cause or "slow"
            cut(transport)
            return None
        task = asyncio.ensure_future(self._written(event))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _written(self, event: Event) -> None:
        if self._writer.transport.is_closing():  # since the task was made
            return
        try:
            await async_write_event(event, self._writer)
        except OSError:
            cut(self._writer.transport)  # the connection is closed; the reader ends the session


def _format(chunk: AudioChunk) -> tuple[int, int, int]:
    return chunk.rate, chunk.width, chunk.channels
