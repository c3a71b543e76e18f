"""How weights are updated: AdamW or Muon, the learning rate's schedule, and averaged weights."""

import copy
import inspect
import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from speechgru.model.network import SpeechGRU
from speechgru.model.row_threads import on_one_core
from speechgru.training.recipe import TrainingConfig

#: Decay of a matrix's mean gradient.
MOMENTUM = 0.95
#: Each iteration turns a singular value x into a x + b x^3 + c x^5. Jordan uses five iterations.
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 3
#: RMS of a matrix's update at a learning rate of 1: about that of AdamW.
UPDATE_RMS = 0.2
#: How far a model that is trained on moves from the weights it began with to those it has learnt.
_LEARNT_SHARE = 0.4


class EagerAdamW(torch.optim.AdamW):
    """torch's AdamW without its hooks for torch.compile, which import the compiler.

    That import takes a second of CPU time, a quarter of what it takes to start a second run on the
    same data. For the same reason clear gradients with `Module.zero_grad`.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch."""
        inspect.unwrap(torch.optim.AdamW.add_param_group)(self, param_group)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """As in torch."""
        with on_one_core():
            inspect.unwrap(torch.optim.AdamW.step)(self, closure)


class Muon(EagerAdamW):
    """Muon for the groups of matrices, those with `rows`; AdamW for the others.

    A matrix's update is its mean gradient with singular values made more alike, so that directions
    with small gradients are learned, too (Jordan et al., "Muon: an optimizer for hidden layers in
    neural networks", 2024); it is as large as AdamW's (Liu et al., "Muon is scalable for LLM
    training", 2025, section 2.2). torch.optim.Muon takes whole matrices only, no separate gates and
    no kernels, and trained worse (notebook of 2026-11-28); it computes in bfloat16, which takes 15
    times as long on CPUs without support.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient; those of matrices are set to None."""
        for group in self.param_groups:
            if "rows" in group:
                self._step_matrices(group)
        super().step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Matrices of one shape together, so that there are few and large products."""
        by_shape = defaultdict(list)
        with on_one_core():
            for weight in group["params"]:
                if weight.grad is not None:
                    update = self._mean_gradient(weight, group["rows"])
                    by_shape[update.shape[1:]].append((weight, update))
                    weight.grad = None  # so that AdamW skips it
        for shape, pairs in by_shape.items():
            weights, updates = zip(*pairs, strict=True)
            size = group["lr"] * UPDATE_RMS * math.sqrt(max(shape))
            orthogonal = orthogonalize(torch.cat(updates)).split([len(u) for u in updates])
            with on_one_core():
                for weight, update in zip(weights, orthogonal, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update.reshape(weight.shape), alpha=-size)

    def _mean_gradient(self, weight: Tensor, rows: int | None) -> Tensor:
        """Of the matrices in a weight, (N, A, B): one per gate, with `rows` rows, or the whole."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
        mean = state["mean"].lerp_(weight.grad, 1 - MOMENTUM)
        update = weight.grad.lerp(mean, MOMENTUM).flatten(1)
        whole = rows is None or len(update) % rows
        return update.unflatten(0, (-1, len(update) if whole else rows))


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices (N, A, B) with singular values made more alike, the largest about 1.

    By the Newton-Schulz iteration, on the products of the shorter side.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.mT if tall else wide


def make_optimiser(model: SpeechGRU, config: TrainingConfig) -> torch.optim.Optimizer:
    """The recipe's optimizer, with weight decay only for matrices (not for biases and norms).

    Muon updates the matrices of front, projection and cells (each gate by itself, and kernels of
    convolutions with the outputs as rows), AdamW those of the heads.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim >= 2]
    muon_groups: list[dict[str, Any]] = []
    if config.optimiser == "muon":
        before = {id(p) for part in (model.front, model.project) for p in part.parameters()}
        cells = {id(p) for p in model.layers.parameters()}
        muon_groups = [
            {"params": [p for p in matrices if id(p) in before], "rows": None},
            {"params": [p for p in matrices if id(p) in cells], "rows": model.config.hidden},
        ]
    by_muon = {id(p) for group in muon_groups for p in group["params"]}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if id(p) not in by_muon]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        *muon_groups,
    ]
    return (Muon if muon_groups else EagerAdamW)(
        groups,
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=model.device.type in ("cpu", "cuda"),
    )


def schedule(step: int, steps: int, config: TrainingConfig, streams_begin: int = 0) -> float:
    """The learning rate relative to its peak: a linear warm-up, then a cosine down to 1 %.

    Where streams follow single clips, at `streams_begin`, it rises and falls once more, to half of
    the peak (warm restarts: Loshchilov and Hutter, "SGDR", 2017).
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


class WeightAverage:
    """Exponential moving average of a model's weights and running statistics.

    The decay starts low and rises to `decay`, as min(decay, (1 + n) / (10 + n)) at step n, so that
    the initial random weights soon stop mattering. With decay 0 the average is the model itself.
    """

    def __init__(self, model: SpeechGRU, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        names = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
        source, average = model.state_dict(), self.model.state_dict()
        self._pairs = [source[name] for name in names], [average[name] for name in names]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the model's weights after step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        source, average = self._pairs
        torch._foreach_lerp_(average, source, 1 - decay)


class BetweenStartAndAverage:
    """A model whose weights lie between averaged ones and those that the training began with.

    What is learnt from a few new recordings costs voices that are not among them. Between both sets
    of weights a model has most of what each of them is good at (Wortsman et al., "Robust
    fine-tuning of zero-shot models", 2022). The frequencies of the labels lie between, too.

    Args:
        start: the weights that the training began with, by their names in the model.
    """

    def __init__(self, average: SpeechGRU, start: dict[str, Tensor]) -> None:
        self.model = copy.deepcopy(average)
        self.model.metadata = average.metadata
        self._average, self._start = average.state_dict(), start

    @torch.no_grad()
    def at(self, step: int) -> SpeechGRU:
        """The model after so many steps; before the first, the one that training began with."""
        for name, tensor in self.model.state_dict().items():
            start, average = self._start[name], self._average[name]
            if step == 0:
                tensor.copy_(start)
            elif tensor.is_floating_point():
                tensor.copy_(torch.lerp(start, average, _LEARNT_SHARE))
            else:
                tensor.copy_(average)
        return self.model
