"""Guided recording: which word is next, what is wrong with a take, which takes are saved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from speechgru.audio.endpoints import EndpointDetector, Fault, Take
from speechgru.audio.levels import SILENT_DB, peak_db
from speechgru.audio.samples import Samples
from speechgru.corpora.check import SURELY_SPEECH
from speechgru.corpora.own_recordings import OwnRecordings, check_speaker
from speechgru.errors import SpeechGRUError, UsageError

#: After this long without speech, the word is asked for again.
PATIENCE_S = 8.0
#: Why a take is refused, or that there is none.
Refusal = Fault | Literal["nothing", "repeated"]
#: What is wrong with a take, and what to do.
ADVICE: Mapping[Refusal, str] = {
    "clipped": "too loud: it distorts; turn the microphone down, or step back",
    "faint": "too faint; come closer, or turn the microphone up",
    "cut off": "it began before the word was asked for; wait for the prompt",
    "too long": "too long; say the word alone, then pause",
    "nothing": "no speech; is it the right microphone?",
    "repeated": "already recorded: identical to an earlier take",
}
#: What is said of a saved take that may be a noise. It is saved, as a word may be a whistle.
DOUBT = "it does not sound like speech"


@dataclass(frozen=True)
class Prompt:
    """The word to say, the number of this take, and of how many."""

    word: str
    take: int
    takes: int


@dataclass(frozen=True)
class Outcome:
    """The result of a prompt: the take saved in `path`, or why none was saved.

    `speech` is the probability that a saved take holds speech; None: nobody was asked.
    """

    prompt: Prompt
    take: Take | None
    path: Path | None
    fault: Refusal | None
    speech: float | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether the take was saved, but may be a noise."""
        return self.speech is not None and self.speech < SURELY_SPEECH


class GuidedRecording:
    """Asks for each word in turn until there are `takes` of each by this speaker.

    Earlier takes of this speaker count, so recording can be stopped and continued.

    Args:
        cuts_file: the stream is a recording, which may have been cut before: takes that are there
            already are refused, and pauses are not.
        speech_in: the probability that samples, (S,), hold speech, for the outcomes.

    Raises:
        UsageError: there is no word, one is given twice, or the speaker is named like one.
    """

    def __init__(
        self,
        words: Sequence[str],
        takes: int,
        recordings: OwnRecordings,
        longest_s: float = 4.0,
        cuts_file: bool = False,
        speech_in: Callable[[Samples], float] | None = None,
    ) -> None:
        if not words or len(set(words)) < len(words):
            raise UsageError(f"words {', '.join(words)}: at least one is needed, each once")
        check_speaker(recordings.speaker, words=words)
        self.recordings, self.takes = recordings, takes
        self.cuts_file, self._speech_in = cuts_file, speech_in
        self._counts = {word: recordings.count(word) for word in words}
        self._skipped: set[str] = set()
        self._order: list[str] = []
        self.endpoints = EndpointDetector(recordings.rate, longest_s=longest_s)
        self._ask()

    @property
    def prompt(self) -> Prompt | None:
        """The word to say now; None once all takes are recorded."""
        wanted = [word for word in self._counts if self._missing(word)]
        if not wanted:
            return None
        word = min(wanted, key=self._counts.__getitem__)
        return Prompt(word, self._counts[word] + 1, self.takes)

    @property
    def remaining(self) -> int:
        """Number of takes still to be recorded, without those of skipped words."""
        return sum(map(self._missing, self._counts))

    def push(self, samples: Samples, lost: int = 0) -> list[Outcome]:
        """Process the next samples of the stream, (S,); returns the results that they settle.

        Args:
            lost: how many samples before these never came; no take has such a gap in it.

        Raises:
            SpeechGRUError: a take cannot be written.
        """
        if lost:
            self.endpoints.gap()
        outcomes = []
        size = max(1, round(0.02 * self.recordings.rate))
        for first in range(0, len(samples), size):  # a take ends its prompt
            prompt = self.prompt
            if prompt is None:
                break
            for take in self.endpoints.push(samples[first : first + size]):
                outcomes.append(self._settle(prompt, take))
            if (
                not (self.cuts_file or self.endpoints.is_speaking)
                and self.endpoints.time_s > self._asked_s + PATIENCE_S
            ):
                outcomes.append(Outcome(prompt, None, None, "nothing"))
                self._ask()
        return outcomes

    def flush(self) -> list[Outcome]:
        """End the stream: settle a word that has not ended yet."""
        prompt = self.prompt
        return [self._settle(prompt, take) for take in self.endpoints.flush() if prompt is not None]

    def undo(self) -> Path | None:
        """Delete the last take, and ask for its word again; returns its path."""
        path = self.recordings.undo()
        if path is not None:
            word = self._order.pop()
            self._counts[word] -= 1
            self._skipped.discard(word)
            self._ask()
        return path

    def skip(self) -> None:
        """Leave out the current word for the rest of this session."""
        if (prompt := self.prompt) is not None:
            self._skipped.add(prompt.word)
            self._ask()

    def _missing(self, word: str) -> int:
        return 0 if word in self._skipped else max(0, self.takes - self._counts[word])

    def _settle(self, prompt: Prompt, take: Take) -> Outcome:
        path, speech = None, None
        fault = take.fault or self._repeated(prompt.word, take.samples)
        if fault is None:
            speech = self._speech_in(take.samples) if self._speech_in is not None else None
            path = self.recordings.add(prompt.word, take.samples)
            self._counts[prompt.word] += 1
            self._order.append(prompt.word)
        self._ask()
        return Outcome(prompt, take, path, fault, speech)

    def _repeated(self, word: str, samples: Samples) -> Literal["repeated"] | None:
        if self.cuts_file and self.recordings.find(word, samples) is not None:
            return "repeated"
        return None

    def _ask(self) -> None:
        self._asked_s = self.endpoints.time_s
        self.endpoints.rearm()


class StretchRecording:
    """Records a stretch of the room or of talk, to be saved as one file.

    Args:
        keep: saves the samples, (S,), and returns the file's path.
    """

    def __init__(self, seconds: float, rate: int, keep: Callable[[Samples], Path]) -> None:
        self.seconds, self.rate, self._keep = seconds, rate, keep
        self._pieces: list[Samples] = []
        self._samples = 0

    @property
    def time_s(self) -> float:
        """Seconds recorded so far."""
        return self._samples / self.rate

    def push(self, samples: Samples) -> bool:
        """Add the next samples of the stream, (S,); returns whether that is enough."""
        self._pieces.append(samples)
        self._samples += len(samples)
        return self.time_s >= self.seconds

    def save(self) -> Path:
        """Save what was recorded; returns the file's path.

        Raises:
            SpeechGRUError: the microphone gave only silence, or the file cannot be written.
        """
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        if not len(samples) or peak_db(samples) < SILENT_DB:
            raise SpeechGRUError(
                "the microphone gives only silence: is it muted, or the wrong one?"
            )
        return self._keep(samples)
