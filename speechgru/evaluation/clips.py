"""Every clip of a split, recognized from a fresh state."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speechgru.common.progress import Progress
from speechgru.corpora.corpus import Example, Task
from speechgru.corpora.packed import PackedAudio
from speechgru.errors import DataError
from speechgru.evaluation.clip_report import ClipReport
from speechgru.labels import Vocabulary
from speechgru.recognition.backend import Backend
from speechgru.recognition.clips import clip_samples, score_clips


def evaluate_clips(
    model: Backend,
    task: Task,
    split: str,
    packed: PackedAudio,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ClipReport:
    """Recognize a split's clips one by one, each from silence.

    The labels of task and model match by name; a label that only the model has counts as wrong.

    Raises:
        DataError: the split has no clips, or a label that the model does not have; the packed
            audio is of another rate, or without one of the recordings.
    """
    examples = task.split(split)
    truth = label_ids(model, task, examples)
    clips = gather_clips(model, packed, examples)
    scores = score_clips(model, clips, batch_size, progress)
    return ClipReport(task.protocol, split, model.labels, examples, truth, scores)


def label_ids(model: Backend, task: Task, examples: Sequence[Example]) -> NDArray[np.int64]:
    """The model's ids of the examples' labels: (N,).

    Raises:
        DataError: the model does not have one of them.
    """
    needed = dict.fromkeys(example.label for example in examples)
    if missing := [label for label in needed if label not in model.labels]:
        raise DataError(
            f"protocol {task.protocol} has {_listed(missing)} among its labels, which the model "
            f"cannot answer; it was trained on {_listed(model.labels)}"
        )
    return np.array(Vocabulary(model.labels).ids(e.label for e in examples), np.int64)


def gather_clips(
    model: Backend, packed: PackedAudio, examples: Sequence[Example]
) -> NDArray[np.int16]:
    """The examples as clips of the model's length: (N, S).

    Raises:
        DataError: the packed audio is of another rate, or without one of the recordings.
    """
    if packed.rate != model.sample_rate:
        raise DataError(f"audio packed at {packed.rate} Hz; the model needs {model.sample_rate} Hz")
    return packed.gather(examples, clip_samples(model))


def _listed(labels: Sequence[str], most: int = 12) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
