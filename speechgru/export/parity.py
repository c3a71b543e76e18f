"""Checks that an exported graph gives the same results as PyTorch, in any chunking."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from speechgru.audio.files import read
from speechgru.audio.pcm import to_floats
from speechgru.audio.samples import Samples
from speechgru.common.progress import Progress
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.split_audio import SplitAudio
from speechgru.errors import GateError
from speechgru.recognition.backend import Backend
from speechgru.recognition.verification import LOG_POSTERIOR_TOLERANCE, Difference, verify

_Item = TypeVar("_Item")

#: Clips that are compared, one after another as one stream.
_MAX_CLIPS = 40


def embedded_recording(rate: int) -> Samples:
    """Speech that is always available: half a minute of the embedded corpus, (S,)."""
    clips = open_corpus(embedded_corpus()).split("testing")
    return np.concatenate([read(clip.path, rate) for clip in _some(clips)])


def recording_of(audio: SplitAudio, clip_samples: int) -> Samples:
    """Some clips of a split, one after another, (S,)."""
    clips = audio.packed.gather(_some(audio.task.split(audio.split)), clip_samples)
    return to_floats(clips).ravel()


def check_parity(
    exported: Backend,
    reference: Backend,
    recordings: Sequence[Samples],
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Difference]:
    """Compare recordings through the exported graph, whole and in chunks, with PyTorch.

    Raises:
        GateError: log-posteriors differ by more than 1e-4, or posteriors by that and log-posteriors
            by more than 1e-3.
    """
    found: list[Difference] = []
    for number, recording in enumerate(recordings):
        found += verify(
            exported, recording, seed + number, progress=progress, reference=reference, longest_s=0
        )
    failed = [difference for difference in found if not difference.passed]
    if failed:
        worst = max(failed, key=lambda difference: difference.log_posteriors)
        raise GateError(
            f"the exported graph differs from PyTorch: its log-posteriors by up to "
            f"{worst.log_posteriors:.2g} (chunks: {worst.chunking}), {LOG_POSTERIOR_TOLERANCE:g} "
            "is allowed; nothing was written"
        )
    return found


def _some(items: Sequence[_Item]) -> list[_Item]:
    """Up to `_MAX_CLIPS` items, evenly spaced."""
    places = np.linspace(0, len(items) - 1, min(_MAX_CLIPS, len(items))).round().astype(int)
    return [items[place] for place in places]
