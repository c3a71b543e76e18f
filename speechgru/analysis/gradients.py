"""How far back a gradient reaches: its length at each step before the one that is asked."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.analysis.trace import whole_steps
from speechgru.audio.files import Samples
from speechgru.model.cells import CellName
from speechgru.model.fronts import FRAMES_PER_STEP
from speechgru.model.network import SpeechGRU

#: The cells that a model is compared with as they begin: without gates, with three, with two.
CLASSIC: tuple[CellName, ...] = ("rnn", "lstm", "gru")


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """|d log p / d h| of one layer, (T,): h is its state before the step that is asked, and back.

    The first is 1: the others are relative to it.
    """

    name: str
    norms: NDArray[np.float64]

    @property
    def half_steps(self) -> int:
        """Steps back after which the norm stays under a half; T where it never does."""
        return int(np.flatnonzero(self.norms >= 0.5).max(initial=-1)) + 1


def gradient_norms(model: SpeechGRU, samples: Samples, column: int, step: int) -> list[NDArray]:
    """|d log p / d h| for each layer's state before step t, t = `step` ... 0: (step + 1,) each.

    p is the posterior of the log-posteriors' `column` at `step` of a recording, (S,), that begins
    from a fresh state. A state acts on the answer through the later ones of its layer and of those
    above.

    Raises:
        UsageError: the model needs whole clips.
        DataError: the recording is shorter than one step.
    """
    model.check_streams()
    batch = whole_steps(model, samples)
    state = model.initial_state()
    with torch.no_grad():
        features, _ = model.extract(batch, state["samples"])
    held: list[dict[str, torch.Tensor]] = []
    with torch.enable_grad():
        for frames in features[:, : FRAMES_PER_STEP * (step + 1)].split(FRAMES_PER_STEP, dim=1):
            held.append({name: part for name, part in state.items() if name.startswith("layer")})
            for part in held[-1].values():
                part.requires_grad_().retain_grad()
            answer, state = model.encode(frames, state)
        model.fold(answer)[0, -1, column].backward()
    model.zero_grad(set_to_none=True)
    return [_lengths([parts[f"layer{i}"] for parts in held]) for i in range(len(model.cells))]


def relative_norms(
    model: SpeechGRU, samples: Samples, column: int, step: int, name: str
) -> list[GradientNorms]:
    """The norms of each layer relative to that at `step`, under a name and the layer's number."""
    of_layers = gradient_norms(model, samples, column, step)
    names = [
        f"{name}, layer {i + 1}" if len(of_layers) > 1 else name for i in range(len(of_layers))
    ]
    return [
        GradientNorms(name, norms / norms[0] if norms[0] else norms)
        for name, norms in zip(names, of_layers, strict=True)
    ]


def fresh(model: SpeechGRU, cell: CellName, seed: int = 0) -> SpeechGRU:
    """One layer of a cell as it begins, as wide as the model's, behind the model's own front."""
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


def _lengths(states: list[torch.Tensor]) -> NDArray[np.float64]:
    """The gradients' norms, the last step first."""
    gradients = [s.grad if s.grad is not None else torch.zeros_like(s) for s in reversed(states)]
    return np.array([gradient.double().norm().item() for gradient in gradients])
