"""Live equals offline: the recognizer in any chunking, and with lost or impossible samples."""

import subprocess
import sys
import tracemalloc
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from bands import STEP, BandBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from tones import RATE, tone

from speechgru.backends.pytorch import TorchBackend
from speechgru.decoding.detector import Detector
from speechgru.decoding.events import PosteriorRecorder
from speechgru.errors import DataError
from speechgru.model.cells import CELL_NAMES
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.recognition.recognizer import (
    BLOCK_STEPS,
    Recognizer,
    open_recognizer,
)
from speechgru.recognition.state_policy import StatePolicy
from speechgru.recognition.verification import compare

SIGNALS = {
    "noise": lambda rng, n: rng.normal(0, 0.1, n),
    "hum": lambda rng, n: 0.5 * np.sin(np.arange(n) * rng.uniform(0.01, 1.0)),
    "silence": lambda rng, n: np.zeros(n),
    "nearly silence": lambda rng, n: rng.normal(0, 1e-5, n),
    "clipping": lambda rng, n: np.clip(rng.normal(0, 10, n), -1, 1),
    "a step": lambda rng, n: (np.arange(n) > n // 2).astype(float),
}


@cache
def network(front, kind, cell="gru"):
    """A small network, its features normalised by what all the signals give."""
    torch.manual_seed(0)
    config = ModelConfig(front=front, front_channels=(4, 8), cell=cell, hidden=24, dropout=0.0)
    model = SpeechGRU(config, FeatureConfig(kind=kind), ("a", "b", "c", "d")).eval()
    kinds = [sound(name, RATE, seed) for name in SIGNALS for seed in range(4)]
    model.set_normalisation(model.features(torch.from_numpy(np.stack(kinds))))
    return model


def sound(name, length, seed=0):
    return SIGNALS[name](np.random.default_rng(seed), length).astype(np.float32)


def melody(seed=0, seconds=12.0):
    """Tones of all words with pauses of near silence: (S,)."""
    rng = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * RATE:
        word = ("low", "mid", "high")[rng.integers(3)]
        parts.append(tone(word, int(rng.integers(1000)), rng.uniform(0.2, 0.6)))
        parts.append(rng.normal(0, 1e-3, round(rng.uniform(0.1, 1.2) * RATE)).astype(np.float32))
    return np.concatenate(parts)[: round(seconds * RATE)]


def in_chunks(recognizer, samples, sizes):
    """The events of all chunks; the last one is the rest."""
    events, place = [], 0
    for size in sizes:
        events += recognizer.push(samples[place : place + size])
        place += size
    return events + recognizer.push(samples[place:]) + recognizer.flush()


@pytest.mark.parametrize("kind", ["mfcc", "logmel"])
@pytest.mark.parametrize("front", ["stack", "conv"])
@settings(deadline=None, max_examples=25)
@given(
    signal=st.sampled_from(sorted(SIGNALS)),
    sizes=st.lists(st.one_of(st.integers(1, 5), st.integers(1, 2_000), st.just(320)), min_size=1),
    seed=st.integers(0, 1_000),
)
def test_features_and_log_posteriors_in_any_chunking_equal_the_whole(
    front, kind, signal, sizes, seed
):
    difference = compare(
        TorchBackend(network(front, kind)), sound(signal, sum(sizes) + 640, seed), sizes
    )
    assert difference.features <= 1e-5
    assert difference.log_posteriors <= 1e-4


@pytest.mark.parametrize("cell", CELL_NAMES)
@settings(deadline=None, max_examples=8)
@given(
    signal=st.sampled_from(sorted(SIGNALS)),
    sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=12),
    seed=st.integers(0, 1_000),
)
def test_every_cell_in_any_chunking_equals_the_whole(cell, signal, sizes, seed):
    samples = sound(signal, sum(sizes) + 640, seed)
    assert compare(TorchBackend(network("conv", "logmel", cell)), samples, sizes).passed


@pytest.mark.slow
@pytest.mark.parametrize("front", ["stack", "conv"])
def test_a_long_recording_does_not_drift(front):
    """Two minutes at once, in seconds and step by step; every block begins where one ended."""
    samples = sound("noise", 120 * RATE)
    for sizes in ([len(samples)], [RATE] * 120, [STEP] * 2_000 + [12_345_678]):
        difference = compare(TorchBackend(network(front, "logmel")), samples, sizes)
        assert difference.steps == 120 * 50
        assert difference.log_posteriors <= 1e-4


@settings(deadline=None, max_examples=30)
@given(
    mode=st.sampled_from(["carry", "silence", "event"]),
    sizes=st.lists(st.integers(1, 20_000), max_size=20),
    seed=st.integers(0, 50),
)
def test_events_are_the_same_in_any_chunking_with_every_policy(mode, sizes, seed):
    policy = StatePolicy(mode=mode, silence_s=0.3)
    samples = melody(seed, 6.0)
    whole = in_chunks(open_recognizer(BandBackend(), policy=policy), samples, [])
    chunked = in_chunks(open_recognizer(BandBackend(), policy=policy), samples, sizes)
    assert chunked == whole
    assert whole


