"""Samples to normalised features as ONNX: frames, windowed Fourier transform, mel bands, cepstra.

A runtime has no fast Fourier transform that is quick for single frames, and as one product of
matrices the transform reads more weights than a recurrent layer. So it is two products with small
ones (Cooley and Tukey, 1965): with N = A B, n = B a + b and k = c + A d

    X_k = sum_b exp(-2 pi i b d / B) exp(-2 pi i b c / N) sum_a exp(-2 pi i a c / A) x_n

Samples are real, so X_(N - k) has the power of X_k, and c up to A / 2 is enough. Power does not
depend on where the phase is counted from: a frame's first sample is n = 0.

A step takes a runtime about as long for each node as for what the nodes compute, so constants are
put together where that is exact: the features' mean and deviation into what stands before them.
"""

from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgru.export.graph_builder import GraphBuilder
from speechgru.model.features import Features

#: What is added to the power of a band.
_FLOOR = 1e-6


class Normalisation(NamedTuple):
    """What features lose and are divided by: (F,) each."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def features(
    g: GraphBuilder, module: Features, samples: str, norm: Normalisation, streams: str | None
) -> str:
    """Features of uncentred frames, normalised: (N, S) -> (N, 1, T, F).

    Args:
        streams: a value that holds N, as (1,); None where N is 1.
    """
    if module.config.kind == "mfcc":
        rows = _cepstra(g, module, _log_mel(g, module, samples), norm)
    else:
        log_mel = _log_mel(g, module, samples, norm.mean)
        rows = g.op("Mul", log_mel, g.floats(_outermost(1 / norm.deviation)))
    if streams is None:
        return rows
    shape = g.op("Concat", streams, g.integers([1, -1, module.config.size]), axis=0)
    return g.op("Reshape", rows, shape)


def _outermost(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) -> (1, 1, 1, F): a product with it has as many axes, without a node of its own."""
    return row.reshape(1, 1, 1, -1)


def _log_mel(
    g: GraphBuilder, module: Features, samples: str, mean: NDArray[np.float64] | float = 0.0
) -> str:
    """The log mel spectrum less a mean, (N, S) -> (N T, M).

    ln(p + e) - m = ln(p / e^m + e / e^m).
    """
    config = module.config
    mel = module.mel[::2].double().numpy()  # (bins, M); the module has each bin's row twice
    bins = 1 + int(np.flatnonzero(mel.any(axis=1))[-1])
    inner = _factor(config.fft_samples, config.window_samples)
    grid = _grid(g, samples, config.window_samples, config.hop_samples, inner)
    squares, bin_of_square = _squares(g, module, grid, bins)
    scale = np.exp(-mean) * np.ones(config.mels)
    rows = g.sparse((np.vstack([mel[:bins], np.zeros_like(mel[:1])]) * scale).astype(np.float32))
    mel_of_square = g.op("Gather", rows, g.integers(bin_of_square), axis=0)
    return g.op("Log", g.op("Gemm", squares, mel_of_square, g.floats(_FLOOR * scale)))


def _grid(g: GraphBuilder, samples: str, window: int, hop: int, inner: int) -> str:
    """Frames, (N, S) -> (N, T, rows, inner): pieces that divide window and hop, and of each frame
    the first, the second and so on. Zeros fill the last row."""
    piece, rows = gcd(window, hop), -(-window // inner)
    # Where pieces are of whole rows they are made of rows at once.
    shape = [0, -1, piece] if piece % inner else [0, -1, piece // inner, inner]
    pieces = g.op("Reshape", samples, g.integers(shape))
    count, stride = window // piece, hop // piece
    columns = [
        g.slice(pieces, 1, first, first - count + 1 if first < count - 1 else None, stride)
        for first in range(count)
    ]
    frames = g.op("Concat", *columns, axis=2)
    if not piece % inner:
        return frames
    if padding := rows * inner - window:
        frames = g.op("Pad", frames, g.integers([0, 0, 0, 0, 0, padding]))
    return g.op("Reshape", frames, g.integers([0, -1, rows, inner]))


def _squares(
    g: GraphBuilder, module: Features, grid: str, bins: int
) -> tuple[str, NDArray[np.int64]]:
    """Squares of bins' real and imaginary parts, each of the first bins once and some more:
    (N, T, rows, B) -> (N T, at least 2 bins).

    And the bin that each square is of, `bins` for all that are not to be counted.
    """
    window, size = module.spectrogram.window.double().numpy(), module.config.fft_samples
    inner = _factor(size, len(window))  # B
    outer, rows = size // inner, -(-len(window) // inner)  # A, and of a those that have samples
    weights = np.pad(window, (0, rows * inner - len(window))).reshape(rows, inner)
    a, b, c = np.arange(rows), np.arange(inner), np.arange(outer // 2 + 1)
    k = c[:, np.newaxis] + outer * np.arange(inner)
    k = np.minimum(k, size - k)
    d = np.flatnonzero((k < bins).any(axis=0))
    # Over a: for each c the real and the imaginary part, twice, (N, T, 4 c, b).
    first = 2 * np.pi * np.outer(c, a) / outer
    sums = g.op(
        "MatMul",
        g.floats(np.stack([np.cos(first), -np.sin(first)] * 2, axis=1).reshape(-1, rows)),
        g.op("Mul", grid, g.floats(weights)),
    )
    # Turned by b c / N: the first two add up to the real part, the others to the imaginary one.
    turn = 2 * np.pi * np.outer(c, b) / size
    turns = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], axis=1)
    turned = g.op("Mul", sums, g.floats(turns.reshape(-1, inner)))
    # Over b and what adds up: (N T, c, 4 b) -> (N T, c, 2 d), real parts and imaginary ones.
    last = 2 * np.pi * np.outer(b, d) / inner
    of_real = np.hstack([np.cos(last), -np.sin(last)])
    of_imaginary = np.hstack([np.sin(last), np.cos(last)])
    parts = g.op(
        "MatMul",
        g.op("Reshape", turned, g.integers([-1, len(c), 4 * inner])),
        g.floats(np.vstack([of_real, of_real, of_imaginary, of_imaginary])),
    )
    squares = g.op("Mul", parts, parts)
    # A bin that is there twice, as k and as N - k, is counted the first time.
    found, place = np.unique(k[:, d], return_index=True)
    counted = np.full(k[:, d].size, bins)
    counted[place] = np.minimum(found, bins)
    counted = np.concatenate([counted.reshape(len(c), -1)] * 2, axis=1).ravel()
    return g.op("Reshape", squares, g.integers([-1, counted.size])), counted


def _factor(size: int, window: int) -> int:
    """The B that divides N with the fewest products, 2 N (window / B + 2 B); of two the larger."""
    factors = [b for b in range(1, size + 1) if size % b == 0]
    return min(factors, key=lambda b: (-(-window // b) + 2 * b, -b))


def _cepstra(g: GraphBuilder, module: Features, log_mel: str, norm: Normalisation) -> str:
    """As `Features` has them, the bands' mean around the product: (N T, M) -> (1, 1, N T, F)."""
    dct = module.dct.double().numpy() / norm.deviation
    level = g.op("ReduceMean", log_mel, axes=[-1], keepdims=1)
    offset = g.floats(-norm.mean / norm.deviation)
    shape = g.op("Gemm", g.op("Sub", log_mel, level), g.floats(dct), offset)
    return g.op("Add", shape, g.op("Mul", level, g.floats(_outermost(dct.sum(axis=0)))))
