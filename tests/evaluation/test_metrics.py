"""Metrics against identities and independent implementations."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from speechgru.decoding.events import isolated_word, last_word
from speechgru.evaluation.metrics import (
    Z_95,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    mean_interval,
    poisson_interval,
    precisions,
    recalls,
    wilson_interval,
)


@pytest.mark.parametrize(("correct", "n"), [(0, 7), (1, 10), (90, 100), (1437, 1480), (55, 55)])
def test_wilson_bounds_are_where_the_score_test_just_rejects(correct, n):
    """Both bounds p solve (correct / n - p)^2 = z^2 p (1 - p) / n."""
    for bound in wilson_interval(correct, n):
        distance = (correct / n - bound) ** 2
        assert distance == pytest.approx(Z_95**2 * bound * (1 - bound) / n, abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 7), (3, 8), (1437, 1480), (55, 55)])
def test_wilson_against_scipy(correct, n):
    expected = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_brackets_the_proportion_and_mirrors():
    low, high = wilson_interval(30, 40)
    assert low < 30 / 40 < high
    mirrored = wilson_interval(10, 40)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_wilson_at_the_edges_has_closed_forms():
    """0 of n: high = z^2 / (n + z^2); n of n: low = n / (n + z^2)."""
    low, high = wilson_interval(0, 25)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(Z_95**2 / (25 + Z_95**2))
    low, high = wilson_interval(25, 25)
    assert low == pytest.approx(25 / (25 + Z_95**2))
    assert high == pytest.approx(1.0, abs=1e-12)
    assert 0.0 <= low <= high <= 1.0


def test_wilson_contains_what_was_measured():
    for n in range(1, 200):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


def test_wilson_without_clips():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="11 correct of 10"):
        wilson_interval(11, 10)


def test_wilson_covers_the_truth_about_95_times_in_100():
    draws = np.random.default_rng(0).binomial(400, 0.93, size=4000)
    intervals = [wilson_interval(int(correct), 400) for correct in draws]
    covered = np.mean([low <= 0.93 <= high for low, high in intervals])
    assert 0.93 < covered < 0.97


def test_confusion_matrix_counts_every_pair():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    confusion = confusion_matrix(truth, predicted, 5)
    for row in range(5):
        for column in range(5):
            assert confusion[row, column] == np.sum((truth == row) & (predicted == column))
    assert accuracy(confusion) == pytest.approx(np.mean(truth == predicted))


def test_confusion_matrix_keeps_unused_labels():
    assert confusion_matrix(np.array([0]), np.array([0]), 3).shape == (3, 3)


def test_recall_precision_and_balance_against_sklearn():
    rng = np.random.default_rng(2)
    truth = rng.choice(4, 500, p=[0.7, 0.1, 0.1, 0.1])
    predicted = np.where(rng.random(500) < 0.8, truth, rng.integers(0, 4, 500))
    confusion = confusion_matrix(truth, predicted, 4)
    assert recalls(confusion) == pytest.approx(metrics.recall_score(truth, predicted, average=None))
    assert precisions(confusion) == pytest.approx(
        metrics.precision_score(truth, predicted, average=None)
    )
    expected = metrics.balanced_accuracy_score(truth, predicted)
    assert balanced_accuracy(confusion) == pytest.approx(expected)


def test_labels_without_clips_do_not_count():
    confusion = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]])
    assert math.isnan(recalls(confusion)[2])
    assert precisions(confusion) == pytest.approx([1.0, 5 / 7, 0.0])
    assert balanced_accuracy(confusion) == pytest.approx((0.8 + 0.5) / 2)
    assert math.isnan(accuracy(np.zeros((2, 2), dtype=int)))


def test_small_class_weighs_as_much_as_a_large_one():
    confusion = np.array([[990, 0], [10, 0]])
    assert accuracy(confusion) == pytest.approx(0.99)
    assert balanced_accuracy(confusion) == pytest.approx(0.5)


def _log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def test_isolated_word_depends_on_the_tail_only():
    logits = np.random.default_rng(3).normal(size=(50, 6))
    scores = isolated_word(_log_softmax(logits), 15)
    assert np.exp(scores).sum() == pytest.approx(1.0)
    changed = logits.copy()
    changed[:35] += np.random.default_rng(4).normal(size=(35, 6)) * 10
    assert isolated_word(_log_softmax(changed), 15) == pytest.approx(scores)
    changed[35] += np.arange(6)
    assert np.abs(isolated_word(_log_softmax(changed), 15) - scores).max() > 0.01


def test_isolated_word_is_the_normalized_geometric_mean():
    posteriors = np.array([[0.1, 0.9], [0.5, 0.5], [0.4, 0.6]])
    geometric = np.sqrt(posteriors[1] * posteriors[2])
    expected = geometric / geometric.sum()
    assert np.exp(isolated_word(np.log(posteriors), 2)) == pytest.approx(expected)


def test_isolated_word_takes_batches_and_short_clips():
    batch = _log_softmax(np.random.default_rng(5).normal(size=(4, 3, 6)))
    scores = isolated_word(batch, 10)
    assert scores.shape == (4, 6)
    for row in range(4):
        assert scores[row] == pytest.approx(isolated_word(batch[row], 3))


@pytest.mark.parametrize(("steps", "tail"), [(0, 5), (5, 0)])
def test_isolated_word_needs_a_step(steps, tail):
    with pytest.raises(ValueError, match="at least one"):
        isolated_word(np.zeros((steps, 3)), tail)


@pytest.mark.parametrize("count", [1, 3, 10, 50])
def test_poisson_interval_leaves_out_a_fortieth_at_each_end(count):
    """From the Poisson distribution: P(X >= count) and P(X <= count) at the bounds."""
    low, high = poisson_interval(count)

    def at_most(k, mean):
        return sum(math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in range(k + 1))

    assert 1 - at_most(count - 1, low) == pytest.approx(0.025, abs=1e-6)
    assert at_most(count, high) == pytest.approx(0.025, abs=1e-6)


def test_poisson_interval_of_zero():
    low, high = poisson_interval(0)
    assert low == 0.0
    assert high == pytest.approx(-math.log(0.025), abs=1e-6)


def test_last_word_is_that_before_the_final_silence():
    word, other, silence = np.log([[0.02, 0.9, 0.08], [0.9, 0.05, 0.05], [0.02, 0.02, 0.96]])
    clip = np.stack([silence] * 5 + [other] * 6 + [word] * 6 + [silence] * 20)
    assert last_word(clip, 4, silence=2) == pytest.approx(isolated_word(clip[:17], 4))
    assert last_word(clip[:11], 4, silence=2) == pytest.approx(isolated_word(clip[:11], 4))


def test_there_may_be_no_last_word():
    silence, unsure = np.log([[0.02, 0.02, 0.96], [0.48, 0.47, 0.05]])
    assert last_word(np.stack([silence] * 9), 4, silence=2) is None
    assert last_word(np.stack([unsure] * 9 + [silence] * 9), 4, silence=2) is None
    assert last_word(silence[np.newaxis], 4, silence=2) is None


@pytest.mark.parametrize("n", [2, 6, 20])
def test_mean_interval_covers_the_truth_about_95_times_in_100(n):
    samples = np.random.default_rng(n).normal(3.0, 2.0, (4_000, n))
    covered = [low <= 3.0 <= high for low, high in map(mean_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_mean_of_one_value_may_be_anything():
    assert mean_interval([3.0]) == (-math.inf, math.inf)
