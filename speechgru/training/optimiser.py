"""How weights are stepped: AdamW or Muon, and a learning rate that rises and falls."""

import inspect
import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from speechgru.model.network import SpeechGRU
from speechgru.model.row_threads import on_one_core
from speechgru.training.recipe import TrainingConfig

#: The old's share in a matrix' mean gradient.
MOMENTUM = 0.95
#: What a singular value x is made in each turn: a x + b x^3 + c x^5. Jordan takes five turns.
POLYNOMIAL, TURNS = (3.4445, -4.7750, 2.0315), 3
#: Root mean square of a matrix' step at a learning rate of 1, which is about AdamW's.
STEP_RMS = 0.2


class EagerAdamW(torch.optim.AdamW):
    """torch's AdamW, without what it says to torch's compiler, whose import takes a second.

    For the same reason clear gradients with `Module.zero_grad`.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's own."""
        inspect.unwrap(torch.optim.AdamW.add_param_group)(self, param_group)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """As torch's own, of gradients that are there."""
        with on_one_core():
            inspect.unwrap(torch.optim.AdamW.step)(self, closure)


class Muon(EagerAdamW):
    """Steps the groups of matrices, those with `rows`, itself; AdamW steps the others.

    A matrix' step is its mean gradient with singular values that are more alike, so that directions
    in which little comes are learnt too (Jordan et al., "Muon: an optimizer for hidden layers in
    neural networks", 2024), as large as AdamW's (Liu et al., "Muon is scalable for LLM training",
    2025, section 2.2). torch.optim.Muon takes whole weights only, no gates and no kernels, and
    reckons in bfloat16, which takes 15 times as long on processors that have none.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step all that has a gradient; the matrices have none any more thereafter."""
        for group in self.param_groups:
            if "rows" in group:
                self._step_matrices(group)
        super().step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Those of one shape together, so that their products are few and large."""
        alike = defaultdict(list)
        with on_one_core():
            for weight in group["params"]:
                if weight.grad is not None:
                    step = self._mean_gradient(weight, group["rows"])
                    alike[step.shape[1:]].append((weight, step))
                    weight.grad = None  # so that AdamW passes over it
        for shape, several in alike.items():
            weights, steps = zip(*several, strict=True)
            size = group["lr"] * STEP_RMS * math.sqrt(max(shape))
            even = evened(torch.cat(steps)).split([len(step) for step in steps])
            with on_one_core():
                for weight, step in zip(weights, even, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(step.reshape(weight.shape), alpha=-size)

    def _mean_gradient(self, weight: Tensor, rows: int | None) -> Tensor:
        """Of the matrices that a weight is made of, (N, A, B), `rows` tall if it has so many."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
        mean = state["mean"].lerp_(weight.grad, 1 - MOMENTUM)
        step = weight.grad.lerp(mean, MOMENTUM).flatten(1)
        return step.unflatten(0, (-1, len(step) if rows is None or len(step) % rows else rows))


def evened(matrices: Tensor) -> Tensor:
    """Matrices (N, A, B) with singular values that are more alike, the largest about 1.

    Newton-Schulz' iteration, on the shorter side's products.
    """
    a, b, c = POLYNOMIAL
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(TURNS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.mT if tall else wide


def make_optimiser(model: SpeechGRU, config: TrainingConfig) -> torch.optim.Optimizer:
    """The recipe's; weight decay on the matrices alone (biases and norms are left free).

    Muon steps the matrices of front, projection and cells (each gate's for itself, and the kernels
    of convolutions as outputs by all else), AdamW those of the heads.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim >= 2]
    orthogonal: list[dict[str, Any]] = []
    if config.optimiser == "muon":
        before = {id(p) for part in (model.front, model.project) for p in part.parameters()}
        cells = {id(p) for p in model.layers.parameters()}
        orthogonal = [
            {"params": [p for p in matrices if id(p) in before], "rows": None},
            {"params": [p for p in matrices if id(p) in cells], "rows": model.config.hidden},
        ]
    taken = {id(p) for group in orthogonal for p in group["params"]}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if id(p) not in taken]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        *orthogonal,
    ]
    return (Muon if orthogonal else EagerAdamW)(
        groups,
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=model.device.type in ("cpu", "cuda"),
    )


def schedule(step: int, steps: int, config: TrainingConfig, streams_begin: int = 0) -> float:
    """The learning rate's share of its peak: a linear rise, then a cosine down to 1 %.

    Where streams begin after single clips, at `streams_begin`, it rises and falls once more, to
    half of the peak (warm restarts: Loshchilov and Hutter, "SGDR", 2017).
    """
    if step < streams_begin:
        steps = streams_begin
    elif streams_begin:
        return 0.5 * schedule(step - streams_begin, steps - streams_begin, config)
    rise = max(1.0, config.warm_up * steps)
    if step + 1 < rise:
        return (step + 1) / rise
    fall = min(1.0, (step + 1 - rise) / max(1.0, steps - rise))
    return 0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2
