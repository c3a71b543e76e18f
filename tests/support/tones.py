"""A corpus that a network learns in a second: words that are tones."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from once import made_once

from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU

RATE = 16_000
TONES_HZ = {"low": 300.0, "mid": 900.0, "high": 2_700.0}
SPEAKERS = {"training": "abcd", "validation": "ef", "testing": "ghijkl"}


def tone(word, seed, seconds=0.5):
    """A tone a little off its pitch, with some noise: (S,) float32."""
    rng = np.random.default_rng([seed, *word.encode()])
    time_s = np.arange(round(seconds * RATE)) / RATE
    pitch_hz = TONES_HZ[word] * rng.uniform(0.9, 1.1)
    wave = rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * pitch_hz * time_s)
    noise = 10 ** rng.uniform(-5.0, -2.0) * rng.standard_normal(len(time_s))
    return (wave + noise).astype(np.float32)


def write_tones(folder: Path) -> Path:
    """A manifest of every word by every speaker; gives its path."""
    folder.mkdir(exist_ok=True)
    lines = ["file,word,speaker,split"]
    for split, speakers in SPEAKERS.items():
        for word in TONES_HZ:
            for speaker in speakers:
                name = f"{word}-{speaker}.wav"
                soundfile.write(folder / name, tone(word, ord(speaker)), RATE)
                lines.append(f"{name},{word},{speaker},{split}")
    manifest = folder / "tones.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def shared_tones() -> Path:
    """The manifest of the same corpus, written once for all tests."""
    return made_once("tones", write_tones) / "tones.csv"


def trained_once(name: str, model: SpeechGRU, train: Callable[[SpeechGRU], object]) -> SpeechGRU:
    """The network with the weights that `train(model)` gives it, in whichever process."""

    def make(path: Path) -> None:
        train(model)
        torch.save(model.state_dict(), path)

    model.load_state_dict(torch.load(made_once(f"{name}.pt", make), weights_only=True))
    return model.eval()


def untrained_model(labels=tuple(TONES_HZ), seed=0, front="stack", **metadata):
    """A small network whose answers depend on everything it heard."""
    torch.manual_seed(seed)
    config = ModelConfig(front=front, front_channels=(4, 8), hidden=24, layers=2, dropout=0.0)
    features = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
    return SpeechGRU(config, features, labels, metadata=metadata).eval()


@cache
def trained_model() -> SpeechGRU:
    """A network that tells the tones apart, trained from a zero state on their last steps."""
    model = untrained_model(protocol="folder", clip_s=0.5, tail_s=0.2)
    return trained_once("trained_model", model, _train)


def _train(model: SpeechGRU) -> None:
    pairs = [(word, seed) for word in TONES_HZ for seed in range(16)]
    samples = torch.from_numpy(np.stack([tone(word, seed) for word, seed in pairs]))
    targets = torch.tensor([model.vocabulary.id(word) for word, _ in pairs])
    model.set_normalisation(model.features(samples))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(30):
        log_posteriors, _ = model(samples)
        loss = torch.nn.functional.nll_loss(log_posteriors[:, -10:].mean(dim=1), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
