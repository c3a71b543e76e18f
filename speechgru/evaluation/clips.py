"""Evaluation on the clips of a split: from a fresh state each, and with the state carried."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speechgru.common.progress import Progress
from speechgru.common.wording import first_of
from speechgru.corpora.corpus import Example, Task
from speechgru.corpora.packed import PackedAudio
from speechgru.errors import DataError
from speechgru.evaluation.clip_report import CarriedReport, ClipReport
from speechgru.labels import Vocabulary
from speechgru.recognition.backend import Backend
from speechgru.recognition.clips import clip_samples, score_carried, score_clips, tail_steps


def evaluate_clips(
    model: Backend,
    task: Task,
    split: str,
    packed: PackedAudio,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ClipReport:
    """Recognize each clip of a split from a fresh state.

    The labels of task and model are matched by name; a label that only the model has counts as
    wrong. Of one's own recordings (the protocol "folder") those that are shorter than the model's
    clips are scored where their word is heard, as `recognize` does.

    Raises:
        DataError: the split has no clips, or a label that the model does not have; the packed
            audio has another rate, or lacks one of the recordings.
    """
    examples = task.split(split)
    truth = label_ids(model, task, examples)
    clips = gather_clips(model, packed, examples)
    early = _ending_early(model, task, packed, examples)
    scores = score_clips(model, clips, batch_size, progress, early)
    return ClipReport(task.protocol, split, model.labels, examples, truth, scores)


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

    `score_carried` says how a stream is run.

    Raises:
        DataError: as `evaluate_clips`.
        UsageError: the model needs whole clips.
    """
    model.check_streams()
    examples = task.split(split)
    truth = label_ids(model, task, examples)
    clips = gather_clips(model, packed, examples)
    early = _ending_early(model, task, packed, examples)
    correct = []
    for number, order in enumerate(random_orders(len(clips), orders, seed)):

        def report(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, orders * total)

        best = score_carried(model, clips, order, rows, report, early).argmax(axis=1)
        correct.append(int((best == truth).sum()))
    return CarriedReport(task.protocol, split, len(clips), seed, tuple(correct))


def random_orders(n: int, orders: int, seed: int) -> NDArray[np.int64]:
    """Random permutations of n clips, (K, n); a larger K only adds to them."""
    return np.stack([np.random.default_rng([seed, k]).permutation(n) for k in range(orders)])


def label_ids(model: Backend, task: Task, examples: Sequence[Example]) -> NDArray[np.int64]:
    """The model's ids of the examples' labels: (N,).

    Raises:
        DataError: the model lacks one of them.
    """
    check_labels(model, task, examples)
    return np.array(Vocabulary(model.labels).ids(e.label for e in examples), np.int64)


def check_labels(model: Backend, task: Task, examples: Sequence[Example]) -> None:
    """Raise DataError if the model lacks a label of the examples."""
    labels = dict.fromkeys(example.label for example in examples)
    if missing := [label for label in labels if label not in model.labels]:
        raise DataError(
            f"protocol {task.protocol} has {first_of(missing)} among its labels, which the model "
            f"lacks; it was trained on {first_of(model.labels)}"
        )


def gather_clips(
    model: Backend, packed: PackedAudio, examples: Sequence[Example]
) -> NDArray[np.int16]:
    """The examples as clips of the model's length: (N, S).

    Raises:
        DataError: the packed audio has another rate, or lacks one of the recordings.
    """
    if packed.rate != model.sample_rate:
        raise DataError(f"audio packed at {packed.rate} Hz; the model needs {model.sample_rate} Hz")
    return packed.gather(examples, clip_samples(model))


def _ending_early(
    model: Backend, task: Task, packed: PackedAudio, examples: Sequence[Example]
) -> NDArray[np.bool_] | None:
    """Which clips are of recordings that end before what is scored of them, (N,).

    None for benchmarks, whose clips are scored alike by everybody.
    """
    if task.protocol != "folder":
        return None
    scored_from = clip_samples(model) - tail_steps(model) * model.step_samples

    def ends_early(example: Example) -> bool:
        if example.path is None:
            return False
        start = int((example.start_s or 0.0) * packed.rate)
        return len(packed.samples(example.path)) - start <= scored_from

    return np.array([ends_early(example) for example in examples], bool)
