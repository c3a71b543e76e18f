"""WebSocket sessions that record: words one after the other, the room, or talk.

The query, or a first message `{"type": "start", ...}`, has `speaker`, and `words` (a list) with
`takes` and `longest` (seconds), or `room` or `talk` (seconds); and what the sound is: `rate`,
`format`, `channels`. Binary messages hold sound. Other messages are `undo`, `skip`, `lost` and
`end`.

The server answers with `ready`, then `prompt` (the word to say) or `done`, `speaking` (whether a
word is being spoken), `kept` (a file), `refused` (why), `undone`, `progress` (of a room or talk),
`error` (a sentence; the server closes) and `end`.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from starlette.websockets import WebSocket

from speechgru.audio.endpoints import MARGIN_S
from speechgru.audio.samples import SAMPLE_RATE, Samples
from speechgru.backends.loader import speech_finder
from speechgru.corpora.listing import normalized
from speechgru.corpora.own_recordings import OwnRecordings, check_speaker, checked_name
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.guided_recording import (
    ADVICE,
    DOUBT,
    GuidedRecording,
    Outcome,
    StretchRecording,
)
from speechgru.serve.own_words.places import Places
from speechgru.serve.service import Service
from speechgru.serve.socket_session import DONE, SocketSession, check_known
from speechgru.serve.sound import Sound

_SOUND: Mapping[str, Any] = {"rate": 48_000, "format": "s16le", "channels": 1}
_OPTIONS = (*_SOUND, "speaker", "words", "takes", "longest", "room", "talk")
_MOST_WORDS, _MOST_TAKES = 100, 1000
_LONGEST_S = (0.5, 5.0)
_STRETCH_S = (1.0, 600.0)
#: A stretch of which this much is there is worth keeping if the connection breaks.
_WORTH_S = 5.0
#: Bytes that one session may write.
_MOST_BYTES = 2**29


class RecorderSession(SocketSession):
    """One connection that records for one speaker."""

    door = "recorder"

    def __init__(self, service: Service, socket: WebSocket, places: Places) -> None:
        super().__init__(service, socket)
        self._places = places
        self._sound: Sound | None = None
        self._words: GuidedRecording | None = None
        self._stretch: StretchRecording | None = None
        self._was_speaking = False
        self._shown_s = 0
        self._bytes = 0
        #: The server's stop and the client's messages come one after the other.
        self._turn = asyncio.Lock()

    def fail(self, error: SpeechGRUError) -> None:
        """Send the whole sentence first: the reason of a close is short."""
        self._send({"type": "error", "error": str(error)})
        self.expire("invalid" if isinstance(error, UsageError) else "refused", str(error))

    async def _receive(self, content: bytes) -> None:
        if self._sound is None:
            raise UsageError("a start message with words, room or talk is needed before sound")
        async with self._turn:
            samples = self._sound.push(content)
            self._service.metrics.sound_s += len(samples) / SAMPLE_RATE
            self.last_sound_s = monotonic()
            await self._push(samples)

    async def _push(self, samples: Samples) -> None:
        if (words := self._words) is not None:
            self._report(await asyncio.to_thread(words.push, samples))
            if self._was_speaking != words.endpoints.is_speaking:
                self._was_speaking = words.endpoints.is_speaking
                self._send({"type": "speaking", "speaking": self._was_speaking})
        elif (stretch := self._stretch) is not None:
            enough = stretch.push(samples)
            if int(stretch.time_s) != self._shown_s:
                self._shown_s = int(stretch.time_s)
                self._send({"type": "progress", "seconds": self._shown_s, "of": stretch.seconds})
            if enough:
                await self._save_stretch()

    async def _handle(self, kind: Any, options: Mapping[str, Any]) -> None:
        if kind in ("undo", "skip", "end"):
            check_known(options, ())
        async with self._turn:
            if kind == "start":
                if self._sound is not None:
                    raise UsageError("start: the recording has already started")
                await asyncio.to_thread(self._start, options)
                self._send({"type": "ready", "words": options.get("words", [])})
                self._ask()
            elif kind == "undo" and self._words is not None:
                path = await asyncio.to_thread(self._words.undo)
                file = path.relative_to(self._places.data).as_posix() if path else None
                self._send({"type": "undone", "file": file})
                self._ask()
            elif kind == "skip" and self._words is not None:
                self._words.skip()
                self._ask()
            elif kind == "lost" and self._sound is not None:
                self._sound.skip(1)
                if self._words is not None:  # no take has a gap in it
                    self._words.endpoints.gap()
            elif kind == "end":
                await self._end()
                self._send({"type": "end"})
                self._close(DONE, "")
            else:
                raise UsageError(
                    f"type {kind!r:.40}: one of start, undo, skip, lost, end is needed"
                )

    def _start(self, options: Mapping[str, Any]) -> None:
        check_known(options, _OPTIONS)
        wanted = [name for name in ("words", "room", "talk") if name in options]
        if len(wanted) != 1:
            raise UsageError("one of words, room and talk is needed")
        given = {**_SOUND, **options}
        sound = Sound(given["rate"], given["format"], given["channels"], SAMPLE_RATE)
        self._places.check_free()
        speaker = normalized(_text("speaker", given.get("speaker", "me")))
        words = _words(given["words"]) if wanted == ["words"] else []
        check_speaker(speaker, "speaker", words)
        own = OwnRecordings(self._places.data, speaker, SAMPLE_RATE)
        if words:
            takes = _number("takes", given.get("takes", 12), (1, _MOST_TAKES))
            longest_s = _number("longest", given.get("longest", 4.0), _LONGEST_S)
            if takes != int(takes):
                raise UsageError(f"takes {takes}: a whole number is needed")
            self._words = GuidedRecording(
                words, int(takes), own, longest_s, speech_in=speech_finder()
            )
        else:
            seconds = _number(wanted[0], given[wanted[0]], _STRETCH_S)
            keep = own.add_room if wanted == ["room"] else own.add_talk
            self._stretch = StretchRecording(seconds, SAMPLE_RATE, keep)
        self._sound = sound

    def _ask(self) -> None:
        """Tell the client what to say next."""
        if self._words is None:
            return
        if (prompt := self._words.prompt) is None:
            self._send({"type": "done"})
            return
        self._send(
            {
                "type": "prompt",
                "word": prompt.word,
                "take": prompt.take,
                "takes": prompt.takes,
                "remaining": self._words.remaining,
            }
        )

    def _report(self, outcomes: list[Outcome]) -> None:
        """Tell the client what became of its takes.

        Raises:
            SpeechGRUError: the disk is nearly full, or this session has written enough.
        """
        for outcome in outcomes:
            word, take = outcome.prompt.word, outcome.take
            if outcome.path is not None and take is not None:
                self._send(
                    {
                        "type": "kept",
                        "word": word,
                        "file": outcome.path.relative_to(self._places.data).as_posix(),
                        "seconds": round(take.end_s - take.start_s - 2 * MARGIN_S, 2),
                        "peak_db": take.peak_db,
                        **({"advice": DOUBT} if outcome.is_doubtful else {}),
                    }
                )
                self._bytes += 2 * len(take.samples)
                self._places.check_free()
                if self._bytes > _MOST_BYTES:
                    raise SpeechGRUError(
                        f"the limit of {_MOST_BYTES // 2**20} MB per session is reached; start "
                        "another session to continue"
                    )
            else:
                fault = outcome.fault or "nothing"
                self._send(
                    {"type": "refused", "word": word, "fault": fault, "advice": ADVICE[fault]}
                )
            self._ask()

    async def _save_stretch(self) -> None:
        stretch, self._stretch = self._stretch, None
        if stretch is not None:
            path = await asyncio.to_thread(stretch.save)
            file = path.relative_to(self._places.data).as_posix()
            seconds = round(stretch.time_s, 1)
            self._send({"type": "kept", "word": None, "file": file, "seconds": seconds})
            self._send({"type": "done"})

    async def _end(self) -> None:
        """Settle a word that was being spoken, or save what there is of a stretch."""
        if self._sound is not None:
            await self._push(self._sound.flush())
        if self._words is not None:
            self._report(await asyncio.to_thread(self._words.flush))
        await self._save_stretch()

    async def _finish(self) -> None:
        async with self._turn:
            try:
                await self._end()
            except SpeechGRUError as error:
                self.fail(error)

    async def _release(self) -> None:
        """Save what there is of a stretch when the connection breaks: nothing is lost."""
        async with self._turn:
            if self._stretch is not None and self._stretch.time_s >= _WORTH_S:
                try:
                    await self._save_stretch()
                except SpeechGRUError as error:
                    self._service.tell(str(error))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} {value!r:.40}: a string is needed")
    return value.strip()


def _number(name: str, value: Any, limits: tuple[float, float]) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not limits[0] <= value <= limits[1]:
        raise UsageError(f"{name} {value!r:.40}: {limits[0]:g} to {limits[1]:g} is needed")
    return float(value)


def _words(value: Any) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_WORDS:
        raise UsageError(f"words {value!r:.40}: a list of 1 to {_MOST_WORDS} words is needed")
    return [checked_name(normalized(_text("word", word)), "word") for word in value]
