"""The CTC decoder: a CTC head's posteriors to events of a stream, or to scores of a clip."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from speechgru.common.settings import Settings
from speechgru.decoding.events import Event
from speechgru.decoding.grammar import Grammar, any_words
from speechgru.decoding.prefix_beam import BestPath, Phrase, PrefixBeam, Search, Span
from speechgru.errors import UsageError
from speechgru.labels import BOUNDARY, NOT_WORDS, Spelling


class CTCConfig(Settings):
    """How words are searched for; a model's file may hold its own under `ctc_decoder`."""

    #: Hypotheses in the beam; with 1 the most likely token of each step is taken.
    beam: int = Field(8, ge=1, le=1000)
    #: Score that a word needs, and the words that need another one.
    threshold: float = Field(0.2, ge=0.0, le=1.0)
    thresholds: dict[str, float] = Field(default_factory=dict)
    #: A token starts only where its posterior is at least this, so that noise starts none.
    floor: float = Field(0.05, ge=0.0, lt=1.0)
    #: A word is decided at once if hypotheses with this share of the probability agree on it,
    #: otherwise by the most likely hypothesis, this long after its end.
    sure: float = Field(0.95, gt=0.5, le=1.0)
    settle_s: float = Field(0.2, ge=0.0, le=10.0)
    #: The longest pause inside a phrase of a grammar.
    pause_s: float = Field(1.0, ge=0.0, le=60.0)
    #: The same token within this time of its end is a continuation, not a repetition.
    repeat_s: float = Field(0.1, ge=0.0, le=10.0)

    def threshold_for(self, word: str) -> float:
        """The threshold of a word."""
        return self.thresholds.get(word, self.threshold)


class CTCDecoder:
    """Emits the words in the tokens of a CTC head, the same ones in any chunking.

    The score of a word is the highest posterior of its token; for a word in characters, the
    geometric mean over its characters. A phrase of a grammar is reported once it is complete, or
    not at all. A word lies where the most likely alignment has its tokens; note that a CTC head
    emits a word as a spike near its end.

    Args:
        spelling: the head's tokens, in the order of the log-posteriors.
        words: what can be an event; with a grammar, only the words in it can.
        step_s: seconds from one step to the next.

    Raises:
        UsageError: a threshold is for another word, or out of range; or a grammar is given with a
            beam of 1.
    """

    def __init__(
        self,
        spelling: Spelling,
        words: Sequence[str],
        step_s: float,
        config: CTCConfig | None = None,
        grammar: Grammar | None = None,
    ) -> None:
        self.config = config or CTCConfig()
        self.spelling, self.step_s = spelling, step_s
        if grammar is not None and self.config.beam == 1:
            raise UsageError("a grammar needs a beam of at least 2 hypotheses, not 1")
        grammar = grammar or any_words(words, spelling)
        self.words = grammar.words
        for word, threshold in self.config.thresholds.items():
            if word not in self.words or not 0 <= threshold <= 1:
                raise UsageError(
                    f"threshold {word}={threshold:g}: a word of the model ({', '.join(self.words)})"
                    " and a number from 0 to 1 are needed"
                )
        # In a word's spelling the same letter may follow itself.
        repeat_steps = 0 if spelling.in_characters else round(self.config.repeat_s / step_s)
        self._search: Search = (
            BestPath(repeat_steps)
            if self.config.beam == 1
            else PrefixBeam(
                grammar,
                width=self.config.beam,
                settle_steps=round(self.config.settle_s / step_s),
                pause_steps=round(self.config.pause_s / step_s),
                repeat_steps=repeat_steps,
                sure=self.config.sure,
                floor=self.config.floor,
            )
        )
        longest = max((len(spelling.spell(word)) for word in self.words), default=0)
        #: The characters of a word so far; one longer than any word loses its first ones.
        self._spelled: deque[Span] = deque(maxlen=longest + 1)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._step = self._last_end = 0
        self._search.reset()
        self._spelled.clear()

    @property
    def time_s(self) -> float:
        """Seconds of the stream decoded so far."""
        return self._step * self.step_s

    def push(self, log_posteriors: NDArray[np.floating]) -> list[Event]:
        """Process the next steps, (T, V); returns the events they settle."""
        events = []
        for posteriors in np.exp(log_posteriors.astype(np.float64)).tolist():
            self._step += 1
            for phrase in self._search.step(posteriors):
                events += self._events(phrase)
        return events

    def flush(self) -> list[Event]:
        """End the stream: returns the events that were still open."""
        return [event for phrase in self._search.flush() for event in self._events(phrase)]

    def _events(self, phrase: Phrase) -> list[Event]:
        """The words of a phrase, if all of them reach their thresholds."""
        words = [(word, spans, _score(spans)) for word, spans in self._words(phrase)]
        if any(score < self.config.threshold_for(word) for word, _, score in words):
            return []
        return [self._event(*word) for word in words]

    def _words(self, phrase: Phrase) -> list[tuple[str, list[Span]]]:
        """The words that the phrase's tokens are or complete, each with its spans."""
        found = []
        for span in phrase:
            if span.token >= len(self.spelling.tokens):
                continue  # a word outside the grammar's phrases
            token = self.spelling.tokens[span.token]
            self._spelled.append(span)
            if self.spelling.in_characters and token not in NOT_WORDS:
                continue
            spans = list(self._spelled)
            self._spelled.clear()
            if self.spelling.in_characters:
                written = "".join(self.spelling.tokens[span.token] for span in spans[:-1])
                token = written if token == BOUNDARY else token
            if token in self.words:
                found.append((token, spans))
        return found

    def _event(self, word: str, spans: Sequence[Span], score: float) -> Event:
        # Alignments differ between hypotheses, so a word may overlap with the one before it.
        self._last_end, earliest = max(spans[-1].last + 1, self._last_end), self._last_end
        first = min(max(spans[0].first, earliest), self._last_end - 1)
        return Event(
            word,
            start_s=self.step_s * first,
            end_s=self.step_s * self._last_end,
            score=score,
            t=self.time_s,
        )


