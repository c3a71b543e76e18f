"""Features against librosa, against physics, and in a stream."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from speechgru.model.features import FeatureConfig, Features, features

MFCC = FeatureConfig()
LOGMEL = FeatureConfig(kind="logmel", mels=40, fft_samples=512)
SLOW = FeatureConfig(sample_rate=8_000, window_ms=25, hop_ms=12.5, fft_samples=256, high_hz=3_800)
CONFIGS = {
    "mfcc": MFCC,
    "logmel": LOGMEL,
    "8 kHz": SLOW.model_copy(update={"mels": 20, "cepstra": 13}),
    "30 ms, no padding": FeatureConfig(kind="logmel", fft_samples=480, mels=20),
}
all_configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def by_librosa(samples: Tensor, config: FeatureConfig) -> np.ndarray:
    """(B, S) -> (T, F) of the first recording."""
    padding = (config.fft_samples - config.window_samples) // 2
    power = librosa.feature.melspectrogram(
        y=np.pad(samples[0].double().numpy(), padding),
        sr=config.sample_rate,
        n_fft=config.fft_samples,
        win_length=config.window_samples,
        hop_length=config.hop_samples,
        window="hann",
        center=False,
        power=2.0,
        n_mels=config.mels,
        fmin=config.low_hz,
        fmax=config.high_hz,
        htk=True,
        norm=None,
    )
    log_mel = np.log(power + 1e-6)
    if config.kind == "logmel":
        return log_mel.T
    return librosa.feature.mfcc(S=log_mel, n_mfcc=config.cepstra, dct_type=2, norm="ortho").T


@pytest.mark.slow
@all_configs
def test_features_equal_librosas(config):
    samples = noise(8_000)
    found = features(samples, config)[0].numpy()
    expected = by_librosa(samples, config)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.slow
@all_configs
def test_features_of_silence_and_full_scale_equal_librosas(config):
    for samples in (torch.zeros(1, 4_000), noise(4_000).sign()):
        expected = by_librosa(samples, config)
        np.testing.assert_allclose(features(samples, config)[0], expected, atol=5e-4)


@all_configs
def test_there_is_a_frame_for_every_complete_window(config):
    window, hop = config.window_samples, config.hop_samples
    extract = Features(config)
    for count in (1, 2, 7):
        for extra in (0, hop - 1):
            samples = window + (count - 1) * hop + extra
            assert extract(torch.zeros(3, samples)).shape == (3, count, config.size)
    assert extract(torch.zeros(3, window - 1)).shape == (3, 0, config.size)
    assert extract(torch.zeros(3, 0)).shape == (3, 0, config.size)


@pytest.mark.parametrize("config", [LOGMEL, CONFIGS["30 ms, no padding"]])
def test_a_pure_tone_lands_in_its_mel_band(config):
    """HTK's mel scale: 2595 log10(1 + f / 700), bands evenly spaced between the limits."""

    def mel(hertz: float) -> float:
        return 2595 * np.log10(1 + hertz / 700)

    width = (mel(config.high_hz) - mel(config.low_hz)) / (config.mels + 1)
    time = torch.arange(4_800) / config.sample_rate
    for hertz in (300, 700, 1_000, 2_000, 3_500, 6_000):
        frames = features(torch.sin(2 * torch.pi * hertz * time)[None], config)[0]
        place = (mel(hertz) - mel(config.low_hz)) / width - 1  # 0 at the middle of the first band
        assert np.abs(frames.argmax(dim=1).numpy() - place).max() <= 0.75


def test_ten_times_the_amplitude_adds_twice_ln_10_to_every_band():
    loud, quiet = features(noise(4_000), LOGMEL), features(noise(4_000) / 10, LOGMEL)
    strong = quiet > np.log(1e-2)  # far above the floor
    difference = (loud - quiet)[strong]
    assert len(difference) > 100
    torch.testing.assert_close(
        difference, torch.full_like(difference, 2 * np.log(10)), atol=1e-3, rtol=0
    )


