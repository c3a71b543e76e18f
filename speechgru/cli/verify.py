"""`speechgru verify`: checks on your own recordings that live equals offline."""

from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli import options
from speechgru.cli.completion import complete_model
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json
from speechgru.errors import GateError
from speechgru.modelfile.bundled import find_model


@examples(
    "speechgru verify runs/mine recording.wav",
    "speechgru verify runs/mine recording.wav --against mine.onnx",
)
def verify(
    model: options.Model,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings.")],
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare with this file of the same model, such as its export.",
            autocompletion=complete_model,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random chunks.")] = 0,
    json: options.Json = False,
) -> None:
    """Check that a model answers the same live and offline.

    Recordings are pushed in chunks of several sizes and compared with the same recordings whole;
    the exit code is 5 if they differ.
    """
    from speechgru.audio.files import read
    from speechgru.backends.loader import open_backend
    from speechgru.recognition.verification import FEATURE_TOLERANCE, LOG_POSTERIOR_TOLERANCE
    from speechgru.recognition.verification import verify as verify_recording

    path = find_model(model)
    backend = open_backend(path)
    reference = open_backend(find_model(against)) if against is not None else None
    found = {}
    for file in files:
        samples = read(file, backend.sample_rate)
        with progress_bar(f"comparing {file.name}") as progress:
            found[str(file)] = verify_recording(
                backend, samples, seed, str(file), progress, reference
            )
    differences = [difference for of_file in found.values() for difference in of_file]
    failed = sum(not difference.passed for difference in differences)
    if json:
        rows = [{"file": file} | d.as_dict() for file, of_file in found.items() for d in of_file]
        tolerance = {"features": FEATURE_TOLERANCE, "log_posteriors": LOG_POSTERIOR_TOLERANCE}
        print_json({"passed": not failed, "tolerance": tolerance, "differences": rows})
    else:
        from speechgru.cli.tables.models import print_differences

        print_differences(found)
    if failed:
        raise GateError(
            f"{path}: {failed} of {len(differences)} comparisons differ by more than "
            f"{FEATURE_TOLERANCE:g} (features) or {LOG_POSTERIOR_TOLERANCE:g} (log-posteriors)"
            + ("" if against is None else "; 8-bit weights differ by design")
        )
    if not json:
        equal = "live equals offline" if against is None else f"equal to {against}"
        out.line(f"{equal} in all {len(differences)} comparisons")
