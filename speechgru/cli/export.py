"""`speechgru export`: a trained model as one ONNX file, a web page, or C for microcontrollers."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_split
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json
from speechgru.errors import UsageError
from speechgru.modelfile.bundled import find_model

if TYPE_CHECKING:
    from speechgru.export.exporter import Export

CHECK, WEB, CHIP = "Check on recordings", "Web page", "Microcontroller"


@examples(
    "speechgru export runs/mine -o mine.onnx",
    "speechgru export runs/mine -o mine.onnx --int8 --data my-words/",
    "speechgru export runs/mine --web site/",
    "speechgru export runs/mine --c chip/",
)
def export(
    model: options.Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.onnx", help="Where to write it.")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Store weights in 8 bits: a quarter to a third of the size."),
    ] = False,
    web: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a static page that listens in the browser.",
            rich_help_panel=WEB,
        ),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The npm package onnxruntime-web. [default: fetched once with npm]",
            rich_help_panel=WEB,
        ),
    ] = None,
    c: Annotated[
        Path | None,
        typer.Option(
            "--c",
            metavar="DIR",
            help="Write C99 for microcontrollers, with 8-bit weights. GRU models only.",
            rich_help_panel=CHIP,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Also compare the accuracy; exit with code 5 if it falls by more than 0.3 points.",
            rich_help_panel=CHECK,
        ),
    ] = None,
    protocol: Annotated[str | None, options.protocol_in(CHECK)] = None,
    split: Annotated[str, options.split_in(CHECK)] = "validation",
    json: options.Json = False,
) -> None:
    """Write a model as one ONNX file, which runs without PyTorch.

    Its graph takes samples and a state and gives log-posteriors and the next state. It is compared
    with PyTorch, on whole recordings and in chunks; if the two differ, nothing is written.
    """
    if output is None and web is None and c is None:
        raise UsageError("--output FILE.onnx, --web DIR or --c DIR is needed")
    if c is not None:
        if output is not None or web is not None or int8 or data is not None:
            raise UsageError("--c: cannot be combined with --output, --web, --int8 or --data")
        _write_c(find_model(model, trained=True), c, json)
        return
    if onnxruntime_web is not None and web is None:
        raise UsageError("--onnxruntime-web: needs --web DIR too")
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"--output {output}: use a name that ends in .onnx")
    if data is None and (protocol is not None or split != "validation"):
        raise UsageError("--protocol and --split: need --data DIR too")
    options.check_split(split)
    if output is not None:
        options.check_output(output, "--output")
    if web is not None:
        options.check_out_dir(web, "--web")
    path = find_model(model, trained=output is not None)
    from speechgru.modelfile.onnx import is_onnx

    if is_onnx(path) and web is not None and output is None and not int8 and data is None:
        _write_site(path, web, onnxruntime_web, json)
        return
    _check_trained(path)
    from speechgru.backends.pytorch import TorchBackend
    from speechgru.export.exporter import export_model
    from speechgru.modelfile.safetensors import header_of, load_model

    network = load_model(path)
    if web is not None:
        from speechgru.export.web.runtime import find_runtime
        from speechgru.export.web.site import check_site, page_header

        # Whatever prevents the page is known before a file of an earlier one is replaced.
        page_header(header_of(network))
        check_site(web)
        onnxruntime_web = find_runtime(onnxruntime_web)
    audio = open_split(TorchBackend(network), data, protocol, split) if data is not None else None
    with progress_bar("comparing with PyTorch") as progress:
        place = output if output is not None else web / "model.onnx"  # type: ignore[operator]
        result = export_model(network, place, "int8" if int8 else "float32", audio, progress)
    if web is not None:
        _write_site(place, web, onnxruntime_web, json, result)
    elif json:
        print_json(result.as_dict())
    else:
        from speechgru.cli.tables.models import print_export

        print_export(result)


def _check_trained(model: Path) -> None:
    """Check that a model has not been exported.

    Raises:
        UsageError: it has.
    """
    from speechgru.modelfile.onnx import is_onnx

    if is_onnx(model):
        raise UsageError(f"{model}: is exported already; a trained model (.safetensors) is needed")


def _write_c(model: Path, folder: Path, json: bool) -> None:
    """Write the C of a trained model, and print what was written."""
    _check_trained(model)
    options.check_out_dir(folder, "--c")
    from speechgru.export.c.writer import write_c
    from speechgru.modelfile.safetensors import load_model

    sources = write_c(load_model(model), folder, model.stem)
    if json:
        print_json(sources.as_dict())
        return
    out.line(
        f"{folder}: weights {decimal(sources.int8_bytes)} in 8 bits, other tables "
        f"{decimal(sources.table_bytes)}; "
        f"{sources.multiply_adds_per_second / 1e6:.1f} M multiply-adds a second of audio"
    )
    source = shlex.quote(str(folder))
    out.line(f"cmake -S {source} -B build && cmake --build build   builds it for this machine")


def _write_site(
    model: Path, folder: Path, runtime: Path | None, json: bool, result: "Export | None" = None
) -> None:
    """Write the page of an exported model, and print what was written."""
    from speechgru.export.web.runtime import find_runtime
    from speechgru.export.web.site import write_site

    site = write_site(model, folder, find_runtime(runtime))
    if json:
        print_json((result.as_dict() if result is not None else {}) | site.as_dict())
        return
    if result is not None:
        from speechgru.cli.tables.models import print_export

        print_export(result)
    out.line(f"{folder}: {decimal(site.size_bytes)}; any web server can serve it, over https")
