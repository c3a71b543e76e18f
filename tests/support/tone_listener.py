"""A network that hears tones in a stream, and silence between them; trained in seconds."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from once import made_once
from tones import RATE, TONES_HZ, tone, trained_once, untrained_model

from speechgru.export.exporter import export_model
from speechgru.labels import BLANK, SILENCE
from speechgru.model.network import SpeechGRU

STEP = 320
#: From a tone's beginning until the network has to answer with it.
_UNDECIDED_STEPS = 6


def stream(words, gap_s=0.6, seed=0):
    """Tones with near silence before, between and after them: (S,), and each one's seconds."""
    rng = np.random.default_rng(seed)
    pieces, spans, now = [], [], 0
    for i, word in enumerate([*words, None]):
        gap = rng.normal(0.0, 1e-4, round(gap_s * RATE)).astype(np.float32)
        pieces.append(gap)
        now += len(gap)
        if word is not None:
            pieces.append(tone(word, seed + i))
            spans.append((word, now / RATE, (now + len(pieces[-1])) / RATE))
            now += len(pieces[-1])
    return np.concatenate(pieces), spans


@cache
def tone_listener():
    """The network."""
    model = untrained_model((*TONES_HZ, SILENCE), clip_s=0.5, tail_s=0.2)
    return trained_once("tone_listener", model, _train)


def exported_listener() -> Path:
    """The file of the network, exported once for all tests."""
    return made_once("tone_listener.onnx", lambda path: export_model(tone_listener(), path))


def _train(model):
    rng = np.random.default_rng(0)
    samples, targets = zip(*(_example(model, rng, seed) for seed in range(24)), strict=True)
    batch, truth = torch.from_numpy(np.stack(samples)), torch.from_numpy(np.stack(targets))
    model.set_normalisation(model.features(batch))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(40):
        log_posteriors, _ = model(batch)
        loss = torch.nn.functional.nll_loss(log_posteriors.transpose(1, 2), truth, ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _example(model, rng, seed):
    """Two tones in a stream: (S,) samples, and what to answer at each step (-1: anything)."""
    samples, spans = stream(rng.choice(list(TONES_HZ), 2), gap_s=rng.uniform(0.2, 0.4), seed=seed)
    samples = np.pad(samples, (0, 36_000 - len(samples)))
    targets = np.full(len(samples) // STEP, model.vocabulary.id(SILENCE))
    for word, start_s, end_s in spans:
        first, last = round(start_s * RATE / STEP), round(end_s * RATE / STEP)
        targets[first:last] = model.vocabulary.id(word)
        targets[first : first + _UNDECIDED_STEPS] = -1
        targets[last : last + _UNDECIDED_STEPS] = -1
    return samples, targets


def with_ctc_head(model, heads=("ctc",)):
    """The same network with its answers as the tokens of a CTC head: silence is the blank."""
    config = model.config.model_copy(update={"heads": heads})
    other = SpeechGRU(config, model.features.config, model.labels, metadata=model.metadata)
    rows = [
        model.labels.index(SILENCE if token == BLANK else token)
        for head in heads
        for token in other.outputs[head]
    ]
    weights = model.state_dict()
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name][rows]
    other.load_state_dict(weights)
    return other.eval()