def test_events_are_the_same_for_single_samples():
    samples = melody(3, 1.5)
    whole = in_chunks(open_recognizer(BandBackend()), samples, [])
    single = in_chunks(open_recognizer(BandBackend()), samples, [1] * len(samples))
    assert single == whole
    assert whole


def test_every_sample_is_computed_once_in_bounded_blocks():
    backend = BandBackend()
    recognizer = Recognizer(backend, PosteriorRecorder())
    samples = melody(0, 20.0)
    in_chunks(recognizer, np.concatenate([samples, samples[:100]]), [7, 200_000, 1, 319])
    assert sum(backend.blocks) == len(samples)
    assert max(backend.blocks) <= BLOCK_STEPS * STEP
    assert recognizer.time_s == pytest.approx(20.0)


def test_time_and_last_posteriors_follow_whole_steps():
    recognizer = open_recognizer(BandBackend())
    assert recognizer.log_posteriors is None
    recognizer.push(tone("mid", 0)[: STEP - 1])
    assert recognizer.time_s == 0.0
    assert recognizer.log_posteriors is None
    recognizer.push(tone("mid", 0)[STEP - 1 : STEP + 5])
    assert recognizer.time_s == pytest.approx(0.02)
    assert recognizer.labels[recognizer.log_posteriors.argmax()] == "mid"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named_and_not_processed(bad):
    samples = melody(1, 4.0)
    recognizer = open_recognizer(BandBackend())
    events = recognizer.push(samples[:10_000])
    broken = samples[10_000:12_000].copy()
    broken[77] = bad
    with pytest.raises(DataError, match=r"sample 10077 of the stream is (nan|inf|-inf)"):
        recognizer.push(broken)
    with pytest.raises(DataError, match="sample 15077 of the stream is"):
        recognizer.push(broken, lost=5_000)
    events += recognizer.push(samples[10_000:])
    assert events == in_chunks(open_recognizer(BandBackend()), samples, [])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_not_taken_for_samples_of_8_bits(kind):
    data = kind(melody(1, 1.0).astype(np.int16).tobytes())
    with pytest.raises(TypeError, match=r"np\.frombuffer\(data, np\.int16\)"):
        open_recognizer(BandBackend()).push(data)
    samples = memoryview(melody(1, 4.0))
    expected = in_chunks(open_recognizer(BandBackend()), melody(1, 4.0), [])
    recognizer = open_recognizer(BandBackend())
    assert recognizer.push(samples) + recognizer.flush() == expected


def test_nan_outputs_are_an_error():
    model = SpeechGRU(ModelConfig(hidden=8), FeatureConfig(), ("a", "b")).eval()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with pytest.raises(DataError, match="not a number"):
        Recognizer(TorchBackend(model), PosteriorRecorder()).push(np.zeros(640, np.float32))


@pytest.mark.parametrize("bad", [1e18, -3e9, 3e38])
def test_a_sample_beyond_every_format_does_not_poison_the_stream(bad):
    model = network("conv", "logmel")
    recognizer, expected = (Recognizer(TorchBackend(model), PosteriorRecorder()) for _ in range(2))
    samples = sound("noise", 3 * RATE)
    for start in range(0, len(samples), RATE):
        broken = samples[start : start + RATE].copy()
        broken[-1] = bad  # in the context of the next frame
        with pytest.raises(DataError, match=f"sample {start + RATE - 1} of"):
            recognizer.push(broken)
        recognizer.push(samples[start : start + RATE])
    expected.push(samples)
    found = recognizer.decoder.log_posteriors
    np.testing.assert_allclose(found, expected.decoder.log_posteriors, atol=1e-4)


class SometimesNaN(BandBackend):
    """Its output and its state are NaN while the samples have a constant part."""

    def __call__(self, samples, state):
        log_posteriors, state = super().__call__(samples, state)
        if samples.mean() > 0.2:
            log_posteriors = np.full_like(log_posteriors, np.nan)
            state = {name: np.full_like(array, np.nan) for name, array in state.items()}
        return log_posteriors, state


@pytest.mark.parametrize("mode", ["carry", "silence"])
def test_after_a_nan_output_the_stream_goes_on_from_the_state_before(mode):
    policy = StatePolicy(mode=mode)
    low, high = tone("low", 1, 0.5), tone("high", 1, 0.5)
    bad = np.full(STEP * BLOCK_STEPS, 0.5, np.float32)
    recognizer = open_recognizer(SometimesNaN(), policy=policy)
    quiet = np.zeros(RATE, np.float32)
    events = recognizer.push(np.concatenate([quiet, low]))
    with pytest.raises(DataError, match=r"not a number .NaN. in the block at 1\.50 s"):
        recognizer.push(bad)
    events += recognizer.push(np.concatenate([quiet, high])) + recognizer.flush()
    expected = open_recognizer(BandBackend(), policy=policy)
    assert events == in_chunks(expected, np.concatenate([quiet, low, quiet, high]), [])
    assert [event.word for event in events] == ["low", "high"]


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [
        *((np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.uint8, 2**7, 128), (np.float64, 1, 0)),
        *((">i2", 2**15, 0), (">f4", 1, 0)),
    ],
)
def test_integers_are_scaled_by_the_range_of_their_type(dtype, scale, offset):
    samples = melody(1, 4.0)
    whole = in_chunks(open_recognizer(BandBackend()), samples, [])
    recorded = np.round(samples.astype(np.float64) * scale) + offset if scale > 1 else samples
    assert in_chunks(open_recognizer(BandBackend()), recorded.astype(dtype), [777]) == whole


