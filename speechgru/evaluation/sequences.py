"""Word error rate: strings of words as a recognizer hears them, against what was said."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from speechgru.audio.pcm import FULL_SCALE
from speechgru.common.progress import Progress
from speechgru.corpora.sequences import Sequences
from speechgru.decoding.factory import DecoderConfig
from speechgru.decoding.grammar import Grammar
from speechgru.labels import BOUNDARY, UNKNOWN, Spelling
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import open_recognizer
from speechgru.recognition.state_policy import StatePolicy

if TYPE_CHECKING:
    from torch import Tensor

    from speechgru.model.network import SpeechGRU

#: Resamplings of the strings for an interval.
RESAMPLINGS = 2000


class Edits(NamedTuple):
    """What turns the words that were said into those that were heard."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


@dataclass(frozen=True)
class HeardString:
    """A string as it was said, and as it was heard."""

    speaker: str
    said: tuple[str, ...]
    heard: tuple[str, ...]

    @cached_property
    def edits(self) -> Edits:
        """The fewest that make the one of the other."""
        return edits(self.said, self.heard)


def edits(said: Sequence[str], heard: Sequence[str]) -> Edits:
    """The fewest substitutions, deletions and insertions (Levenshtein, 1966).

    Of equally few those with the most substitutions.

    >>> edits("one two three".split(), "one too three four".split())
    Edits(substitutions=1, deletions=0, insertions=1)
    """
    # Of each beginning of `heard`, the edits from the words of `said` so far.
    row = [Edits(0, 0, count) for count in range(len(heard) + 1)]
    for done, word in enumerate(said, 1):
        before, row = row, [Edits(0, done, 0)]
        for i, other in enumerate(heard):
            s, d, n = before[i]
            matched = before[i] if word == other else Edits(s + 1, d, n)
            s, d, n = before[i + 1]
            deleted = Edits(s, d + 1, n)
            s, d, n = row[i]
            inserted = Edits(s, d, n + 1)
            row.append(min(matched, deleted, inserted, key=lambda e: e.total))
    return row[-1]


@dataclass(frozen=True)
class WordErrors:
    """Strings and their edits."""

    strings: tuple[HeardString, ...]

    @cached_property
    def words(self) -> int:
        """That were said."""
        return sum(len(string.said) for string in self.strings)

    @cached_property
    def edits(self) -> Edits:
        """Of all strings together."""
        return Edits(*map(sum, zip(*(string.edits for string in self.strings), strict=True)))

    @property
    def rate(self) -> float:
        """Edits by the words that were said; above 1 where much more is heard."""
        return self.edits.total / self.words

    @property
    def right_strings(self) -> int:
        """Strings without an edit."""
        return sum(not string.edits.total for string in self.strings)

    @cached_property
    def ci95(self) -> tuple[float, float]:
        """The interval of the rate: percentiles of the rates of strings drawn anew, seeded.

        The words of a string share its speaker and its sound, so strings are what is drawn.

        Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR
        performance evaluation", ICASSP 2004.
        """
        n = len(self.strings)
        totals = np.array([string.edits.total for string in self.strings])
        words = np.array([len(string.said) for string in self.strings])
        drawn = np.random.default_rng(0).integers(n, size=(RESAMPLINGS, n))
        rates = totals[drawn].sum(axis=1) / words[drawn].sum(axis=1)
        low, high = np.quantile(rates, [0.025, 0.975]).tolist()
        return low, high

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "words": self.words,
            "strings": len(self.strings),
            "right_strings": self.right_strings,
            "word_error_rate": self.rate,
            "ci95": list(self.ci95),
            **self.edits._asdict(),
        }


