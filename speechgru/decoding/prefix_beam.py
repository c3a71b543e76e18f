"""Searches through the posteriors of a CTC head: best path and prefix beam.

A search takes one step at a time and returns each token once, as soon as it is decided.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from speechgru.decoding.grammar import Grammar

#: A word outside the phrases of a grammar is less likely than one inside by this factor.
OTHER_SHARE = 0.3
#: Hypotheses less likely than the best one by this factor are dropped.
LEAST_SHARE = 1e-6


class Span(NamedTuple):
    """A token, the first and the last step of it, and its highest posterior there."""

    token: int
    first: int
    last: int
    peak: float


#: Tokens that are decided together.
Phrase = tuple[Span, ...]

_BLANK_SPAN = Span(0, 0, 0, 1.0)


class Search(Protocol):
    """Turns steps of posteriors into tokens, those of a phrase together."""

    def step(self, posteriors: list[float]) -> list[Phrase]:
        """Process the next step, (V,), the blank first; returns the phrases it settles."""
        ...

    def flush(self) -> list[Phrase]:
        """End the stream: returns the phrases that were still open."""
        ...

    def reset(self) -> None:
        """Start a new stream."""
        ...


class BestPath:
    """The most likely token of each step, without repetitions and blanks.

    A token that comes again within `repeat_steps` of its end is a continuation.
    """

    def __init__(self, repeat_steps: int = 0) -> None:
        self.repeat_steps = repeat_steps
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._step = -1
        #: The current token, whether it was returned before, and the last one.
        self._open, self._is_continued, self._ended = _BLANK_SPAN, False, _BLANK_SPAN

    def step(self, posteriors: list[float]) -> list[Phrase]:
        """Process the next step, (V,); returns the token that ended before it, if one did."""
        self._step += 1
        peak = max(posteriors)
        token = posteriors.index(peak)
        if token == self._open.token:
            self._open = _extend(self._open, self._step, peak)
            return []
        ended = self._end()
        again = token == self._ended.token and self._step - self._ended.last <= self.repeat_steps
        self._open, self._is_continued = Span(token, self._step, self._step, peak), again
        return ended

    def flush(self) -> list[Phrase]:
        """End the stream: returns the token that was still open."""
        return self._end()

    def _end(self) -> list[Phrase]:
        ended, self._open = self._open, _BLANK_SPAN
        if not ended.token:
            return []
        self._ended = ended
        return [] if self._is_continued else [(ended,)]


@dataclass(slots=True)
class _Hypothesis:
    """Undecided tokens, and the probability that exactly these follow the decided ones.

    `blank` and `token` are the shares of the alignments that end in a blank and in the last token;
    `best_blank` and `best_token` are those of the most likely alignment of each kind, with its
    spans. `last_token_step` is the last step before the blanks. `final` says for each token whether
    all phrases are complete after it.
    """

    prefix: tuple[int, ...]
    final: tuple[bool, ...]
    state: int
    blank: float = 0.0
    token: float = 0.0
    best_blank: float = 0.0
    best_token: float = 0.0
    last_token_step: int = -1
    spans_blank: tuple[Span, ...] = ()
    spans_token: tuple[Span, ...] = ()

    @property
    def total(self) -> float:
        return self.blank + self.token

    @property
    def best(self) -> float:
        return max(self.best_blank, self.best_token)

    @property
    def spans(self) -> tuple[Span, ...]:
        return self.spans_blank if self.best_blank >= self.best_token else self.spans_token

    @property
    def is_complete(self) -> bool:
        """Whether it ends with a complete phrase."""
        return not self.final or self.final[-1]

    def add_blank(self, old: "_Hypothesis", posterior: float, step: int) -> None:
        """Add the alignments of `old`, which has the same tokens, with a blank at this step."""
        self.blank += old.total * posterior
        self.best_blank, self.spans_blank = old.best * posterior, old.spans
        ends_in_blank = old.best_blank >= old.best_token
        self.last_token_step = old.last_token_step if ends_in_blank else step - 1

    def add_last_token(
        self, old: "_Hypothesis", posterior: float, step: int, after_blanks: bool
    ) -> None:
        """Add those in which the last token goes on at this step; or also `after_blanks`."""
        self.token += (old.total if after_blanks else old.token) * posterior
        best, spans = (old.best, old.spans) if after_blanks else (old.best_token, old.spans_token)
        if best * posterior > self.best_token:
            self.best_token = best * posterior
            self.spans_token = spans and (*spans[:-1], _extend(spans[-1], step, posterior))

    def add_new_token(
        self, old: "_Hypothesis", posterior: float, step: int, after_blanks_only: bool
    ) -> None:
        """Add the alignments of `old`, which lacks the last token, with that token at this step."""
        self.token += (old.blank if after_blanks_only else old.total) * posterior
        best, spans = (
            (old.best_blank, old.spans_blank) if after_blanks_only else (old.best, old.spans)
        )
        if best * posterior > self.best_token:
            self.best_token = best * posterior
            self.spans_token = (*spans, Span(self.prefix[-1], step, step, posterior))

    def settled(self, horizon: int) -> tuple[int, bool]:
        """How many of its tokens are in complete phrases that ended by the step `horizon`.

        And whether a phrase that started by then is still incomplete.
        """
        count, is_open = 0, False
        for depth, (span, final) in enumerate(zip(self.spans, self.final, strict=True), 1):
            if span.last > horizon:
                break
            count, is_open = (depth, False) if final else (count, True)
        return count, is_open

    def phrases(self, count: int) -> list[Phrase]:
        """The first `count` tokens, which end with a phrase, by phrase."""
        ends = [i + 1 for i in range(count) if self.final[i]]
        return [self.spans[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def drop(self, count: int) -> None:
        """Remove the first `count` tokens, which are decided."""
        self.prefix, self.final = self.prefix[count:], self.final[count:]
        self.spans_blank, self.spans_token = self.spans_blank[count:], self.spans_token[count:]


class PrefixBeam:
    """The most likely tokens by the sum over their alignments, among those a grammar allows.

        p(y) = sum, over all paths that give y without repetitions and then without blanks, of the
               product of their posteriors

    Tokens on which nearly all hypotheses agree are decided at once, others `settle_steps` after
    their end in the most likely hypothesis; hypotheses that contradict are then dropped, so that
    neither memory nor time grows. A phrase is decided as a whole, and dropped if its next word has
    not started `pause_steps` after the last one.

    If the grammar has words outside its phrases, these are searched for as separate tokens, with
    numbers higher by V, so that other speech is recognized as such and not as a phrase.

    A token that comes again within `repeat_steps` of its end is a continuation. Otherwise, as
    a long token has many places for a blank, two tokens would be more likely than one.

    Source: A. Hannun et al., "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs", arXiv:1408.2873, algorithm 1; A. Graves et al., "Connectionist
    temporal classification", ICML 2006.

    Args:
        width: the most hypotheses in the beam.
        sure: share of the probability that has to agree on a token decided at once.
        floor: a token starts only where its posterior is at least this.
        least_share: hypotheses below this share of the best one are dropped.
    """

    def __init__(
        self,
        grammar: Grammar,
        width: int,
        settle_steps: int,
        pause_steps: int,
        repeat_steps: int = 0,
        sure: float = 0.95,
        floor: float = 0.0,
        least_share: float = LEAST_SHARE,
    ) -> None:
        self.grammar, self.width = grammar, width
        self.settle_steps, self.pause_steps, self.sure = settle_steps, pause_steps, sure
        self.repeat_steps = repeat_steps
        self.floor, self.least_share = floor, least_share
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._step = -1
        #: The last decided token, which may continue, and when it was decided.
        self._last, self._decided_at = 0, 0
        self._beam = [_Hypothesis((), (), 0, blank=1.0, best_blank=1.0)]

    @property
    def hypotheses(self) -> list[tuple[int, ...]]:
        """The undecided tokens of each hypothesis, the most likely hypothesis first."""
        return [h.prefix for h in self._beam]

    def step(self, posteriors: list[float]) -> list[Phrase]:
        """Process the next step, (V,); returns the phrases it settles."""
        self._step += 1
        self._prune(self._extended(posteriors))
        if not any(h.prefix for h in self._beam):
            return []
        return self._decide(self._step - self.settle_steps)

    def flush(self) -> list[Phrase]:
        """End the stream: returns the most likely complete phrases that are left."""
        phrases = next((h.phrases(len(h.prefix)) for h in self._beam if h.is_complete), [])
        self._beam = [_Hypothesis((), (), 0, blank=1.0, best_blank=1.0)]
        return phrases

    def _extended(self, posteriors: list[float]) -> dict[tuple[int, ...], _Hypothesis]:
        """Every hypothesis after one more step: with a blank, its last token, or a new one."""
        step, size = self._step, len(posteriors)
        likely = self._likely(posteriors)
        found: dict[tuple[int, ...], _Hypothesis] = {}
        for old in self._beam:
            last = old.prefix[-1] if old.prefix else self._last
            continues = step - old.last_token_step <= self.repeat_steps
            same = found.get(old.prefix)
            if same is None:
                same = found[old.prefix] = _Hypothesis(old.prefix, old.final, old.state)
            same.add_blank(old, posteriors[0], step)
            if last:
                same.add_last_token(old, posteriors[last % size], step, after_blanks=continues)
            arcs = self.grammar.arcs[old.state]
            for token, posterior in likely:
                target = arcs.get(token)
                if target is None:
                    continue
                repeated = token % size == last % size
                share = old.blank if repeated else old.total
                if not share or (repeated and continues):
                    continue
                prefix = (*old.prefix, token)
                longer = found.get(prefix)
                if longer is None:
                    final = (*old.final, self.grammar.final[target])
                    longer = found[prefix] = _Hypothesis(prefix, final, target)
                longer.add_new_token(old, posterior, step, after_blanks_only=repeated)
        return found

    def _likely(self, posteriors: list[float]) -> list[tuple[int, float]]:
        """The tokens that may start at this step, each with its posterior."""
        likely = [
            (token, posterior)
            for token, posterior in enumerate(posteriors)
            if token and posterior >= self.floor
        ]
        if self.grammar.has_others:
            size = len(posteriors)
            likely += [(token + size, OTHER_SHARE * posterior) for token, posterior in likely]
        return likely

    def _prune(self, found: dict[tuple[int, ...], _Hypothesis]) -> None:
        """Keep the most likely, at least one of them complete; scale the best share to 1."""
        ranked = sorted(found.values(), key=attrgetter("total"), reverse=True)
        expired = self._step - self.pause_steps
        ranked = [h for h in ranked if h.is_complete or h.spans[-1].last > expired]
        if () in found and self._decided_at <= expired:
            found[()].state = 0  # what follows starts a new phrase
        beam = [h for h in ranked[: self.width] if h.total > self.least_share * ranked[0].total]
        if not any(h.is_complete for h in beam):
            beam += [h for h in ranked if h.is_complete and h.total][:1]
        if not beam:
            # The phrase is incomplete, and silence so unlikely that its share underflowed.
            beam = [_Hypothesis((), (), 0, blank=1.0, best_blank=1.0)]
        scale = 1 / beam[0].total
        best_scale = 1 / max(h.best for h in beam)
        for h in beam:
            h.blank, h.token = h.blank * scale, h.token * scale
            h.best_blank, h.best_token = h.best_blank * best_scale, h.best_token * best_scale
        self._beam = beam

    def _decide(self, horizon: int) -> list[Phrase]:
        """Decide tokens by the most likely hypothesis, and drop hypotheses that contradict."""
        best = self._beam[0]
        settled, is_open = best.settled(horizon)
        count = max(settled, self._agreed(best))
        decided = best.prefix[:count]
        self._beam = [
            h
            for h in self._beam
            if h.prefix[:count] == decided and (is_open or h.settled(horizon)[0] <= count)
        ]
        phrases = best.phrases(count)
        if phrases:
            for hypothesis in self._beam:
                hypothesis.drop(count)
            self._last, self._decided_at = decided[-1], self._step
        return phrases

    def _agreed(self, best: _Hypothesis) -> int:
        """How many leading tokens are complete phrases that nearly all hypotheses share."""
        everything = sum(h.total for h in self._beam)
        for count in range(len(best.prefix), 0, -1):
            if not best.final[count - 1]:
                continue
            prefix = best.prefix[:count]
            agreeing = sum(h.total for h in self._beam if h.prefix[:count] == prefix)
            if agreeing >= self.sure * everything:
                return count
        return 0


def _extend(span: Span, step: int, posterior: float) -> Span:
    return Span(span.token, span.first, step, max(span.peak, posterior))
