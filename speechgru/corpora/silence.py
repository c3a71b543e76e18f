"""Examples of silence: cut out of background recordings, or digital zeros."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from speechgru.audio.files import probe
from speechgru.corpora.corpus import Example
from speechgru.labels import SILENCE

#: The part of each background recording, from and to, that a split may hear.
NOISE_PARTS = {"training": (0.0, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}


def cut_silence(
    noises: Sequence[Path], split: str, count: int, seed: int = 0, clip_s: float = 1.0
) -> tuple[Example, ...]:
    """Choose `count` stretches of background noise, from each recording as many, seeded.

    Only the split's own part of a recording is used, so that no two splits hear the same noise;
    recordings whose part is shorter than `clip_s` are left out, and where none is left silence is
    zeros.

    Raises:
        DataError: a background recording cannot be read.
    """
    places = []
    for path in noises if count else ():
        duration_s = probe(path).duration_s
        first_s, last_s = (part * duration_s for part in NOISE_PARTS[split])
        if last_s - clip_s >= first_s:
            places.append((path, first_s, last_s - clip_s))
    if not places:
        return digital_silence(count)
    random = Random(f"{seed}/{split}")
    cuts = []
    for number in range(count):
        path, first_s, last_s = places[number % len(places)]
        start_s = first_s + random.random() * (last_s - first_s)
        cuts.append(Example(path, SILENCE, SILENCE, "", start_s))
    return tuple(cuts)


def digital_silence(count: int) -> tuple[Example, ...]:
    """`count` examples that are all zeros."""
    return (Example(None, SILENCE, SILENCE, ""),) * count
