"""Recording one's own words: which word is next, what was wrong with a take, what is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speechgru.audio.endpoints import EndpointDetector, Fault, Take
from speechgru.audio.samples import Samples
from speechgru.corpora.own_recordings import OwnRecordings
from speechgru.errors import UsageError

#: Nothing is heard for so long after a prompt: it is asked again.
PATIENCE_S = 8.0


@dataclass(frozen=True)
class Prompt:
    """The word to say, which of its takes this is, and of how many."""

    word: str
    take: int
    takes: int


@dataclass(frozen=True)
class Outcome:
    """What came of a prompt: a take that was kept in `path`, or why it was not."""

    prompt: Prompt
    take: Take | None
    path: Path | None
    fault: Fault | Literal["nothing"] | None


class GuidedRecording:
    """Asks for each word in turn until there are `takes` of each by this speaker.

    What the speaker has recorded before counts, so a session may be stopped and continued.

    Raises:
        UsageError: no word, or one twice.
    """

    def __init__(
        self, words: Sequence[str], takes: int, recordings: OwnRecordings, longest_s: float = 4.0
    ) -> None:
        if not words or len(set(words)) < len(words):
            raise UsageError(f"words {', '.join(words)}: at least one is needed, each once")
        self.recordings, self.takes = recordings, takes
        self._counts = {word: recordings.count(word) for word in words}
        self._order: list[str] = []
        self.endpoints = EndpointDetector(recordings.rate, longest_s=longest_s)
        self._ask()

    @property
    def prompt(self) -> Prompt | None:
        """The word that is asked for; None once all takes are there."""
        word = min(self._counts, key=self._counts.__getitem__)
        if self._counts[word] >= self.takes:
            return None
        return Prompt(word, self._counts[word] + 1, self.takes)

    @property
    def remaining(self) -> int:
        """Takes that are still to come."""
        return sum(max(0, self.takes - count) for count in self._counts.values())

    def push(self, samples: Samples) -> list[Outcome]:
        """The next samples of the stream, (S,); gives what they settled.

        Raises:
            SpeechGRUError: a take cannot be written.
        """
        outcomes = []
        size = max(1, round(0.02 * self.recordings.rate))
        for first in range(0, len(samples), size):  # a take ends the prompt that it answers
            prompt = self.prompt
            if prompt is None:
                break
            for take in self.endpoints.push(samples[first : first + size]):
                outcomes.append(self._settle(prompt, take))
            if (
                not self.endpoints.is_speaking
                and self.endpoints.time_s > self._asked_s + PATIENCE_S
            ):
                outcomes.append(Outcome(prompt, None, None, "nothing"))
                self._ask()
        return outcomes

    def flush(self) -> list[Outcome]:
        """The stream is over: a word that was not over yet is settled."""
        prompt = self.prompt
        return [self._settle(prompt, take) for take in self.endpoints.flush() if prompt is not None]

    def undo(self) -> Path | None:
        """Delete the last take, and ask for its word again; gives its path."""
        path = self.recordings.undo()
        if path is not None:
            self._counts[self._order.pop()] -= 1
            self._ask()
        return path

    def skip(self) -> None:
        """Leave out the word that is asked for, in this session."""
        if (prompt := self.prompt) is not None:
            self._counts[prompt.word] = self.takes
            self._ask()

    def _settle(self, prompt: Prompt, take: Take) -> Outcome:
        path = None
        if take.fault is None:
            path = self.recordings.add(prompt.word, take.samples)
            self._counts[prompt.word] += 1
            self._order.append(prompt.word)
        self._ask()
        return Outcome(prompt, take, path, take.fault)

    def _ask(self) -> None:
        self._asked_s = self.endpoints.time_s
        self.endpoints.rearm()
