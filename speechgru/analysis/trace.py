"""A model's gates and posteriors, step by step through a recording."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.audio.files import Samples
from speechgru.errors import DataError
from speechgru.labels import NOT_WORDS, Head
from speechgru.model.cells import Step
from speechgru.model.features import features
from speechgru.model.network import SpeechGRU

#: Natural logarithm of a power to decibels.
_DB = 10 / np.log(10)


@dataclass(frozen=True, eq=False)
class Trace:
    """A recording of T steps as a model hears it, from a fresh state.

    `log_mel_db` (2 T, M) are its mel bands; `posteriors` of each head (T, V), `labels` their
    columns; `layers` the gates of each recurrent layer by name, (T, units) from 0 to 1 (see
    `cells.Step`). A layer without gates has its "state" instead, from -1 to 1.
    """

    log_mel_db: NDArray[np.float32]
    posteriors: Mapping[Head, NDArray[np.float32]]
    labels: Mapping[Head, tuple[str, ...]]
    layers: tuple[Mapping[str, NDArray[np.float32]], ...]
    step_s: float
    low_hz: float
    high_hz: float
    sample_rate: int

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_mel_db) // 2

    @property
    def duration_s(self) -> float:
        """Length of what was heard."""
        return self.steps * self.step_s

    @property
    def peak(self) -> tuple[str, int]:
        """The word that the first head is surest of anywhere, and the step at which it is.

        Raises:
            DataError: the model has no word.
        """
        head, posteriors = next(iter(self.posteriors.items()))
        words = [i for i, label in enumerate(self.labels[head]) if label not in NOT_WORDS]
        if not words:
            raise DataError(f"the model has no word among {list(self.labels[head])}")
        step, best = np.unravel_index(posteriors[:, words].argmax(), (self.steps, len(words)))
        return self.labels[head][words[best]], int(step)

    def gate_means(self) -> list[dict[str, Any]]:
        """Each gate's mean over units and steps, for JSON."""
        return [
            {"layer": i, "gate": name, "mean": float(values.mean())}
            for i, gates in enumerate(self.layers)
            for name, values in gates.items()
        ]


def whole_steps(model: SpeechGRU, samples: Samples) -> torch.Tensor:
    """A recording, (S,), as a batch of whole steps on the model's device: (1, T step_samples).

    Raises:
        DataError: it is shorter than one step.
    """
    steps = len(samples) // model.step_samples
    if not steps:
        raise DataError(
            f"{len(samples)} samples; at least one step of {model.step_samples} is needed"
        )
    return torch.from_numpy(samples[: steps * model.step_samples]).to(model.device)[None]


@torch.no_grad()
def trace(model: SpeechGRU, samples: Samples) -> Trace:
    """Hear a recording, (S,), with a model in evaluation mode, and keep what its layers do.

    Raises:
        DataError: the recording is shorter than one step.
    """
    batch = whole_steps(model, samples)
    layers: list[Step] = []
    hooks = [
        cell.register_forward_pre_hook(lambda cell, heard: layers.append(cell.trace(*heard)))
        for cell in model.cells
    ]
    try:
        log_posteriors, _ = model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    posteriors, first = {}, 0
    for head, labels in model.outputs.items():
        posteriors[head] = log_posteriors[0, :, first : first + len(labels)].exp().cpu().numpy()
        first += len(labels)
    config = model.features.config
    context = batch.new_zeros(1, config.context_samples)
    log_mel = features(
        torch.cat([context, batch], dim=1), config.model_copy(update={"kind": "logmel"})
    )
    return Trace(
        log_mel_db=_DB * log_mel[0].cpu().numpy(),
        posteriors=posteriors,
        labels=dict(model.outputs),
        layers=tuple(_shown(step) for step in layers),
        step_s=model.step_samples / model.sample_rate,
        low_hz=config.low_hz,
        high_hz=config.high_hz,
        sample_rate=model.sample_rate,
    )


def _shown(step: Step) -> dict[str, NDArray[np.float32]]:
    gates = step.gates or {"state": step.y}
    return {name: values[0].cpu().numpy() for name, values in gates.items()}
