"""The clips of a split as one stream: the state goes from each clip to the next."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.corpora.corpus import Task
from speechgru.corpora.packed import PackedAudio
from speechgru.evaluation.clips import gather_clips, label_ids
from speechgru.evaluation.metrics import wilson_interval
from speechgru.evaluation.report import ClipReport
from speechgru.model import SpeechGRU
from speechgru.recognition import inference, to_device, word_scores


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
    model: SpeechGRU,
    task: Task,
    split: str,
    packed: PackedAudio,
    orders: int = 1,
    seed: int = 0,
    rows: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> CarriedReport:
    """Recognize a split's clips as a stream in random order, once for each of `orders` orders.

    Nothing is reset between two clips: neither the recurrent layers, nor the convolutions, nor the
    samples that two frames share. For speed an order runs as `rows` streams side by side, its first
    clips in the first row and so on; each row begins with the clip before its first one, unscored,
    so that no scored clip follows a reset.

    Raises:
        DataError: as `evaluate_clips`.
        UsageError: the model needs whole clips.
    """
    model.check_streams()
    examples = task.split(split)
    truth = label_ids(model, task, examples)
    clips = gather_clips(model, packed, examples)
    predicted = _predict(model, clips, random_orders(len(clips), orders, seed), rows, progress)
    correct = tuple(int(count) for count in (predicted == truth).sum(axis=1))
    return CarriedReport(task.protocol, split, len(clips), seed, correct)


def random_orders(n: int, orders: int, seed: int) -> NDArray[np.int64]:
    """Orders of n clips, each its own permutation; more orders begin with the same ones: (K, n)."""
    return np.stack([np.random.default_rng([seed, k]).permutation(n) for k in range(orders)])


def stream_positions(n: int, rows: int) -> NDArray[np.int64]:
    """Which of n positions of an order each row hears when: (R, 1 + ceil(n / R)).

    The first column is the lead-in; it and positions from n on wrap around and do not count.
    """
    columns = -(-n // min(rows, n))
    return np.arange(min(rows, n))[:, np.newaxis] * columns + np.arange(-1, columns)


def _predict(
    model: SpeechGRU,
    clips: NDArray[np.int16],
    orders: NDArray[np.int64],
    rows: int,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.int64]:
    """The best label of every clip in every order: (N, S), (K, N) -> (K, N)."""
    n = len(clips)
    positions = stream_positions(n, rows)  # (R, C)
    columns = positions.shape[1]
    predicted = np.empty_like(orders)
    with inference(model):
        for k, order in enumerate(orders):
            heard, state = order[positions % n], None
            for column in range(columns):
                batch = to_device(clips[heard[:, column]], model)  # (R, S)
                log_posteriors, state = model(batch, state)
                if column > 0:
                    best = word_scores(model, log_posteriors).argmax(axis=1)
                    scored = positions[:, column] < n
                    predicted[k, heard[scored, column]] = best[scored]
                if progress is not None:
                    progress(k * columns + column + 1, len(orders) * columns)
    return predicted
