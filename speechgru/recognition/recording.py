"""Saves the sound of a stream: all of it in one file, or a clip of each event."""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from speechgru.audio.pcm import WAV_HEADER_BYTES, to_packed, wav_header
from speechgru.audio.samples import Samples
from speechgru.common.files import write_atomic
from speechgru.common.word_folders import WORD_FILE, folder_name, folder_word
from speechgru.decoding.events import Event
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.session import BlockResult

#: Seconds saved before and after a word; more before, as a network is sure only near its end.
BEFORE_S, AFTER_S = 0.7, 0.3
#: Longer clips are cut at their start.
_LONGEST_S = 10.0
#: A WAV file states its length in 32 bits.
_MOST_BYTES = 2**32 - 4096


def check_new_recording(path: Path) -> None:
    """Raise UsageError if a recording exists already, or its name does not end in .wav."""
    if path.suffix.lower() != ".wav":
        raise UsageError(f"{path}: the name of a recording has to end in .wav")
    if path.exists():
        raise UsageError(f"{path}: exists already; a recording needs a new name")


class WavRecorder:
    """Writes a stream to a 16-bit WAV file whose header is valid after every block.

    Any program can thus read the recording after a kill, or after the disk has filled up.

    Raises:
        UsageError: the file exists already, or its name does not end in .wav.
        SpeechGRUError: it cannot be written.
    """

    def __init__(self, path: Path, rate: int) -> None:
        self.path = Path(path)
        check_new_recording(self.path)
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
            SpeechGRUError: the disk is full, or the file holds 37 hours, the limit of WAV files.
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
        """Close the file, which is already complete."""
        self._file.close()

    def _write(self, content: bytes, place: int) -> None:
        self._file.seek(place)
        while content:
            content = content[self._file.write(content) :]


class EventClips:
    """Writes a clip of each event to `FOLDER/WORD/TIME.wav`, which can be trained on.

    It keeps only the last seconds of the stream; a clip is written as soon as the sound after the
    word has arrived. Characters of a word that a file system may refuse become "-"
    in the name of its folder, whose `word.json` then holds the word.
    """

    def __init__(self, folder: Path, rate: int) -> None:
        self.folder, self.rate = Path(folder), rate
        self._started = time.strftime("%Y%m%d-%H%M%S")
        self._blocks: deque[Samples] = deque()
        self._first = self._end = 0  # sample positions of the blocks in the stream
        self._pending: deque[Event] = deque()
        self._folders: dict[str, Path] = {}

    def push(self, samples: Samples, events: Sequence[Event]) -> list[Path]:
        """Add the next samples, (S,), and the events they settled; returns the files written.

        Raises:
            SpeechGRUError: a file cannot be written.
        """
        self._blocks.append(samples)
        self._end += len(samples)
        self._pending.extend(events)
        written = []
        while self._pending and self._stop(self._pending[0]) <= self._end:
            written.append(self._write(self._pending.popleft()))
        self._drop_old_blocks()
        return written

    def flush(self) -> list[Path]:
        """End the stream: write the pending clips with the samples there are."""
        written = [self._write(event) for event in self._pending]
        self._pending.clear()
        return written

    def _stop(self, event: Event) -> int:
        return round((event.end_s + AFTER_S) * self.rate)

    def _write(self, event: Event) -> Path:
        samples = np.concatenate(self._blocks)
        start = max(self._first, round((event.start_s - BEFORE_S) * self.rate))
        clip = samples[start - self._first : self._stop(event) - self._first]
        path = self._folder_of(event.word) / f"{self._started}-{event.t:09.2f}.wav"
        content = to_packed(clip).tobytes()
        write_atomic(path, wav_header(self.rate, len(content)) + content)
        return path

    def _folder_of(self, word: str) -> Path:
        """The word's folder; of two words with the same name for it, the second has a number."""
        if word not in self._folders:
            safe = folder_name(word)
            path, number = self.folder / safe, 1
            while path.exists() and folder_word(path) != word:
                number += 1
                path = self.folder / f"{safe} {number}"
            if path.name != word:
                write_atomic(path / WORD_FILE, json.dumps({"word": word}, ensure_ascii=False))
            self._folders[word] = path
        return self._folders[word]

    def _drop_old_blocks(self) -> None:
        oldest = self._end - round(_LONGEST_S * self.rate)
        while self._blocks and self._first + len(self._blocks[0]) <= oldest:
            self._first += len(self._blocks.popleft())


class StreamSaver:
    """Saves the whole stream, clips of its events, both or neither.

    If one of the two fails, that is reported and the stream goes on without it. Use it as a context
    manager: the recording starts on entry, and pending clips are written on exit.

    Args:
        report: called with a sentence about each failure.

    Raises:
        SpeechGRUError: the recording cannot be started.
    """

    def __init__(
        self, record: Path | None, folder: Path | None, rate: int, report: Callable[[str], None]
    ) -> None:
        self._record, self._rate, self._report = record, rate, report
        self._recorder: WavRecorder | None = None
        self._clips = None if folder is None else EventClips(folder, rate)
        self.failed = False

    def push(self, block: BlockResult) -> None:
        """Save a block and its events."""
        if self._recorder is not None and not self._try(self._recorder.push, block.samples):
            self._recorder = None
        if self._clips is not None:
            events = [timed.event for timed in block.events]
            if not self._try(self._clips.push, block.samples, events):
                self._clips = None

    def __enter__(self) -> Self:
        if self._record is not None:
            self._recorder = WavRecorder(self._record, self._rate)
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None:
            self._recorder.close()
        if self._clips is not None:
            self._try(self._clips.flush)

    def _try(self, save: Callable[..., object], *arguments: object) -> bool:
        try:
            save(*arguments)
        except SpeechGRUError as error:
            self.failed = True
            self._report(f"{error}; listening goes on, but this is no longer saved")
            return False
        return True
