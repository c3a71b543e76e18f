"""What the training loop costs in addition to the bare network, on synthetic clips."""

import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.analysis.dataloader_baseline import DataLoaderCost, compare_with_dataloader
from speechgru.analysis.measuring import peak_memory_bytes
from speechgru.common.progress import Progress
from speechgru.corpora.corpus import Clip, Corpus, Task
from speechgru.corpora.other_sounds import other_sounds
from speechgru.corpora.packed import PackedAudio
from speechgru.corpora.protocols import WORDS_V2, make_task
from speechgru.training.data import TrainingData
from speechgru.training.recipe import Recipe
from speechgru.training.trainer import STAGES, Trainer

#: Clips in the validation split, which a trainer requires.
_VALIDATION_CLIPS = 70
#: Batches before timing: the first ones allocate memory and choose kernels.
_WARM_UP_BATCHES = 2
#: Most distinct synthetic clips; further ones are repetitions.
_DISTINCT_CLIPS = 1024


@dataclass(frozen=True)
class TrainingCost:
    """Speed and memory of a recipe's training loop and of its bare network.

    The loop draws clips, computes features, trains the network, and updates optimizer and average.
    The bare network is the forward and backward pass of the same network on precomputed features.
    The two alternate, so that other programs slow both down alike.

    Args:
        clips_per_second, bare_clips_per_second: by the median batch.
        loop_over_bare: median speed ratio of two neighbouring batches; the quartiles show how quiet
            the machine was.
        stages: share of a step that each stage takes.
        stages_clips_per_second: how fast each stage would be by itself.
        epoch_s: time for as many clips as there are.
        corpus_mb: size of the clips.
        peak_mb: peak memory of the process, mapped files included.
        device_peak_mb: peak memory on a GPU.
        dataloader: comparison with a DataLoader, if it was measured.
    """

    batch_size: int
    batches: int
    parameters: int
    precision: str
    threads: int
    clips_per_second: float
    bare_clips_per_second: float
    loop_over_bare: float
    loop_over_bare_quartiles: tuple[float, float]
    stages: dict[str, float]
    stages_clips_per_second: dict[str, float]
    clips: int
    epoch_s: float
    corpus_mb: float
    peak_mb: float
    device_peak_mb: float
    dataloader: DataLoaderCost | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the comparison with a DataLoader is on the same level as the rest."""
        table = asdict(self)
        return table | (table.pop("dataloader") or {})


def measure_training(
    recipe: Recipe,
    device: torch.device,
    clips: int = 4096,
    batches: int = 20,
    progress: Progress | None = None,
    dataloader_workers: int = 0,
) -> TrainingCost:
    """Run a recipe's loop on `clips` synthetic clips, alternating with the bare network.

    `progress` counts batches. With `dataloader_workers`, the loop then also alternates with a
    DataLoader of so many worker processes, for about as many batches.
    """
    # Pretrained weights do not change the speed, and teachers have other labels than synthetic
    # clips; streams are measured from the first step on.
    updates = {
        "training": recipe.training.model_copy(update={"begin_with": "", "teachers": ()}),
        "stream": recipe.stream.model_copy(update={"begin_at": 0.0}),
    }
    recipe = recipe.model_copy(update=updates)
    trainer = Trainer(recipe, synthetic_data(recipe, clips), device)
    timer = _Timer(trainer)
    for _ in range(_WARM_UP_BATCHES):
        timer.loop_s(), timer.bare_s()
    loops_s: list[float] = []
    bares_s: list[float] = []
    stages_s: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for number in range(batches):
        if number % 2:
            loops_s.append(timer.loop_s())
            bares_s.append(timer.bare_s())
        else:
            bares_s.append(timer.bare_s())
            loops_s.append(timer.loop_s())
        for stage, seconds in timer.stages_s().items():
            stages_s[stage].append(seconds)
        if progress is not None:
            progress(number + 1, batches)
    dataloader = None
    if dataloader_workers:
        with tempfile.TemporaryDirectory() as folder:
            dataloader = compare_with_dataloader(
                trainer, Path(folder), dataloader_workers, batches, timer.now_s
            )
    ratios = sorted(bare / loop for bare, loop in zip(bares_s, loops_s, strict=True))
    medians = {stage: statistics.median(seconds) for stage, seconds in stages_s.items()}
    size = recipe.training.batch_size
    return TrainingCost(
        batch_size=size,
        batches=batches,
        parameters=trainer.model.parameter_count,
        precision=trainer.precision,
        threads=torch.get_num_threads(),
        clips_per_second=size / statistics.median(loops_s),
        bare_clips_per_second=size / statistics.median(bares_s),
        loop_over_bare=statistics.median(ratios),
        loop_over_bare_quartiles=(ratios[batches // 4], ratios[-1 - batches // 4]),
        stages={stage: seconds / sum(medians.values()) for stage, seconds in medians.items()},
        stages_clips_per_second={stage: size / seconds for stage, seconds in medians.items()},
        clips=clips,
        epoch_s=clips / size * statistics.median(loops_s),
        corpus_mb=trainer.data.packed.buffer.nbytes / 2**20,
        peak_mb=peak_memory_bytes() / 2**20,
        device_peak_mb=_device_peak_mb(device),
        dataloader=dataloader,
    )


def synthetic_data(recipe: Recipe, clips: int) -> TrainingData:
    """Clips of noise labelled with the words of Speech Commands, as the recipe needs them.

    Their paths name no files. If the recipe uses other speech and noise, these are the real ones.
    """
    words = [WORDS_V2[number % len(WORDS_V2)] for number in range(clips + _VALIDATION_CLIPS)]
    splits = {True: "training", False: "validation"}
    corpus = Corpus(
        Path("synthetic"),
        "speech-commands",
        tuple(
            Clip(Path("synthetic", str(number)), word, "", splits[number < clips])
            for number, word in enumerate(words)
        ),
    )
    rate = recipe.features.sample_rate
    task = _task(recipe, corpus)
    length = round(task.clip_s * rate)
    packed = PackedAudio(
        paths=tuple(clip.path for clip in corpus.clips),
        lengths=np.full(len(words), length),
        buffer=_mapped_noise(len(words), length),
        rate=rate,
        fingerprint="",
    )
    other = other_sounds() if recipe.data.other_sounds else None
    return TrainingData(corpus, task, packed, "", other)


def _mapped_noise(clips: int, length: int) -> NDArray[np.int16]:
    """Noise in a temporary file that is memory-mapped, as a packed corpus is."""
    distinct = min(clips, _DISTINCT_CLIPS)
    noise = np.random.default_rng(0).integers(-8000, 8000, (distinct, length), np.int16)
    file = tempfile.TemporaryFile()  # noqa: SIM115
    for start in range(0, clips, distinct):
        file.write(noise[: clips - start].data)
    file.flush()
    return np.asarray(np.memmap(file, np.int16, mode="r"))


def _task(recipe: Recipe, corpus: Corpus) -> Task:
    protocol = recipe.data.protocol
    if protocol == "folder":
        # Its task takes the clip length from the recordings, and there are none. Only v2-12 has a
        # label for running speech, `_unknown_`.
        protocol = "v2-12" if recipe.stream.talk_share else "v2-35"
    task = make_task(protocol, corpus)
    return replace(task, clip_s=recipe.data.clip_s or task.clip_s)


class _Timer:
    """Times the passes that alternate, each until the device has finished it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.batch = trainer.batches.draw(trainer.recipe.training.batch_size)

    def loop_s(self) -> float:
        start = self.now_s()
        self.trainer.train_step()
        return self.now_s() - start

    def bare_s(self) -> float:
        self.trainer.model.train().zero_grad(set_to_none=True)
        start = self.now_s()
        loss, _ = self.trainer.loss(self.batch)
        loss.backward()
        return self.now_s() - start

    def stages_s(self) -> dict[str, float]:
        """Seconds of each stage in a step that waits for the device after every stage."""
        start, seconds = self.now_s(), {}

        def mark(stage: str) -> None:
            nonlocal start
            end = self.now_s()
            seconds[stage] = end - start
            start = end

        self.trainer.train_step(mark)
        return seconds

    def now_s(self) -> float:
        """The clock, once the device has finished all its work."""
        kind = self.trainer.device.type
        if kind == "cuda":
            torch.cuda.synchronize(self.trainer.device)
        elif kind == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def _device_peak_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
