"""Baseline for the training loop: a DataLoader whose worker processes read one file at a time."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from speechgru.corpora.packed import PackedAudio
from speechgru.model.cells.gru import GRU
from speechgru.model.features import FeatureConfig
from speechgru.training.data import class_ids
from speechgru.training.recipe import Recipe
from speechgru.training.rows import NO_TARGET, Batch
from speechgru.training.trainer import Trainer

#: At most this many files are written and read; the system keeps them in its file cache, as it does
#: from the second epoch on.
MAX_FILES = 2048
#: Batches per worker in one turn: enough that what workers prefetch before it hardly matters.
_BATCHES_PER_WORKER = 4


@dataclass(frozen=True)
class DataLoaderCost:
    """Speed of our loop relative to a DataLoader, timed in alternate turns of `turn_batches`.

    Args:
        loop_over_dataloader: median ratio of two neighbouring turns; the quartiles show how quiet
            the machine was.
        loop_over_dataloader_torch_gru: the same with a network trained in float32 by torch.nn.GRU
            itself, which is what other CPU training scripts use; None on a GPU, and for a network
            without a GRU.
    """

    dataloader_workers: int
    dataloader_files: int
    dataloader_clips_per_second: float
    loop_over_dataloader: float
    loop_over_dataloader_quartiles: tuple[float, float]
    loop_over_dataloader_torch_gru: float | None
    loop_over_dataloader_torch_gru_quartiles: tuple[float, float] | None
    turn_batches: int
    turns: int


class FileClips(Dataset[tuple[Tensor, int]]):
    """Clips as training scripts usually load them: one file at a time, augmented on the CPU.

    soundfile decodes the file; torchaudio changes the speed (`SpeedPerturbation`, three factors),
    adds noise, computes features and masks them, as much as the recipe says. Unlike our own
    batches it has no spectral augmentation and no synthetic unknown words.

    Args:
        files: recordings at the recipe's rate.
        classes: the class of each file.
        noise: background recordings end to end, (N,).
        mean, deviation: of the features, (F,) each.
    """

    def __init__(
        self,
        files: Sequence[Path],
        classes: Sequence[int],
        noise: Tensor,
        recipe: Recipe,
        clip_samples: int,
        mean: Tensor,
        deviation: Tensor,
    ) -> None:
        self.files, self.classes, self.noise = files, classes, noise
        self.config, self.clip_samples = recipe.augment, clip_samples
        speed, rate = self.config.speed, recipe.features.sample_rate
        self.speed = torchaudio.transforms.SpeedPerturbation(rate, [1 - speed, 1.0, 1 + speed])
        self.features = TorchaudioFeatures(recipe.features)
        self.mean, self.deviation = mean, deviation
        hop_ms, bands = recipe.features.hop_ms, recipe.features.size
        self.time_mask = torchaudio.transforms.TimeMasking(
            max(1, int(self.config.time_mask_ms / hop_ms))
        )
        self.band_mask = torchaudio.transforms.FrequencyMasking(
            max(1, int(self.config.band_mask_share * bands))
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Features (T, F) of an augmented clip, and its class."""
        samples, rate = soundfile.read(self.files[index], dtype="float32")
        clip = self.augment(torch.from_numpy(samples), rate)
        features = self.features(clip)  # (F, T)
        features = (features - self.mean[:, None]) / self.deviation[:, None]
        for _ in range(self.config.time_masks):
            features = self.time_mask(features)
        for _ in range(self.config.band_masks):
            features = self.band_mask(features)
        return features.t(), self.classes[index]

    def augment(self, clip: Tensor, rate: int) -> Tensor:
        """Speed, shift, noise and gain: (S,) -> (clip_samples,)."""
        config = self.config
        clip, _ = self.speed(clip)
        max_shift = int(config.shift_ms * rate / 1000)
        shift = int(torch.randint(-max_shift, max_shift + 1, ()))
        missing = self.clip_samples - len(clip)
        clip = nn.functional.pad(clip, (shift, missing - shift))
        if torch.rand(()) < config.noise_probability:
            start = int(torch.randint(0, len(self.noise) - self.clip_samples, ()))
            noise = self.noise[start : start + self.clip_samples]
            low, high = config.snr_db
            clip = torchaudio.functional.add_noise(clip, noise, torch.empty(()).uniform_(low, high))
        gain_db = torch.empty(()).uniform_(-config.gain_db, config.gain_db)
        return (clip * 10 ** (gain_db / 20)).clamp(-1, 1)


