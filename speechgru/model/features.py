"""Samples to spectral features, frame by frame: the same frames for a whole recording or chunks.

Frames are not centred and nothing is normalized per clip, so a frame depends on its own window of
samples alone.
"""

from typing import Literal, Self

import torch
import torchaudio
from pydantic import Field, model_validator
from torch import Tensor, nn

from speechgru.common.settings import Settings
from speechgru.model.row_threads import by_rows


class FeatureConfig(Settings):
    """The frontend's settings; 30 ms Hann windows every 10 ms by default."""

    #: "mfcc": cepstra of the log mel spectrum; "logmel": the log mel spectrum itself.
    kind: Literal["mfcc", "logmel"] = "mfcc"
    #: In hertz; recordings at other rates are resampled.
    sample_rate: int = Field(16_000, ge=8_000, le=48_000)
    #: Length of a frame, and the time from one frame to the next.
    window_ms: float = Field(30.0, ge=10.0, le=64.0)
    hop_ms: float = Field(10.0, ge=5.0, le=20.0)
    #: Length of the zero-padded Fourier transform, so long that every mel band contains a bin.
    fft_samples: int = Field(1024, ge=256, le=4096)
    #: Mel bands, and the range of frequencies that they cover.
    mels: int = Field(80, ge=10, le=128)
    low_hz: float = Field(20.0, ge=0.0)
    high_hz: float = Field(7_600.0, gt=0.0)
    #: Cepstral coefficients kept; only for "mfcc".
    cepstra: int = Field(40, ge=8, le=128)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(
                f"high_hz {self.high_hz:g} must lie above low_hz {self.low_hz:g} "
                f"and at most at half the sample rate, {self.sample_rate / 2:g}"
            )
        if self.kind == "mfcc" and self.cepstra > self.mels:
            raise ValueError(f"cepstra {self.cepstra} must be at most mels {self.mels}")
        if self.window_samples < self.hop_samples:
            raise ValueError(
                f"window_ms {self.window_ms:g} must be at least hop_ms {self.hop_ms:g}"
            )
        if self.fft_samples < self.window_samples or (self.fft_samples - self.window_samples) % 2:
            raise ValueError(
                f"fft_samples {self.fft_samples} must exceed the window of "
                f"{self.window_samples} samples by an even number"
            )
        return self

    @property
    def window_samples(self) -> int:
        """Samples in a frame."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def context_samples(self) -> int:
        """Samples that a frame shares with the one before it, which a stream has to keep."""
        return self.window_samples - self.hop_samples

    @property
    def size(self) -> int:
        """F, the number of features in a frame."""
        return self.cepstra if self.kind == "mfcc" else self.mels


class Features(nn.Module):
    """Log mel bands or MFCC of uncentred frames: (B, S) -> (B, T, F), T = (S - window) // hop + 1.

    The logarithm is natural with a floor: ln(mel power + 1e-6); the cepstra are its orthonormal
    DCT-II (Davis and Mermelstein, 1980), as in torchaudio's MFCC with `log_mels=True` and
    `center=False`. The window is zero-padded on both sides to the length of the transform, which
    does not change the power and needs no further samples.
    """

    mel: Tensor
    dct: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrogram = torchaudio.transforms.Spectrogram(
            n_fft=config.fft_samples,
            win_length=config.window_samples,
            hop_length=config.hop_samples,
            pad=(config.fft_samples - config.window_samples) // 2,
            center=False,
            power=None,
        )
        bins = config.fft_samples // 2 + 1
        mel = torchaudio.functional.melscale_fbanks(
            bins, config.low_hz, config.high_hz, config.mels, config.sample_rate
        )
        # Each bin has two equal rows: for the squares of its real and of its imaginary part.
        self.register_buffer("mel", mel.repeat_interleave(2, dim=0))
        self.register_buffer(
            "dct", torchaudio.functional.create_dct(config.cepstra, config.mels, norm="ortho")
        )

    def forward(self, samples: Tensor) -> Tensor:
        """(B, S) -> (B, T, F); fewer samples than a window give T = 0."""
        if samples.shape[-1] < self.config.window_samples:
            return samples.new_zeros(*samples.shape[:-1], 0, self.config.size)
        if samples.ndim == 1 or samples.requires_grad:
            return self._spectral(samples)
        return by_rows(self._spectral, samples)

    def _spectral(self, samples: Tensor) -> Tensor:
        spectrum = self.spectrogram(samples).transpose(-1, -2)  # (B, T, bins), complex
        squares = torch.view_as_real(spectrum).square_().flatten(-2)  # (B, T, 2 bins)
        log_mel = torch.log(squares @ self.mel + 1e-6)
        return self._cepstra(log_mel) if self.config.kind == "mfcc" else log_mel

    def _cepstra(self, log_mel: Tensor) -> Tensor:
        """The DCT-II, (B, T, M) -> (B, T, F).

        The mean over the bands bypasses the product. In near silence it is so large that products
        of few frames and of many, which round in different orders, would differ by more than live
        and offline may.
        """
        mean = log_mel.mean(dim=-1, keepdim=True)
        return (log_mel - mean) @ self.dct + mean * self.dct.sum(dim=0)


def features(samples: Tensor, config: FeatureConfig) -> Tensor:
    """Features of a batch of recordings: (B, S) -> (B, T, F)."""
    return Features(config).to(samples.device)(samples)
