"""Pictures of what happens inside a model, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgru.analysis.inspection import GradientNorms, Trace
from speechgru.common.files import atomic_path
from speechgru.evaluation.lettering import drawable, lettering
from speechgru.labels import NOT_WORDS

#: At most this many labels are drawn, those with the highest posteriors of at least this.
MAX_LABELS, MIN_POSTERIOR = 8, 0.1
_SPECTROGRAM_INCHES, _PANEL_INCHES, _WIDTH_INCHES = 1.8, 1.5, 9.0


@lettering()
def save_gates_picture(trace: Trace, title: str, path: Path) -> None:
    """Draw every layer's gates below the spectrogram: units (y) over time, with their mean.

    A gate's units are sorted by their means, which separates slow units from fast ones.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    panels = [(i, name, v) for i, gates in enumerate(trace.layers) for name, v in gates.items()]
    figure, axes = _figure(1 + len(panels), trace, title)
    for panel, (layer, name, values) in zip(axes[1:], panels, strict=True):
        if name.endswith("attention"):
            strongest = max(float(v.max()) for _, n, v in panels if n.endswith("attention"))
            image = _draw_attention(panel, values, trace, strongest)
        else:
            image = _draw_units(panel, name, values, trace)
        panel.set_title(f"layer {layer + 1}: {_describe(name)}", fontsize="small", loc="left")
    figure.colorbar(image, ax=axes[1:], aspect=40)
    axes[-1].set_xlabel("seconds")
    _save(figure, path)


@lettering()
def save_posteriors_picture(trace: Trace, title: str, path: Path) -> None:
    """Draw each head's posteriors over time, below the spectrogram.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    figure, axes = _figure(1 + len(trace.posteriors), trace, title)
    time_s = (1 + np.arange(trace.steps)) * trace.step_s  # known when its step ends
    for panel, (head, posteriors) in zip(axes[1:], trace.posteriors.items(), strict=True):
        highest = posteriors.max(axis=0)
        order = np.argsort(-highest)
        for column in [c for c in order if highest[c] >= MIN_POSTERIOR][:MAX_LABELS]:
            label = trace.labels[head][column]
            grey = {"color": "0.6", "linestyle": _FILLER_STYLES.get(label, "-")}
            style = grey if label in NOT_WORDS else {}
            # matplotlib leaves labels that start with an underscore out of the legend.
            name = drawable(label.strip("_"), f"label {column + 1}")
            panel.plot(time_s, posteriors[:, column], label=name, **style)
        panel.set_ylim(-0.02, 1.02)
        panel.grid(alpha=0.3)
        panel.set_title(f"{head}: posteriors", fontsize="small", loc="left")
        legend = panel.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    axes[-1].set_xlabel("seconds")
    _save(figure, path)


@lettering()
def save_gradient_picture(
    trained: Sequence[GradientNorms],
    untrained: Sequence[GradientNorms],
    step_s: float,
    title: str,
    path: Path,
) -> None:
    """Draw the gradient's norm backwards in time; untrained networks are dashed.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(7.2, 4.5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    for curves, style in ((trained, "-"), (untrained, "--")):
        for curve in curves:
            back_s = np.arange(len(curve.norms)) * step_s
            axes.plot(back_s, np.maximum(curve.norms, 1e-30), style, label=curve.name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-9))
    axes.set_xlabel("seconds back from the word")
    axes.set_ylabel("|d log p(word) / d h|, relative")
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize="small").get_texts():
        text.set_parse_math(False)
    axes.set_title(drawable(title), fontsize="medium", parse_math=False)
    _save(figure, path)


_FILLER_STYLES = {"_silence_": "--", "_unknown_": ":", "_blank_": "--"}
_MEANINGS = {
    "update": "update gate, share of the state that is replaced",
    "reset": "reset gate, 0 ignores the state in the candidate",
    "forget": "forget gate, 0 clears the memory",
    "input": "input gate, 1 writes into the memory",
    "output": "output gate, 1 exposes the memory",
    "state": "state (the cell has no gates)",
    "attention": "attention, mean over the heads",
}


def _describe(name: str) -> str:
    direction, _, gate = name.rpartition(" ") if name.startswith("backward ") else ("", "", name)
    return f"{direction} {_MEANINGS.get(gate, gate)}".strip()


def _figure(panels: int, trace: Trace, title: str) -> tuple[Any, list[Any]]:
    """A figure of stacked panels that share the time axis; the first is the spectrogram."""
    import librosa.display
    from matplotlib.figure import Figure  # slow to import, and only needed here

    heights = [_SPECTROGRAM_INCHES] + [_PANEL_INCHES] * (panels - 1)
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 0.8), layout="constrained", dpi=120)
    axes = list(figure.subplots(panels, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    frames = len(trace.log_mel_db)
    shown = trace.log_mel_db.T
    librosa.display.specshow(
        np.maximum(shown, shown.max() - 80),
        sr=trace.sample_rate,
        x_coords=(0.5 + np.arange(frames)) / frames * trace.duration_s,
        x_axis="time",
        y_axis="mel",
        fmin=trace.low_hz,
        fmax=trace.high_hz,
        htk=True,
        cmap="magma",
        ax=axes[0],
    )
    axes[0].set(xlabel=None, ylabel="Hz")
    axes[0].label_outer()
    figure.suptitle(drawable(title), fontsize="medium", parse_math=False)
    return figure, axes


def _draw_units(panel: Any, name: str, values: NDArray[np.float32], trace: Trace) -> Any:
    """(T, units) as an image, and the mean over the units as a line with its own axis."""
    ordered = values[:, np.argsort(values.mean(axis=0), kind="stable")].T
    signed = name.endswith("state")
    image = panel.imshow(
        ordered,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, trace.duration_s, 0, len(ordered)),
        vmin=-1 if signed else 0,
        vmax=1,
        cmap="RdBu_r" if signed else "viridis",
    )
    panel.set_ylabel("units")
    if signed:
        return image
    mean = panel.twinx()
    time_s = (0.5 + np.arange(trace.steps)) * trace.step_s
    mean.plot(time_s, values.mean(axis=1), color="white", linewidth=2.5)
    mean.plot(time_s, values.mean(axis=1), color="black", linewidth=1.2)
    mean.set_ylim(0, 1)
    mean.set_ylabel("mean", fontsize="small")
    return image


def _draw_attention(panel: Any, values: NDArray[np.float32], trace: Trace, strongest: float) -> Any:
    """(T, steps back) as an image, the current step at the bottom."""
    image = panel.imshow(
        values.T,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, trace.duration_s, 0, values.shape[1] * trace.step_s),
        vmin=0,
        vmax=strongest,
        cmap="viridis",
    )
    panel.set_ylabel("seconds back")
    return image


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
