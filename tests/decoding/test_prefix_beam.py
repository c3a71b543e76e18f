"""The search of CTC's answers and the scores of sequences, against every path there is."""

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
    """Of each sequence of tokens the probability: the sum over all paths that leave it."""
    sums = defaultdict(float)
    for path in product(range(posteriors.shape[1]), repeat=len(posteriors)):
        said = tuple(token for token, _ in groupby(path) if token)
        sums[said] += np.prod([p[token] for p, token in zip(posteriors, path, strict=True)])
    return sums


def likeliest(sums, accepted=lambda said: True):
    """The likeliest sequence that is accepted, and how clearly."""
    ranked = sorted(((p, said) for said, p in sums.items() if accepted(said)), reverse=True)
    return ranked[0][1], ranked[0][0] / ranked[1][0] if len(ranked) > 1 else np.inf


def exhaustive(grammar):
    """A beam that gives up nothing and decides at the end."""
    return PrefixBeam(grammar, 10**6, 10**6, 10**6, sure=2.0, least_share=0.0)


def searched(search, posteriors):
    phrases = [phrase for row in posteriors.tolist() for phrase in search.step(row)]
    return [span for phrase in phrases + search.flush() for span in phrase]


def tokens_of(spans):
    return tuple(span.token for span in spans)


@pytest.mark.parametrize("seed", range(15))
def test_the_beam_finds_the_likeliest_of_all_sequences(seed):
    rng = np.random.default_rng(seed)
    posteriors = random_posteriors(rng, rng.integers(1, 7), 4, rng.uniform(0.3, 4))
    said, _ = likeliest(sums_over_paths(posteriors))
    assert tokens_of(searched(exhaustive(any_words(LABELS, WORDS)), posteriors)) == said


@pytest.mark.parametrize("text", GRAMMARS)
@pytest.mark.parametrize("seed", range(5))
def test_with_a_grammar_it_finds_the_likeliest_whole_phrases(text, seed):
    rng = np.random.default_rng([seed, len(text)])
    posteriors = random_posteriors(rng, rng.integers(1, 7), 4, rng.uniform(0.3, 4))
    letters = re.compile(f"({GRAMMARS[text]})*")
    said, _ = likeliest(
        sums_over_paths(posteriors),
        lambda said: letters.fullmatch("".join(WORDS.tokens[token][0] for token in said)),
    )
    assert tokens_of(searched(exhaustive(parse_grammar(text, WORDS)), posteriors)) == said


@pytest.mark.parametrize("seed", range(5))
def test_in_characters_it_finds_the_likeliest_words(seed):
    rng = np.random.default_rng(seed)
    spelling = Spelling.of(("on", "o"), "characters")
    posteriors = random_posteriors(rng, 5, len(spelling.tokens), rng.uniform(1, 4))
    words = re.compile("((on?)_)*")
    said, _ = likeliest(
        sums_over_paths(posteriors),
        lambda said: words.fullmatch("".join(spelling.tokens[token][0] for token in said)),
    )
    assert tokens_of(searched(exhaustive(any_words(("on", "o"), spelling)), posteriors)) == said


@pytest.mark.parametrize("seed", range(12))
def test_best_path_is_the_likeliest_path(seed):
    rng = np.random.default_rng(seed)
    posteriors = random_posteriors(rng, rng.integers(1, 30), 4, rng.uniform(0.3, 4))
    path = [int(row.argmax()) for row in posteriors]
    spans, step = [], 0
    for token, run in groupby(path):
        steps = range(step, step := step + len(list(run)))
        if token:
            peak = max(posteriors[t, token] for t in steps)
            spans.append((token, steps[0], steps[-1], peak))
    assert searched(BestPath(), posteriors) == spans


@pytest.mark.parametrize("seed", range(4))
def test_sequences_are_scored_by_the_sum_over_their_paths(seed):
    rng = np.random.default_rng(seed)
    clips = np.stack([random_posteriors(rng, 5, 4, 2.0) for _ in range(2)])
    sequences = [(), (1,), (2, 2), (1, 2, 3), (3, 3, 3), (1, 2, 1, 2, 1), (1, 1, 1, 1)]
    expected = [[sums_over_paths(p)[said] for said in sequences] for p in clips]
    np.testing.assert_allclose(np.exp(sequence_scores(np.log(clips), sequences)), expected)
