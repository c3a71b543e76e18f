"""`speechgru info`: what a model file holds."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from speechgru.cli.terminal import BUNDLED, out, print_json
from speechgru.modelfile.bundled import bundled_model

#: Units that names end in.
UNITS = {"s": "s", "ms": "ms", "hz": "Hz", "db": "dB"}


def info(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help=f"A trained model's file. {BUNDLED}")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Labels, configuration, size, figures and provenance of a model."""
    told = _describe(model or bundled_model())
    if json:
        print_json(told)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    told["size"] = f"{decimal(told.pop('size_bytes'))}, {told.pop('parameters'):,} parameters"
    told["step"] = f"{told.pop('step_ms'):g} ms, of samples at {told.pop('sample_rate'):,} Hz"
    # What the metadata hold needs no heading of its own.
    for name, value in _rows(told | told.pop("metadata"), "", []):
        table.add_row(Text(name), Text(value))
    out.print(table)


def _describe(path: Path) -> dict[str, Any]:
    """The header, and what follows from it; the weights are read too, so that they are sound."""
    from speechgru.backends.loader import open_backend

    backend = open_backend(path)
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "parameters": backend.parameters,
        "sample_rate": backend.sample_rate,
        "step_ms": 1000 * backend.step_samples / backend.sample_rate,
        "protocol": backend.metadata.get("protocol"),
        **backend.header,
    }


def _rows(nested: Mapping[str, Any], name: str, seen: list[Any]) -> Iterator[tuple[str, str]]:
    """A row for each table, its values joined; at the top, one for each value.

    A table that was told before is left out: a recipe repeats the model's own settings.
    """
    told = [_told(key, value) for key, value in nested.items() if not isinstance(value, Mapping)]
    if not name:
        yield from told
    elif told:
        yield name, ", ".join(" ".join(pair) for pair in told)
    for key, value in nested.items():
        if isinstance(value, Mapping) and value not in seen:
            seen.append(value)
            yield from _rows(value, f"{name} {key}".strip().replace("_", " "), seen)


def _told(key: str, value: Any) -> tuple[str, str]:
    """A setting's name and value, the unit moved from the name's end to the value's."""
    name, _, unit = key.rpartition("_")
    if unit in UNITS:
        return name.replace("_", " "), f"{_plain(value)} {UNITS[unit]}"
    return key.replace("_", " "), _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
