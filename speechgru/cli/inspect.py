"""`speechgru inspect`: pictures of what goes on inside a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli.terminal import err, out, print_json
from speechgru.errors import DataError, UsageError

if TYPE_CHECKING:
    from speechgru.analysis.inspection import GradientNorms, Trace
    from speechgru.audio.files import Samples
    from speechgru.model.network import SpeechGRU

LONGEST_S = 20.0


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's file.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="For the pictures. [default: inspect/FILE]"
        ),
    ] = None,
    start_s: Annotated[
        float, typer.Option("--start", min=0.0, metavar="S", help="Where to begin, in seconds.")
    ] = 0.0,
    beside: Annotated[
        list[Path] | None,
        typer.Option(metavar="MODEL", help="Another model, for its gradient beside this one's."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Draw gates over the spectrogram, posteriors over time, and the gradient back through time."""
    from speechgru.analysis.inspection import trace
    from speechgru.analysis.inspection_pictures import save_gates_picture, save_posteriors_picture
    from speechgru.audio.files import read
    from speechgru.modelfile.safetensors import load_model

    network = load_model(model)
    others = [(path.parent.name or path.stem, load_model(path)) for path in beside or []]
    samples = _cut(read(file, network.sample_rate), start_s, network, file)
    found = trace(network, samples)
    folder = out_dir or Path("inspect") / file.stem
    word, step = found.peak
    what = f"{network.config.cell} in {model}, hearing {file.name}"
    pictures = {name: folder / f"{name}.png" for name in ("gates", "posteriors")}
    save_gates_picture(found, what, pictures["gates"])
    save_posteriors_picture(found, what, pictures["posteriors"])
    gradients: list[GradientNorms] = []
    if network.config.whole_clips:
        err.line("no gradient.png: a model that needs whole clips has no state to go back through")
    else:
        pictures["gradient"] = folder / "gradient.png"
        gradients = _gradients(network, others, samples, found, pictures["gradient"])
    if json:
        print_json(_figures(found, start_s, pictures, gradients))
        return
    at_s = start_s + (step + 1) * found.step_s
    out.line(f"surest of {word!r} at {at_s:.2f} s: {_posterior(found):.3f}")
    for row in found.gate_means():
        out.line(f"layer {row['layer'] + 1} {row['gate']}: mean {row['mean']:.3f}")
    for curve in gradients:
        half_s = curve.half_steps * found.step_s
        out.line(f"{curve.name}: the gradient is under a half from {half_s:.2f} s back")
    for path in pictures.values():
        out.line(str(path))


def _cut(samples: "Samples", start_s: float, network: "SpeechGRU", file: Path) -> "Samples":
    rate, step_s = network.sample_rate, network.step_samples / network.sample_rate
    duration_s = len(samples) / rate
    if duration_s - start_s < step_s:
        raise UsageError(
            f"--start {start_s:g}: {file} is {duration_s:.2f} s long, and at least one step of "
            f"{step_s:g} s is needed"
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
    """Those of the model and the others; and of the classic cells as they begin."""
    from speechgru.analysis.inspection import CLASSIC, relative_norms, untrained
    from speechgru.analysis.inspection_pictures import save_gradient_picture

    word, step = found.peak
    curves: list[GradientNorms] = []
    for name, other in [(str(network.config.cell), network), *others]:
        labels = next(iter(other.outputs.values()))
        if word not in labels or other.step_samples != network.step_samples:
            raise DataError(f"--beside {name}: it does not answer {word!r} at the same steps")
        curves += relative_norms(other, samples, labels.index(word), step, name)
    column = next(iter(network.outputs.values())).index(word)
    beginners = [
        curve
        for cell in CLASSIC
        for curve in relative_norms(
            untrained(network, cell), samples, column, step, f"{cell}, as it begins"
        )
    ]
    title = f"{word!r} at {(step + 1) * found.step_s:.2f} s: how far back its gradient reaches"
    save_gradient_picture(curves, beginners, found.step_s, title, picture)
    return curves + beginners


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
        "gradients": [
            {"name": curve.name, "half_s": curve.half_steps * found.step_s} for curve in gradients
        ],
        "pictures": {name: str(path) for name, path in pictures.items()},
    }
