"""CTC searches and sequence scores against sums over all paths."""

import re
from collections import defaultdict
from itertools import groupby, product

import numpy as np
import pytest
from posteriors import GRAMMARS, LABELS, WORDS, random_posteriors

from speechgru.decoding.ctc import sequence_scores
from speechgru.decoding.grammar import any_words, parse_grammar
from speechgru.decoding.prefix_beam import BestPath, PrefixBeam
from speechgru.labels import Spelling


def sums_over_paths(posteriors):
    """The probability of each token sequence: the sum over all paths that give it."""
    sums = defaultdict(float)
    for path in product(range(posteriors.shape[1]), repeat=len(posteriors)):
        tokens = tuple(token for token, _ in groupby(path) if token)
        sums[tokens] += np.prod([p[token] for p, token in zip(posteriors, path, strict=True)])
    return sums


def most_likely(sums, accepted=lambda tokens: True):
    """The most likely accepted sequence, and how many times more likely it is than the next."""
    ranked = sorted(((p, tokens) for tokens, p in sums.items() if accepted(tokens)), reverse=True)
    return ranked[0][1], ranked[0][0] / ranked[1][0] if len(ranked) > 1 else np.inf


def exhaustive_search(grammar):
    """A beam that drops nothing and decides at the end."""
    return PrefixBeam(grammar, 10**6, 10**6, 10**6, sure=2.0, least_share=0.0)


def search_result(search, posteriors):
    phrases = [phrase for row in posteriors.tolist() for phrase in search.step(row)]
    return [span for phrase in phrases + search.flush() for span in phrase]


def tokens_of(spans):
    return tuple(span.token for span in spans)


@pytest.mark.parametrize("seed", range(15))
def test_the_beam_finds_the_most_likely_sequence(seed):
    rng = np.random.default_rng(seed)
    posteriors = random_posteriors(rng, rng.integers(1, 7), 4, rng.uniform(0.3, 4))
    tokens, _ = most_likely(sums_over_paths(posteriors))
    assert (
        tokens_of(search_result(exhaustive_search(any_words(LABELS, WORDS)), posteriors)) == tokens
    )


@pytest.mark.parametrize("text", GRAMMARS)
@pytest.mark.parametrize("seed", range(5))
def test_with_a_grammar_it_finds_the_most_likely_complete_phrases(text, seed):
    rng = np.random.default_rng([seed, len(text)])
    posteriors = random_posteriors(rng, rng.integers(1, 7), 4, rng.uniform(0.3, 4))
    letters = re.compile(f"({GRAMMARS[text]})*")
    tokens, _ = most_likely(
        sums_over_paths(posteriors),
        lambda tokens: letters.fullmatch("".join(WORDS.tokens[token][0] for token in tokens)),
    )
    assert (
        tokens_of(search_result(exhaustive_search(parse_grammar(text, WORDS)), posteriors))
        == tokens
    )


@pytest.mark.parametrize("seed", range(5))
def test_in_characters_it_finds_the_most_likely_words(seed):
    rng = np.random.default_rng(seed)
    spelling = Spelling.of(("on", "o"), "characters")
    posteriors = random_posteriors(rng, 5, len(spelling.tokens), rng.uniform(1, 4))
    words = re.compile("((on?)_)*")
    tokens, _ = most_likely(
        sums_over_paths(posteriors),
        lambda tokens: words.fullmatch("".join(spelling.tokens[token][0] for token in tokens)),
    )
    assert (
        tokens_of(search_result(exhaustive_search(any_words(("on", "o"), spelling)), posteriors))
        == tokens
    )


@pytest.mark.parametrize("seed", range(12))
def test_best_path_is_the_most_likely_path(seed):
    rng = np.random.default_rng(seed)
    posteriors = random_posteriors(rng, rng.integers(1, 30), 4, rng.uniform(0.3, 4))
    path = [int(row.argmax()) for row in posteriors]
    spans, step = [], 0
    for token, run in groupby(path):
        steps = range(step, step := step + len(list(run)))
        if token:
            peak = max(posteriors[t, token] for t in steps)
            spans.append((token, steps[0], steps[-1], peak))
    assert search_result(BestPath(), posteriors) == spans


@pytest.mark.parametrize("seed", range(4))
def test_sequences_are_scored_by_the_sum_over_their_paths(seed):
    rng = np.random.default_rng(seed)
    clips = np.stack([random_posteriors(rng, 5, 4, 2.0) for _ in range(2)])
    sequences = [(), (1,), (2, 2), (1, 2, 3), (3, 3, 3), (1, 2, 1, 2, 1), (1, 1, 1, 1)]
    expected = [[sums_over_paths(p)[tokens] for tokens in sequences] for p in clips]
    np.testing.assert_allclose(np.exp(sequence_scores(np.log(clips), sequences)), expected)
