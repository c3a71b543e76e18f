"""`speechgru inspect`: draws what happens inside a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.completion import complete_model
from speechgru.cli.help import examples
from speechgru.cli.terminal import err, out, print_json
from speechgru.errors import DataError, UsageError
from speechgru.modelfile.bundled import find_model

if TYPE_CHECKING:
    from speechgru.analysis.inspection import GradientNorms, Trace
    from speechgru.audio.samples import Samples
    from speechgru.model.network import SpeechGRU

LONGEST_S = 20.0
#: Below this posterior a word is probably not said.
_UNLIKELY = 0.5


@examples(
    "speechgru inspect runs/mine recording.wav",
    "speechgru inspect runs/mine recording.wav -o pictures/ --beside runs/other",
)
def inspect(
    model: options.Model,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Directory of the pictures. [default: inspect/FILE]"
        ),
    ] = None,
    start_s: Annotated[
        float,
        typer.Option("--start", min=0.0, metavar="S", help="Start in the recording, in seconds."),
    ] = 0.0,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Also draw the gradient of this model; repeatable.",
            autocompletion=complete_model,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Draw a model's gates, posteriors and gradients over time."""
    folder = out_dir or Path("inspect") / file.stem
    options.check_out_dir(folder)
    from speechgru.analysis.inspection import trace
    from speechgru.analysis.inspection_pictures import save_gates_picture, save_posteriors_picture
    from speechgru.audio.files import read
    from speechgru.modelfile.safetensors import load_model

    path = find_model(model, trained=True)
    network = load_model(path)
    paths = [find_model(name, trained=True) for name in beside or []]
    others = [(_name(other), load_model(other)) for other in paths]
    samples = _cut(read(file, network.sample_rate), start_s, network, file)
    found = trace(network, samples)
    word, _ = found.peak
    if _posterior(found) < _UNLIKELY:
        err.line(f"{file}: no word is likely in it; what is drawn is about {word!r}, the likeliest")
    what = f"{network.config.cell} in {path}, on {file.name}"
    pictures = {name: folder / f"{name}.png" for name in ("gates", "posteriors")}
    save_gates_picture(found, what, pictures["gates"])
    save_posteriors_picture(found, what, pictures["posteriors"])
    gradients: list[GradientNorms] = []
    if network.config.whole_clips:
        err.line("no gradient.png: a model that needs whole clips has no state over time")
    else:
        pictures["gradient"] = folder / "gradient.png"
        gradients = _gradients(network, others, samples, found, pictures["gradient"])
    if json:
        print_json(_figures(found, start_s, pictures, gradients))
    else:
        _print(found, start_s, pictures, gradients)


def _print(
    found: "Trace", start_s: float, pictures: dict[str, Path], gradients: "list[GradientNorms]"
) -> None:
    word, step = found.peak
    at_s = start_s + (step + 1) * found.step_s
    out.line(f"highest posterior: {word!r} at {at_s:.2f} s, {_posterior(found):.3f}")
    for row in found.gate_means():
        out.line(f"layer {row['layer'] + 1} {row['gate']}: mean {row['mean']:.3f}")
    for curve in gradients:
        half_s = _half_s(curve, found)
        if half_s is None:
            reach = f"is at least a half {(len(curve.norms) - 1) * found.step_s:.2f} s back"
        else:
            reach = f"falls below a half {half_s:.2f} s back"
        out.line(f"{curve.name}: the gradient {reach}")
    for path in pictures.values():
        out.line(str(path))


def _cut(samples: "Samples", start_s: float, network: "SpeechGRU", file: Path) -> "Samples":
    rate, step_s = network.sample_rate, network.step_samples / network.sample_rate
    duration_s = len(samples) / rate
    if duration_s - start_s < step_s:
        raise UsageError(
            f"--start {start_s:g}: {file} is {duration_s:.2f} s long; at least one step of "
            f"{step_s:g} s must follow the start"
        )
    if duration_s - start_s > LONGEST_S:
        err.line(f"{file}: {duration_s:.1f} s long; {LONGEST_S:g} s from {start_s:g} s are drawn")
    return samples[round(start_s * rate) :][: round(LONGEST_S * rate)]


def _gradients(
    network: "SpeechGRU",
    others: "list[tuple[str, SpeechGRU]]",
    samples: "Samples",
    found: "Trace",
    picture: Path,
) -> "list[GradientNorms]":
    """Gradient norms of the model and the others, and of untrained classic cells."""
    from speechgru.analysis.inspection import CLASSIC, relative_norms, untrained
    from speechgru.analysis.inspection_pictures import save_gradient_picture

    word, step = found.peak
    curves: list[GradientNorms] = []
    for name, other in [(str(network.config.cell), network), *others]:
        labels = next(iter(other.outputs.values()))
        if word not in labels or other.step_samples != network.step_samples:
            raise DataError(f"--beside {name}: has no label {word!r}, or another step length")
        curves += relative_norms(other, samples, labels.index(word), step, name)
    column = next(iter(network.outputs.values())).index(word)
    fresh = [
        curve
        for cell in CLASSIC
        for curve in relative_norms(
            untrained(network, cell), samples, column, step, f"{cell}, untrained"
        )
    ]
    title = f"{word!r} at {(step + 1) * found.step_s:.2f} s: how far back its gradient reaches"
    save_gradient_picture(curves, fresh, found.step_s, title, picture)
    return curves + fresh


def _name(model: Path) -> str:
    """A bundled model's name, or that of a run directory."""
    return model.parent.name if model.stem == "model" and model.parent.name else model.stem


def _half_s(curve: "GradientNorms", found: "Trace") -> float | None:
    """How far back the gradient falls below a half, in seconds; None if it does not."""
    steps = curve.half_steps
    return None if steps == len(curve.norms) else steps * found.step_s


def _posterior(found: "Trace") -> float:
    word, step = found.peak
    head, posteriors = next(iter(found.posteriors.items()))
    return float(posteriors[step, found.labels[head].index(word)])


def _figures(
    found: "Trace", start_s: float, pictures: dict[str, Path], gradients: "list[GradientNorms]"
) -> dict[str, Any]:
    word, step = found.peak
    return {
        "word": word,
        "time_s": start_s + (step + 1) * found.step_s,
        "score": _posterior(found),
        "steps": found.steps,
        "gates": found.gate_means(),
        "gradients": [{"name": curve.name, "half_s": _half_s(curve, found)} for curve in gradients],
        "pictures": {name: str(path) for name, path in pictures.items()},
    }
