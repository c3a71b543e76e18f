"""A stream of tones to listen to, and a network that learned to in a few seconds."""

from functools import cache

import numpy as np
import torch
from tones import RATE, TONES_HZ, shared_tones, trained_once

from speechgru.corpora.split_audio import SplitAudio, open_split_audio
from speechgru.corpora.streams import StreamPlan, make_stream
from speechgru.labels import SILENCE
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU

LABELS = (SILENCE, *TONES_HZ)
ROW_S = 6.0


def tone_split(split="testing") -> SplitAudio:
    """A split of the tones."""
    return open_split_audio(shared_tones(), "folder", split, RATE)


@cache
def listening_model() -> SpeechGRU:
    """Trained to say at every step which tone sounds."""
    torch.manual_seed(0)
    model = SpeechGRU(
        ModelConfig(hidden=24, layers=1, dropout=0.0),
        FeatureConfig(kind="logmel", mels=20, fft_samples=512),
        LABELS,
        metadata={"protocol": "folder", "clip_s": 0.5, "tail_s": 0.2},
    )
    return trained_once("listening_model", model, _train)


def _train(model: SpeechGRU) -> None:
    stream = make_stream(tone_split("training"), StreamPlan(minutes=1.5, seed=1))
    rows = int(len(stream.samples) / RATE / ROW_S)
    samples = stream.samples[: round(rows * ROW_S * RATE)].astype(np.float32) / 32768
    batch = torch.from_numpy(samples.reshape(rows, -1))
    targets = torch.zeros(rows * round(ROW_S * 50), dtype=torch.long)
    for spoken in stream.truth.words:
        targets[round(spoken.start * 50) + 2 : round(spoken.end * 50)] = LABELS.index(spoken.word)
    model.set_normalisation(model.features(batch))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        log_posteriors, _ = model(batch)
        loss = torch.nn.functional.nll_loss(log_posteriors.flatten(0, 1), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