class TorchaudioFeatures(nn.Module):
    """The recipe's features by torchaudio's own transforms: (S,) -> (F, S // hop).

    Zeros precede the clip, as in a model's initial state.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        window = {
            "n_fft": config.fft_samples,
            "win_length": config.window_samples,
            "hop_length": config.hop_samples,
            "pad": (config.fft_samples - config.window_samples) // 2,
            "center": False,
            "f_min": config.low_hz,
            "f_max": config.high_hz,
            "n_mels": config.mels,
        }
        transforms, rate = torchaudio.transforms, config.sample_rate
        self.pad = nn.ConstantPad1d((config.context_samples, 0), 0.0)
        self.is_mfcc = config.kind == "mfcc"
        self.transform = (
            transforms.MFCC(rate, config.cepstra, log_mels=True, melkwargs=window)
            if self.is_mfcc
            else transforms.MelSpectrogram(rate, **window)
        )

    def forward(self, clip: Tensor) -> Tensor:
        """(S,) -> (F, S // hop)."""
        features = self.transform(self.pad(clip[None]))[0]
        return features if self.is_mfcc else torch.log(features + 1e-6)


class DataLoaderBaseline:
    """Trains a trainer's network from files under `folder`, by a DataLoader."""

    def __init__(self, trainer: Trainer, folder: Path, workers: int) -> None:
        self.trainer, self.batch_size = trainer, trainer.recipe.training.batch_size
        clips = trainer.batches.clips
        examples = tuple(e for e in trainer.data.task.split("training") if e.path)
        self.files = write_files([e.path for e in examples if e.path], trainer.data.packed, folder)
        dataset = FileClips(
            self.files,
            class_ids(examples[: len(self.files)], trainer.model),
            clips.noise.cpu(),
            trainer.recipe,
            clips.clip_samples,
            trainer.model.mean.cpu(),
            trainer.model.deviation.cpu(),
        )
        self.turn_batches = _BATCHES_PER_WORKER * workers
        sampler = RandomSampler(
            dataset, replacement=True, num_samples=self.turn_batches * self.batch_size
        )
        self.loader = DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=workers,
            pin_memory=trainer.device.type == "cuda",
            persistent_workers=True,
        )
        steps = trainer.model.steps(trainer.data.task.clip_s)
        self.has_target = torch.arange(steps, device=trainer.device) >= (
            steps - trainer.model.steps(trainer.recipe.training.tail_ms / 1000)
        )

    def turn(self) -> None:
        """Train on the next `turn_batches` batches, after which the workers are idle."""
        model, device = self.trainer.model, self.trainer.device
        for features, classes in self.loader:
            features = features.to(device, non_blocking=True)
            column = classes.to(device, non_blocking=True)[:, None]
            targets = torch.where(self.has_target, column, NO_TARGET)
            state = model.initial_state(len(features))
            self.trainer.learn(Batch(features, state, targets, column))


def write_files(paths: Sequence[Path], packed: PackedAudio, folder: Path) -> list[Path]:
    """Write packed recordings as files, at most `MAX_FILES`; returns their paths in `folder`."""
    files = []
    for number, path in enumerate(paths[:MAX_FILES]):
        files.append(folder / f"{number}.wav")
        soundfile.write(files[-1], packed.samples(path), packed.rate, "PCM_16")
    return files


def compare_with_dataloader(
    trainer: Trainer, folder: Path, workers: int, batches: int, now_s: Callable[[], float]
) -> DataLoaderCost:
    """Train alternately from our batches and from a DataLoader that reads files in `folder`.

    Each trains on about `batches` batches. `now_s` is a clock that waits for the device first.
    """
    baseline = DataLoaderBaseline(trainer, folder, workers)
    turns = max(1, round(batches / baseline.turn_batches))
    baseline.turn()  # starts the workers

    def loop() -> None:
        for _ in range(baseline.turn_batches):
            trainer.train_step()

    def baseline_torch_gru() -> None:
        bf16, trainer.bf16 = trainer.bf16, False
        try:
            with torch_gru():
                baseline.turn()
        finally:
            trainer.bf16 = bf16

    runs = [loop, baseline.turn]
    if trainer.device.type == "cpu" and any(isinstance(m, GRU) for m in trainer.model.modules()):
        runs.append(baseline_torch_gru)
    seconds: dict[Callable[[], None], list[float]] = {run: [] for run in runs}
    for number in range(turns):
        for run in runs if number % 2 else reversed(runs):
            start = now_s()
            run()
            seconds[run].append(now_s() - start)

    def over_loop(run: Callable[[], None]) -> tuple[float, tuple[float, float]]:
        ratios = sorted(a / b for a, b in zip(seconds[run], seconds[loop], strict=True))
        return statistics.median(ratios), (ratios[turns // 4], ratios[-1 - turns // 4])

    ratio, quartiles = over_loop(baseline.turn)
    torch_ratio, torch_quartiles = None, None
    if baseline_torch_gru in runs:
        torch_ratio, torch_quartiles = over_loop(baseline_torch_gru)
    clips = baseline.turn_batches * baseline.batch_size
    return DataLoaderCost(
        dataloader_workers=workers,
        dataloader_files=len(baseline.files),
        dataloader_clips_per_second=clips / statistics.median(seconds[baseline.turn]),
        loop_over_dataloader=ratio,
        loop_over_dataloader_quartiles=quartiles,
        loop_over_dataloader_torch_gru=torch_ratio,
        loop_over_dataloader_torch_gru_quartiles=torch_quartiles,
        turn_batches=baseline.turn_batches,
        turns=turns,
    )


@contextmanager
def torch_gru() -> Iterator[None]:
    """Train GRU layers with torch.nn.GRU's own loop and gradient within this context."""
    GRU.own_gradient = False
    try:
        yield
    finally:
        GRU.own_gradient = True
