"""The word of a clip or a recording: label scores from a model's log-posteriors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import read
from speechgru.audio.samples import Samples, fit, speech_starts
from speechgru.common.progress import Progress
from speechgru.decoding.ctc import sequence_scores
from speechgru.decoding.events import isolated_word, last_word
from speechgru.errors import DataError
from speechgru.labels import SILENCE, Spelling, columns
from speechgru.recognition.backend import Backend, Clips

#: For a model whose metadata does not say what clips it was trained on.
DEFAULT_CLIP_S, DEFAULT_TAIL_S = 1.0, 0.2
LONGEST_CLIP_S = 60.0
#: Of a long recording, so many stretches at most are tried.
_STRETCHES = 8
#: With this probability of a word the first of them is not compared with others; with less than the
#: second none holds a word.
_SURE, _PROBABLE = 0.8, 0.5


@dataclass(frozen=True)
class Recognition:
    """The word of a recording.

    Args:
        score: the word's probability.
        top: the most probable labels with their probabilities, best first.
        clip_s: length of the model's clips in seconds.
        start_s: where the stretch that was scored starts, if the recording is longer than
            `clip_s`; otherwise None.
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


def recognize(
    backend: Backend, path: Path, top: int = 3, channel: int | None = None
) -> Recognition:
    """Recognize the one word of a recording.

    Of a recording longer than the model's clips one stretch is scored: that with the most speech
    by its levels or, if the model is not sure of a word there (a beep, a hiss), that in which it is
    surest.

    Args:
        channel: the one channel to use, from 1; None averages all of them.

    Raises:
        DataError: missing, empty, truncated or no audio file, samples that are not finite, or no
            such channel.
    """
    samples = read(path, backend.sample_rate, channel)
    length, rate = clip_samples(backend), backend.sample_rate
    if len(samples) > length:
        start, scores = _best_stretch(backend, samples, length)
        start_s = start / rate
    else:
        scores = _score_recordings(backend, fit(samples, length, rate)[np.newaxis])[0]
        start_s = None
    best = np.argsort(-scores, kind="stable")[:top]
    ranked = tuple((backend.labels[i], float(scores[i])) for i in best)
    return Recognition(
        path=Path(path),
        word=ranked[0][0],
        score=ranked[0][1],
        top=ranked,
        duration_s=len(samples) / rate,
        clip_s=length / rate,
        start_s=start_s,
    )


def _best_stretch(
    backend: Backend, samples: Samples, length: int
) -> tuple[int, NDArray[np.float32]]:
    """Where the stretch that holds the word of a long recording starts, and its label scores."""
    starts = speech_starts(samples, length, backend.sample_rate, _STRETCHES)
    loudest = samples[np.newaxis, starts[0] : starts[0] + length]
    scores = _score_recordings(backend, loudest)
    if len(starts) == 1 or _word_score(backend, scores[0]) >= _SURE:
        return starts[0], scores[0]
    clips = np.stack([samples[start : start + length] for start in starts[1:]])
    scores = np.concatenate([scores, _score_recordings(backend, clips)])
    best = int(np.argmax([_word_score(backend, of_clip) for of_clip in scores]))
    if _word_score(backend, scores[best]) < _PROBABLE:
        best = 0
    return starts[best], scores[best]


def _score_recordings(backend: Backend, clips: Clips) -> NDArray[np.float32]:
    """Probabilities of the labels: (N, S) -> (N, labels)."""
    log_posteriors, _ = backend.batch(clips)
    scores = _with_last_words(backend, log_posteriors, np.ones(len(clips), bool))
    probabilities: NDArray[np.float32] = np.exp(scores)
    return probabilities