@pytest.mark.parametrize("samples", [np.zeros(640, np.int64), np.zeros(640, bool), ["a"], [1j]])
def test_samples_of_other_types_are_an_error(samples):
    recognizer = open_recognizer(BandBackend())
    with pytest.raises(TypeError, match=r"floats in \[-1, 1\], int16, int32 or uint8 are needed"):
        recognizer.push(samples)
    assert recognizer.push([0.0] * 640) == []
    assert recognizer.time_s == pytest.approx(0.04)


def test_floats_that_were_not_scaled_are_warned_of_once():
    samples = 32_768 * melody(1, 4.0)
    recognizer = open_recognizer(BandBackend())
    with pytest.warns(UserWarning, match="divide 16-bit values") as caught:
        recognizer.push(samples[:16_000])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recognizer.push(samples[16_000:])
        open_recognizer(BandBackend()).push(1.5 * np.ones(RATE, np.float32))


def test_16_bit_values_in_32_bits_are_warned_of_once():
    samples = (32_767 * melody(1, 4.0)).astype(np.int32)
    recognizer = open_recognizer(BandBackend())
    with pytest.warns(UserWarning, match="push 16-bit values as int16") as caught:
        recognizer.push(samples[:16_000])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recognizer.push(samples[16_000:])
        silent = np.random.default_rng(0).integers(-200, 200, RATE, np.int32)
        open_recognizer(BandBackend()).push(silent)
        open_recognizer(BandBackend()).push(samples[:16_000] * 2**16)


def test_two_channels_are_an_error():
    with pytest.raises(ValueError, match="one channel"):
        open_recognizer(BandBackend()).push(np.zeros((320, 2), np.float32))


def test_time_goes_on_across_lost_samples_and_the_state_stays():
    samples = melody(3, 6.0)
    expected = in_chunks(open_recognizer(BandBackend()), samples, [])
    recognizer = open_recognizer(BandBackend())
    pause = next(t for t in range(RATE, len(samples)) if abs(samples[t : t + 500]).max() < 0.01)
    gap = slice(pause, pause + 400)
    events = recognizer.push(samples[: gap.start])
    events += recognizer.push(samples[gap.stop :], lost=400) + recognizer.flush()
    assert events == expected
    assert recognizer.time_s == pytest.approx(6.0)


def test_lost_samples_at_the_end_or_the_start_take_their_time():
    recognizer = open_recognizer(BandBackend())
    recognizer.push(np.empty(0, np.float32), lost=RATE)
    recognizer.push(tone("low", 0)[: 2 * STEP])
    recognizer.push(np.empty(0, np.float32), lost=RATE)
    recognizer.flush()
    assert recognizer.time_s == pytest.approx(2.04)
    with pytest.raises(ValueError, match="lost=-1"):
        recognizer.push(tone("low", 0), lost=-1)


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 9_000), max_size=20), lost=st.integers(1, 3_000))
def test_events_around_a_gap_are_the_same_in_any_chunking(sizes, lost):
    samples = melody(4, 3.0)

    def events(sizes):
        recognizer, place, found = open_recognizer(BandBackend()), 20_000, []
        found += recognizer.push(samples[:place])
        for size in sizes:
            found += recognizer.push(samples[place : place + size], 0 if place > 20_000 else lost)
            place += size
        rest = recognizer.push(samples[place:], 0 if place > 20_000 else lost)
        return found + rest + recognizer.flush()

    assert events(sizes) == events([])


def test_reset_starts_a_new_stream():
    samples = melody(2, 5.0)
    recognizer = open_recognizer(BandBackend(), policy=StatePolicy(mode="silence"))
    first = in_chunks(recognizer, samples, [12_345])
    recognizer.reset()
    assert recognizer.time_s == 0.0
    assert recognizer.log_posteriors is None
    assert in_chunks(recognizer, samples, [500]) == first


def test_pushed_samples_are_not_kept():
    model = network("conv", "logmel")
    recognizer = Recognizer(TorchBackend(model), Detector(model.labels, 0.02))
    samples = sound("noise", 20 * RATE + 100)
    recognizer.push(samples)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3):
        recognizer.push(samples.copy())
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000


def test_the_recognizer_imports_neither_torch_nor_librosa():
    code = (
        "import sys, speechgru.recognition.recognizer, speechgru.decoding.detector\n"
        "assert 'torch' not in sys.modules and 'librosa' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
