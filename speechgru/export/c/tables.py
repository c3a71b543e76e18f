"""A model's numbers as the C sources take them: rows of weights, and tables of the frontend."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from speechgru.export.weights import folded, to_int8
from speechgru.model.cells import GRU
from speechgru.model.fronts import CausalConv2d, ConvFront
from speechgru.model.network import SpeechGRU

Floats = NDArray[np.float32]

#: Rows of 8-bit weights are filled up with zeros to a multiple of this many.
INT8_PADDING = 4
#: Outputs whose weights lie together, as floats: SG_TILE in the sources.
TILE = 32
#: The largest activation in 16 bits.
_LARGEST_ACTIVATION = 32_767
_LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class Rows:
    """The weights of a product: a bias per output, and one or more rows of weights.

    Shape:
        weights (O, rows per output, N), biases (O,) or more of them.
    """

    weights: Floats
    biases: Floats

    def tiles(self) -> Floats:
        """As floats: (tiles, rows per output, N, TILE outputs), the last tile filled up."""
        outputs, parts, n = self.weights.shape
        filled = np.zeros((-(-outputs // TILE) * TILE, parts, n), np.float32)
        filled[:outputs] = self.weights
        return filled.reshape(-1, TILE, parts, n).transpose(0, 2, 3, 1)

    def int8(self) -> tuple[NDArray[np.int8], Floats]:
        """In 8 bits, (O, rows per output, N filled up), and the scale of each output, (O,)."""
        numbers, scales = to_int8(self.weights)
        return _padded(numbers, INT8_PADDING), scales.reshape(-1)


@dataclass(frozen=True)
class ConvRows:
    """A convolution: its rows, and the shapes of its input and output."""

    rows: Rows
    inputs: int
    bands: int
    output_bands: int
    stride: int
    band_stride: int

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return len(self.rows.biases)


@dataclass(frozen=True)
class NetworkTables:
    """All products of a network, in their order."""

    convs: tuple[ConvRows, ...]
    project: Rows
    #: The products with the input and with the state of each layer.
    layers: tuple[tuple[Rows, Rows], ...]
    #: Gains and biases of each layer normalization; none without.
    norms: tuple[tuple[Floats, Floats], ...]
    head: Rows

    @property
    def products(self) -> list[Rows]:
        """Every product."""
        recurrent = [rows for layer in self.layers for rows in layer]
        return [*(conv.rows for conv in self.convs), self.project, *recurrent, self.head]

    @property
    def largest_activation(self) -> int:
        """The largest 16-bit activation with which no sum can leave 32 bits."""
        heaviest = max(
            int(np.abs(rows.int8()[0].astype(np.int64)).sum(axis=-1).max())
            for rows in self.products
        )
        return min(_LARGEST_ACTIVATION, _LARGEST_SUM // max(heaviest, 1))


@dataclass(frozen=True)
class FrontendTables:
    """The frontend's numbers.

    Args:
        window: with the scale of 16-bit samples.
        twiddles: exp(-2 pi i k / N) for k < N / 2, real and imaginary parts in turn.
        bands: the first bin of each mel band, and how many bins it has; their weights follow one
            another in `mel_weights`.
        gains, biases: of the normalization.
        dct: rows of cepstra; none for log mel features.
    """

    window: Floats
    twiddles: Floats
    bands: tuple[tuple[int, int], ...]
    mel_weights: Floats
    gains: Floats
    biases: Floats
    dct: Floats | None


def frontend_tables(model: SpeechGRU) -> FrontendTables:
    """The tables of a model's features."""
    config = model.features.config
    window = model.features.spectrogram.window.double().numpy() / 32_768
    angles = 2 * np.pi * np.arange(config.fft_samples // 2) / config.fft_samples
    twiddles = np.stack([np.cos(angles), -np.sin(angles)], axis=1).ravel()
    mel = model.features.mel[::2].numpy()  # (bins, M)
    bands, weights = [], []
    for band in mel.T:
        # A band ends at half the sample rate at the latest: the power of that bin is not computed,
        # and its weight nothing but rounding.
        used = np.flatnonzero(band[: config.fft_samples // 2])
        first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        bands.append((first, last - first))
        weights.append(band[first:last])
    deviation = model.deviation.double().numpy()
    return FrontendTables(
        window=window.astype(np.float32),
        twiddles=twiddles.astype(np.float32),
        bands=tuple(bands),
        mel_weights=np.concatenate(weights),
        gains=(1 / deviation).astype(np.float32),
        biases=(-model.mean.double().numpy() / deviation).astype(np.float32),
        dct=model.features.dct.T.numpy() if config.kind == "mfcc" else None,
    )


@torch.no_grad()
def network_tables(model: SpeechGRU) -> NetworkTables:
    """The products of a model whose front and cells the C sources have."""
    model = folded(model)
    convs = tuple(_convs(model.front)) if isinstance(model.front, ConvFront) else ()
    project = model.project.weight.numpy()
    if convs:  # (B, C, F) in the network, bands first here
        channels, bands = convs[-1].outputs, convs[-1].output_bands
        project = project.reshape(-1, channels, bands).swapaxes(1, 2).reshape(len(project), -1)
    norms = [norm for norm in model.norms if isinstance(norm, torch.nn.LayerNorm)]
    return NetworkTables(
        convs=convs,
        project=Rows(project[:, np.newaxis], model.project.bias.numpy()),
        layers=tuple(_gru(cell) for cell in model.cells if isinstance(cell, GRU)),
        norms=tuple((norm.weight.numpy(), norm.bias.numpy()) for norm in norms),
        head=Rows(model.head.weight.numpy()[:, np.newaxis], model.head.bias.numpy()),
    )


def _convs(front: ConvFront) -> list[ConvRows]:
    found = []
    for conv in front.convs:
        assert isinstance(conv, CausalConv2d)
        weights = conv.conv.weight.numpy()  # (O, C, frames, bands)
        inputs, bands = conv.state_size[0], conv.state_size[2]
        rows = weights.transpose(0, 2, 3, 1).reshape(len(weights), weights.shape[2], -1)
        band_stride = conv.conv.stride[1]
        found.append(
            ConvRows(
                Rows(rows, conv.norm.bias.numpy()),
                inputs,
                bands,
                -(-bands // band_stride),
                conv.stride,
                band_stride,
            )
        )
    return found


def _gru(cell: GRU) -> tuple[Rows, Rows]:
    """The biases of r and z are added up, as both products are."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, w_biases, u_biases = (cell.gru.get_parameter(name).numpy() for name in names)
    size = cell.outputs
    biases = np.concatenate([w_biases[: 2 * size] + u_biases[: 2 * size], w_biases[2 * size :]])
    return Rows(w[:, np.newaxis], biases), Rows(u[:, np.newaxis], u_biases[2 * size :])


def _padded(rows: NDArray, multiple: int) -> NDArray:
    """Zeros at the end of the last axis, up to a multiple."""
    widths = [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % multiple)]
    return np.pad(rows, widths)
