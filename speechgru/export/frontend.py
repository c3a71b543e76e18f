"""Samples to normalized features as ONNX: frames, windowed Fourier transform, mel bands, cepstra.

The fast Fourier transform of a runtime is slow for single frames, and as one matrix product the
transform reads more weights than a recurrent layer. So it is two products with small matrices
(Cooley and Tukey, 1965): with N = A B, n = B a + b and k = c + A d

    X_k = sum_b exp(-2 pi i b d / B) exp(-2 pi i b c / N) sum_a exp(-2 pi i a c / A) x_n

Samples are real, so X_(N - k) has the power of X_k, and c up to A / 2 is enough. Power does not
depend on the origin of the phase: the first sample of a frame is n = 0.

In a single step the overhead per node is about as large as the computation, so constants are merged
where that is exact: mean and deviation of the features into the operations before them.

Window and waves are not stored: a runtime computes them once, when it loads the graph.
"""

from math import gcd
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from speechgru.export.graph_builder import GraphBuilder
from speechgru.model.features import Features

#: Added to the power of a band before the logarithm.
_FLOOR = 1e-6
#: Waves as cosines, by the quarters of a turn that are added to the angle.
_COS, _MINUS_SIN, _SIN = 0, 1, 3


class Normalization(NamedTuple):
    """Mean and standard deviation of the features: (F,) each."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def features(
    g: GraphBuilder, module: Features, samples: str, norm: Normalization, streams: str | None
) -> str:
    """Normalized features of uncentred frames: (N, S) -> (N, 1, T, F).

    Args:
        streams: the value that holds N, as (1,); None if N is 1.
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
    """(F,) -> (1, 1, 1, F): a product with it has four axes without another node."""
    return row.reshape(1, 1, 1, -1)


def _log_mel(
    g: GraphBuilder, module: Features, samples: str, mean: NDArray[np.float64] | float = 0.0
) -> str:
    """The log mel spectrum minus a mean, (N, S) -> (N T, M).

    ln(p + e) - m = ln(p / e^m + e / e^m).
    """
    config = module.config
    mel = module.mel[::2].double().numpy()  # (bins, M); the module repeats each bin's row
    bins = 1 + int(np.flatnonzero(mel.any(axis=1))[-1])
    inner = _factor(config.fft_samples, config.window_samples)
    grid = _grid(g, samples, config.window_samples, config.hop_samples, inner)
    squares, bin_of_square = _squares(g, module, grid, bins)
    scale = np.exp(-mean) * np.ones(config.mels)
    rows = g.sparse((np.vstack([mel[:bins], np.zeros_like(mel[:1])]) * scale).astype(np.float32))
    mel_of_square = g.op("Gather", rows, g.small_integers(bin_of_square), axis=0)
    return g.op("Log", g.op("Gemm", squares, mel_of_square, g.floats(_FLOOR * scale)))


def _grid(g: GraphBuilder, samples: str, window: int, hop: int, inner: int) -> str:
    """Frames, (N, S) -> (N, T, rows, inner), the last row padded with zeros.

    The samples are cut into pieces that divide window and hop; a frame has consecutive pieces.
    """
    piece, rows = gcd(window, hop), -(-window // inner)
    # Pieces that consist of whole rows are split into them right away.
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
    """Squares of the bins' real and imaginary parts, (N, T, rows, B) -> (N T, at least 2 bins).

    Also returns the bin of each square; `bins` for those that must not be counted.
    """
    window, size = module.config.window_samples, module.config.fft_samples
    inner = _factor(size, window)  # B
    outer, rows = size // inner, -(-window // inner)  # A, and the values of a with samples
    a, b, c = np.arange(rows), np.arange(inner), np.arange(outer // 2 + 1)
    k = c[:, np.newaxis] + outer * np.arange(inner)
    k = np.minimum(k, size - k)
    d = np.flatnonzero((k < bins).any(axis=0))
    # Hann's window, 1/2 - 1/2 cos(2 pi n / W); the grid is zero beyond its end.
    half = g.floats(0.5)
    hann = g.op(
        "Sub", half, g.op("Mul", half, _waves(g, a[:, None], np.array(inner), 4 * b, window))
    )
    # Sum over a: for each c the real and the imaginary part, twice, (N, T, 4 c, b).
    real, imaginary = (_COS, _MINUS_SIN), (_SIN, _COS)
    first = _waves(g, c[:, None, None], a, outer * np.array(real * 2)[:, None], outer)
    sums = g.op(
        "MatMul",
        g.op("Reshape", first, g.integers([-1, rows])),
        g.op("Mul", grid, hann),
    )
    # Rotate by b c / N: the first two add up to the real part, the others to the imaginary part.
    turns = np.array([_COS, _SIN, _MINUS_SIN, _COS])[:, None]
    rotation = _waves(g, c[:, None, None], b, size * turns, size)
    rotated = g.op("Mul", sums, g.op("Reshape", rotation, g.integers([-1, inner])))
    # Sum over b: (N T, c, 4 b) -> (N T, c, 2 d), real and imaginary parts.
    columns = np.array([real, real, imaginary, imaginary])[:, None, :, None]
    last = _waves(g, b[:, None, None], d, inner * columns, inner)
    parts = g.op(
        "MatMul",
        g.op("Reshape", rotated, g.integers([-1, len(c), 4 * inner])),
        g.op("Reshape", last, g.integers([4 * inner, -1])),
    )
    squares = g.op("Mul", parts, parts)
    # A bin that occurs twice, as k and as N - k, is counted once.
    distinct, place = np.unique(k[:, d], return_index=True)
    bin_of = np.full(k[:, d].size, bins)
    bin_of[place] = np.minimum(distinct, bins)
    bin_of = np.concatenate([bin_of.reshape(len(c), -1)] * 2, axis=1).ravel()
    return g.op("Reshape", squares, g.integers([-1, bin_of.size])), bin_of


def _waves(
    g: GraphBuilder,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    shift: NDArray[np.int64],
    period: int,
) -> str:
    """cos(2 pi (x y + shift / 4) / period); the arguments broadcast.

    The angle is computed modulo a turn in integers, so that it is exact before it becomes a float.
    """
    shifted = g.op("Add", g.op("Mul", g.integers(4 * x), g.integers(y)), g.integers(shift))
    angle = g.op("Cast", g.op("Mod", shifted, g.integers(4 * period)), to=onnx.TensorProto.FLOAT)
    return g.op("Cos", g.op("Mul", angle, g.floats(np.pi / (2 * period))))


def _factor(size: int, window: int) -> int:
    """The divisor B of N with the fewest products, 2 N (window / B + 2 B); the larger of two."""
    factors = [b for b in range(1, size + 1) if size % b == 0]
    return min(factors, key=lambda b: (-(-window // b) + 2 * b, -b))


def _cepstra(g: GraphBuilder, module: Features, log_mel: str, norm: Normalization) -> str:
    """Cepstra as in `Features`, with the mean of the bands apart: (N T, M) -> (1, 1, N T, F)."""
    dct = module.dct.double().numpy() / norm.deviation
    level = g.op("ReduceMean", log_mel, axes=[-1], keepdims=1)
    offset = g.floats(-norm.mean / norm.deviation)
    shape = g.op("Gemm", g.op("Sub", log_mel, level), g.floats(dct), offset)
    return g.op("Add", shape, g.op("Mul", level, g.floats(_outermost(dct.sum(axis=0)))))
