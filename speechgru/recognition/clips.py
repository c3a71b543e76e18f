"""The word of a clip: a model's scores for clips of one length, and for a recording."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import Samples, fit, loudest_start, read
from speechgru.audio.pcm import FULL_SCALE, Packed
from speechgru.common.progress import Progress
from speechgru.decoding.ctc import sequence_scores
from speechgru.decoding.events import isolated_word
from speechgru.errors import DataError
from speechgru.labels import Spelling, columns
from speechgru.recognition.recognizer import Backend

#: What a model that says nothing of its clips was trained on.
DEFAULT_CLIP_S, DEFAULT_TAIL_S = 1.0, 0.2
LONGEST_CLIP_S = 60.0

if TYPE_CHECKING:
    from torch import Tensor

#: (N, S): samples in [-1, 1], or of 16 bits; also on a device, for a backend that computes there.
Clips: TypeAlias = "Samples | Packed | Tensor"


class ClipBackend(Backend, Protocol):
    """A backend that also takes many recordings of one length."""

    def check_streams(self) -> None:
        """Raise UsageError where the model needs whole clips, and cannot be a stream."""
        ...

    def batch(self, clips: Clips, states: Any = None) -> tuple[NDArray[np.float32], Any]:
        """Clips (N, S), each from its own state or from silence -> (N, T, V), and their states."""
        ...


@dataclass(frozen=True)
class Recognition:
    """The word of a recording.

    `score` is its probability; `top` has the most probable labels with theirs, best first. Of a
    recording longer than the model's clips (`clip_s`), `start_s` is where the stretch that was
    scored begins; else it is None.
    """

    path: Path
    word: str
    score: float
    top: tuple[tuple[str, float], ...]
    duration_s: float
    clip_s: float
    start_s: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        top = [list(pair) for pair in self.top]
        return {"file": str(self.path), "word": self.word, "score": self.score, "top": top}


def recognize(model: ClipBackend, path: Path, top: int = 3) -> Recognition:
    """Recognize the one word of a recording, by the loudest stretch of the model's clip length.

    Raises:
        DataError: missing, empty, truncated or no audio file, or samples that are not finite.
    """
    samples = read(path, model.sample_rate)
    length, rate = clip_samples(model), model.sample_rate
    start_s = loudest_start(samples, length) / rate if len(samples) > length else None
    scores = np.exp(score_clips(model, fit(samples, length)[np.newaxis])[0])
    best = np.argsort(-scores, kind="stable")[:top]
    ranked = tuple((model.labels[i], float(scores[i])) for i in best)
    return Recognition(
        path=Path(path),
        word=ranked[0][0],
        score=ranked[0][1],
        top=ranked,
        duration_s=len(samples) / rate,
        clip_s=length / rate,
        start_s=start_s,
    )


def clip_samples(model: Backend) -> int:
    """Samples of the clips that the model was trained on, in whole steps."""
    return _steps(model, "clip_s", DEFAULT_CLIP_S) * model.step_samples


def tail_steps(model: Backend) -> int:
    """Steps at a clip's end that say its word."""
    return _steps(model, "tail_s", DEFAULT_TAIL_S)


def score_clips(
    model: ClipBackend,
    clips: Clips,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Log scores of clips that each begin from silence: (N, S) -> (N, V).

    Raises:
        DataError: the model's answer is not a number.
    """
    scores = []
    for first in range(0, len(clips), batch_size):
        part = clips[first : first + batch_size]
        log_posteriors, _ = model.batch(part)
        scores.append(word_scores(model, log_posteriors))
        if progress is not None:
            progress(first + len(part), len(clips))
    return np.concatenate(scores)


def score_carried(
    model: ClipBackend,
    clips: Clips,
    order: NDArray[np.int64],
    rows: int,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Log scores of clips heard one after the other in an order, the state carried: (N, V).

    Nothing is reset between two clips: neither the recurrent layers, nor the convolutions, nor the
    samples that two frames share. For speed the order runs as `rows` streams side by side, its
    first clips in the first row and so on; each row begins with the clip before its first one,
    unscored, so that no scored clip follows a reset.

    Raises:
        DataError: the model's answer is not a number.
    """
    n = len(clips)
    positions = stream_positions(n, rows)  # (R, C)
    columns = positions.shape[1]
    heard, states = order[positions % n], None
    scores = np.empty((n, len(model.labels)), np.float32)
    for column in range(columns):
        log_posteriors, states = model.batch(clips[heard[:, column]], states)  # (R, T, V)
        if column > 0:
            scored = positions[:, column] < n
            of_rows = word_scores(model, log_posteriors)
            scores[heard[scored, column]] = of_rows[scored]
        if progress is not None:
            progress(column + 1, columns)
    return scores


def stream_positions(n: int, rows: int) -> NDArray[np.int64]:
    """Which of n positions of an order each row hears when: (R, 1 + ceil(n / R)).

    The first column is the lead-in; it and positions from n on wrap around and do not count.
    """
    columns = -(-n // min(rows, n))
    return np.arange(min(rows, n))[:, np.newaxis] * columns + np.arange(-1, columns)


def to_floats(clips: Samples | Packed) -> Samples:
    """Samples in [-1, 1], from 16 bits if they are."""
    scale = FULL_SCALE if clips.dtype == np.int16 else 1.0
    return clips.astype(np.float32, copy=False) / np.float32(scale)


def word_scores(model: Backend, log_posteriors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log scores of a model's labels for clips: (N, T, V) -> (N, labels).

    Of a classify head by the clips' tail; of a CTC head by the probability that a clip says just
    this one word, or nothing, the labels' together being 1.

    Raises:
        DataError: the model's answer is not a number.
    """
    head = next(iter(model.outputs))
    heard = log_posteriors[..., columns(model.outputs, head)]
    if np.isnan(heard).any():
        raise DataError("the model's answer is not a number (NaN); its weights are unusable")
    if head == "classify":
        return isolated_word(heard, tail_steps(model))
    spelling = Spelling(model.outputs["ctc"])
    spelled = [spelling.spell(label) for label in model.labels]
    scores = sequence_scores(heard, spelled)
    return (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)


def _steps(model: Backend, key: str, default_s: float) -> int:
    """What the model's metadata gives in seconds, as steps; at least one."""
    seconds = model.metadata.get(key, default_s)
    if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_CLIP_S:
        raise DataError(
            f"the model's {key} is {seconds!r}; "
            f"seconds above 0 and up to {LONGEST_CLIP_S:g} are needed"
        )
    return max(1, round(seconds * model.sample_rate / model.step_samples))
