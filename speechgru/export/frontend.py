"""Samples to features as ONNX: frames, windowed Fourier transform, mel bands, cepstra.

A runtime has no fast Fourier transform that is quick for single frames, and as one product of
matrices the transform reads more weights than a recurrent layer. So it is two products with small
ones (Cooley and Tukey, 1965): with N = A B, n = B a + b and k = c + A d

    X_k = sum_b exp(-2 pi i b d / B) exp(-2 pi i b c / N) sum_a exp(-2 pi i a c / A) x_n

Power does not depend on where the phase is counted from: a frame's first sample is n = 0.
"""

from math import gcd

import numpy as np
from numpy.typing import NDArray

from speechgru.export.builder import GraphBuilder
from speechgru.features import Features


def features(g: GraphBuilder, module: Features, samples: str) -> str:
    """Features of uncentred frames: (1, S) -> (T, F)."""
    config = module.config
    frames = _frames(g, samples, config.window_samples, config.hop_samples)
    mel = module.mel[::2].numpy()  # (bins, M); the module has each bin's row twice
    bins = 1 + int(np.flatnonzero(mel.any(axis=1))[-1])
    squares, bin_of_square = _squares(g, module, frames, bins)
    rows = g.sparse(np.vstack([mel[:bins], np.zeros_like(mel[:1])]))
    bands = g.op("MatMul", squares, g.op("Gather", rows, g.integers(bin_of_square), axis=0))
    log_mel = g.op("Log", g.op("Add", bands, g.floats([1e-6])))
    return _cepstra(g, module, log_mel) if config.kind == "mfcc" else log_mel


def _frames(g: GraphBuilder, samples: str, window: int, hop: int) -> str:
    """(1, S) -> (T, window): pieces that divide window and hop, and of each frame the first,
    the second and so on."""
    piece = gcd(window, hop)
    pieces = g.op("Reshape", samples, g.integers([-1, piece]))  # (S / piece, piece)
    count, stride = window // piece, hop // piece
    if count == 1:
        return pieces if stride == 1 else g.slice(pieces, 0, 0, step=stride)
    columns = [
        g.slice(pieces, 0, first, first - count + 1 if first < count - 1 else None, stride)
        for first in range(count)
    ]
    return g.op("Concat", *columns, axis=1)


def _squares(
    g: GraphBuilder, module: Features, frames: str, bins: int
) -> tuple[str, NDArray[np.int64]]:
    """Squares of the first bins' real and imaginary parts: (T, window) -> (T, at least 2 bins).

    And the bin that each of them is of, `bins` for all that are beyond.
    """
    window, size = module.spectrogram.window.double().numpy(), module.config.fft_samples
    inner = _factor(size, len(window))  # B
    outer, rows = size // inner, -(-len(window) // inner)  # A, and of a those that have samples
    if padding := rows * inner - len(window):
        frames = g.op("Pad", frames, g.integers([0, 0, 0, padding]))
    grid = g.op("Reshape", frames, g.integers([-1, rows, inner]))  # (T, a, b)
    weights = np.pad(window, (0, padding)).reshape(rows, inner)
    a, b = np.arange(rows), np.arange(inner)
    c, d = np.arange(outer), np.arange(-(-bins // outer))
    # Over a: for each c the real and the imaginary part, twice, (T, 4 c, b).
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
    # Over b and what adds up: (T, c, 4 b) -> (T, c, 2 d), real parts and imaginary ones.
    last = 2 * np.pi * np.outer(b, d) / inner
    of_real = np.hstack([np.cos(last), -np.sin(last)])
    of_imaginary = np.hstack([np.sin(last), np.cos(last)])
    parts = g.op(
        "MatMul",
        g.op("Reshape", turned, g.integers([-1, outer, 4 * inner])),
        g.floats(np.vstack([of_real, of_real, of_imaginary, of_imaginary])),
    )
    squares = g.op("Reshape", g.op("Mul", parts, parts), g.integers([-1, outer * 2 * len(d)]))
    k = c[:, np.newaxis] + outer * np.tile(d, 2)
    return squares, np.minimum(k.ravel(), bins)


def _factor(size: int, window: int) -> int:
    """The B that divides N with the fewest products, 4 N (window / B + B); of two the larger."""
    factors = [b for b in range(1, size + 1) if size % b == 0]
    return min(factors, key=lambda b: (-(-window // b) + b, -b))


def _cepstra(g: GraphBuilder, module: Features, log_mel: str) -> str:
    """As `Features` has them, the bands' mean around the product: (T, M) -> (T, F)."""
    dct = module.dct.numpy()
    mean = g.op("ReduceMean", log_mel, axes=[-1], keepdims=1)
    shape = g.op("MatMul", g.op("Sub", log_mel, mean), g.floats(dct))
    return g.op("Add", shape, g.op("Mul", mean, g.floats(dct.sum(axis=0))))
