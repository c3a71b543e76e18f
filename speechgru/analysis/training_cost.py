"""What the training loop costs beside the bare network, on made clips."""

import resource
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.analysis.dataloader_baseline import UsualCost, measure_usual
from speechgru.common.progress import Progress
from speechgru.corpora.corpus import Clip, Corpus, Task
from speechgru.corpora.packed import PackedAudio
from speechgru.corpora.protocols import WORDS_V2, make_task
from speechgru.training.prepared_data import PreparedData
from speechgru.training.recipe import Recipe
from speechgru.training.trainer import STAGES, Trainer

#: Clips that only the validation would hear.
_VALIDATION_CLIPS = 70
#: Batches before the clock runs: memory is claimed and kernels are chosen in the first ones.
_WARM_UP = 2
#: Made clips differ up to this many; then they come again.
_DIFFERENT = 1024


@dataclass(frozen=True)
class TrainingCost:
    """A recipe's loop (draw, features, network, optimiser, average) and its bare network.

    The bare network is the forward and the backward pass of the same network on ready features.
    The two take turns, so that what else the machine does falls on both; speeds are of the median
    batch, `loop_over_bare` is the median ratio of two neighbours, and its quartiles say how quiet
    the machine was. `stages` are shares of a step, `stages_clips_per_second` how fast each would be
    alone. `corpus_mb` is what the clips take, `peak_mb`
    what the process took, mapped files included, `device_peak_mb` what it took of a GPU's memory.
    `epoch_s` is the time of as many clips as there are. `usual` compares with a DataLoader.
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
    usual: UsualCost | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what compares with a DataLoader stands beside the rest, if it was measured."""
        table = asdict(self)
        return table | (table.pop("usual") or {})


def measure_training(
    recipe: Recipe,
    device: torch.device,
    clips: int = 4096,
    batches: int = 20,
    progress: Progress | None = None,
    dataloader_workers: int = 0,
) -> TrainingCost:
    """Run the loop of a recipe on `clips` made clips, in turns with the bare network.

    `progress` hears of the batches. With `dataloader_workers`, the loop then takes turns with the
    usual pipeline of as many processes, for about as many batches.
    """
    # Weights say nothing of speed, and streams that begin later cost the same now.
    fresh = {
        "training": recipe.training.model_copy(update={"begin_with": ""}),
        "stream": recipe.stream.model_copy(update={"begin_at": 0.0}),
    }
    recipe = recipe.model_copy(update=fresh)
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
    usual = None
    if dataloader_workers:
        with tempfile.TemporaryDirectory() as folder:
            usual = measure_usual(trainer, Path(folder), dataloader_workers, batches, bench.now)
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
        peak_mb=_peak_mb(),
        device_peak_mb=_device_peak_mb(device),
        usual=usual,
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
        buffer=_made_buffer(len(words), length),
        rate=rate,
        fingerprint="",
    )
    return PreparedData(corpus, task, packed, fingerprint="")


def _made_buffer(clips: int, length: int) -> NDArray[np.int16]:
    """Noise in a mapped file that is gone with the process, as a packed corpus is mapped."""
    different = min(clips, _DIFFERENT)
    noise = np.random.default_rng(0).integers(-8000, 8000, (different, length), np.int16)
    file = tempfile.TemporaryFile()  # noqa: SIM115
    for start in range(0, clips, different):
        file.write(noise[: clips - start].data)
    file.flush()
    return np.asarray(np.memmap(file, np.int16, mode="r"))


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
        began = self.now()
        self.trainer.train_step()
        return self.now() - began

    def bare_s(self) -> float:
        self.trainer.model.train().zero_grad(set_to_none=True)
        began = self.now()
        loss, _ = self.trainer.loss(self.ready)
        loss.backward()
        return self.now() - began

    def stages_s(self) -> dict[str, float]:
        """A step that waits for the device after each stage."""
        began, seconds = self.now(), {}

        def mark(stage: str) -> None:
            nonlocal began
            ended = self.now()
            seconds[stage] = ended - began
            began = ended

        self.trainer.train_step(mark)
        return seconds

    def now(self) -> float:
        """Seconds, when the device has done all that it was asked for."""
        kind = self.trainer.device.type
        if kind == "cuda":
            torch.cuda.synchronize(self.trainer.device)
        elif kind == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in kB, on macOS in bytes
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _device_peak_mb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
