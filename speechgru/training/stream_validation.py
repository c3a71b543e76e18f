"""Validation as a recognizer is used: words in noise and after talk, and sound without words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.audio.files import read
from speechgru.audio.pcm import FULL_SCALE
from speechgru.audio.samples import Samples
from speechgru.corpora.background import NOISE_PARTS
from speechgru.corpora.corpus import Example
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.errors import DataError
from speechgru.labels import NOT_WORDS, columns
from speechgru.model.network import SpeechGRU
from speechgru.training.prepared_data import PreparedData
from speechgru.training.talk import talk_bank, talk_recordings

#: Words at least and at most; where there are fewer clips each comes again in other noise.
_LEAST_WORDS, _MOST_WORDS = 96, 240
#: In half of the rows, so much talk before the word; then a pause.
_TALK_S, _PAUSE_S = 3.0, (0.3, 1.5)
#: After the clip, so that its word can still be recognized.
_TAIL_S = 0.8
_SNR_DB = (5.0, 20.0)
_WORD_DB = -26.0
#: Streams without words, side by side.
_ROWS = 16
#: Detectors that are tried.
_SMOOTHING_S = (0.1, 0.2)
_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: A false alarm an hour for each word weighs as much as so many percent of missed words.
_PERCENT_PER_ALARM = 1.0
#: False alarms beyond this rate, an hour and a word, count no more.
_MOST_ALARMS = 60.0
#: Of detectors that are this close to the best one (in percent), the strictest is taken.
_AS_GOOD = 0.5


@dataclass(frozen=True)
class StreamScore:
    """What a network's best detector makes of the validation streams.

    `errors` chooses weights: percent of missed words, and false alarms an hour and a word, over
    all thresholds that were tried, so that weights which leave room to choose are better.
    """

    errors: float
    missed_percent: float
    false_alarms_per_hour: float
    words: int
    hours: float
    detector: DetectorConfig = field(hash=False)

    def as_dict(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        return {
            "stream_errors": round(self.errors, 3),
            "missed_percent": round(self.missed_percent, 3),
            "false_alarms_per_hour": round(self.false_alarms_per_hour, 3),
            "stream_words": self.words,
            "stream_hours": round(self.hours, 4),
            "threshold": self.detector.threshold,
            "smoothing_s": self.detector.smoothing_s,
        }


class StreamValidation:
    """The validation split's words among other speech and noise, always the same.

    Raises:
        DataError: the split has no word.
    """

    def __init__(self, data: PreparedData, model: SpeechGRU) -> None:
        rng = np.random.default_rng(0)
        self.step_s = model.step_samples / model.sample_rate
        talk = _talk(data, model)
        noise = _noise(data, model.sample_rate)
        examples = _chosen(data.task.split("validation"), rng)
        if not examples:
            raise DataError(f"{data.task.protocol}: the validation split has no word")
        self.said = [example.label for example in examples]
        rows, starts = _word_rows(data, model, examples, talk, noise, rng)
        self.rows, self.starts_s = rows, starts
        self.silent = _wordless(talk, noise, model.step_samples)

    def __call__(self, model: SpeechGRU) -> StreamScore:
        """Score a model in evaluation mode."""
        model.eval()
        words = _log_posteriors(model, self.rows)
        wordless = _log_posteriors(model, self.silent)
        hours = wordless.shape[0] * wordless.shape[1] * self.step_s / 3600
        spoken = sum(label not in NOT_WORDS for label in model.labels)
        trials = []
        for smoothing_s, threshold in product(_SMOOTHING_S, _THRESHOLDS):
            config = DetectorConfig(smoothing_s=smoothing_s, threshold=threshold)
            missed = 100 * self._missed(words, model.labels, config) / len(self.said)
            alarms = len(list(self._events(wordless, model.labels, config))) / max(hours, 1e-9)
            cost = missed + _PERCENT_PER_ALARM * min(alarms / spoken, _MOST_ALARMS)
            trials.append((cost, missed, alarms, config))
        errors = float(np.mean([cost for cost, *_ in trials]))
        limit = min(cost for cost, *_ in trials) + _AS_GOOD
        _, missed, alarms, config = max(
            (trial for trial in trials if trial[0] <= limit), key=lambda trial: trial[3].threshold
        )
        return StreamScore(errors, missed, alarms, len(self.said), hours, config)

    def _missed(
        self, heard: NDArray[np.float32], labels: Sequence[str], config: DetectorConfig
    ) -> int:
        """Words that give no event, or another word's first."""
        first: dict[int, str] = {}
        for row, word, t in self._events(heard, labels, config):
            if t >= self.starts_s[row]:
                first.setdefault(row, word)
        return sum(first.get(row) != word for row, word in enumerate(self.said))

    def _events(
        self, heard: NDArray[np.float32], labels: Sequence[str], config: DetectorConfig
    ) -> list[tuple[int, str, float]]:
        """Row, word and time of each event, in the order of the rows."""
        found = []
        for row, log_posteriors in enumerate(heard):
            detector = Detector(labels, self.step_s, config)
            events = detector.push(log_posteriors) + detector.flush()
            found += [(row, event.word, event.t) for event in events]
        return found


