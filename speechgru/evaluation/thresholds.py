"""Chooses a threshold for each word: the fewest errors within a number of false alarms."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: The thresholds to choose from, in even steps of ln(p / (1 - p)), as those near 1 matter most.
THRESHOLDS = tuple(
    round(float(1 / (1 + np.exp(-logit))), 4) for logit in np.arange(-3.0, 7.01, 0.25)
)


class ThresholdTable:
    """False alarms and errors for each word and threshold: (W, K) each.

    Args:
        errors: infinite where a threshold is not to be chosen for a word.
        thresholds: from low to high.
        current: the words' thresholds of now, which are kept where others are no better.
    """

    def __init__(
        self,
        words: Sequence[str],
        alarms: NDArray[np.int64],
        errors: NDArray[np.float64],
        thresholds: Sequence[float] = THRESHOLDS,
        current: Sequence[float] = (),
    ) -> None:
        self.words, self.alarms, self.errors = words, alarms, errors
        self.thresholds = tuple(thresholds)
        self.current = [self.thresholds.index(threshold) for threshold in current]

    def total(self, thresholds: dict[str, float]) -> int:
        """The sum of the words' false alarms at these thresholds."""
        columns = [self.thresholds.index(thresholds[word]) for word in self.words]
        return int(self.alarms[np.arange(len(self.words)), columns].sum())

    def above(self, word: str, threshold: float) -> float | None:
        """The next higher threshold that may be chosen for a word; None above the last."""
        errors = self.errors[self.words.index(word)]
        choices = zip(self.thresholds, errors, strict=True)
        return next((t for t, cost in choices if t > threshold and np.isfinite(cost)), None)

    def best(self, limit: int) -> dict[str, float] | None:
        """The thresholds with the fewest errors and at most so many false alarms; None without any.

        Exact, by dynamic programming over the words: fewest[b] is the least sum of errors of the
        words so far with at most b false alarms (the multiple-choice knapsack problem).
        """
        limit = min(limit, int(self.alarms.max(axis=1).sum()))
        fewest = np.zeros(limit + 1)
        picks = np.zeros((len(self.words), limit + 1), np.int64)
        for word, (alarms, errors) in enumerate(zip(self.alarms, self.errors, strict=True)):
            totals = np.full(limit + 1, np.inf)
            now = self.current[word] if self.current else None
            for k in _representatives(alarms, errors, now):
                if alarms[k] > limit:
                    continue
                added = np.full(limit + 1, np.inf)
                added[alarms[k] :] = fewest[: limit + 1 - alarms[k]] + errors[k]
                better = added < totals
                totals, picks[word] = np.minimum(totals, added), np.where(better, k, picks[word])
            fewest = totals
        if not np.isfinite(fewest[limit]):
            return None
        left = int(np.argmax(fewest == fewest[limit]))  # of equally few errors, the fewest alarms
        thresholds = {}
        for word in reversed(range(len(self.words))):
            k = int(picks[word, left])
            thresholds[self.words[word]] = self.thresholds[k]
            left -= int(self.alarms[word, k])
        return {word: thresholds[word] for word in self.words}


def _representatives(
    alarms: NDArray[np.int64], errors: NDArray[np.float64], current: int | None
) -> list[int]:
    """One threshold of each stretch with the same counts: the middle, far from both edges.

    Or the current one, if it is there: nothing speaks for another.
    """
    choices = np.flatnonzero(np.isfinite(errors))
    changes = np.flatnonzero(np.diff(alarms[choices]) | (np.diff(errors[choices]) != 0)) + 1
    stretches = np.split(choices, changes)
    return [
        current if current is not None and current in stretch else int(stretch[len(stretch) // 2])
        for stretch in stretches
    ]
