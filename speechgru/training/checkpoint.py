"""All that a run needs to go on exactly where it was, as one file without pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from speechgru.common.files import write_atomic
from speechgru.errors import DataError, UsageError
from speechgru.model.network import SpeechGRU
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.weight_average import WeightAverage

FORMAT_VERSION = 1
_KEY = "speechgru-checkpoint"


@dataclass
class Progress:
    """Where a run is: plain numbers that JSON holds."""

    step: int = 0
    best_score: float = -1.0
    best_step: int = 0
    validations_since_best: int = 0
    seconds: float = 0.0
    fingerprint: str = ""
    metrics_bytes: int = 0
    loss: float = 0.0
    finished: bool = False
    best_metrics: dict[str, Any] = field(default_factory=dict)
    #: The provenance of the model that the run began with, if it did with one.
    begun_with: dict[str, Any] = field(default_factory=dict)
    #: What its products were taken in: "bf16" or "float32".
    precision: str = ""


@dataclass
class TrainingState:
    """The parts of a run that change: weights and average, optimiser, random numbers, streams."""

    model: SpeechGRU
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    progress: Progress
    #: What one batch hands to the next: the state of the streams that are trained on.
    carried: dict[str, Tensor] = field(default_factory=dict)
    #: The processes, of which each has its part of `carried`.
    ranks: Ranks = ALONE

    def save(self, path: Path) -> None:
        """Write everything atomically; of several processes the first does, and all must call."""
        tensors = self._tensors()
        if not self.ranks.is_first:
            return
        header = {"format_version": FORMAT_VERSION, "progress": vars(self.progress)}
        content = save(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            {_KEY: json.dumps(header)},
        )
        write_atomic(path, content)

    def load(self, path: Path) -> None:
        """Take everything back in, in place.

        Raises:
            DataError: not a checkpoint, damaged, or of another network.
            UsageError: of a run on another kind of device.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_KEY])
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header["format_version"] != FORMAT_VERSION:
                raise DataError(f"{path}: checkpoint format {header['format_version']} is not ours")
            self.progress = Progress(**header["progress"])
            self._restore(stored)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: not a whole checkpoint of this run: {reason}") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.model.state_dict().items()}
        for i, parameter in enumerate(self._parameters()):
            entries = self.optimiser.state.get(parameter, {})
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in entries.items()}
        tensors |= {f"carried.{k}": self.ranks.join(v) for k, v in self.carried.items()}
        tensors |= {f"random.{k}": v.get_state() for k, v in self.generators.items()}
        tensors["random.torch"] = torch.get_rng_state()
        if self.model.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.model.device)
        return tensors

    def _restore(self, stored: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in stored.items()
                if name.startswith(prefix)
            }

        self.model.load_state_dict(part("model."))
        self.average.model.load_state_dict(part("average."))
        for i, parameter in enumerate(self._parameters()):
            entries = part(f"optimiser.{i}.")
            if entries:
                self.optimiser.state[parameter] = {
                    name: tensor.to(parameter.device) for name, tensor in entries.items()
                }
        for name, tensor in part("carried.").items():
            self.carried[name] = tensor[self.ranks.share(len(tensor))].to(self.model.device)
        for name, generator in self.generators.items():
            numbers = stored[f"random.{name}"]
            if len(numbers) != len(generator.get_state()):
                raise UsageError(
                    "the run's random numbers are of another kind of device than "
                    f"{self.model.device.type}; go on with the --device that it began on"
                )
            generator.set_state(numbers)
        torch.set_rng_state(stored["random.torch"])
        if self.model.device.type == "cuda" and "random.cuda" in stored:
            torch.cuda.set_rng_state(stored["random.cuda"], self.model.device)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]
