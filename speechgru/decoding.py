"""Posteriors to words. Knows nothing of how the posteriors were made, and needs no torch."""

import numpy as np
from numpy.typing import NDArray


def isolated_word(log_posteriors: NDArray[np.floating], tail_steps: int) -> NDArray[np.floating]:
    """Score the one word of a clip by what its last `tail_steps` steps say.

    The mean of their log-posteriors, renormalised so that exp(scores) sums to 1. A clip with
    fewer steps is scored by all of them.

    Shape:
        (..., T, V) -> (..., V)

    >>> tail = np.log([[0.5, 0.5], [0.2, 0.8]])
    >>> np.exp(isolated_word(tail, tail_steps=1)).round(3).tolist()
    [0.2, 0.8]
    """
    if tail_steps < 1 or log_posteriors.shape[-2] < 1:
        steps = log_posteriors.shape[-2]
        raise ValueError(f"{tail_steps} last steps of {steps}: a word's score needs at least one")
    mean = log_posteriors[..., -tail_steps:, :].mean(axis=-2)
    return mean - np.logaddexp.reduce(mean, axis=-1, keepdims=True)
