"""Checks that live equals offline: a recording as a whole and the same recording in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.samples import Samples
from speechgru.common.progress import Progress
from speechgru.decoding.events import PosteriorRecorder
from speechgru.errors import DataError
from speechgru.recognition.backend import Backend, State
from speechgru.recognition.recognizer import Recognizer

FEATURE_TOLERANCE, LOG_POSTERIOR_TOLERANCE = 1e-5, 1e-4
#: Of log-posteriors of another form of a model whose posteriors differ by no more than the above:
#: those of improbable labels of a sharp CTC head differ as much between float32 and float64.
_OTHER_FORM_TOLERANCE = 1e-3

#: Only this much of a longer recording is pushed sample by sample.
SAMPLE_BY_SAMPLE_S = 20.0
_LONGEST_RANDOM_CHUNK_STEPS = 50


@dataclass(frozen=True)
class Difference:
    """The largest differences between a recording as a whole and in chunks, over `steps` steps.

    `features` is None if the backend does not expose them, as for an exported model; `posteriors`
    unless the whole is of another form of the model.
    """

    chunking: str
    steps: int
    features: float | None
    log_posteriors: float
    posteriors: float | None = None

    @property
    def passed(self) -> bool:
        """Whether both are within tolerance."""
        features_fit = self.features is None or self.features <= FEATURE_TOLERANCE
        if self.posteriors is not None and self.posteriors <= LOG_POSTERIOR_TOLERANCE:
            return features_fit and self.log_posteriors <= _OTHER_FORM_TOLERANCE
        return features_fit and self.log_posteriors <= LOG_POSTERIOR_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "chunking": self.chunking,
            "steps": self.steps,
            "features": self.features,
            "log_posteriors": self.log_posteriors,
            **({} if self.posteriors is None else {"posteriors": self.posteriors}),
            "passed": self.passed,
        }


def verify(
    backend: Backend,
    samples: Samples,
    seed: int = 0,
    name: str = "the recording",
    progress: Progress | None = None,
    reference: Backend | None = None,
    longest_s: float = SAMPLE_BY_SAMPLE_S,
) -> list[Difference]:
    """Compare a recording, (S,), in several chunkings through `Recognizer` with it as a whole.

    The whole is one call of the reference on all samples: of the same backend, or of another form
    of the same model, whose features are then not compared.

    Args:
        longest_s: how much of a recording to push sample by sample at most; 0: nothing.

    Raises:
        DataError: the recording is shorter than one step or has samples that are not finite, or
            the reference is another model.
    """
    step = backend.step_samples
    if len(samples) < step:
        raise DataError(f"{name}: {len(samples)} samples; at least one step of {step} is needed")
    if reference is not None:
        _check_same_model(backend, reference)
    whole = _run_whole(reference or backend, samples)
    plans = chunkings(len(samples), step, backend.sample_rate, seed, longest_s)
    differences = []
    for done, (chunking, sizes) in enumerate(plans.items(), 1):
        is_other = reference is not None
        differences.append(_compare(backend, samples, whole, chunking, sizes, is_other))
        if progress is not None:
            progress(done, len(plans))
    return differences


def compare(backend: Backend, samples: Samples, sizes: Sequence[int]) -> Difference:
    """Compare a recording, (S,), in chunks of these sizes with it as a whole.

    The chunks may end before the recording does.
    """
    return _compare(backend, samples, _run_whole(backend, samples), "given", sizes)


def chunkings(
    samples: int,
    step_samples: int,
    rate: int,
    seed: int,
    longest_s: float = SAMPLE_BY_SAMPLE_S,
) -> dict[str, list[int]]:
    """Names of chunkings, each with the sizes of its chunks."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, _LONGEST_RANDOM_CHUNK_STEPS * step_samples, 1 + samples // step_samples)
    within = np.cumsum(sizes) < samples
    random = [*sizes[within].tolist(), samples - int(sizes[within].sum())]
    single = {"1 sample": [1] * min(samples, round(longest_s * rate))} if longest_s else {}
    return single | {
        "20 ms": [round(0.02 * rate)] * (samples // round(0.02 * rate)),
        "random": random,
        "whole": [samples],
    }


class _Outputs(NamedTuple):
    """Features (frames, F), if the backend exposes them, and log-posteriors (T, V)."""

    features: NDArray[np.float32] | None
    log_posteriors: NDArray[np.floating]


class _FeatureRecorder(Backend):
    """A backend that also keeps the features of the blocks that it is given."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.info = backend, backend.info
        self.blocks: list[NDArray[np.float32] | None] = []

    def initial_state(self) -> State:
        return self.backend.initial_state()

    def __call__(self, samples: Samples, state: State) -> tuple[NDArray[np.float32], State]:
        self.blocks.append(self.backend.features(samples, state))
        return self.backend(samples, state)

    def recorded(self) -> NDArray[np.float32] | None:
        """The features of all blocks, (frames, F)."""
        blocks = [block for block in self.blocks if block is not None]
        return np.concatenate(blocks) if blocks else None


def _check_same_model(backend: Backend, reference: Backend) -> None:
    for name in ("labels", "sample_rate", "step_samples"):
        ours, theirs = getattr(backend, name), getattr(reference, name)
        if ours != theirs:
            raise DataError(f"two models cannot be compared: their {name} are {ours} and {theirs}")


def _run_whole(backend: Backend, samples: Samples) -> _Outputs:
    recorder = _FeatureRecorder(backend)
    whole = samples[: len(samples) // backend.step_samples * backend.step_samples]
    log_posteriors, _ = recorder(whole, recorder.initial_state())
    return _Outputs(recorder.recorded(), log_posteriors)


def _compare(
    backend: Backend,
    samples: Samples,
    whole: _Outputs,
    name: str,
    sizes: Sequence[int],
    is_other: bool = False,
) -> Difference:
    features, posteriors = _FeatureRecorder(backend), PosteriorRecorder()
    recognizer = Recognizer(features, posteriors)
    place = 0
    for size in sizes:
        recognizer.push(samples[place : place + size])
        place += size
    steps = len(posteriors.log_posteriors)
    assert steps == min(place, len(samples)) // backend.step_samples
    if not steps:
        return Difference(name, 0, None if whole.features is None else 0.0, 0.0)
    recorded, distance = features.recorded(), None
    if recorded is not None and whole.features is not None:
        distance = _largest(recorded, whole.features[: len(recorded)])
    ours, theirs = posteriors.log_posteriors, whole.log_posteriors[:steps]
    between = _largest(np.exp(ours), np.exp(theirs)) if is_other else None
    return Difference(name, steps, distance, _largest(ours, theirs), between)


def _largest(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """The largest absolute difference; NaN if one of the values is."""
    return float(np.abs(a - b).max(initial=0.0))
