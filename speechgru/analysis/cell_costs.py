"""What recurrent cells cost: multiply-adds, memory, and time in training and on a stream."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from speechgru.analysis.measuring import clock_for, fastest_s
from speechgru.backends.onnx import OnnxBackend
from speechgru.backends.pytorch import TorchBackend
from speechgru.errors import UsageError
from speechgru.export.exporter import as_onnx
from speechgru.model.cells import CellName, make_cell
from speechgru.training.trainer import Trainer

#: Passes over a batch, calls in a row, and repetitions of those calls.
BATCHES, CALLS, ROUNDS = 5, 100, 5


@dataclass(frozen=True)
class Costs:
    """Costs of a network.

    Args:
        parameters: number of trained parameters.
        multiply_adds_per_second: products with weights that one stream needs, without features.
        train_clips_per_second: speed of the forward and backward pass on precomputed features; in
            CPU time on a CPU.
        saved_mb: what a batch keeps for its backward pass.
        step_us: one step of a stream through the PyTorch backend; None for a model that needs
            whole clips.
        state_kb: size of the state that a stream carries.
        onnx_step_us: one step of a stream through the exported model.
    """

    parameters: int
    multiply_adds_per_second: int
    train_clips_per_second: float
    saved_mb: float
    step_us: float | None
    state_kb: float
    onnx_step_us: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_costs(trainer: Trainer) -> Costs:
    """Measure a trainer's network, without training it."""
    model = trainer.model
    state = model.initial_state(1)
    step_s = model.step_samples / model.sample_rate
    step_us = onnx_step_us = None
    if not model.config.whole_clips:
        step_us = 1e6 * _step_s(TorchBackend(model))
        onnx_step_us = 1e6 * _step_s(OnnxBackend(as_onnx(model, "float32")))
    return Costs(
        parameters=model.parameter_count,
        multiply_adds_per_second=round(model.multiply_adds / step_s),
        train_clips_per_second=_train_clips_per_second(trainer),
        saved_mb=_saved_bytes(trainer) / 2**20,
        step_us=step_us,
        state_kb=sum(t.numel() * t.element_size() for t in state.values()) / 2**10,
        onnx_step_us=onnx_step_us,
    )


def _train_clips_per_second(trainer: Trainer) -> float:
    size = trainer.recipe.training.batch_size
    batch = trainer.batches.featurize(trainer.batches.draw_rows(size))

    def run() -> None:
        trainer.model.train().zero_grad(set_to_none=True)
        trainer.loss(batch)[0].backward()
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)

    run()
    seconds = fastest_s(run, BATCHES, clock_for(trainer.device.type))
    trainer.model.zero_grad(set_to_none=True)
    return size / seconds


def _saved_bytes(trainer: Trainer) -> int:
    """Size of all tensors that the backward pass of a batch needs, except the weights."""
    rows = trainer.batches.draw_rows(trainer.recipe.training.batch_size)
    batch = trainer.batches.featurize(rows)
    weights = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage
        return tensor

    trainer.model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss, _ = trainer.loss(batch)
    size = sum(len(storage) for address, storage in saved.items() if address not in weights)
    del loss
    return size


def _step_s(backend: TorchBackend | OnnxBackend) -> float:
    """Seconds for one step pushed by itself, as from a microphone."""
    backend.compile(1)
    samples = 0.1 * np.random.default_rng(0).standard_normal(backend.step_samples, np.float32)
    state: Any = backend.initial_state()

    def run() -> None:
        nonlocal state
        for _ in range(CALLS):
            _, state = backend(samples, state)

    run()
    return fastest_s(run, ROUNDS, time.perf_counter) / CALLS


@dataclass(frozen=True)
class CellSpeed:
    """Milliseconds of a layer's forward and backward pass over a batch, whole and step by step."""

    cell: str
    parameters: int
    sequence_ms: float
    stepwise_ms: float

    @property
    def speedup(self) -> float:
        """How many times faster the sequence form is."""
        return self.stepwise_ms / self.sequence_ms

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"speedup": self.speedup}


def measure_cell(
    name: CellName, width: int, steps: int, batch: int, device: torch.device, rounds: int
) -> CellSpeed:
    """Time a layer with `width` inputs and outputs on noise; the fastest of `rounds` counts.

    The step form is the loop that a stream runs, one `Cell.step` after another, with the gradient
    through all of it.

    Raises:
        UsageError: the cell normalizes over a batch, and the batch is a single sequence.
    """
    cell = make_cell(name, width, width).to(device).train()
    if batch == 1 and any(isinstance(part, torch.nn.BatchNorm1d) for part in cell.modules()):
        raise UsageError(f"--batch 1: {name} normalizes over the batch; 2 or more are needed")
    x = torch.randn(batch, steps, width, device=device)
    initial = torch.zeros(batch, *cell.state_size, device=device)

    def backward(y: torch.Tensor) -> None:
        cell.zero_grad(set_to_none=True)
        y.square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def whole() -> None:
        backward(cell(x, initial)[0])

    def stepwise() -> None:
        state, ys = initial, []
        for column in x.unbind(dim=1):
            y, state, _ = cell.step(column, state)
            ys.append(y)
        backward(torch.stack(ys, dim=1))

    clock = clock_for(device.type)
    milliseconds = []
    for run in (whole, stepwise):
        run()
        milliseconds.append(1e3 * fastest_s(run, rounds, clock))
    return CellSpeed(name, sum(p.numel() for p in cell.parameters()), *milliseconds)