def _chosen(examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    """Words of a split, each label as often as another, some more than once if they are few."""
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        if example.label not in NOT_WORDS and example.path is not None:
            by_label.setdefault(example.label, []).append(example)
    if not by_label:
        return []
    total = sum(map(len, by_label.values()))
    each = -(-min(max(total, _LEAST_WORDS), _MOST_WORDS) // len(by_label))
    return [
        clips[i]
        for clips in by_label.values()
        for i in np.resize(rng.permutation(len(clips)), each)
    ]


def _word_rows(
    data: PreparedData,
    model: SpeechGRU,
    examples: Sequence[Example],
    talk: Samples,
    noise: Samples,
    rng: np.random.Generator,
) -> tuple[Samples, list[float]]:
    """A row for each word, (N, S), and when its clip begins, in seconds.

    Noise throughout; in every second row talk, then a pause; the clip.
    """
    rate = model.sample_rate
    clips = data.packed.gather(examples, model.steps(data.task.clip_s) * model.step_samples)
    before, tail = round((_TALK_S + _PAUSE_S[1]) * rate), round(_TAIL_S * rate)
    total = before + clips.shape[1] + tail
    total -= total % model.step_samples
    rows = np.empty((len(clips), total), np.float32)
    for row, packed in zip(rows, clips, strict=True):
        clip = packed / FULL_SCALE
        start_s, end_s = word_bounds_s(clip, rate)
        word = clip[round(start_s * rate) : round(end_s * rate)]
        level = np.sqrt(np.square(word).mean())
        clip = clip * (10 ** (_WORD_DB / 20) / max(level, 1e-6))
        row[:] = _scaled(_stretch(noise, total, rng), _WORD_DB - rng.uniform(*_SNR_DB))
        row[before : before + len(clip)] += clip[: total - before]
    for place in range(0, len(rows) if len(talk) else 0, 2):
        pause = round(rng.uniform(*_PAUSE_S) * rate)
        rows[place, : before - pause] += _stretch(talk, before - pause, rng)
    return rows, [before / rate] * len(rows)


def _wordless(talk: Samples, noise: Samples, step_samples: int) -> Samples:
    """Talk and noise as rows side by side, (R, S) in whole steps."""
    sound = np.concatenate([talk, _scaled(noise, -35.0)]) if len(noise) else talk
    length = len(sound) // _ROWS // step_samples * step_samples
    return sound[: _ROWS * length].reshape(_ROWS, length)


def _talk(data: PreparedData, model: SpeechGRU) -> Samples:
    recordings = talk_recordings(data, "validation")
    if not recordings:
        return np.zeros(0, np.float32)
    bank, _ = talk_bank(recordings, model.sample_rate, model.step_samples)
    return bank.astype(np.float32) / np.float32(FULL_SCALE)


def _noise(data: PreparedData, rate: int) -> Samples:
    """The validation part of the corpus' noises, and that of what ships; else white noise."""
    first, last = NOISE_PARTS["validation"]
    recordings = [data.packed.samples(path) / FULL_SCALE for path in data.corpus.noises]
    parts: list[NDArray[np.floating]] = [
        x[int(first * len(x)) : int(last * len(x))] for x in recordings
    ]
    if data.other:
        parts += [read(path, rate) for path in data.other.noise("validation")]
    leveled = [_scaled(part, -35.0) for part in parts if len(part)]
    if sum(map(len, leveled)) < rate:
        leveled.append(_scaled(np.random.default_rng(0).standard_normal(10 * rate), -35.0))
    return np.concatenate(leveled).astype(np.float32)


def _scaled(samples: NDArray[np.floating], level_db: float) -> NDArray[np.floating]:
    """At this root mean square, dB of full scale."""
    return samples * (10 ** (level_db / 20) / max(float(np.sqrt(np.square(samples).mean())), 1e-6))


def _stretch(sound: Samples, samples: int, rng: np.random.Generator) -> Samples:
    """From a random place on, from the beginning again at the end: (samples,)."""
    return np.take(sound, np.arange(samples) + rng.integers(len(sound)), mode="wrap")


@torch.inference_mode()
def _log_posteriors(model: SpeechGRU, rows: Samples, block_steps: int = 250) -> NDArray[np.float32]:
    """Rows (N, S) as streams, each from silence: (N, T, V)."""
    state, parts = None, []
    of_labels = columns(model.outputs, "classify")
    size = block_steps * model.step_samples
    for first in range(0, rows.shape[1], size):
        block = torch.from_numpy(np.ascontiguousarray(rows[:, first : first + size], np.float32))
        log_posteriors, state = model(block.to(model.device), state)
        parts.append(log_posteriors[..., of_labels].cpu().numpy())
    return np.concatenate(parts, axis=1)
