"""Which clip comes next."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechgru.corpora.corpus import Example
from speechgru.errors import DataError
from speechgru.labels import NOT_WORDS, SILENCE, UNKNOWN
from speechgru.training.random_rows import RowGenerator, random_rows
from speechgru.training.recipe import SamplingConfig

_CPU = torch.device("cpu")


class Chooser:
    """Clips at random, each as often as its weight says; for one's own part of every batch.

    It is on the CPU, with a generator of its own: what comes next is known there before the device
    needs it.
    """

    def __init__(self, weights: NDArray[np.float64], generator: RowGenerator) -> None:
        self.up_to = torch.from_numpy(np.cumsum(weights))
        self.generator = generator

    def next(self, count: int) -> Tensor:
        """Numbers of the next `count` clips, (count,); one may come twice."""
        draw = partial(torch.rand, dtype=torch.double)
        place = random_rows(draw, (count,), self.generator, _CPU) * self.up_to[-1]
        return torch.searchsorted(self.up_to, place, right=True).clamp_(max=len(self.up_to) - 1)

    def peek(self, count: int) -> Tensor:
        """What `next` will give."""
        state = self.generator.get_state()
        chosen = self.next(count)
        self.generator.set_state(state)
        return chosen


def sampling_weights(
    examples: tuple[Example, ...], labels: tuple[str, ...], config: SamplingConfig
) -> NDArray[np.float64]:
    """How likely each example is drawn: (N,), sum 1.

    Every word is drawn equally often, whatever its clips; `_unknown_` and `_silence_` as the
    configuration says; within `_unknown_`, a word in proportion to the root of its clips.

    Raises:
        DataError: a label has no training clip.
    """
    counts: dict[tuple[str, str], int] = {}
    for example in examples:
        key = (example.label, example.word)
        counts[key] = counts.get(key, 0) + 1
    shares: dict[tuple[str, str], float] = {}
    for label in labels:
        roots = {key: count**0.5 for key, count in counts.items() if key[0] == label}
        if not roots:
            if label in NOT_WORDS:
                continue
            raise DataError(f"{label!r} has no training clip; each word needs at least one")
        weight = {UNKNOWN: config.unknown_weight, SILENCE: config.silence_weight}.get(label, 1.0)
        shares |= {key: weight * root / sum(roots.values()) for key, root in roots.items()}
    weights = np.array([shares[e.label, e.word] / counts[e.label, e.word] for e in examples])
    return weights / weights.sum()