def _with_last_words(
    backend: Backend, log_posteriors: NDArray[np.float32], ends_early: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """`word_scores`; of rows that may end long after their word, (N,), those of the last word.

    By the end the network has returned to silence.
    """
    scores = word_scores(backend, log_posteriors)
    has_silence = next(iter(backend.outputs)) == "classify" and SILENCE in backend.labels
    if ends_early is not None and has_silence:
        steps = log_posteriors[..., columns(backend.outputs, "classify")]
        silence = backend.labels.index(SILENCE)
        for row in np.flatnonzero((scores.argmax(axis=1) == silence) & ends_early):
            word = last_word(steps[row], tail_steps(backend), silence)
            if word is not None:
                scores[row] = word
    return scores


def _word_score(backend: Backend, scores: NDArray[np.float32]) -> float:
    """The probability of the best label, if it is a word, be it an unknown one; else 0."""
    best = int(scores.argmax())
    return 0.0 if backend.labels[best] == SILENCE else float(scores[best])


def clip_samples(backend: Backend) -> int:
    """Samples in the clips that the model was trained on, in whole steps."""
    return _steps(backend, "clip_s", DEFAULT_CLIP_S) * backend.step_samples


def tail_steps(backend: Backend) -> int:
    """Steps at the end of a clip that determine its word."""
    return _steps(backend, "tail_s", DEFAULT_TAIL_S)


def score_clips(
    backend: Backend,
    clips: Clips,
    batch_size: int = 256,
    progress: Progress | None = None,
    ends_early: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Log scores of clips that each start from the initial state: (N, S) -> (N, labels).

    Args:
        ends_early: clips, (N,), whose word may be over long before their end, as `recognize` has it
            of recordings: it is scored where it was heard. None: no clip.

    Raises:
        DataError: the model's output is not a number.
    """
    scores = []
    for first in range(0, len(clips), batch_size):
        batch = clips[first : first + batch_size]
        log_posteriors, _ = backend.batch(batch)
        early = None if ends_early is None else ends_early[first : first + batch_size]
        scores.append(_with_last_words(backend, log_posteriors, early))
        if progress is not None:
            progress(first + len(batch), len(clips))
    return np.concatenate(scores)


def score_carried(
    backend: Backend,
    clips: Clips,
    order: NDArray[np.int64],
    rows: int,
    progress: Progress | None = None,
    ends_early: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Log scores of clips that follow one another in `order`, with the state carried: (N, labels).

    Nothing is reset between two clips: neither the recurrent layers nor the context of frames and
    samples. For speed the order runs as `rows` streams side by side, the first clips in the first
    row and so on; each row starts with the clip before its first one, which is not scored there, so
    that every scored clip follows another. `ends_early` is as for `score_clips`.

    Raises:
        DataError: the model's output is not a number.
    """
    n = len(clips)
    positions = stream_positions(n, rows)  # (R, C)
    count = positions.shape[1]
    indices, states = order[positions % n], None
    scores = np.empty((n, len(backend.labels)), np.float32)
    for column in range(count):
        log_posteriors, states = backend.batch(clips[indices[:, column]], states)  # (R, T, V)
        if column > 0:
            is_scored = positions[:, column] < n
            early = None if ends_early is None else ends_early[indices[:, column]]
            row_scores = _with_last_words(backend, log_posteriors, early)
            scores[indices[is_scored, column]] = row_scores[is_scored]
        if progress is not None:
            progress(column + 1, count)
    return scores


def stream_positions(n: int, rows: int) -> NDArray[np.int64]:
    """Positions in an order of n clips, for `rows` parallel streams: (R, 1 + ceil(n / R)).

    The first column is the lead-in. It and positions from n on wrap around and are not scored.

    >>> stream_positions(5, 2).tolist()
    [[-1, 0, 1, 2], [2, 3, 4, 5]]
    """
    count = -(-n // min(rows, n))
    return np.arange(min(rows, n))[:, np.newaxis] * count + np.arange(-1, count)


def word_scores(backend: Backend, log_posteriors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log scores of a model's labels for clips: (N, T, V) -> (N, labels).

    For a classify head from the tail of the clips; for a CTC head from the probability that a clip
    holds exactly this word, or nothing, normalized over the labels.

    Raises:
        DataError: the model's output is not a number.
    """
    head = next(iter(backend.outputs))
    log_posteriors = log_posteriors[..., columns(backend.outputs, head)]
    if np.isnan(log_posteriors).any():
        raise DataError("the model's output is not a number (NaN); its weights are unusable")
    if head == "classify":
        return isolated_word(log_posteriors, tail_steps(backend))
    spelling = Spelling(backend.outputs["ctc"])
    sequences = [spelling.spell(label) for label in backend.labels]
    scores = sequence_scores(log_posteriors, sequences)
    return (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)


def _steps(backend: Backend, key: str, default_s: float) -> int:
    """A duration in the model's metadata as a number of steps, at least one."""
    seconds = backend.metadata.get(key, default_s)
    if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_CLIP_S:
        raise DataError(
            f"the model's {key} is {seconds!r:.40}; "
            f"seconds above 0 and up to {LONGEST_CLIP_S:g} are needed"
        )
    return max(1, round(seconds * backend.sample_rate / backend.step_samples))
