"""What a network costs: multiply-adds, memory, and time in training and in a stream."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from speechgru.backends.onnx import OnnxBackend
from speechgru.backends.pytorch import TorchBackend
from speechgru.export.exporter import as_onnx
from speechgru.training.trainer import Trainer

#: Repetitions; the quickest counts, as other programs only ever slow one down.
_BATCHES, _CALLS, _ROUNDS = 5, 100, 5


@dataclass(frozen=True)
class Costs:
    """Costs of a network.

    `multiply_adds_per_second` are the products by weights that one stream takes, features left out;
    `train_clips_per_second` is the forward and backward pass on ready features, of the processor's
    own time on a CPU; `saved_mb` what a batch keeps for its backward pass; `step_us` one step of a
    stream through the PyTorch backend, `onnx_step_us` exported (None where the model is no stream),
    `state_kb` what a stream carries.
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


def measure(trainer: Trainer) -> Costs:
    """Measure the network of a trainer, which is not stepped."""
    model = trainer.model
    state = model.initial_state(1)
    step_s = model.step_samples / model.sample_rate
    streams = not model.config.whole_clips
    return Costs(
        parameters=model.parameter_count,
        multiply_adds_per_second=round(model.multiply_adds / step_s),
        train_clips_per_second=_train_clips_per_second(trainer),
        saved_mb=_saved_bytes(trainer) / 2**20,
        step_us=1e6 * _step_seconds(TorchBackend(model)) if streams else None,
        state_kb=sum(t.numel() * t.element_size() for t in state.values()) / 2**10,
        onnx_step_us=1e6 * _step_seconds(OnnxBackend(as_onnx(model, "float32")))
        if streams
        else None,
    )


def _train_clips_per_second(trainer: Trainer) -> float:
    size = trainer.recipe.training.batch_size
    batch = trainer.batches.featurize(trainer.batches.vary(size))
    on_device = trainer.device.type == "cuda"

    def once() -> None:
        trainer.model.train().zero_grad(set_to_none=True)
        trainer.loss(batch)[0].backward()
        if on_device:
            torch.cuda.synchronize(trainer.device)

    once()
    seconds = quickest(once, _BATCHES, clock_for(trainer.device))
    trainer.model.zero_grad(set_to_none=True)
    return size / seconds


def _saved_bytes(trainer: Trainer) -> int:
    """Bytes of all tensors that the backward pass of a batch needs, but for the weights."""
    rows = trainer.batches.vary(trainer.recipe.training.batch_size)
    batch = trainer.batches.featurize(rows)
    weights = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    held: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage
        return tensor

    trainer.model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss, _ = trainer.loss(batch)
    found = sum(len(storage) for place, storage in held.items() if place not in weights)
    del loss
    return found


def _step_seconds(backend: TorchBackend | OnnxBackend) -> float:
    """Of a step that comes alone, as a microphone's do."""
    backend.compile(1)
    samples = 0.1 * np.random.default_rng(0).standard_normal(backend.step_samples, np.float32)
    state: Any = backend.initial_state()

    def calls() -> None:
        nonlocal state
        for _ in range(_CALLS):
            _, state = backend(samples, state)

    calls()
    return quickest(calls, _ROUNDS, time.perf_counter) / _CALLS


def clock_for(device: torch.device) -> Callable[[], float]:
    """The processor's own time on a CPU, where other programs run too; else the time that goes."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def quickest(run: Callable[[], None], rounds: int, clock: Callable[[], float]) -> float:
    """Seconds of the quickest of some runs."""
    found = []
    for _ in range(rounds):
        began = clock()
        run()
        found.append(clock() - began)
    return min(found)