@dataclass(frozen=True)
class SequenceReport:
    """Strings of a split as they were heard, how they were made, and by what they were heard."""

    errors: WordErrors
    source: dict[str, Any]
    config: DecoderConfig
    policy: StatePolicy
    #: The same strings as an attention decoder has them, where the model has one.
    spelled: WordErrors | None = None

    @cached_property
    def by_speaker(self) -> dict[str, WordErrors]:
        """The strings of each speaker; "" has those of several."""
        speakers = sorted({string.speaker for string in self.errors.strings})
        return {
            speaker: WordErrors(tuple(s for s in self.errors.strings if s.speaker == speaker))
            for speaker in speakers
        }

    def as_dict(self, wrong: int = 20) -> dict[str, Any]:
        """For JSON, with some of the strings that were heard wrongly."""
        shown = [s for s in self.errors.strings if s.edits.total][:wrong]
        return self.errors.as_dict() | {
            "by_speaker": {name: errors.as_dict() for name, errors in self.by_speaker.items()},
            "strings_made": self.source,
            "decoder": self.config.model_dump(),
            "state_policy": self.policy.model_dump(),
            "wrong": [
                {"speaker": s.speaker, "said": " ".join(s.said), "heard": " ".join(s.heard)}
                for s in shown
            ],
            **({"attention_decoder": self.spelled.as_dict()} if self.spelled else {}),
        }


def evaluate_sequences(
    backend: Backend,
    strings: Sequences,
    config: DecoderConfig,
    policy: StatePolicy,
    grammar: Grammar | None = None,
    progress: Progress | None = None,
) -> SequenceReport:
    """Hear each string by itself, as `listen` would, and compare its events with its words.

    Raises:
        DataError: the model's answer is not a number.
        UsageError: a threshold is for a word that the model does not have.
    """
    recognizer = open_recognizer(backend, config, policy, grammar)
    heard = []
    for number in range(len(strings)):
        string = strings[number]
        recognizer.reset()
        events = recognizer.push(string.samples.astype(np.float32) / FULL_SCALE)
        events += recognizer.flush()
        words = tuple(event.word for event in events)
        heard.append(HeardString(string.speaker, string.words, words))
        if progress is not None:
            progress(number + 1, len(strings))
    audio, plan = strings.audio, strings.plan
    source = {"protocol": audio.task.protocol, "split": audio.split, **asdict(plan)}
    return SequenceReport(WordErrors(tuple(heard)), source, config, policy)


def spell_strings(
    model: "SpeechGRU", strings: Sequences, progress: Progress | None = None
) -> WordErrors:
    """Word errors of an attention decoder, which reads each string whole, from a fresh state."""
    import torch  # only here: an exported model has no attention decoder

    found = []
    for number in range(len(strings)):
        string = strings[number]
        samples = torch.from_numpy(string.samples.astype(np.float32) / FULL_SCALE)
        tokens, _ = spell(model, samples.to(model.device).unsqueeze(0))
        heard = words_of(tokens, model.spelling)
        found.append(HeardString(string.speaker, string.words, heard))
        if progress is not None:
            progress(number + 1, len(strings))
    return WordErrors(tuple(found))


def spell(model: "SpeechGRU", samples: "Tensor") -> tuple[list[int], "Tensor"]:
    """The tokens of an utterance, (1, S), and the attention of each over its steps: N, (N, T)."""
    import torch

    assert model.speller is not None
    with torch.inference_mode():
        state = model.initial_state(1)
        features, _ = model.extract(samples, state["samples"])
        heard, _ = model.encode(features, state)
        return model.speller.decode(heard)


def words_of(tokens: list[int], spelling: Spelling) -> tuple[str, ...]:
    """The words that tokens spell, without unknown ones and characters that no boundary follows.

    >>> words_of([2, 1, 3, 2], Spelling(("_blank_", "_unknown_", "on", "no")))
    ('on', 'no', 'on')
    """
    names = [spelling.tokens[token] for token in tokens]
    if not spelling.in_characters:
        return tuple(name for name in names if name != UNKNOWN)
    words, letters = [], ""
    for name in names:
        if name == BOUNDARY:
            words += [letters] if letters else []
            letters = ""
        elif name != UNKNOWN:
            letters += name
    return tuple(words)
