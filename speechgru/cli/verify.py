"""`speechgru verify`: proof on one's own recordings that live equals offline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.terminal import out, print_json, progress_bar
from speechgru.errors import GateError

if TYPE_CHECKING:
    from speechgru.recognition.verification import Difference


def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's file.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Compare with this form of the model, as its export."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random chunks.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare recordings pushed in chunks with the same ones whole; exit 5 where they differ."""
    from speechgru.audio.files import read
    from speechgru.backends.loader import open_backend
    from speechgru.recognition.verification import FEATURE_TOLERANCE, LOG_POSTERIOR_TOLERANCE
    from speechgru.recognition.verification import verify as verify_recording

    backend = open_backend(model)
    reference = open_backend(against) if against is not None else None
    found = {}
    for file in files:
        samples = read(file, backend.sample_rate)
        with progress_bar(f"comparing {file.name}") as progress:
            found[str(file)] = verify_recording(
                backend, samples, seed, str(file), progress, reference
            )
    differences = [difference for of_file in found.values() for difference in of_file]
    passed = all(difference.passed for difference in differences)
    if json:
        rows = [{"file": file} | d.as_dict() for file, of_file in found.items() for d in of_file]
        tolerance = {"features": FEATURE_TOLERANCE, "log_posteriors": LOG_POSTERIOR_TOLERANCE}
        print_json({"passed": passed, "tolerance": tolerance, "differences": rows})
    else:
        _print_differences(found)
    if not passed:
        failed = sum(not difference.passed for difference in differences)
        raise GateError(
            f"{model}: {failed} of {len(differences)} comparisons differ by more than "
            f"{FEATURE_TOLERANCE:g} (features) or {LOG_POSTERIOR_TOLERANCE:g} (log-posteriors)"
        )
    if not json:
        equal = "live equals offline" if against is None else f"it equals {against}"
        out.line(f"{equal} in all {len(differences)} comparisons")


def _print_differences(found: "dict[str, list[Difference]]") -> None:
    from rich.table import Table

    for file, of_file in found.items():
        out.line(file)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("chunks")
        for heading in ("steps", "features differ by", "log-posteriors by", ""):
            table.add_column(heading, justify="right")
        for d in of_file:
            verdict = "[green]ok[/]" if d.passed else "[bold red]too much[/]"
            told = "-" if d.features is None else f"{d.features:.1e}"
            table.add_row(d.chunking, f"{d.steps:,}", told, f"{d.log_posteriors:.1e}", verdict)
        out.print(table)
