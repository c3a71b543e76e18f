"""The clips of a split as one stream: the state goes from each clip to the next."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.common.progress import Progress
from speechgru.corpora.corpus import Task
from speechgru.corpora.packed import PackedAudio
from speechgru.evaluation.clip_report import ClipReport
from speechgru.evaluation.clips import gather_clips, label_ids
from speechgru.evaluation.metrics import wilson_interval
from speechgru.recognition.backend import Backend
from speechgru.recognition.clips import score_carried


@dataclass(frozen=True)
class CarriedReport:
    """Of the same n clips, how many are right with the state carried, in each random order."""

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
        """The Wilson interval of the mean; further orders of the same clips do not narrow it."""
        return wilson_interval(sum(self.correct) / len(self.correct), self.n)

    def reset_gap(self, reset: ClipReport) -> float:
        """Points of accuracy that are lost when the state is not reset before each clip."""
        return 100 * (reset.accuracy - self.accuracy)

    def as_dict(self, reset: ClipReport) -> dict[str, Any]:
        """The figures for JSON, beside those of the evaluation with a reset before each clip."""
        return {
            "carried_accuracy": self.accuracy,
            "carried_ci95": list(self.ci95),
            "carried_accuracies": list(self.accuracies),
            "carried_seed": self.seed,
            "reset_gap": self.reset_gap(reset),
        }


def evaluate_carried(
    model: Backend,
    task: Task,
    split: str,
    packed: PackedAudio,
    orders: int = 1,
    seed: int = 0,
    rows: int = 16,
    progress: Progress | None = None,
) -> CarriedReport:
    """Recognize a split's clips as a stream in random order, once for each of `orders` orders.

    How a stream is heard: `score_carried`.

    Raises:
        DataError: as `evaluate_clips`.
        UsageError: the model needs whole clips.
    """
    model.check_streams()
    examples = task.split(split)
    truth = label_ids(model, task, examples)
    clips = gather_clips(model, packed, examples)
    correct = []
    for number, order in enumerate(random_orders(len(clips), orders, seed)):

        def heard(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, orders * total)

        best = score_carried(model, clips, order, rows, heard).argmax(axis=1)
        correct.append(int((best == truth).sum()))
    return CarriedReport(task.protocol, split, len(clips), seed, tuple(correct))


def random_orders(n: int, orders: int, seed: int) -> NDArray[np.int64]:
    """Orders of n clips, each its own permutation; more orders begin with the same ones: (K, n)."""
    return np.stack([np.random.default_rng([seed, k]).permutation(n) for k in range(orders)])
