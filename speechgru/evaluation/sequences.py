"""Word error rate: sequences of words as they are recognized, against what was spoken."""

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
from speechgru.evaluation.metrics import wilson_interval
from speechgru.labels import BOUNDARY, UNKNOWN, Spelling
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import open_recognizer
from speechgru.recognition.state_policy import StatePolicy

if TYPE_CHECKING:
    from torch import Tensor

    from speechgru.model.network import SpeechGRU

#: Bootstrap samples for an interval.
BOOTSTRAP_SAMPLES = 2000


class Edits(NamedTuple):
    """The edits that turn the reference into the hypothesis."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def total(self) -> int:
        """The sum of all edits."""
        return sum(self)


@dataclass(frozen=True)
class RecognizedSequence:
    """A sequence of words: as spoken (reference) and as recognized (hypothesis)."""

    speaker: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]

    @cached_property
    def edits(self) -> Edits:
        """The fewest edits that turn one into the other."""
        return edits(self.reference, self.hypothesis)


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """The fewest substitutions, deletions and insertions (Levenshtein, 1966).

    Of equally few, substitutions are preferred word by word.

    >>> edits("one two three".split(), "one too three four".split())
    Edits(substitutions=1, deletions=0, insertions=1)
    """
    # For each prefix of the hypothesis, the edits from the words of the reference so far.
    row = [Edits(0, 0, count) for count in range(len(hypothesis) + 1)]
    for done, word in enumerate(reference, 1):
        before, row = row, [Edits(0, done, 0)]
        for i, other in enumerate(hypothesis):
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
    """The word errors of some sequences."""

    sequences: tuple[RecognizedSequence, ...]

    @cached_property
    def words(self) -> int:
        """Number of words spoken."""
        return sum(len(sequence.reference) for sequence in self.sequences)

    @cached_property
    def edits(self) -> Edits:
        """The edits of all sequences together."""
        return Edits(*map(sum, zip(*(sequence.edits for sequence in self.sequences), strict=True)))

    @property
    def rate(self) -> float:
        """The word error rate, edits per word spoken; above 1 if many more are recognized."""
        return self.edits.total / self.words

    @property
    def correct_sequences(self) -> int:
        """Number of sequences without an edit."""
        return sum(not sequence.edits.total for sequence in self.sequences)

    @cached_property
    def ci95(self) -> tuple[float, float]:
        """The interval of the rate: percentiles of the rates of bootstrap samples, seeded.

        The words of a sequence share speaker and acoustics, so whole sequences are resampled. Where
        all samples are alike, as without any edit, it is Wilson's of the words (of a rate up to 1).

        Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR
        performance evaluation", ICASSP 2004.
        """
        n = len(self.sequences)
        totals = np.array([sequence.edits.total for sequence in self.sequences])
        words = np.array([len(sequence.reference) for sequence in self.sequences])
        samples = np.random.default_rng(0).integers(n, size=(BOOTSTRAP_SAMPLES, n))
        rates = totals[samples].sum(axis=1) / words[samples].sum(axis=1)
        low, high = np.quantile(rates, [0.025, 0.975]).tolist()
        if low == high and self.rate <= 1:
            return wilson_interval(self.edits.total, self.words)
        return low, high

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "words": self.words,
            "strings": len(self.sequences),
            "right_strings": self.correct_sequences,
            "word_error_rate": self.rate,
            "ci95": list(self.ci95),
            **self.edits._asdict(),
        }


@dataclass(frozen=True)
class SequenceReport:
    """The word errors on sequences of a split.

    Args:
        source: how the sequences were made.
        config, policy: the decoder and state policy that recognized them.
        attention: word errors of the attention decoder on the same sequences, if there is one.
    """

    errors: WordErrors
    source: dict[str, Any]
    config: DecoderConfig
    policy: StatePolicy
    attention: WordErrors | None = None

    @cached_property
    def by_speaker(self) -> dict[str, WordErrors]:
        """The word errors of each speaker; "" has the sequences with several."""
        speakers = sorted({sequence.speaker for sequence in self.errors.sequences})
        return {
            speaker: WordErrors(tuple(s for s in self.errors.sequences if s.speaker == speaker))
            for speaker in speakers
        }

    def as_dict(self, wrong: int = 20) -> dict[str, Any]:
        """For JSON, with some of the sequences that were not recognized correctly."""
        shown = [s for s in self.errors.sequences if s.edits.total][:wrong]
        return self.errors.as_dict() | {
            "by_speaker": {name: errors.as_dict() for name, errors in self.by_speaker.items()},
            "strings_made": self.source,
            "decoder": self.config.model_dump(),
            "state_policy": self.policy.model_dump(),
            "wrong": [
                {
                    "speaker": s.speaker,
                    "said": " ".join(s.reference),
                    "heard": " ".join(s.hypothesis),
                }
                for s in shown
            ],
            **({"attention_decoder": self.attention.as_dict()} if self.attention else {}),
        }


def evaluate_sequences(
    backend: Backend,
    sequences: Sequences,
    config: DecoderConfig,
    policy: StatePolicy,
    grammar: Grammar | None = None,
    progress: Progress | None = None,
) -> SequenceReport:
    """Recognize each sequence by itself, as `listen` would, and compare its events with its words.

    Raises:
        DataError: the model's output is not finite.
        UsageError: a threshold is for a word that the model does not have.
    """
    recognizer = open_recognizer(backend, config, policy, grammar)
    recognized = []
    for number in range(len(sequences)):
        sequence = sequences[number]
        recognizer.reset()
        events = recognizer.push(sequence.samples.astype(np.float32) / FULL_SCALE)
        events += recognizer.flush()
        words = tuple(event.word for event in events)
        recognized.append(RecognizedSequence(sequence.speaker, sequence.words, words))
        if progress is not None:
            progress(number + 1, len(sequences))
    audio, plan = sequences.audio, sequences.plan
    source = {"protocol": audio.task.protocol, "split": audio.split, **asdict(plan)}
    return SequenceReport(WordErrors(tuple(recognized)), source, config, policy)


def evaluate_attention(
    model: "SpeechGRU", sequences: Sequences, progress: Progress | None = None
) -> WordErrors:
    """Word errors of an attention decoder, which reads each sequence whole, from a fresh state."""
    import torch  # only here: an exported model has no attention decoder

    recognized = []
    for number in range(len(sequences)):
        sequence = sequences[number]
        samples = torch.from_numpy(sequence.samples.astype(np.float32) / FULL_SCALE)
        tokens, _ = decode_attention(model, samples.to(model.device).unsqueeze(0))
        words = words_of_tokens(tokens, model.spelling)
        recognized.append(RecognizedSequence(sequence.speaker, sequence.words, words))
        if progress is not None:
            progress(number + 1, len(sequences))
    return WordErrors(tuple(recognized))


def decode_attention(model: "SpeechGRU", samples: "Tensor") -> tuple[list[int], "Tensor"]:
    """The tokens of an utterance, (1, S), and the attention of each over its steps: N, (N, T)."""
    import torch

    assert model.speller is not None
    with torch.inference_mode():
        state = model.initial_state(1)
        features, _ = model.extract(samples, state["samples"])
        encoded, _ = model.encode(features, state)
        return model.speller.decode(encoded)


def words_of_tokens(tokens: list[int], spelling: Spelling) -> tuple[str, ...]:
    """The words that tokens spell, without unknown ones, and characters that no boundary follows.

    >>> words_of_tokens([2, 1, 3, 2], Spelling(("_blank_", "_unknown_", "on", "no")))
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
