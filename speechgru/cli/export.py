"""`speechgru export`: a trained model as one ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from speechgru.cli.evaluate import open_split
from speechgru.cli.terminal import out, print_json, progress_bar
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.export.exporter import Export


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="Where to write it.")
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights in 8 bits: a third of the size or less.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Compare on these recordings too; exit 5 where accuracy falls by 0.3 points.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="P", help="Which clips and labels. [default: the model's own]"),
    ] = None,
    split: Annotated[str, typer.Option(help="training, validation or testing.")] = "validation",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write a model as ONNX: samples and state in, log-posteriors and state out.

    The file is compared with PyTorch, whole and in chunks; where they differ, nothing is written.
    """
    if output.suffix != ".onnx":
        raise UsageError(f"--output {output}: a name ending in .onnx is needed")
    if data is None and (protocol is not None or split != "validation"):
        raise UsageError("--protocol and --split: are of recordings, so --data DIR is needed too")
    from speechgru.backends.loader import is_onnx

    if is_onnx(model):
        raise UsageError(f"{model}: is an exported model; a trained one (.safetensors) is needed")
    from speechgru.backends.pytorch import TorchBackend
    from speechgru.export.exporter import export_model
    from speechgru.modelfile.safetensors import load_model

    network = load_model(model)
    audio = open_split(TorchBackend(network), data, protocol, split) if data is not None else None
    with progress_bar("comparing with PyTorch") as progress:
        result = export_model(network, output, "int8" if int8 else "float32", audio, progress)
    if json:
        print_json(result.as_dict())
    else:
        _print(result)


def _print(result: "Export") -> None:
    steps = sum(difference.steps for difference in result.differences)
    out.line(f"{result.path}: {decimal(result.size_bytes)}, weights {result.weights}")
    out.line(
        f"log-posteriors      differ from PyTorch's by {result.largest_difference:.1e} at most, "
        f"whole and in chunks, {steps:,} steps"
    )
    if found := result.accuracy:
        out.line(
            f"accuracy {100 * found.exported:.2f} %, PyTorch's {100 * found.pytorch:.2f} %, "
            f"{found.n:,} clips ({found.protocol}, {found.split})"
        )
