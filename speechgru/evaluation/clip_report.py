"""What an evaluation found: every clip with what the model made of it."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.corpora.corpus import Example
from speechgru.evaluation.metrics import (
    Counts,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    precisions,
    wilson_interval,
)


@dataclass(frozen=True, eq=False)
class Confusion:
    """A label taken for another one.

    `mistakes` are its clips, each with the probability that the model gave the wrong label; the
    most confident first.
    """

    label: str
    recognized: str
    mistakes: tuple[tuple[Example, float], ...]

    def as_dict(self, files: int) -> dict[str, Any]:
        """For JSON, with the first `files` files."""
        return {
            "label": self.label,
            "recognized": self.recognized,
            "count": len(self.mistakes),
            "files": [
                {"file": str(example.path), "start_s": example.start_s, "score": score}
                for example, score in self.mistakes[:files]
                if example.path is not None
            ],
        }


@dataclass(frozen=True, eq=False)
class ClipReport:
    """A model's answers for the N clips of a split.

    `scores` (N, V) are log-probabilities in the order of `labels`, `truth` (N,) the ids of the
    right ones.
    """

    protocol: str
    split: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    truth: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def n(self) -> int:
        """Clips."""
        return len(self.truth)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The id of the best label of each clip, (N,)."""
        return self.scores.argmax(axis=1)

    @cached_property
    def confusion(self) -> Counts:
        """How often each label (row) was recognized as each (column), (V, V)."""
        return confusion_matrix(self.truth, self.predicted, len(self.labels))

    @property
    def shown(self) -> NDArray[np.int64]:
        """The ids of the labels that were said or recognized at all."""
        return np.flatnonzero(self.confusion.sum(axis=0) + self.confusion.sum(axis=1))

    @property
    def accuracy(self) -> float:
        """The share of clips that is right."""
        return accuracy(self.confusion)

    @property
    def ci95(self) -> tuple[float, float]:
        """The Wilson interval of the accuracy."""
        return wilson_interval(int(np.trace(self.confusion)), self.n)

    @property
    def balanced_accuracy(self) -> float:
        """The mean over labels of the share that is right."""
        return balanced_accuracy(self.confusion)

    @cached_property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Of each label that has clips: n, correct, accuracy, ci95, and its precision.

        The precision, the share that is right where the model said so, is None if it never did.
        """
        found = {}
        for label, row, precision in zip(
            self.labels, self.confusion, precisions(self.confusion), strict=True
        ):
            if n := int(row.sum()):
                correct = int(row[self.labels.index(label)])
                found[label] = {
                    "n": n,
                    "correct": correct,
                    "accuracy": correct / n,
                    "ci95": wilson_interval(correct, n),
                    "precision": None if np.isnan(precision) else float(precision),
                }
        return found

    @cached_property
    def confusions(self) -> tuple[Confusion, ...]:
        """Every pair of labels that was confused, the most frequent first."""
        mistakes: dict[tuple[int, int], list[tuple[Example, float]]] = defaultdict(list)
        for i in np.flatnonzero(self.truth != self.predicted):
            pair = int(self.truth[i]), int(self.predicted[i])
            mistakes[pair].append((self.examples[i], float(np.exp(self.scores[i, pair[1]]))))
        found = [
            Confusion(
                self.labels[true],
                self.labels[said],
                tuple(sorted(clips, key=lambda clip: -clip[1])),
            )
            for (true, said), clips in mistakes.items()
        ]
        return tuple(sorted(found, key=lambda c: (-len(c.mistakes), c.label, c.recognized)))

    def as_dict(self, confusions: int = 10, files: int = 5) -> dict[str, Any]:
        """The figures for JSON; of the confusions the first ones, with some files each."""
        return {
            "protocol": self.protocol,
            "split": self.split,
            "n": self.n,
            "accuracy": self.accuracy,
            "ci95": list(self.ci95),
            "balanced_accuracy": self.balanced_accuracy,
            "per_class": self.per_class,
            "confusion": {"labels": list(self.labels), "matrix": self.confusion.tolist()},
            "worst_confusions": [c.as_dict(files) for c in self.confusions[:confusions]],
        }
