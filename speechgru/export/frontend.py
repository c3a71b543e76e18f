"""Samples to features as ONNX: frames, windowed Fourier transform, mel bands, cepstra.

A runtime has no fast Fourier transform that is quick for single frames, so the transform is a
product of matrices. Half of it is saved: around a frame's middle the window and the cosines are
even and the sines odd, so that what lies right and left of it is added and subtracted first.
Power does not depend on where the phase is counted from.

    X_k = sum_d w_d (x_d + x_-d) cos(2 pi k d / N) - i sum_d w_d (x_d - x_-d) sin(2 pi k d / N)
"""

from math import gcd

import numpy as np

from speechgru.export.builder import GraphBuilder
from speechgru.features import Features


def features(g: GraphBuilder, module: Features, samples: str) -> str:
    """Features of uncentred frames: (1, S) -> (1, T, F)."""
    config = module.config
    mel = module.mel[::2].numpy()  # (bins, M); the module has each bin's row twice
    bins = np.flatnonzero(mel.any(axis=1))
    power = _power(g, module, _frames(g, samples, config.window_samples, config.hop_samples), bins)
    bands = g.op("MatMul", power, g.sparse(mel[bins]))
    log_mel = g.op("Log", g.op("Add", bands, g.floats([1e-6])))
    return _cepstra(g, module, log_mel) if config.kind == "mfcc" else log_mel


def _frames(g: GraphBuilder, samples: str, window: int, hop: int) -> str:
    """(1, S) -> (1, T, window): pieces that divide window and hop, and of each frame the first,
    the second and so on."""
    piece = gcd(window, hop)
    pieces = g.op("Reshape", samples, g.integers([1, -1, piece]))  # (1, S / piece, piece)
    count, stride = window // piece, hop // piece
    if count == 1:
        return pieces if stride == 1 else g.slice(pieces, 1, 0, step=stride)
    columns = [
        g.slice(pieces, 1, first, first - count + 1 if first < count - 1 else None, stride)
        for first in range(count)
    ]
    return g.op("Concat", *columns, axis=2)


def _power(g: GraphBuilder, module: Features, frames: str, bins: np.ndarray) -> str:
    """Squared magnitudes of some bins of the transform: (1, T, window) -> (1, T, bins)."""
    window = module.spectrogram.window.double().numpy()
    size, fft = len(window), module.config.fft_samples
    right = np.arange((size + 1) // 2, size)  # sample `right` lies opposite `size - right`
    assert np.allclose(window[right], window[size - right], atol=1e-7)
    assert abs(window[0]) < 1e-12
    first = g.slice(frames, 2, int(right[0]), size)
    opposite = g.slice(frames, 2, size - int(right[0]), 0, -1)
    weights = window[right] * np.where(2 * right == size, 0.5, 1.0)  # the middle comes twice
    # cos(2 pi k d / N), d = right - size / 2, out of a table of the angles pi / N: the matrix is
    # computed where the graph is loaded and needs no place in the file.
    turns = g.op("Mul", g.integers((2 * right - size)[:, None]), g.integers(bins[None]))
    place = g.op("Mod", turns, g.integers([2 * fft]))
    angles = np.pi * np.arange(2 * fft) / fft
    column = g.floats(weights[:, None])
    squares = []
    for mixed, table in (("Add", np.cos(angles)), ("Sub", np.sin(angles))):
        matrix = g.op("Mul", g.op("Gather", g.floats(table), place, axis=0), column)
        part = g.op("MatMul", g.op(mixed, first, opposite), matrix)
        squares.append(g.op("Mul", part, part))
    return g.op("Add", *squares)


def _cepstra(g: GraphBuilder, module: Features, log_mel: str) -> str:
    """As `Features` has them, the bands' mean around the product: (1, T, M) -> (1, T, F)."""
    dct = module.dct.numpy()
    mean = g.op("ReduceMean", log_mel, axes=[-1], keepdims=1)
    shape = g.op("MatMul", g.op("Sub", log_mel, mean), g.floats(dct))
    return g.op("Add", shape, g.op("Mul", mean, g.floats(dct.sum(axis=0))))