def test_the_cepstra_are_an_orthonormal_transform_of_the_log_bands():
    """Parseval: as many cepstra as bands keep the sum of squares."""
    bands = FeatureConfig(kind="logmel", mels=40)
    cepstra = FeatureConfig(kind="mfcc", mels=40, cepstra=40)
    squares = [features(noise(4_000), c).square().sum(dim=-1) for c in (bands, cepstra)]
    torch.testing.assert_close(squares[0], squares[1], atol=0, rtol=1e-4)


def test_silence_is_at_the_floor():
    assert features(torch.zeros(1, 4_000), LOGMEL).eq(np.float32(np.log(1e-6))).all()
    assert features(torch.zeros(1, 4_000), MFCC).isfinite().all()


def in_chunks(samples: Tensor, hops: list[int], config: FeatureConfig) -> Tensor:
    """Frames of a stream that keeps only what two frames share."""
    extract, kept, start, frames = Features(config), samples[:, :0], 0, []
    for hop_count in hops:
        end = start + hop_count * config.hop_samples
        stretch = torch.cat([kept, samples[:, start:end]], dim=1)
        found = extract(stretch)
        frames.append(found)
        kept, start = stretch[:, found.shape[1] * config.hop_samples :], end
        assert kept.shape[1] < config.window_samples
    return torch.cat(frames, dim=1)


@all_configs
@settings(max_examples=15, deadline=None)
@given(hops=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_chunks_give_the_frames_of_the_whole(config, hops, seed):
    samples = noise(sum(hops) * config.hop_samples, seed)
    whole = features(samples, config)
    torch.testing.assert_close(in_chunks(samples, hops, config), whole, atol=1e-5, rtol=1e-5)


@all_configs
def test_a_frame_depends_on_its_own_window_only(config):
    samples, changed = noise(8_000), noise(8_000)
    changed[:, 5_000:] = 1.0
    before, after = features(samples, config), features(changed, config)
    whole = (5_000 - config.window_samples) // config.hop_samples + 1
    torch.testing.assert_close(before[:, :whole], after[:, :whole], atol=1e-5, rtol=1e-5)
    assert (before[:, whole:] - after[:, whole:]).abs().amax(dim=2).min() > 1e-2


@all_configs
def test_rows_of_a_batch_are_independent(config):
    alone = noise(4_000)
    batch = torch.cat([torch.ones(1, 4_000), alone, torch.zeros(1, 4_000)])
    torch.testing.assert_close(
        features(batch, config)[1], features(alone, config)[0], atol=1e-5, rtol=1e-5
    )


def test_milliseconds_become_samples():
    assert (MFCC.window_samples, MFCC.hop_samples, MFCC.context_samples) == (480, 160, 320)
    assert (MFCC.size, LOGMEL.size) == (40, 40)
    assert (SLOW.window_samples, SLOW.hop_samples) == (200, 100)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"high_hz": 9_000.0}, "high_hz 9000 must lie above low_hz 20 and at most at half"),
        ({"low_hz": 5_000.0, "high_hz": 4_000.0}, "high_hz 4000 must lie above low_hz 5000"),
        ({"cepstra": 41, "mels": 40}, "cepstra 41 must be at most mels 40"),
        ({"fft_samples": 256}, "fft_samples 256 must exceed the window of 480 samples"),
        ({"fft_samples": 1_023}, "fft_samples 1023 must exceed .* by an even number"),
        ({"window": 30.0}, "window"),
        ({"kind": "spectrogram"}, "'mfcc' or 'logmel'"),
        ({"hop_ms": float("nan")}, "hop_ms"),
        ({"high_hz": float("inf")}, "high_hz"),
    ],
)
def test_invalid_settings_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        FeatureConfig(**settings)


@all_configs
def test_a_large_batch_equals_single_recordings(config):
    """On a processor a few are done at a time, in threads."""
    samples = torch.cat([noise(3_000, seed) for seed in range(37)])
    alone = torch.cat([features(row, config) for row in samples.split(1)])
    torch.testing.assert_close(features(samples, config), alone, atol=1e-5, rtol=0)
    assert samples.requires_grad_() is samples
    with_gradient = features(samples, config)
    assert with_gradient.requires_grad
    torch.testing.assert_close(with_gradient.detach(), alone, atol=1e-5, rtol=0)