def _score(spans: Sequence[Span]) -> float:
    """The geometric mean of the tokens' highest posteriors."""
    return float(np.exp(np.mean(np.log([span.peak for span in spans]))))


def sequence_scores(
    log_posteriors: NDArray[np.floating], sequences: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Log-probability that a clip holds exactly each token sequence: (B, T, V) -> (B, K).

        a_t(s) = p_t(y_s) (a_t-1(s) + a_t-1(s - 1) + a_t-1(s - 2))

    where y is the sequence with blanks (token 0) around and between its tokens, and the last term
    applies only if y_s is neither a blank nor y_s-2.

    Source: A. Graves et al., "Connectionist temporal classification", ICML 2006, equations 6 and 7.

    >>> half = np.log([[[0.5, 0.5], [0.5, 0.5]]])
    >>> np.exp(sequence_scores(half, [(), (1,), (1, 1)])).tolist()
    [[0.25, 0.75, 0.0]]
    """
    longest = max(map(len, sequences))
    y = np.zeros((len(sequences), 2 * longest + 1), np.int64)  # (K, S)
    for row, tokens in zip(y, sequences, strict=True):
        row[1 : 2 * len(tokens) : 2] = tokens
    may_skip = np.zeros(y.shape, bool)
    may_skip[:, 2:] = (y[:, 2:] != 0) & (y[:, 2:] != y[:, :-2])
    batch, steps, _ = log_posteriors.shape
    a = np.full((batch, *y.shape), -np.inf)
    a[:, :, 0] = 0.0  # before the first step
    with np.errstate(divide="ignore", invalid="ignore"):
        for t in range(steps):
            before = np.logaddexp(a, _shifted(a, 1))
            skipped = np.where(may_skip, _shifted(a, 2), -np.inf)
            a = np.logaddexp(before, skipped) + log_posteriors[:, t, y]
    ends = 2 * np.array([len(tokens) for tokens in sequences])
    rows = np.arange(len(sequences))
    with_token = np.where(ends > 0, a[:, rows, ends - 1], -np.inf)
    return np.logaddexp(a[:, rows, ends], with_token)


def _shifted(a: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Shifted by `count` places along the last axis."""
    shifted = np.full_like(a, -np.inf)
    shifted[..., count:] = a[..., :-count] if a.shape[-1] > count else a[..., :0]
    return shifted
