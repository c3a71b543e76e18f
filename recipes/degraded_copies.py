"""Copies of a split's recordings as from afar, by telephone, and coded, to test a model with.

    python recipes/degraded_copies.py gsc-open --out copies --split validation
    speechgru evaluate commands-12 --data copies/far --split validation

OUT gets one directory for each kind, like DIR and with its lists:

far        in a room with a T60 of 0.5 s, 2 to 4 m away, over DIR's noise at 10 dB
telephone  300 to 3,400 Hz at 8 kHz in eight bits (G.711, mu-law)
opus       Ogg Opus at the lowest bit rate that the library offers
mp3        MP3 likewise

All silence of a split is cut out of the background recordings, which are copied as they are.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from speechgru.audio.files import read
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import SPLITS, Corpus
from speechgru.corpora.speech_commands import LISTS
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.training.rooms import random_room

RATE = 16_000
#: Other rooms than those that networks are trained in.
SEED = 1979
T60_S, DISTANCE_M, SNR_DB = 0.5, (2.0, 4.0), 10.0
#: From 0 to 1; libsndfile refuses MP3 at 1.
LEAST_BITS = 0.99

Samples = NDArray[np.floating]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DIR", help="with validation_list.txt, testing_list.txt")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--split", choices=SPLITS[1:], default="validation")
    options = parser.parse_args(arguments)
    try:
        corpus = open_corpus(options.data)
        if corpus.split_by != "lists":
            raise UsageError(f"{corpus.root}: has no {' or '.join(LISTS.values())}")
        for kind in ("far", "telephone", "opus", "mp3"):
            count = copy(corpus, options.split, kind, options.out / kind)
            print(f"{options.out / kind}: {count:,} recordings")
    except SpeechGRUError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def copy(corpus: Corpus, split: str, kind: str, out: Path) -> int:
    """Copy a split's recordings in one way; returns their number.

    Raises:
        UsageError: `out` is there already, or cannot be written.
        DataError: a recording cannot be read.
    """
    clips, rng = corpus.split(split), np.random.default_rng(SEED)
    noise = np.concatenate([read(path, RATE) for path in corpus.noises] or [np.zeros(RATE)])
    degrade: dict[str, Callable[[Samples], Samples]] = {
        "far": lambda samples: far(samples, noise, rng),
        "telephone": telephone,
    }
    suffix = {"opus": ".ogg", "mp3": ".mp3"}.get(kind, ".flac")
    names = []
    try:
        out.mkdir(parents=True)
        if corpus.noises:
            shutil.copytree(corpus.noises[0].parent, out / corpus.noises[0].parent.name)
        for clip in clips:
            path = out / clip.word / f"{clip.path.stem}{suffix}"
            path.parent.mkdir(exist_ok=True)
            write(path, degrade.get(kind, lambda samples: samples)(read(clip.path, RATE)))
            names.append(f"{clip.word}/{path.name}\n")
        for other, name in LISTS.items():
            (out / name).write_text("".join(sorted(names)) if other == split else "")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error
    return len(clips)


def write(path: Path, samples: Samples) -> None:
    """A recording in the format of its suffix, at the lowest bit rate."""
    if path.suffix == ".flac":
        soundfile.write(path, samples, RATE)
    elif path.suffix == ".ogg":
        soundfile.write(path, samples, RATE, "OPUS", compression_level=LEAST_BITS)
    else:
        soundfile.write(path, samples, RATE, compression_level=LEAST_BITS)


def far(samples: Samples, noise: Samples, rng: np.random.Generator) -> Samples:
    """As loud as before, with the echoes of a room and noise."""
    response = random_room(RATE, rng, T60_S, DISTANCE_M)
    heard = fftconvolve(samples, response)[: len(samples)]
    heard *= rms(samples) / max(rms(heard), 1e-9)
    start = rng.integers(0, max(1, len(noise) - len(samples)))
    part = np.resize(noise[start : start + len(samples)], len(samples))
    heard = heard + part * (rms(heard) / max(rms(part), 1e-9) * 10 ** (-SNR_DB / 20))
    return heard / max(1.0, np.abs(heard).max())


def telephone(samples: Samples) -> Samples:
    """What a telephone of the fixed network hands on, at 16 kHz again."""
    half = RATE // 2
    band = butter(4, (300, 3_400), "bandpass", fs=half, output="sos")
    narrow = sosfilt(band, soxr.resample(samples, RATE, half)).clip(-1, 1)
    levels = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    heard = soxr.resample(
        np.sign(levels) * np.expm1(np.abs(levels) * np.log(256)) / 255, half, RATE
    )
    return np.resize(heard, len(samples)).clip(-1, 1)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.square(samples).mean()))


if __name__ == "__main__":
    sys.exit(main())
