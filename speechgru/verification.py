"""Proof that live equals offline: a recording whole against the same recording in chunks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.audio import Samples
from speechgru.backend import TorchBackend
from speechgru.decoding import Tape
from speechgru.errors import DataError
from speechgru.model import FRAMES_PER_STEP, SpeechGRU
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
    name: str = "the recording",
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
            f"{name}: {len(samples)} samples; to compare, at least one step of {step} is needed"
        )
    whole = _whole(model, samples)
    plans = chunkings(len(samples), step, model.sample_rate, seed)
    found = []
    for done, (chunking, sizes) in enumerate(plans.items(), 1):
        found.append(_compare(model, samples, whole, chunking, sizes))
        if progress is not None:
            progress(done, len(plans))
    return found


def compare(model: SpeechGRU, samples: Samples, sizes: Sequence[int]) -> Difference:
    """Compare a recording, (S,), in chunks of these sizes with the model's answer to the whole.

    The chunks may end before the recording does.
    """
    return _compare(model, samples, _whole(model, samples), "given", sizes)


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


class _Answer(NamedTuple):
    """Features (FRAMES_PER_STEP T, F) and log-posteriors (T, V)."""

    features: NDArray[np.float32]
    log_posteriors: NDArray[np.floating]


def _whole(model: SpeechGRU, samples: Samples) -> _Answer:
    backend = _FeatureTape(model)
    whole = samples[: len(samples) // model.step_samples * model.step_samples]
    log_posteriors, _ = backend(whole, backend.initial_state())
    return _Answer(backend.features[0], log_posteriors)


def _compare(
    model: SpeechGRU, samples: Samples, whole: _Answer, name: str, sizes: Sequence[int]
) -> Difference:
    backend, tape = _FeatureTape(model), Tape()
    recognizer = Recognizer(backend, tape)
    place = 0
    for size in sizes:
        recognizer.push(samples[place : place + size])
        place += size
    features = np.concatenate(backend.features or [whole.features[:0]])
    steps = len(tape.log_posteriors)
    assert steps == min(place, len(samples)) // model.step_samples
    return Difference(
        name,
        steps,
        _largest(features, whole.features[: steps * FRAMES_PER_STEP]),
        _largest(tape.log_posteriors, whole.log_posteriors[:steps]) if steps else 0.0,
    )


def _largest(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.abs(a - b).max(initial=0.0))
