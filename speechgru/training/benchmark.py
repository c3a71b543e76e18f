"""What the training loop costs beside the bare network, on made clips."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechgru.corpora.corpus import Clip, Corpus, Task
from speechgru.corpora.packed import PackedAudio
from speechgru.corpora.protocols import WORDS_V2, make_task
from speechgru.training.preparation import PreparedData
from speechgru.training.recipe import Recipe
from speechgru.training.trainer import STAGES, Trainer

#: Clips that only the validation would hear.
_VALIDATION_CLIPS = 70
#: Batches before the clock runs: memory is claimed and kernels are chosen in the first ones.
_WARM_UP = 2


@dataclass(frozen=True)
class TrainingCost:
    """A recipe's loop (draw, features, network, optimiser, average) and its bare network.

    The bare network is the forward and the backward pass of the same network on ready features.
    The two take turns, so that what else the machine does falls on both; speeds are of the median
    batch, `loop_over_bare` is the median ratio of two neighbours, and its quartiles say how quiet
    the machine was. `stages` are shares of a step; `peak_mb` is of the process, on CUDA of the
    device's memory.
    """

    batch_size: int
    batches: int
    parameters: int
    threads: int
    clips_per_second: float
    bare_clips_per_second: float
    loop_over_bare: float
    loop_over_bare_quartiles: tuple[float, float]
    stages: dict[str, float]
    peak_mb: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_training(
    recipe: Recipe,
    device: torch.device,
    clips: int = 4096,
    batches: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingCost:
    """Run the loop of a recipe on `clips` made clips, in turns with the bare network.

    `progress` hears of the batches.
    """
    trainer = Trainer(recipe, made_data(recipe, clips), device)
    bench = _Bench(trainer)
    for _ in range(_WARM_UP):
        bench.loop_s(), bench.bare_s()
    loops_s: list[float] = []
    bares_s: list[float] = []
    stages_s: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for number in range(batches):
        if number % 2:
            loops_s.append(bench.loop_s())
            bares_s.append(bench.bare_s())
        else:
            bares_s.append(bench.bare_s())
            loops_s.append(bench.loop_s())
        for stage, seconds in bench.stages_s().items():
            stages_s[stage].append(seconds)
        if progress is not None:
            progress(number + 1, batches)
    ratios = sorted(bare / loop for bare, loop in zip(bares_s, loops_s, strict=True))
    medians = {stage: statistics.median(seconds) for stage, seconds in stages_s.items()}
    size = recipe.training.batch_size
    return TrainingCost(
        batch_size=size,
        batches=batches,
        parameters=trainer.model.parameter_count,
        threads=torch.get_num_threads(),
        clips_per_second=size / statistics.median(loops_s),
        bare_clips_per_second=size / statistics.median(bares_s),
        loop_over_bare=statistics.median(ratios),
        loop_over_bare_quartiles=(ratios[batches // 4], ratios[-1 - batches // 4]),
        stages={stage: seconds / sum(medians.values()) for stage, seconds in medians.items()},
        peak_mb=_peak_mb(device),
    )


def made_data(recipe: Recipe, clips: int) -> PreparedData:
    """Clips of noise under the words of Speech Commands, as a recipe takes them; no files."""
    words = [WORDS_V2[number % len(WORDS_V2)] for number in range(clips + _VALIDATION_CLIPS)]
    corpus = Corpus(
        Path("made"),
        "speech-commands",
        tuple(
            Clip(Path(f"made/{number}"), word, "", "training" if number < clips else "validation")
            for number, word in enumerate(words)
        ),
    )
    rate = recipe.features.sample_rate
    task = _made_task(recipe, corpus)
    length = round(task.clip_s * rate)
    packed = PackedAudio(
        paths=tuple(clip.path for clip in corpus.clips),
        lengths=np.full(len(words), length),
        buffer=np.random.default_rng(0).integers(-8000, 8000, len(words) * length, np.int16),
        rate=rate,
        fingerprint="",
    )
    return PreparedData(corpus, task, packed, fingerprint="")


def _made_task(recipe: Recipe, corpus: Corpus) -> Task:
    # A folder's task reads the clips' lengths from the files, and here are none.
    protocol = recipe.data.protocol if recipe.data.protocol != "folder" else "v2-35"
    task = make_task(protocol, corpus)
    return replace(task, clip_s=recipe.data.clip_s or task.clip_s)


class _Bench:
    """The passes that take turns, each timed until the device has done it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.ready = trainer.batches.draw(trainer.recipe.training.batch_size)

    def loop_s(self) -> float:
        began = self._now()
        self.trainer.train_step()
        return self._now() - began

    def bare_s(self) -> float:
        self.trainer.model.train().zero_grad(set_to_none=True)
        began = self._now()
        loss, _ = self.trainer.loss(self.ready)
        loss.backward()
        return self._now() - began

    def stages_s(self) -> dict[str, float]:
        """A step that waits for the device after each stage."""
        began, seconds = self._now(), {}

        def mark(stage: str) -> None:
            nonlocal began
            ended = self._now()
            seconds[stage] = ended - began
            began = ended

        self.trainer.train_step(mark)
        return seconds

    def _now(self) -> float:
        kind = self.trainer.device.type
        if kind == "cuda":
            torch.cuda.synchronize(self.trainer.device)
        elif kind == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in kB, on macOS in bytes
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
