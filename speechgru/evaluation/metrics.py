"""Figures of a classification, from counts: accuracy and its interval, confusions, recall."""

import math

import numpy as np
from numpy.typing import NDArray

#: Two-sided 95 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054

Counts = NDArray[np.int64]


def wilson_interval(correct: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, `correct` of `n`; (0, 1) where n is 0.

    The proportions p that a z-test does not reject: |correct / n - p| <= z sqrt(p (1 - p) / n).
    `correct` may be a mean over repetitions on the same n.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), pages 209 to 212.

    >>> [round(bound, 4) for bound in wilson_interval(90, 100)]
    [0.8256, 0.9448]
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n}: at least 0 and at most n is needed")
    if n == 0:
        return 0.0, 1.0
    proportion = correct / n
    scale = 1 + z**2 / n
    centre = (proportion + z**2 / (2 * n)) / scale
    half = z / scale * math.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    # Rounding must not push the bounds of 0 of n and n of n over the edge.
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], v: int) -> Counts:
    """How often each true id (row) was predicted as each id (column): (N,), (N,) -> (V, V)."""
    pairs = truth.astype(np.int64) * v + predicted
    return np.bincount(pairs, minlength=v * v).reshape(v, v)


def accuracy(confusion: Counts) -> float:
    """The share of all clips that is right; NaN without clips."""
    return _share(np.trace(confusion), confusion.sum()).item()


def recalls(confusion: Counts) -> NDArray[np.float64]:
    """Of each label's clips, the share that was recognized: (V, V) -> (V,); NaN without clips."""
    return _share(np.diag(confusion), confusion.sum(axis=1))


def precisions(confusion: Counts) -> NDArray[np.float64]:
    """Of each label's predictions, the share that is right: (V, V) -> (V,); NaN if never said."""
    return _share(np.diag(confusion), confusion.sum(axis=0))


def balanced_accuracy(confusion: Counts) -> float:
    """The mean recall of the labels that have clips: every label weighs the same."""
    has_clips = confusion.sum(axis=1) > 0
    return float(recalls(confusion)[has_clips].mean()) if has_clips.any() else math.nan


def _share(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    part, whole = np.asarray(part), np.asarray(whole)
    return np.divide(part, whole, out=np.full(whole.shape, math.nan), where=whole > 0)
