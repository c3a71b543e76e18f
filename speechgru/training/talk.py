"""Running speech ("talk") in training, so that it is ignored and words after it are recognized.

Pieces of it, as long as words, stand for the other words that people say between two pauses: a word
sounds different there than within running speech, and the network takes it for something else.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechgru.audio.files import read
from speechgru.audio.pcm import FULL_SCALE, Packed, to_packed
from speechgru.audio.samples import Samples
from speechgru.common.threads import in_threads
from speechgru.corpora.packed import PackedAudio
from speechgru.corpora.speaker_names import is_false_alarm
from speechgru.labels import UNKNOWN
from speechgru.training.augmentation import crops_at
from speechgru.training.data import TrainingData

#: How often each reviewed false alarm is in the running speech.
_ALARM_REPEATS = 5
#: RMS level of each recording, in dB of full scale.
TALK_DB = -26.0
#: Silence between two recordings.
_GAP_S = 0.25
#: A step is loud if it is at most this far below the recording's level. It counts as speech if
#: there was a loud step within the last _SPEECH_S, and as silence if there was none for _SILENCE_S.
_LOUD_DB, _SPEECH_S, _SILENCE_S = -18.0, 0.2, 0.6
#: So many steps at once are measured.
_BLOCK = 5_000
SPEECH, NEITHER, SILENT = 1, 0, -1
#: The shortest and the longest piece, and how long it is faded in and out.
_PIECE_S, _FADE_S = (0.25, 0.8), 0.02


def talk_recordings(data: TrainingData, split: str) -> tuple[Path, ...]:
    """Running speech: what ships for a split, and the long recordings of its unknown words.

    A folder of words has these for training only. Reviewed false alarms, which are for training,
    are there several times.
    """
    own = dict.fromkeys(
        example.path
        for example in data.task.splits[split]
        if example.path is not None and example.start_s is not None and example.label == UNKNOWN
    )
    alarms = [path for path in own if is_false_alarm(path.as_posix())]
    bundled = data.other.speech(split, without=data.task.labels) if data.other else ()
    return (*own, *alarms * (_ALARM_REPEATS - 1), *bundled)


def packed_talk(data: TrainingData, recordings: Sequence[Path]) -> PackedAudio | None:
    """The packed recordings of the corpus, if some of these are among them."""
    return data.packed if set(recordings).intersection(data.packed.paths) else None


def talk_bank(
    paths: Sequence[Path],
    rate: int,
    step_samples: int,
    speeds: Sequence[float] = (1.0,),
    packed: PackedAudio | None = None,
) -> tuple[Packed, NDArray[np.int8]]:
    """Recordings end to end in a fixed random order, all equally loud; at each speed in turn.

    Those that are packed are as they are there, of the channel that was chosen.

    Returns samples (N,) in whole steps, and for each step SPEECH, SILENT or NEITHER.
    """
    order = np.random.default_rng(0).permutation(len(paths))
    gap = np.zeros(round(_GAP_S * rate), np.float32)
    recordings = []
    is_packed = set(packed.paths if packed else ()).__contains__

    def samples_of(path: Path) -> Samples:
        if packed is not None and is_packed(path):
            return (packed.samples(path) / FULL_SCALE).astype(np.float32)
        return read(path, rate)

    for samples in in_threads(samples_of, [paths[i] for i in order]):
        level = np.sqrt(np.square(samples).mean()) if len(samples) else 0.0
        if level > 0:
            recordings.append(samples * (10 ** (TALK_DB / 20) / level))
    parts = (
        part for speed in speeds for one in recordings for part in (_at_speed(one, speed), gap)
    )
    bank = np.concatenate([to_packed(part) for part in parts])
    steps = bank[: len(bank) // step_samples * step_samples].reshape(-1, step_samples)
    loud = np.concatenate(
        [_rms(block) for block in np.split(steps, range(_BLOCK, len(steps), _BLOCK))]
    )
    is_loud = loud > 10 ** ((TALK_DB + _LOUD_DB) / 20)
    steps_per_second = rate / step_samples
    speech = _recently(is_loud, round(_SPEECH_S * steps_per_second))
    quiet = ~_recently(is_loud, round(_SILENCE_S * steps_per_second))
    return steps.ravel(), (speech * SPEECH + quiet * SILENT).astype(np.int8)


def pieces_of(
    talk: Tensor, starts: Tensor, numbers: Tensor, length: int, rate: int
) -> tuple[Tensor, Tensor]:
    """Clips of S = `length` samples, each with a piece of running speech and silence around it.

    Args:
        talk: running speech, 16-bit (N,).
        starts: the samples at which a piece may begin, (M,).
        numbers: from 0 to 1, (B, 3): which start, how long, and where in the clip.

    Returns:
        samples (B, S), and the first and the last sample of each piece (B, 2).
    """
    place, size, before = numbers.unbind(1)
    shortest, longest = (min(piece_s * rate, 0.9 * length) for piece_s in _PIECE_S)
    lengths = (shortest + size * (longest - shortest)).long()
    firsts = (before * (length - lengths)).long()
    spans = torch.stack([firsts, firsts + lengths], dim=1)
    starts = starts[(place * len(starts)).long()] - firsts
    clips = crops_at(talk, starts.clamp(0, len(talk) - length), length) / FULL_SCALE
    now = torch.arange(length, device=talk.device)
    from_edge = torch.minimum(now - spans[:, :1] + 1, spans[:, 1:] - now)
    return clips * (from_edge / (_FADE_S * rate)).clamp(0, 1), spans


def _rms(steps: Packed) -> NDArray[np.float32]:
    """The level of each step, 1 for full scale: (N, S) -> (N,)."""
    return np.sqrt(np.square(steps, dtype=np.float32).mean(axis=1)) / FULL_SCALE


def _at_speed(samples: Samples, speed: float) -> Samples:
    """Faster and higher by a factor: (S,) -> (S / speed,)."""
    if speed == 1.0:
        return samples
    places = np.arange(0, len(samples) - 1, speed)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)


def _recently(values: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Whether this value, or one of the last `steps`, is true."""
    totals = np.cumsum(np.concatenate([np.zeros(steps + 1, np.int64), values]))
    return totals[steps + 1 :] > totals[: -steps - 1]
