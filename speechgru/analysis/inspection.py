"""What happens inside a model on a recording: gates and posteriors by step, and gradients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.audio.samples import Samples
from speechgru.errors import DataError
from speechgru.labels import NOT_WORDS, Head
from speechgru.model.cells import CellName, Step
from speechgru.model.features import features
from speechgru.model.fronts import FRAMES_PER_STEP
from speechgru.model.network import SpeechGRU

#: The untrained cells that a model is compared with: without gates, with three, with two.
CLASSIC: tuple[CellName, ...] = ("rnn", "lstm", "gru")
#: Converts the natural logarithm of a power to decibels.
_DB = 10 / np.log(10)


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model computes on a recording of T steps, from a fresh state.

    Args:
        log_mel_db: mel bands, (2 T, M).
        posteriors: of each head, (T, V).
        labels: of the columns of each head's posteriors.
        layers: for each recurrent layer its gates by name, (T, units), 0 to 1 (see `cells.Step`);
            for a layer without gates its "state", -1 to 1.
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
        """Length of the recording in whole steps."""
        return self.steps * self.step_s

    @property
    def peak(self) -> tuple[str, int]:
        """The word to which the first head gives the highest posterior, and at which step.

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
        raise DataError(f"{len(samples)} samples; a step needs {model.step_samples}")
    return torch.from_numpy(samples[: steps * model.step_samples]).to(model.device)[None]


@torch.no_grad()
def trace(model: SpeechGRU, samples: Samples) -> Trace:
    """Run a model in evaluation mode on a recording, (S,), and record what its layers do.

    Raises:
        DataError: the recording is shorter than one step.
    """
    batch = whole_steps(model, samples)
    layers: list[Step] = []
    hooks = [
        cell.register_forward_pre_hook(lambda cell, inputs: layers.append(cell.trace(*inputs)))
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
        layers=tuple(_gates_or_state(step) for step in layers),
        step_s=model.step_samples / model.sample_rate,
        low_hz=config.low_hz,
        high_hz=config.high_hz,
        sample_rate=model.sample_rate,
    )


def _gates_or_state(step: Step) -> dict[str, NDArray[np.float32]]:
    gates = step.gates or {"state": step.y}
    return {name: values[0].cpu().numpy() for name, values in gates.items()}


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """|d log p / d h| for one layer, (T,): h is its state before the last step, and further back.

    Relative to the first, which is 1.
    """

    name: str
    norms: NDArray[np.float64]

    @property
    def half_steps(self) -> int:
        """Steps back from which on the norm stays below a half; T if it never does."""
        return int(np.flatnonzero(self.norms >= 0.5).max(initial=-1)) + 1


def gradient_norms(model: SpeechGRU, samples: Samples, column: int, step: int) -> list[NDArray]:
    """|d log p / d h| for each layer's state before step t, t = `step` ... 0: (step + 1,) each.

    p is the posterior in the log-posteriors' `column` at `step` of a recording, (S,), that starts
    from a fresh state. A state acts on it through later states of its layer and of those above.

    Raises:
        UsageError: the model needs whole clips.
        DataError: the recording is shorter than one step.
    """
    model.check_streams()
    batch = whole_steps(model, samples)
    state = model.initial_state()
    with torch.no_grad():
        frames, _ = model.extract(batch, state["samples"])
    states: list[dict[str, torch.Tensor]] = []
    with torch.enable_grad():
        for chunk in frames[:, : FRAMES_PER_STEP * (step + 1)].split(FRAMES_PER_STEP, dim=1):
            states.append({name: part for name, part in state.items() if name.startswith("layer")})
            for part in states[-1].values():
                part.requires_grad_().retain_grad()
            encoded, state = model.encode(chunk, state)
        model.fold(model.apply_heads(encoded))[0, -1, column].backward()
    model.zero_grad(set_to_none=True)
    return [_norms([parts[f"layer{i}"] for parts in states]) for i in range(len(model.cells))]


def _norms(states: list[torch.Tensor]) -> NDArray[np.float64]:
    """Norms of the states' gradients, the last step first."""
    gradients = [s.grad if s.grad is not None else torch.zeros_like(s) for s in reversed(states)]
    return np.array([gradient.double().norm().item() for gradient in gradients])


def relative_norms(
    model: SpeechGRU, samples: Samples, column: int, step: int, name: str
) -> list[GradientNorms]:
    """Each layer's norms relative to that at `step`; named `name` and the layer's number."""
    layers = gradient_norms(model, samples, column, step)
    names = [f"{name}, layer {i + 1}" if len(layers) > 1 else name for i in range(len(layers))]
    return [
        GradientNorms(name, norms / norms[0] if norms[0] else norms)
        for name, norms in zip(names, layers, strict=True)
    ]


def untrained(model: SpeechGRU, cell: CellName, seed: int = 0) -> SpeechGRU:
    """One untrained layer of a cell, as wide as the model's, behind the model's own front."""
    config = model.config.model_copy(
        update={"cell": cell, "layers": 1, "residual": False, "keep_bias": 0.0}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = SpeechGRU(config, model.features.config, model.labels, model.unknown_words)
    for name in ("front", "project", "head"):
        getattr(other, name).load_state_dict(getattr(model, name).state_dict())
    for name in ("mean", "deviation", "log_prior"):
        getattr(other, name).copy_(getattr(model, name))
    return other.to(model.device).eval()
