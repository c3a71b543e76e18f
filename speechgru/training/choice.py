"""Which clip comes next."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechgru.random_rows import RowGenerator, random_rows

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
