"""Saves the sound of a stream: all of it in one file, or a clip of each event."""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from speechgru.audio.pcm import WAV_HEADER_BYTES, to_packed, wav_header
from speechgru.audio.samples import Samples
from speechgru.common.files import write_atomic, writing
from speechgru.common.word_folders import make_word_folder
from speechgru.decoding.events import Event
from speechgru.decoding.verdicts import Verdict
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.session import BlockResult

#: Seconds saved before and after a word; more before, as a network is sure only near its end.
BEFORE_S, AFTER_S = 0.7, 0.3
#: Folder of the near misses' word folders. No corpus has its clips as words.
NEAR_MISSES = "_near_misses_"
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


def _new_clip(folder: Path, name: str) -> Path:
    """A path that no other listener writes to."""
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SpeechGRUError(f"{folder}: cannot be written: is not a directory") from error
    path, number = folder / f"{name}.wav", 1
    while not _reserve(path):
        number += 1
        path = folder / f"{name}-{number}.wav"
    return path


def _reserve(path: Path) -> bool:
    """Whether the path is ours now; an empty .json beside it says so to other listeners."""
    if path.exists():
        return False
    try:
        with writing(path):
            path.with_suffix(".json").open("x").close()
    except FileExistsError:
        return False
    return True


def _json(description: dict[str, Any]) -> str:
    """As UTF-8, or with escapes where the model's name is not Unicode."""
    text = json.dumps(description, ensure_ascii=False)
    return json.dumps(description) if re.search("[\ud800-\udfff]", text) else text


@dataclass(frozen=True)
class _Found:
    """An event or a near miss, and what its clip's description says of it."""

    word: str
    start_s: float
    end_s: float
    t: float
    description: dict[str, Any]


def _of_event(event: Event) -> _Found:
    description = {"kind": "event", **event.as_dict()}
    description.pop("latency_ms")
    return _Found(event.word, event.start_s, event.end_s, event.t, description)


def _of_near_miss(verdict: Verdict) -> _Found:
    description = {
        "kind": "near miss",
        "t": round(verdict.t, 3),
        "start": round(verdict.start_s, 3),
        "end": round(verdict.end_s, 3),
        "word": verdict.word,
        "score": round(verdict.score, 4),
        "threshold": verdict.threshold,
        "held_by": verdict.gate,
    }
    return _Found(verdict.word, verdict.start_s, verdict.end_s, verdict.t, description)


class EventClips:
    """Writes a clip of each event to `FOLDER/WORD/TIME.wav`, which can be trained on.

    It keeps only the last seconds of the stream; a clip is written as soon as the sound after the
    word has arrived. Characters of a word that a file system may refuse become "-"
    in the name of its folder, whose `word.json` then holds the word. `TIME.json` beside a clip says
    which word it was taken for, when, with which score and by which model. Near misses go to
    `FOLDER/_near_misses_/WORD/`, so that `FOLDER` has the clips of events alone as words.

    Args:
        late_s: how long after the sound that follows it an event may be pushed.
    """

    def __init__(self, folder: Path, rate: int, model: str = "", late_s: float = 0.0) -> None:
        self.folder, self.rate, self.model = Path(folder), rate, model
        self._kept = round((_LONGEST_S + late_s) * rate)
        self._started = time.strftime("%Y%m%d-%H%M%S")
        self._blocks: deque[Samples] = deque()
        self._first = self._end = 0  # sample positions of the blocks in the stream
        self._pending: deque[_Found] = deque()
        self._folders: dict[tuple[Path, str], Path] = {}

    def push(
        self, samples: Samples, events: Sequence[Event], near_misses: Sequence[Verdict] = ()
    ) -> list[Path]:
        """Add the next samples, (S,), and the events they settled; returns the files written.

        Raises:
            SpeechGRUError: a file cannot be written.
        """
        self._blocks.append(samples)
        self._end += len(samples)
        self._pending.extend(map(_of_near_miss, near_misses))
        self._pending.extend(map(_of_event, events))
        written = []
        while self._pending and self._stop(self._pending[0]) <= self._end:
            written.append(self._write(self._pending.popleft()))
        self._drop_old_blocks()
        return written

    def flush(self) -> list[Path]:
        """End the stream: write the pending clips with the samples there are."""
        written = [self._write(found) for found in self._pending]
        self._pending.clear()
        return written

    def _stop(self, found: _Found) -> int:
        return round((found.end_s + AFTER_S) * self.rate)

    def _write(self, found: _Found) -> Path:
        samples = np.concatenate(self._blocks)
        start = max(0, round((found.start_s - BEFORE_S) * self.rate) - self._first)
        clip = samples[start : max(0, self._stop(found) - self._first)]
        is_event = found.description["kind"] == "event"
        parent = self.folder if is_event else self.folder / NEAR_MISSES
        folder = self._folder_of(found.word, parent)
        path = _new_clip(folder, f"{self._started}-{found.t:09.2f}")
        description = found.description | {
            "model": self.model,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        content = to_packed(clip).tobytes()
        try:
            write_atomic(path.with_suffix(".json"), _json(description))
            write_atomic(path, wav_header(self.rate, len(content)) + content)
        except SpeechGRUError:
            path.with_suffix(".json").unlink(missing_ok=True)
            raise
        return path

    def _folder_of(self, word: str, parent: Path) -> Path:
        """The word's folder; of two words with the same name for it, the second has a number."""
        key = parent, word
        if key not in self._folders:
            self._folders[key] = make_word_folder(parent, word)
        return self._folders[key]

    def _drop_old_blocks(self) -> None:
        oldest = self._end - self._kept
        while self._blocks and self._first + len(self._blocks[0]) <= oldest:
            self._first += len(self._blocks.popleft())


class StreamSaver:
    """Saves the whole stream, clips of its events, both or neither.

    If one of the two fails, that is reported and the stream goes on without it. Use it as a context
    manager: the recording starts on entry, and pending clips are written on exit.

    Args:
        report: called with a sentence about each failure.
        model: its name, for the descriptions of the clips.

    Raises:
        SpeechGRUError: the recording cannot be started.
    """

    def __init__(
        self,
        record: Path | None,
        folder: Path | None,
        rate: int,
        report: Callable[[str], None],
        model: str = "",
    ) -> None:
        self._record, self._rate, self._report = record, rate, report
        self._recorder: WavRecorder | None = None
        self._clips = None if folder is None else EventClips(folder, rate, model)
        self.failed = False

    def push(self, block: BlockResult, near_misses: Sequence[Verdict] = ()) -> None:
        """Save a block, its events, and the near misses that ended in it."""
        if self._recorder is not None and not self._try(self._recorder.push, block.samples):
            self._recorder.close()
            self._recorder = None
        if self._clips is not None:
            events = [timed.event for timed in block.events]
            if not self._try(self._clips.push, block.samples, events, near_misses):
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
