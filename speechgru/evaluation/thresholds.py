"""Choosing a threshold for each word: the fewest errors within a number of false alarms."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Thresholds that are tried, even steps of ln(p / (1 - p)): what matters lies near 1.
THRESHOLDS = tuple(
    round(float(1 / (1 + np.exp(-logit))), 4) for logit in np.arange(-3.0, 7.01, 0.25)
)


class Choices:
    """For each word and threshold its false alarms and its errors: (W, K) each."""

    def __init__(
        self,
        words: Sequence[str],
        alarms: NDArray[np.int64],
        errors: NDArray[np.float64],
    ) -> None:
        self.words, self.alarms, self.errors = words, alarms, errors

    def total(self, thresholds: dict[str, float]) -> int:
        """The false alarms of a choice, word by word."""
        places = [THRESHOLDS.index(thresholds[word]) for word in self.words]
        return int(self.alarms[np.arange(len(self.words)), places].sum())

    def best(self, most: int) -> dict[str, float] | None:
        """The fewest errors with at most so many false alarms; None where there are always more.

        Exact, by dynamic programming over the words: fewest[b] is the least sum of errors of the
        words so far with at most b false alarms (the multiple-choice knapsack problem).
        """
        most = min(most, int(self.alarms.max(axis=1).sum()))
        fewest = np.zeros(most + 1)
        picks = np.zeros((len(self.words), most + 1), np.int64)
        for word, (alarms, errors) in enumerate(zip(self.alarms, self.errors, strict=True)):
            totals = np.full(most + 1, np.inf)
            for k in _representatives(alarms, errors):
                if alarms[k] > most:
                    continue
                added = np.full(most + 1, np.inf)
                added[alarms[k] :] = fewest[: most + 1 - alarms[k]] + errors[k]
                better = added < totals
                totals, picks[word] = np.minimum(totals, added), np.where(better, k, picks[word])
            fewest = totals
        if not np.isfinite(fewest[most]):
            return None
        left = int(np.argmax(fewest == fewest[most]))  # the fewest alarms of equally good choices
        thresholds = {}
        for word in reversed(range(len(self.words))):
            k = int(picks[word, left])
            thresholds[self.words[word]] = THRESHOLDS[k]
            left -= int(self.alarms[word, k])
        return {word: thresholds[word] for word in self.words}


def _representatives(alarms: NDArray[np.int64], errors: NDArray[np.float64]) -> list[int]:
    """One threshold of each stretch that gives the same: its middle, far from both edges."""
    changes = np.flatnonzero(np.diff(alarms) | (np.diff(errors) != 0)) + 1
    stretches = np.split(np.arange(len(alarms)), changes)
    return [int(stretch[len(stretch) // 2]) for stretch in stretches]
