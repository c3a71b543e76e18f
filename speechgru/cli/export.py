"""`speechgru export`: a trained model as one ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_split
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import print_json
from speechgru.errors import UsageError
from speechgru.modelfile.bundled import find_model

CHECK = "Check on recordings"


@examples(
    "speechgru export runs/mine -o mine.onnx",
    "speechgru export runs/mine -o mine.onnx --int8 --data my-words/",
)
def export(
    model: options.Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="Where to write it.")
    ],
    int8: Annotated[
        bool, typer.Option("--int8", help="Store weights in 8 bits: a third of the size or less.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Also compare the accuracy; exit with code 5 if it falls by 0.3 points.",
            rich_help_panel=CHECK,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Labels and clips to score. [default: the model's own]",
            rich_help_panel=CHECK,
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT",
            help="training, validation or testing.",
            autocompletion=options.complete_split,
            rich_help_panel=CHECK,
        ),
    ] = "validation",
    json: options.Json = False,
) -> None:
    """Write a model as one ONNX file, which runs without PyTorch.

    Its graph takes samples and a state and gives log-posteriors and the next state. It is compared
    with PyTorch, on whole recordings and in chunks; if the two differ, nothing is written.
    """
    if output.suffix != ".onnx":
        raise UsageError(f"--output {output}: use a name that ends in .onnx")
    if data is None and (protocol is not None or split != "validation"):
        raise UsageError("--protocol and --split: need --data DIR too")
    options.check_split(split)
    options.check_output(output, "--output")
    path = find_model(model, trained=True)
    from speechgru.backends.loader import is_onnx

    if is_onnx(path):
        raise UsageError(f"{path}: is exported already; a trained model (.safetensors) is needed")
    from speechgru.backends.pytorch import TorchBackend
    from speechgru.export.exporter import export_model
    from speechgru.modelfile.safetensors import load_model

    network = load_model(path)
    audio = open_split(TorchBackend(network), data, protocol, split) if data is not None else None
    with progress_bar("comparing with PyTorch") as progress:
        result = export_model(network, output, "int8" if int8 else "float32", audio, progress)
    if json:
        print_json(result.as_dict())
    else:
        from speechgru.cli.tables.models import print_export

        print_export(result)
