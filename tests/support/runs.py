"""A training of a second, on words that are tones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from once import made_once
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from speechgru.analysis.training_cost import synthetic_data
from speechgru.errors import InterruptedRunError
from speechgru.training import loop
from speechgru.training.data import TrainingData, prepare
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.trainer import Trainer

CPU = torch.device("cpu")

#: 30 steps with a validation every fifth.
QUICK = {
    "features": {"kind": "logmel", "mels": 20, "fft_samples": 512},
    "model": {"front": "conv", "front_channels": [4, 6], "front_kernel": 3, "hidden": 16},
    "training": {
        "seed": 1,
        "epochs": 34.3,
        "batch_size": 16,
        "learning_rate": 0.02,
        "average_decay": 0.8,
        "validations": 6,
    },
}


def quick_recipe(manifest: Path, **training: Any) -> Recipe:
    """The recipe of a run that ends within a second or two."""
    table = QUICK | {"data": {"directory": str(manifest)}}
    return parse_recipe(table | {"training": QUICK["training"] | training}, "quick")


def small_comparison(**model: Any) -> tuple[Recipe, TrainingData]:
    """A recipe whose network has 64 units, and 80 synthetic clips for it."""
    table = QUICK | {"data": {"protocol": "folder", "clip_s": 0.3}, "training": {"batch_size": 8}}
    recipe = parse_recipe(table | {"model": QUICK["model"] | {"hidden": 64} | model}, "small")
    return recipe, synthetic_data(recipe, 80)


def write_recipe(folder: Path, manifest: Path, **training: Any) -> str:
    """The same as a file; gives its name."""
    (folder / "quick.toml").write_text(quick_recipe(manifest, **training).to_toml())
    return str(folder / "quick.toml")


def finished_run(manifest: Path) -> Path:
    """The folder of the quick run, trained once for all tests."""
    return made_once("quick_run", lambda run: loop.train(quick_recipe(manifest), run, CPU))


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "checkpoint.safetensors")


def change_progress(run: Path, **fields: Any) -> None:
    """Give fields of a checkpoint's progress other values."""
    path, key = run / "last" / "checkpoint.safetensors", "speechgru-checkpoint"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[key])
    header["progress"] |= fields
    save_file(load_file(path), path, {key: json.dumps(header)})


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(run: Path, other: Path) -> None:
    """The same best model, the same last state to 1e-6, the same metrics but for the time."""
    assert [row | {"seconds": 0} for row in metrics(run)] == [
        row | {"seconds": 0} for row in metrics(other)
    ]
    for name in ("model.safetensors", "last/checkpoint.safetensors"):
        one, two = load_file(run / name), load_file(other / name)
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(one[key], two[key], atol=1e-6, rtol=0, msg=f"{name} {key}")


def make_trainer(recipe: Recipe) -> Trainer:
    return Trainer(recipe, prepare(recipe), CPU)


class StopAfter:
    """Returns true when it is called for the n-th time: after the n-th step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def interrupt(recipe: Recipe, run: Path, steps: int, resume: bool = False) -> None:
    with pytest.raises(InterruptedRunError, match=rf"resume with: speechgru train --resume {run}"):
        loop.train(recipe, run, CPU, resume, stop=StopAfter(steps - 1))
