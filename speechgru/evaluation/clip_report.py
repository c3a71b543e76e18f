"""Reports of an evaluation on clips: figures, confusions, and the picture of the confusions."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.common.files import atomic_path
from speechgru.corpora.corpus import Example
from speechgru.evaluation.lettering import drawable, lettering
from speechgru.evaluation.metrics import (
    Counts,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    precisions,
    wilson_interval,
)

#: In a picture with up to this many labels cells have room for their counts.
MAX_LABELS_WITH_COUNTS = 40
#: Characters; longer labels would leave no room for the matrix.
LONGEST_COLUMN_LABEL = 20


@dataclass(frozen=True, eq=False)
class Confusion:
    """A label that was mistaken for another one.

    `mistakes` are its clips, each with the probability that the model gave to the wrong label; the
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
                {**_place(example), "score": score}
                for example, score in self.mistakes[:files]
                if example.path is not None
            ],
        }


@dataclass(frozen=True, eq=False)
class ClipReport:
    """A model's scores for the N clips of a split.

    Args:
        truth: ids of the right labels, (N,).
        scores: log-probabilities in the order of `labels`, (N, V).
    """

    protocol: str
    split: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    truth: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def n(self) -> int:
        """Number of clips."""
        return len(self.truth)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The id of the most probable label of each clip, (N,)."""
        return self.scores.argmax(axis=1)

    @cached_property
    def confusion(self) -> Counts:
        """How often each label (row) was recognized as each (column), (V, V)."""
        return confusion_matrix(self.truth, self.predicted, len(self.labels))

    @property
    def shown(self) -> NDArray[np.int64]:
        """The ids of the labels that have clips or were recognized."""
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
        """For each label that has clips: n, correct, accuracy, ci95, and precision.

        The precision, the share of its predictions that is right, is None if there are none.
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
                self.labels[recognized],
                tuple(sorted(clips, key=lambda clip: -clip[1])),
            )
            for (true, recognized), clips in mistakes.items()
        ]
        return tuple(sorted(found, key=lambda c: (-len(c.mistakes), c.label, c.recognized)))

    @property
    def mistakes(self) -> list[dict[str, Any]]:
        """Each clip that is wrong, for JSON: the least probable label first.

        `score` is the probability of what was recognized, `label_score` that of the label.
        """
        wrong = np.flatnonzero(self.truth != self.predicted)
        own, other = (
            np.exp(self.scores[wrong, ids[wrong]]) for ids in (self.truth, self.predicted)
        )
        return [
            {
                **_place(self.examples[wrong[k]]),
                "label": self.examples[wrong[k]].label,
                "recognized": self.labels[self.predicted[wrong[k]]],
                "score": float(other[k]),
                "label_score": float(own[k]),
            }
            for k in np.argsort(own, kind="stable").tolist()
        ]

    def as_dict(self, confusions: int = 10, files: int = 5) -> dict[str, Any]:
        """For JSON, with the most frequent confusions and some files of each, and all mistakes."""
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
            "mistakes": self.mistakes,
        }


def _place(example: Example) -> dict[str, Any]:
    """Where a clip lies, for JSON; a clip of silence that was made lies in no file."""
    path = example.path
    return {"file": None if path is None else str(path), "start_s": example.start_s}


@dataclass(frozen=True)
class CarriedReport:
    """How many of the same n clips are right with the state carried, in each random order."""

    protocol: str
    split: str
    n: int
    seed: int
    correct: tuple[int, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The share of clips that is right, in each order."""
        return tuple(correct / self.n for correct in self.correct)

    @property
    def accuracy(self) -> float:
        """The mean over the orders."""
        return sum(self.correct) / (self.n * len(self.correct))

    @property
    def ci95(self) -> tuple[float, float]:
        """The Wilson interval of the mean; more orders of the same clips do not narrow it."""
        return wilson_interval(sum(self.correct) / len(self.correct), self.n)

    def reset_gap(self, reset: ClipReport) -> float:
        """Points of accuracy lost when the state is not reset before each clip."""
        return 100 * (reset.accuracy - self.accuracy)

    def as_dict(self, reset: ClipReport) -> dict[str, Any]:
        """For JSON; `reset` is the evaluation with a reset before each clip."""
        return {
            "carried_accuracy": self.accuracy,
            "carried_ci95": list(self.ci95),
            "carried_accuracies": list(self.accuracies),
            "carried_seed": self.seed,
            "reset_gap": self.reset_gap(reset),
        }


@lettering()
def save_confusion_picture(report: ClipReport, path: Path) -> None:
    """Draw the confusion matrix, each row in shares of its label's clips; written atomically.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    shown = report.shown
    counts = report.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # A label in letters that no font has is drawn as its number, as in the table.
    numbered = enumerate((report.labels[i] for i in shown), 1)
    labels = [drawable(label, str(number)) for number, label in numbered]
    columns, rows = labels, labels
    if max(map(len, labels)) > LONGEST_COLUMN_LABEL:
        # Long labels are written once, on several lines; columns have their numbers, as a table.
        columns = [str(number) for number in range(1, len(labels) + 1)]
        rows = [
            label
            if label == number
            else fill(f"{number} {label}", LONGEST_COLUMN_LABEL, max_lines=4, placeholder="...")
            for number, label in zip(columns, labels, strict=True)
        ]
    side_inches = min(3.5 + 0.38 * len(labels), 24.0)
    # A Figure, unlike pyplot, has no window and no global state.
    figure = Figure(figsize=(side_inches, side_inches), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    # The square root makes a few mistakes visible next to a full diagonal.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(labels)), columns, rotation=90, parse_math=False)
    axes.set_yticks(range(len(labels)), rows, parse_math=False, linespacing=0.9)
    axes.set_xlabel("recognized")
    axes.set_ylabel("said")
    low, high = report.ci95
    axes.set_title(
        f"{report.protocol}, {report.split}: {100 * report.accuracy:.2f} % of {report.n:,} clips\n"
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f})",
        fontsize="medium",
        parse_math=False,
    )
    if len(labels) <= MAX_LABELS_WITH_COUNTS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if shares[row, column] > 0.4 else "black",
            )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
