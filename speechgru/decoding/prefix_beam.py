"""Searches through the posteriors of a CTC head for what was said. Needs no torch.

A search hears one step after the other and gives each token once, as soon as it is decided.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol

from speechgru.decoding.grammar import Grammar

#: A word that is in no phrase is by this factor less likely than one that is.
OTHER_SHARE = 0.3
#: Hypotheses that are less likely than the best one by this factor are given up.
LEAST_SHARE = 1e-6


class Span(NamedTuple):
    """A token, the first and the last step that say it, and its highest posterior there."""

    token: int
    first: int
    last: int
    peak: float


#: Tokens that are decided together.
Phrase = tuple[Span, ...]

_NOTHING = Span(0, 0, 0, 1.0)


class Search(Protocol):
    """Steps of posteriors to tokens, those of a phrase together."""

    def step(self, posteriors: list[float]) -> list[Phrase]:
        """The next step, (V,), the blank first; gives the phrases that it settles."""
        ...

    def flush(self) -> list[Phrase]:
        """There are no more steps: gives the phrases that were still open."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...


class BestPath:
    """The likeliest token of each step, without repetitions and blanks.

    Where the grammar has other words than those of its phrases, they are searched for as tokens of
    their own, V higher: what is said besides is heard as itself, and not as a phrase.

    A token that comes again within `repeat_steps` goes on.
    """

    def __init__(self, repeat_steps: int = 0) -> None:
        self.repeat_steps = repeat_steps
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._step = -1
        #: What is said now, and whether it was given already; what was said last.
        self._open, self._given, self._ended = _NOTHING, False, _NOTHING

    def step(self, posteriors: list[float]) -> list[Phrase]:
        """The next step, (V,); gives the token that ended before it, if there is one."""
        self._step += 1
        peak = max(posteriors)
        token = posteriors.index(peak)
        if token == self._open.token:
            self._open = _prolonged(self._open, self._step, peak)
            return []
        ended = self._end()
        again = token == self._ended.token and self._step - self._ended.last <= self.repeat_steps
        self._open, self._given = Span(token, self._step, self._step, peak), again
        return ended

    def flush(self) -> list[Phrase]:
        """The token that was still said at the end."""
        return self._end()

    def _end(self) -> list[Phrase]:
        ended, self._open = self._open, _NOTHING
        if not ended.token:
            return []
        self._ended = ended
        return [] if self._given else [(ended,)]


