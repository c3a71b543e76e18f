"""Proof that live equals offline: a recording whole against the same recording in chunks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.audio import Samples
from speechgru.backend import TorchBackend
from speechgru.decoding import Tape
from speechgru.errors import DataError
from speechgru.model import SpeechGRU
from speechgru.streaming import Recognizer

FEATURE_TOLERANCE, LOG_POSTERIOR_TOLERANCE = 1e-5, 1e-4

#: Of a longer recording only the beginning is pushed sample by sample.
SAMPLE_BY_SAMPLE_S = 20.0
#: A random chunk is up to this many steps long.
_LONGEST_CHUNK_STEPS = 50


@dataclass(frozen=True)
class Difference:
    """The largest differences between a recording whole and in chunks, over `steps` steps."""

    chunking: str
    steps: int
    features: float
    log_posteriors: float

    @property
    def passed(self) -> bool:
        """Both are small enough."""
        features_fit = self.features <= FEATURE_TOLERANCE
        return features_fit and self.log_posteriors <= LOG_POSTERIOR_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "chunking": self.chunking,
            "steps": self.steps,
            "features": self.features,
            "log_posteriors": self.log_posteriors,
            "passed": self.passed,
        }


def verify(
    model: SpeechGRU,
    samples: Samples,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Difference]:
    """Compare a recording, (S,), in several chunkings through `Recognizer` with the model's answer.

    The reference is one call of the model on all samples, its features those of that call.

    Raises:
        DataError: the recording is shorter than one step, or has samples that are not finite.
    """
    step = model.step_samples
    if len(samples) < step:
        raise DataError(
            f"{len(samples)} samples: to compare, at least one step of {step} is needed"
        )
    features, log_posteriors = _whole(model, samples)
    plans = chunkings(len(samples), step, model.sample_rate, seed)
    found = []
    for done, (name, sizes) in enumerate(plans.items(), 1):
        heard_features, heard = _chunked(model, samples, sizes)
        steps = len(heard)
        frames = len(features) // len(log_posteriors)
        found.append(
            Difference(
                name,
                steps,
                _largest(heard_features, features[: steps * frames]),
                _largest(heard, log_posteriors[:steps]),
            )
        )
        if progress is not None:
            progress(done, len(plans))
    return found


def chunkings(samples: int, step_samples: int, rate: int, seed: int) -> dict[str, list[int]]:
    """Names of chunkings with the sizes of their chunks."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, _LONGEST_CHUNK_STEPS * step_samples, 1 + samples // step_samples)
    within = np.cumsum(sizes) < samples
    random = [*sizes[within].tolist(), samples - int(sizes[within].sum())]
    return {
        "1 sample": [1] * min(samples, round(SAMPLE_BY_SAMPLE_S * rate)),
        "20 ms": [round(0.02 * rate)] * (samples // round(0.02 * rate)),
        "random": random,
        "whole": [samples],
    }


class _FeatureTape(TorchBackend):
    """The backend, which also keeps the features that it computes from each block."""

    def __init__(self, model: SpeechGRU) -> None:
        super().__init__(model)
        self.features: list[NDArray[np.float32]] = []

    @torch.inference_mode()
    def __call__(self, samples: Samples, state: Any) -> tuple[NDArray[np.float32], Any]:
        """As the backend's own."""
        batch = torch.tensor(samples).unsqueeze(0).to(self.model.device)
        features, _ = self.model.extract(batch, state["samples"])
        self.features.append(features[0].cpu().numpy())
        return super().__call__(samples, state)


def _whole(model: SpeechGRU, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    backend = _FeatureTape(model)
    whole = samples[: len(samples) // model.step_samples * model.step_samples]
    log_posteriors, _ = backend(whole, backend.initial_state())
    return backend.features[0], log_posteriors


def _chunked(
    model: SpeechGRU, samples: Samples, sizes: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
    backend, tape = _FeatureTape(model), Tape()
    recognizer = Recognizer(backend, tape)
    for chunk in _chunks(samples, sizes):
        recognizer.push(chunk)
    return np.concatenate(backend.features), tape.log_posteriors


def _chunks(samples: Samples, sizes: list[int]) -> Iterator[Samples]:
    place = 0
    for size in sizes:
        yield samples[place : place + size]
        place += size


def _largest(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    if a.shape != b.shape:
        raise AssertionError(f"{a.shape} in chunks, {b.shape} whole")
    return float(np.abs(a - b).max())
