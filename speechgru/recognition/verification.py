"""Proof that live equals offline: a recording whole against the same recording in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.files import Samples
from speechgru.common.progress import Progress
from speechgru.decoding.events import Tape
from speechgru.errors import DataError
from speechgru.recognition.recognizer import Backend, Recognizer

FEATURE_TOLERANCE, LOG_POSTERIOR_TOLERANCE = 1e-5, 1e-4

#: Of a longer recording only the beginning is pushed sample by sample.
SAMPLE_BY_SAMPLE_S = 20.0
#: A random chunk is up to this many steps long.
_LONGEST_CHUNK_STEPS = 50


@dataclass(frozen=True)
class Difference:
    """The largest differences between a recording whole and in chunks, over `steps` steps.

    Those of the features are None where a backend does not tell them, as an exported model's.
    """

    chunking: str
    steps: int
    features: float | None
    log_posteriors: float

    @property
    def passed(self) -> bool:
        """Both are small enough."""
        features_fit = self.features is None or self.features <= FEATURE_TOLERANCE
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


@runtime_checkable
class TellsFeatures(Protocol):
    """A backend that can keep the features which it computes from each block."""

    def with_features(self) -> "FeatureTape":
        """Another one of the same model that does."""
        ...


class FeatureTape(Backend, Protocol):
    """A backend, and the features of each block that it was given, (frames, F)."""

    features: list[NDArray[np.float32]]


def verify(
    backend: Backend,
    samples: Samples,
    seed: int = 0,
    name: str = "the recording",
    progress: Progress | None = None,
    reference: Backend | None = None,
    longest_s: float = SAMPLE_BY_SAMPLE_S,
) -> list[Difference]:
    """Compare a recording, (S,), in several chunkings through `Recognizer` with it whole.

    Whole is one call of the reference on all samples: the same backend, or another form of the
    same model, whose features are then not compared.

    Args:
        longest_s: of a longer recording only so much is pushed sample by sample; 0 for nothing.

    Raises:
        DataError: the recording is shorter than one step, or has samples that are not finite; or
            the reference is another model.
    """
    step = backend.step_samples
    if len(samples) < step:
        raise DataError(
            f"{name}: {len(samples)} samples; to compare, at least one step of {step} is needed"
        )
    if reference is not None:
        _check_same(backend, reference)
    whole = _whole(reference or backend, samples)
    plans = chunkings(len(samples), step, backend.sample_rate, seed, longest_s)
    found = []
    for done, (chunking, sizes) in enumerate(plans.items(), 1):
        found.append(_compare(backend, samples, whole, chunking, sizes))
        if progress is not None:
            progress(done, len(plans))
    return found


def compare(backend: Backend, samples: Samples, sizes: Sequence[int]) -> Difference:
    """Compare a recording, (S,), in chunks of these sizes with the answer to the whole.

    The chunks may end before the recording does.
    """
    return _compare(backend, samples, _whole(backend, samples), "given", sizes)


def chunkings(
    samples: int,
    step_samples: int,
    rate: int,
    seed: int,
    longest_s: float = SAMPLE_BY_SAMPLE_S,
) -> dict[str, list[int]]:
    """Names of chunkings with the sizes of their chunks."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, _LONGEST_CHUNK_STEPS * step_samples, 1 + samples // step_samples)
    within = np.cumsum(sizes) < samples
    random = [*sizes[within].tolist(), samples - int(sizes[within].sum())]
    single = {"1 sample": [1] * min(samples, round(longest_s * rate))} if longest_s else {}
    return single | {
        "20 ms": [round(0.02 * rate)] * (samples // round(0.02 * rate)),
        "random": random,
        "whole": [samples],
    }


class _Answer(NamedTuple):
    """Features (frames, F), if they are told, and log-posteriors (T, V)."""

    features: NDArray[np.float32] | None
    log_posteriors: NDArray[np.floating]


def _taped(backend: Backend) -> tuple[Backend, list[NDArray[np.float32]] | None]:
    """A backend, and where its features will be; None where it does not tell them."""
    if not isinstance(backend, TellsFeatures):
        return backend, None
    taped = backend.with_features()
    return taped, taped.features


def _check_same(backend: Backend, reference: Backend) -> None:
    for what in ("labels", "sample_rate", "step_samples"):
        one, other = getattr(backend, what), getattr(reference, what)
        if one != other:
            raise DataError(f"two models cannot be compared: their {what} are {one} and {other}")


def _whole(backend: Backend, samples: Samples) -> _Answer:
    taped, features = _taped(backend)
    whole = samples[: len(samples) // backend.step_samples * backend.step_samples]
    log_posteriors, _ = taped(whole, taped.initial_state())
    return _Answer(features[0] if features else None, log_posteriors)


def _compare(
    backend: Backend, samples: Samples, whole: _Answer, name: str, sizes: Sequence[int]
) -> Difference:
    taped, features = _taped(backend)
    tape = Tape()
    recognizer = Recognizer(taped, tape)
    place = 0
    for size in sizes:
        recognizer.push(samples[place : place + size])
        place += size
    steps = len(tape.log_posteriors)
    assert steps == min(place, len(samples)) // backend.step_samples
    if not steps:
        return Difference(name, 0, None if features is None else 0.0, 0.0)
    apart = None
    if features is not None and whole.features is not None:
        found = np.concatenate(features)
        apart = _largest(found, whole.features[: len(found)])
    return Difference(
        name, steps, apart, _largest(tape.log_posteriors, whole.log_posteriors[:steps])
    )


def _largest(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """NaN where one of them is."""
    return float(np.abs(a - b).max(initial=0.0))
