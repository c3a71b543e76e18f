"""Metrics computed from counts: accuracy, recall, confusions, and 95 % intervals."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Two-sided 95 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054

#: What one false alarm per hour and word costs, in percent of missed words: whoever is missed says
#: it again, but what a false alarm has set off is done.
PERCENT_PER_ALARM = 4.0

Counts = NDArray[np.int64]


def wilson_interval(correct: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, `correct` of `n`; (0, 1) if n is 0.

    The proportions p that a z-test does not reject: |correct / n - p| <= z sqrt(p (1 - p) / n).
    `correct` may be a mean over repetitions on the same n.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), pages 209 to 212.

    >>> [round(bound, 4) for bound in wilson_interval(90, 100)]
    [0.8256, 0.9448]
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n}: must be at least 0 and at most n")
    if n == 0:
        return 0.0, 1.0
    proportion = correct / n
    scale = 1 + z**2 / n
    centre = (proportion + z**2 / (2 * n)) / scale
    half = z / scale * math.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    # The bounds of 0 of n and n of n, which rounding would move.
    return 0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half


def spread_of_mean(differences: NDArray[np.floating]) -> float:
    """Half the width of the 95 % interval (normal) of the mean of paired differences (N,), N > 1.

    The differences are between -1 and 1. Where all are equal, it is Wilson's for none of N.
    """
    spread = Z_95 * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return spread or wilson_interval(0, len(differences))[1]


def poisson_interval(count: int, z: float = Z_95) -> tuple[float, float]:
    """The exact interval of the mean of a Poisson count.

    The means for which neither `count` or more, nor `count` or less, is rarer than the tail beyond
    z.

    Source: F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936).

    >>> [round(bound, 2) for bound in poisson_interval(10)]
    [4.8, 18.39]
    """
    tail = math.erfc(z / math.sqrt(2)) / 2
    return _poisson_mean(count - 1, 1 - tail) if count else 0.0, _poisson_mean(count, tail)


def rate_interval(count: int, hours: float) -> tuple[float, float]:
    """The interval of a rate per hour, of a Poisson count in so many hours; infinite without any.

    >>> [round(bound, 1) for bound in rate_interval(10, 2.0)]
    [2.4, 9.2]
    """
    low, high = poisson_interval(count)
    return (low / hours, high / hours) if hours else (0.0, math.inf)


def _poisson_mean(count: int, probability: float) -> float:
    """The mean for which at most `count` has this probability, by bisection."""
    numbers = np.arange(count + 1)
    log_factorials = np.cumsum(np.log(np.maximum(numbers, 1)))
    low, high = 1e-9, count + 10 * math.sqrt(count + 1) + 10
    for _ in range(60):
        mean = (low + high) / 2
        at_most = np.exp(numbers * math.log(mean) - mean - log_factorials).sum()
        low, high = (mean, high) if at_most > probability else (low, mean)
    return (low + high) / 2


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The interval of the mean of all from whom these N values are a sample, by Student's t.

    Infinite for one value.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).

    >>> [round(bound, 2) for bound in mean_interval([7.8, 2.2, 3.2, 13.8, 5.8, 3.8])]
    [1.62, 10.58]
    """
    from scipy import special

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return -math.inf, math.inf
    half = float(special.stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
    return mean - half, mean + half


def confusion_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], v: int) -> Counts:
    """How often each true id (row) was predicted as each id (column): (N,), (N,) -> (V, V)."""
    pairs = truth.astype(np.int64) * v + predicted
    return np.bincount(pairs, minlength=v * v).reshape(v, v)


def accuracy(confusion: Counts) -> float:
    """The share of all clips that is right; NaN without clips."""
    return _share(np.trace(confusion), confusion.sum()).item()


def recalls(confusion: Counts) -> NDArray[np.float64]:
    """The share of each label's clips that was recognized: (V, V) -> (V,); NaN without clips."""
    return _share(np.diag(confusion), confusion.sum(axis=1))


def precisions(confusion: Counts) -> NDArray[np.float64]:
    """The share of each label's predictions that is right: (V, V) -> (V,); NaN without any."""
    return _share(np.diag(confusion), confusion.sum(axis=0))


def balanced_accuracy(confusion: Counts) -> float:
    """The mean recall of the labels that have clips, so that every label has the same weight."""
    has_clips = confusion.sum(axis=1) > 0
    return float(recalls(confusion)[has_clips].mean()) if has_clips.any() else math.nan


def _share(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    part, whole = np.asarray(part), np.asarray(whole)
    return np.divide(part, whole, out=np.full(whole.shape, math.nan), where=whole > 0)