@dataclass(slots=True)
class _Hypothesis:
    """Tokens that are not decided yet, and how likely they are all that was said.

    `blank` and `token` are the shares of the alignments that end in a blank, and in the last token;
    `best_blank` and `best_token` those of the likeliest alignment of each kind, with its spans.
    `said` is the last step before the blanks. `final` tells for each token whether whole phrases
    have been said after it.
    """

    prefix: tuple[int, ...]
    final: tuple[bool, ...]
    state: int
    blank: float = 0.0
    token: float = 0.0
    best_blank: float = 0.0
    best_token: float = 0.0
    said: int = -1
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
    def whole(self) -> bool:
        """Whether it ends with a phrase."""
        return not self.final or self.final[-1]

    def settled(self, horizon: int) -> tuple[int, bool]:
        """How many of its tokens are whole phrases that ended by the step `horizon`.

        And whether a phrase that began by then goes on.
        """
        count, goes_on = 0, False
        for depth, (span, final) in enumerate(zip(self.spans, self.final, strict=True), 1):
            if span.last > horizon:
                break
            count, goes_on = (depth, False) if final else (count, True)
        return count, goes_on

    def phrases(self, count: int) -> list[Phrase]:
        """The first tokens, which end with a phrase."""
        ends = [i + 1 for i in range(count) if self.final[i]]
        return [self.spans[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def drop(self, count: int) -> None:
        """Forget the first tokens: they are decided."""
        self.prefix, self.final = self.prefix[count:], self.final[count:]
        self.spans_blank, self.spans_token = self.spans_blank[count:], self.spans_token[count:]


class PrefixBeam:
    """The likeliest tokens by the sum over their alignments, among those a grammar allows.

        p(y) = sum over all paths that y is left of, without repetitions and then without blanks,
               of the product of their posteriors

    Tokens that all likely hypotheses agree on are decided at once, others when the likeliest
    hypothesis has said them `settle_steps` ago: what then contradicts is given up, so that neither
    memory nor time grows. A phrase is decided as a whole, and given up where its next word has not
    begun `pause_steps` after the last one.

    Where the grammar has other words than those of its phrases, they are searched for as tokens of
    their own, V higher: what is said besides is heard as itself, and not as a phrase.

    A token that comes again within `repeat_steps` goes on: otherwise one that is said for long has
    so many places for a blank that twice would be likelier than once.

    Source: A. Hannun et al., "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs", arXiv:1408.2873, algorithm 1; A. Graves et al., "Connectionist
    temporal classification", ICML 2006.

    Args:
        width: most hypotheses that are kept.
        sure: share of the hypotheses that must agree on a token that is decided at once.
        floor: a token begins only where its posterior is at least this.
        least_share: hypotheses below this share of the best one are given up.
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
        """Begin anew."""
        self._step = -1
        #: The last token that was decided, and when: it may go on, and so may its phrase.
        self._last, self._decided_at = 0, 0
        self._beam = [_Hypothesis((), (), 0, blank=1.0, best_blank=1.0)]

    def step(self, posteriors: list[float]) -> list[Phrase]:
        """The next step, (V,); gives the phrases that it settles."""
        self._step += 1
        self._prune(self._extended(posteriors))
        if not any(h.prefix for h in self._beam):
            return []
        return self._decide(self._step - self.settle_steps)

    def flush(self) -> list[Phrase]:
        """The likeliest whole phrases of all that is left."""
        phrases = next((h.phrases(len(h.prefix)) for h in self._beam if h.whole), [])
        self._beam = [_Hypothesis((), (), 0, blank=1.0, best_blank=1.0)]
        return phrases

    def _extended(self, posteriors: list[float]) -> dict[tuple[int, ...], _Hypothesis]:
        """Every hypothesis after one more step: with a blank, its last token, or another one."""
        step, blank, size = self._step, posteriors[0], len(posteriors)
        likely = [
            (token, posterior)
            for token, posterior in enumerate(posteriors)
            if token and posterior >= self.floor
        ]
        if self.grammar.has_others:
            likely += [(token + size, OTHER_SHARE * posterior) for token, posterior in likely]
        found: dict[tuple[int, ...], _Hypothesis] = {}
        for old in self._beam:
            last = old.prefix[-1] if old.prefix else self._last
            new = found.get(old.prefix)
            if new is None:
                new = found[old.prefix] = _Hypothesis(old.prefix, old.final, old.state)
            new.blank += old.total * blank
            new.best_blank, new.spans_blank = old.best * blank, old.spans
            new.said = old.said if old.best_blank >= old.best_token else step - 1
            goes_on = step - old.said <= self.repeat_steps
            if last:
                again = posteriors[last % size]
                new.token += (old.total if goes_on else old.token) * again
                best, spans = (
                    (old.best, old.spans) if goes_on else (old.best_token, old.spans_token)
                )
                if best * again > new.best_token:
                    new.best_token = best * again
                    new.spans_token = spans and (*spans[:-1], _prolonged(spans[-1], step, again))
            arcs = self.grammar.arcs[old.state]
            for token, posterior in likely:
                target = arcs.get(token)
                if target is None:
                    continue
                repeated = token % size == last % size
                share = old.blank if repeated else old.total
                if not share or (repeated and goes_on):
                    continue
                prefix = (*old.prefix, token)
                longer = found.get(prefix)
                if longer is None:
                    final = (*old.final, self.grammar.final[target])
                    longer = found[prefix] = _Hypothesis(prefix, final, target)
                longer.token += share * posterior
                best, spans = (
                    (old.best_blank, old.spans_blank) if repeated else (old.best, old.spans)
                )
                if best * posterior > longer.best_token:
                    longer.best_token = best * posterior
                    longer.spans_token = (*spans, Span(token, step, step, posterior))
        return found

    def _prune(self, found: dict[tuple[int, ...], _Hypothesis]) -> None:
        """Keep the likeliest, at least one of them whole; the best one's share becomes 1."""
        ranked = sorted(found.values(), key=attrgetter("total"), reverse=True)
        expired = self._step - self.pause_steps
        ranked = [h for h in ranked if h.whole or h.spans[-1].last > expired]
        if () in found and self._decided_at <= expired:
            found[()].state = 0  # what follows begins a phrase
        kept = [h for h in ranked[: self.width] if h.total > self.least_share * ranked[0].total]
        if not any(h.whole for h in kept):
            kept += [h for h in ranked if h.whole and h.total][:1]
        if not kept:
            # What was said is no whole phrase, and so unlikely to be nothing that no share is left.
            kept = [_Hypothesis((), (), 0, blank=1.0, best_blank=1.0)]
        scale = 1 / kept[0].total
        best_scale = 1 / max(h.best for h in kept)
        for h in kept:
            h.blank, h.token = h.blank * scale, h.token * scale
            h.best_blank, h.best_token = h.best_blank * best_scale, h.best_token * best_scale
        self._beam = kept

    def _decide(self, horizon: int) -> list[Phrase]:
        """Decide what the likeliest hypothesis tells, and give up what contradicts."""
        best = self._beam[0]
        settled, goes_on = best.settled(horizon)
        count = max(settled, self._agreed(best))
        decided = best.prefix[:count]
        self._beam = [
            h
            for h in self._beam
            if h.prefix[:count] == decided and (goes_on or h.settled(horizon)[0] <= count)
        ]
        phrases = best.phrases(count)
        if phrases:
            for hypothesis in self._beam:
                hypothesis.drop(count)
            self._last, self._decided_at = decided[-1], self._step
        return phrases

    def _agreed(self, best: _Hypothesis) -> int:
        """How many of its tokens are whole phrases that nearly all hypotheses begin with."""
        everything = sum(h.total for h in self._beam)
        for count in range(len(best.prefix), 0, -1):
            if not best.final[count - 1]:
                continue
            prefix = best.prefix[:count]
            agreeing = sum(h.total for h in self._beam if h.prefix[:count] == prefix)
            if agreeing >= self.sure * everything:
                return count
        return 0


def _prolonged(span: Span, step: int, posterior: float) -> Span:
    return Span(span.token, span.first, step, max(span.peak, posterior))
