"""Everything that a run needs to resume exactly where it was, as one file without pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from speechgru.common.files import write_atomic
from speechgru.errors import UsageError
from speechgru.model.network import SpeechGRU
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.optimiser import WeightAverage
from speechgru.training.run_progress import (
    FORMAT_VERSION,
    KEY,
    Progress,
    damage_reported,
    read_progress,
)


@dataclass
class TrainingState:
    """The changing parts of a run: weights and average, optimizer, random numbers, streams.

    Args:
        carried: what one batch hands to the next: the state of the streams trained on.
        start: the weights that the run began with, where they are a part of what it keeps.
        ranks: the processes, each of which has its share of `carried`.
    """

    model: SpeechGRU
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    progress: Progress
    carried: dict[str, Tensor] = field(default_factory=dict)
    ranks: Ranks = ALONE
    start: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write everything atomically; all processes must call this, and the first one writes."""
        tensors = self._tensors()
        if not self.ranks.is_first:
            return
        header = {"format_version": FORMAT_VERSION, "progress": vars(self.progress)}
        content = save(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            {KEY: json.dumps(header)},
        )
        write_atomic(path, content)

    def load(self, path: Path) -> None:
        """Restore everything, in place.

        Raises:
            DataError: not a checkpoint, damaged, or of another network.
            UsageError: from a run on another kind of device.
        """
        progress = read_progress(path)
        with damage_reported(path):
            with safe_open(path, framework="pt") as file:
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._restore(stored)
        self.progress = progress

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.model.state_dict().items()}
        tensors |= {f"start.{k}": v for k, v in self.start.items()}
        for i, parameter in enumerate(self._parameters()):
            entries = self.optimiser.state.get(parameter, {})
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in entries.items()}
        tensors |= {f"carried.{k}": self.ranks.gather(v) for k, v in self.carried.items()}
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
        self.start.update({k: v.to(self.model.device) for k, v in part("start.").items()})
        for i, parameter in enumerate(self._parameters()):
            entries = part(f"optimiser.{i}.")
            if entries:
                self.optimiser.state[parameter] = {
                    name: tensor.to(parameter.device) for name, tensor in entries.items()
                }
        for name, tensor in part("carried.").items():
            self.carried[name] = tensor[self.ranks.share(len(tensor))].to(self.model.device)
        for name, generator in self.generators.items():
            state = stored[f"random.{name}"]
            if len(state) != len(generator.get_state()):
                raise UsageError(
                    "the run's random numbers are from another kind of device than "
                    f"{self.model.device.type}; resume it with the --device it started on"
                )
            generator.set_state(state)
        torch.set_rng_state(stored["random.torch"])
        if self.model.device.type == "cuda" and "random.cuda" in stored:
            torch.cuda.set_rng_state(stored["random.cuda"], self.model.device)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]
