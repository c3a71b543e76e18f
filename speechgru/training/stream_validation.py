"""Validation on streams: words in noise and after running speech, and sound without words."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
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
from speechgru.evaluation.metrics import PERCENT_PER_ALARM, poisson_interval
from speechgru.labels import NOT_WORDS, SILENCE, columns
from speechgru.model.network import SpeechGRU
from speechgru.training.augmentation import warp
from speechgru.training.data import TrainingData, is_alarm
from speechgru.training.talk import packed_talk, talk_bank, talk_recordings

#: Range of the number of words; fewer clips are repeated in other noise.
_MIN_WORDS, _MAX_WORDS = 192, 240
#: Clips that are repeated, or were trained on, are faster and higher by a factor in this range, as
#: from other speakers: of voices that it knows a network misses no word at any threshold.
_SPEEDS = (0.85, 1.18)
#: Running speech is heard at each of these speeds, as there is little of it.
_TALK_SPEEDS = (1.0, 0.9, 1.1)
#: In half of the rows so much running speech precedes the word, followed by a pause.
_TALK_S, _PAUSE_S = 3.0, (0.3, 1.5)
#: A row continues so long after the clip, to leave time to recognize its word.
_TAIL_S = 0.8
_SNR_DB = (5.0, 20.0)
_WORD_DB = -26.0
#: Parallel streams without words.
_ROWS = 16
#: Settings of the detectors that are tried; of equal ones the first is taken.
_SMOOTHING_S = (0.2, 0.1, 0.3)
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
#: A word that is said again half a second later is one more event: until then the posterior of the
#: first has fallen a little, but in noise seldom far.
_RELEASE = 0.95
#: False alarms beyond this rate, per hour and word, cost no more.
_MAX_ALARMS = 20.0
#: What one costs the detector, as per cent of missed words: more than it costs the weights, as in
#: these rows far more words are missed than of other speakers. But in minutes of running speech a
#: single one is hardly evidence: the rate is the low end of its interval of one standard deviation.
_DETECTOR_PERCENT_PER_ALARM, _SURE_Z = 25.0, 1.0
#: Few recordings say little about thresholds: one whose odds are e times those of the usual one
#: costs as much as missing half a recording, and others grow as the square of that distance.
_USUAL_THRESHOLD, _DOUBTFUL_RECORDINGS = 0.85, 0.5


@dataclass(frozen=True)
class StreamScore:
    """What the best detector for a network finds in the validation streams.

    Args:
        errors: chooses the weights: percent of missed words plus the cost of false alarms, as a
            mean over all detectors tried, which favours weights that do not depend on the choice.
    """

    errors: float
    missed_percent: float
    false_alarms_per_hour: float
    words: int
    hours: float
    detector: DetectorConfig = field(hash=False)
    #: Of this detector alone: percent of missed words plus the cost of false alarms.
    cost: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        return {
            "stream_errors": round(self.errors, 3),
            "stream_cost": round(self.cost, 3),
            "missed_percent": round(self.missed_percent, 3),
            "false_alarms_per_hour": round(self.false_alarms_per_hour, 3),
            "stream_words": self.words,
            "stream_hours": round(self.hours, 4),
            "threshold": self.detector.threshold,
            "smoothing_s": self.detector.smoothing_s,
        }


@dataclass(frozen=True)
class _Trial:
    """What a detector finds; `word_hours` are hours without words, times the number of words."""

    config: DetectorConfig
    missed_percent: float
    false_alarms: int
    word_hours: float

    @property
    def cost(self) -> float:
        """What it costs, in per cent of missed words, where weights are chosen."""
        return self._cost(PERCENT_PER_ALARM, self.false_alarms)

    @property
    def cost_of_detector(self) -> float:
        """What it costs where a detector is chosen, but for its threshold."""
        surely, _ = poisson_interval(self.false_alarms, _SURE_Z)
        return self._cost(_DETECTOR_PERCENT_PER_ALARM, surely)

    def _cost(self, percent_per_alarm: float, false_alarms: float) -> float:
        alarms = min(false_alarms / self.word_hours, _MAX_ALARMS)
        return self.missed_percent + percent_per_alarm * alarms


class StreamValidation:
    """The words of the validation split among other speech and noise, always the same ones.

    Args:
        with_training_words: also the words of the training split. They say little about a model
            that trains on them, but more than a few validation words do about which of two models
            that were trained on them is worse.

    Raises:
        DataError: the split has no word.
    """

    def __init__(
        self, data: TrainingData, model: SpeechGRU, with_training_words: bool = False
    ) -> None:
        rng = np.random.default_rng(0)
        self.step_s = model.step_samples / model.sample_rate
        talk = _talk(data, model)
        noise = _noise(data, model.sample_rate)
        splits = ("validation", "training") if with_training_words else ("validation",)
        examples = _balanced([e for split in splits for e in data.task.split(split)], rng)
        if not examples:
            raise DataError(f"{data.task.protocol}: the validation split has no word")
        self.words = [example.label for example in examples]
        #: How many recordings they are of.
        self.recordings = len(set(examples))
        known = {example.path for example in data.task.split("training")}
        rows, starts = _word_rows(data, model, examples, known, talk, noise, rng)
        self.rows, self.starts_s = rows, starts
        self.wordless = _wordless(talk, noise, model.step_samples)

    def __call__(self, model: SpeechGRU, own: DetectorConfig | None = None) -> StreamScore:
        """Score a model, which is set to evaluation mode, with its own detector or the best one."""
        model.eval()
        words = _log_posteriors(model, self.rows)
        wordless = _log_posteriors(model, self.wordless)
        hours = wordless.shape[0] * wordless.shape[1] * self.step_s / 3600
        words_known = sum(label not in NOT_WORDS for label in model.labels)
        trials = []
        tried = [
            DetectorConfig(smoothing_s=smoothing_s, threshold=threshold, release=_RELEASE)
            for smoothing_s, threshold in product(_SMOOTHING_S, _THRESHOLDS)
        ]
        for config in [own] if own else tried:
            missed = 100 * self._missed(words, model.labels, config) / len(self.words)
            alarms = len(self._events(wordless, model.labels, config))
            trials.append(_Trial(config, missed, alarms, max(hours, 1e-9) * words_known))
        errors = float(np.mean([trial.cost for trial in trials]))
        doubt = 100 * _DOUBTFUL_RECORDINGS / self.recordings
        best = min(
            trials,
            key=lambda trial: (
                trial.cost_of_detector + doubt * _distance(trial.config.threshold) ** 2
            ),
        )
        return StreamScore(
            errors,
            best.missed_percent,
            best.false_alarms / max(hours, 1e-9),
            len(self.words),
            hours,
            best.config,
            best.cost,
        )

    def _missed(
        self, rows: NDArray[np.float32], labels: Sequence[str], config: DetectorConfig
    ) -> int:
        """Number of words without an event, or with that of another word first."""
        first: dict[int, str] = {}
        for row, word, t in self._events(rows, labels, config):
            if t >= self.starts_s[row]:
                first.setdefault(row, word)
        return sum(first.get(row) != word for row, word in enumerate(self.words))

    def _events(
        self, rows: NDArray[np.float32], labels: Sequence[str], config: DetectorConfig
    ) -> list[tuple[int, str, float]]:
        """Row, word and time of each event in log-posteriors (N, T, V), row by row.

        The rows are one stream, for which many numpy calls are made once, with so much silence
        between them that the detector forgets what was before.
        """
        memory_s = config.smoothing_s + config.refractory_s + config.unknown_s
        count, steps, _ = rows.shape
        gap = math.ceil(memory_s / self.step_s) + 1
        stream = np.pad(rows, ((0, 0), (0, gap), (0, 0)), constant_values=-np.inf)
        if SILENCE in labels:
            stream[:, steps:, labels.index(SILENCE)] = 0.0
        detector = Detector(labels, self.step_s, config)
        detector.notes_verdicts = False
        events = detector.push(stream.reshape(count * (steps + gap), -1)) + detector.flush()
        places = [divmod(round(event.t / self.step_s) - 1, steps + gap) for event in events]
        return [
            (row, event.word, (step + 1) * self.step_s)
            for event, (row, step) in zip(events, places, strict=True)
            if step < steps
        ]


def _distance(threshold: float) -> float:
    """How far a threshold is from the usual one, in natural logarithms of the odds."""
    odds, usual_odds = (
        share / (1 - share) for share in (min(max(threshold, 1e-6), 1 - 1e-6), _USUAL_THRESHOLD)
    )
    return math.log(odds / usual_odds)


def _balanced(examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    """Words of a split, equally many of each label; repeated if there are few."""
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        if example.label not in NOT_WORDS and example.path is not None:
            by_label.setdefault(example.label, []).append(example)
    if not by_label:
        return []
    total = sum(map(len, by_label.values()))
    each = -(-min(max(total, _MIN_WORDS), _MAX_WORDS) // len(by_label))
    return [
        clips[i]
        for clips in by_label.values()
        for i in np.resize(rng.permutation(len(clips)), each)
    ]


def _word_rows(
    data: TrainingData,
    model: SpeechGRU,
    examples: Sequence[Example],
    known: Collection[Path | None],
    talk: Samples,
    noise: Samples,
    rng: np.random.Generator,
) -> tuple[Samples, list[float]]:
    """A row for each word, (N, S), and when its clip starts, in seconds.

    Each row has noise throughout and a clip, every second one running speech and a pause before it.
    Clips whose recordings are `known`, or were in a row before, are from another voice.
    """
    rate = model.sample_rate
    clips = data.packed.gather(examples, model.steps(data.task.clip_s) * model.step_samples)
    before, tail = round((_TALK_S + _PAUSE_S[1]) * rate), round(_TAIL_S * rate)
    total = before + clips.shape[1] + tail
    total -= total % model.step_samples
    rows = np.empty((len(clips), total), np.float32)
    heard = set(known)
    for row, packed, example in zip(rows, clips, examples, strict=True):
        clip = packed / FULL_SCALE
        if example.path in heard:
            speed = torch.tensor([rng.uniform(*_SPEEDS)])
            clip = warp(torch.from_numpy(clip)[None].float(), speed, torch.zeros(1))[0].numpy()
        heard.add(example.path)
        start_s, end_s = word_bounds_s(clip, rate)
        word = clip[round(start_s * rate) : round(end_s * rate)]
        level = np.sqrt(np.square(word).mean())
        clip = clip * (10 ** (_WORD_DB / 20) / max(level, 1e-6))
        row[:] = _scaled(_crop(noise, total, rng), _WORD_DB - rng.uniform(*_SNR_DB))
        row[before : before + len(clip)] += clip[: total - before]
    for place in range(0, len(rows) if len(talk) else 0, 2):
        pause = round(rng.uniform(*_PAUSE_S) * rate)
        rows[place, : before - pause] += _crop(talk, before - pause, rng)
    return rows, [before / rate] * len(rows)


def _wordless(talk: Samples, noise: Samples, step_samples: int) -> Samples:
    """Running speech and noise as parallel rows, (R, S) in whole steps."""
    sound = np.concatenate([talk, _scaled(noise, -35.0)]) if len(noise) else talk
    length = len(sound) // _ROWS // step_samples * step_samples
    return sound[: _ROWS * length].reshape(_ROWS, length)


def _talk(data: TrainingData, model: SpeechGRU) -> Samples:
    # False alarms are trained on, but what still makes a model fire must not be chosen.
    alarms = {e.path for e in data.task.splits["training"] if e.path and is_alarm(e)}
    recordings = (*talk_recordings(data, "validation"), *sorted(alarms))
    if not recordings:
        return np.zeros(0, np.float32)
    bank, _ = talk_bank(
        recordings,
        model.sample_rate,
        model.step_samples,
        _TALK_SPEEDS,
        packed_talk(data, recordings),
    )
    return bank.astype(np.float32) / np.float32(FULL_SCALE)


def _noise(data: TrainingData, rate: int) -> Samples:
    """The validation part of the corpus's and the bundled noises; white noise if there is none."""
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
    """Samples at this RMS level, in dB of full scale."""
    return samples * (10 ** (level_db / 20) / max(float(np.sqrt(np.square(samples).mean())), 1e-6))


def _crop(sound: Samples, samples: int, rng: np.random.Generator) -> Samples:
    """A crop from a random place, which wraps around at the end: (samples,)."""
    return np.take(sound, np.arange(samples) + rng.integers(len(sound)), mode="wrap")


@torch.inference_mode()
def _log_posteriors(model: SpeechGRU, rows: Samples, block_steps: int = 250) -> NDArray[np.float32]:
    """Log-posteriors of rows (N, S), as streams from a fresh state: (N, T, V)."""
    state, parts = None, []
    classify = columns(model.outputs, "classify")
    size = block_steps * model.step_samples
    for first in range(0, rows.shape[1], size):
        block = torch.from_numpy(np.ascontiguousarray(rows[:, first : first + size], np.float32))
        log_posteriors, state = model(block.to(model.device), state)
        parts.append(log_posteriors[..., classify].cpu().numpy())
    return np.concatenate(parts, axis=1)
