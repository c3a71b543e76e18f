"""Keeping what was heard: all of it in one file, or each event's stretch in its own."""

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from speechgru.audio.pcm import WAV_HEADER_BYTES, to_packed, wav_header
from speechgru.audio.samples import Samples
from speechgru.common.files import write_atomic
from speechgru.decoding.events import Event
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.session import Heard

#: Kept around a word: a network is sure of it only near its end, so the more before it.
BEFORE_S, AFTER_S = 0.7, 0.3
#: Stretches longer than this are cut at their beginning.
_LONGEST_S = 10.0
#: A WAV file says its length in 32 bits.
_MOST_BYTES = 2**32 - 4096


def check_new(path: Path) -> None:
    """Raise UsageError for a recording that is there already, or is not named `.wav`."""
    if path.suffix.lower() != ".wav":
        raise UsageError(f"{path}: a name that ends in .wav is needed for a recording")
    if path.exists():
        raise UsageError(f"{path}: is there already; a new name is needed for a recording")


class Recorder:
    """Writes a stream to a WAV file of 16 bits, whose header is right after every block.

    So a kill, or a disk that fills up, leaves a recording that any program reads.

    Raises:
        UsageError: the file is there already, or is not named `.wav`.
        SpeechGRUError: it cannot be written.
    """

    def __init__(self, path: Path, rate: int) -> None:
        self.path = Path(path)
        check_new(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb", buffering=0)
        except OSError as error:
            raise SpeechGRUError(f"{path}: cannot be written: {error.strerror}") from error
        self._rate = rate
        self._bytes = 0
        self.push(np.empty(0, np.float32))

    def push(self, samples: Samples) -> None:
        """Append samples, (S,) in [-1, 1].

        Raises:
            SpeechGRUError: the disk is full, or the file has the 37 hours that a WAV file holds.
        """
        content = to_packed(samples).tobytes()
        if self._bytes + len(content) > _MOST_BYTES:
            raise SpeechGRUError(f"{self.path}: full: a WAV file holds 4 GiB")
        try:
            self._write(content, WAV_HEADER_BYTES + self._bytes)
            self._bytes += len(content)
            self._write(wav_header(self._rate, self._bytes), 0)
        except OSError as error:
            raise SpeechGRUError(f"{self.path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; all of it is written already."""
        self._file.close()

    def _write(self, content: bytes, place: int) -> None:
        self._file.seek(place)
        while content:
            content = content[self._file.write(content) :]


class EventClips:
    """Writes each event's stretch of a stream to `FOLDER/WORD/TIME.wav`, a corpus to train on.

    Keeps the last seconds of the stream and no more; a stretch is written once what follows the
    word is there too.
    """

    def __init__(self, folder: Path, rate: int) -> None:
        self.folder, self.rate = Path(folder), rate
        self._began = time.strftime("%Y%m%d-%H%M%S")
        self._blocks: deque[Samples] = deque()
        self._first = self._end = 0  # of the samples kept, counted from the stream's start
        self._waiting: deque[Event] = deque()

    def push(self, samples: Samples, events: Sequence[Event]) -> list[Path]:
        """The next samples, (S,), and the events that they settled; gives the files written.

        Raises:
            SpeechGRUError: a file cannot be written.
        """
        self._blocks.append(samples)
        self._end += len(samples)
        self._waiting.extend(events)
        written = []
        while self._waiting and self._stop(self._waiting[0]) <= self._end:
            written.append(self._write(self._waiting.popleft()))
        self._forget()
        return written

    def flush(self) -> list[Path]:
        """The stream is over: what waits is written as far as there are samples."""
        written = [self._write(event) for event in self._waiting]
        self._waiting.clear()
        return written

    def _stop(self, event: Event) -> int:
        return round((event.end_s + AFTER_S) * self.rate)

    def _write(self, event: Event) -> Path:
        kept = np.concatenate(self._blocks)
        start = max(self._first, round((event.start_s - BEFORE_S) * self.rate))
        stretch = kept[start - self._first : self._stop(event) - self._first]
        word = re.sub(r"[^\w-]", "_", event.word)
        path = self.folder / word / f"{self._began}-{event.t:09.2f}.wav"
        content = to_packed(stretch).tobytes()
        write_atomic(path, wav_header(self.rate, len(content)) + content)
        return path

    def _forget(self) -> None:
        """Let go of blocks that no event still needs."""
        oldest = self._end - round(_LONGEST_S * self.rate)
        while self._blocks and self._first + len(self._blocks[0]) <= oldest:
            self._first += len(self._blocks.popleft())


class Keepers:
    """A recorder, and what keeps the events' sound; one that fails is told of and left out.

    To be entered: the recording is begun then, and what still waits is written at the end.

    Raises:
        SpeechGRUError: the recording cannot be begun.
    """

    def __init__(
        self, record: Path | None, folder: Path | None, rate: int, tell: Callable[[str], None]
    ) -> None:
        self._record, self._rate, self._tell = record, rate, tell
        self._recorder: Recorder | None = None
        self._clips = None if folder is None else EventClips(folder, rate)
        self.failed = False

    def push(self, heard: Heard) -> None:
        """Keep a block and its events."""
        if self._recorder is not None and not self._tried(self._recorder.push, heard.samples):
            self._recorder = None
        if self._clips is not None:
            events = [told.event for told in heard.events]
            if not self._tried(self._clips.push, heard.samples, events):
                self._clips = None

    def __enter__(self) -> Self:
        if self._record is not None:
            self._recorder = Recorder(self._record, self._rate)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._recorder is not None:
            self._recorder.close()
        if self._clips is not None:
            self._tried(self._clips.flush)

    def _tried(self, keep: Callable[..., object], *what: object) -> bool:
        try:
            keep(*what)
        except SpeechGRUError as error:
            self.failed = True
            self._tell(f"{error}; listening goes on, this is kept no longer")
            return False
        return True
