"""What `info`, `export` and `verify` report on a model, as tables that fit 80 columns."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import out, plain

if TYPE_CHECKING:
    from speechgru.export.exporter import Export
    from speechgru.recognition.verification import Difference

#: Units at the end of names.
UNITS = {"s": "s", "ms": "ms", "hz": "Hz", "db": "dB"}


def print_info(info: dict[str, Any]) -> None:
    """Print labels, accuracy and thresholds first, then everything else in the file."""
    from rich.table import Table

    info = dict(info)
    metadata = info.pop("metadata")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    decoder = metadata.get("ctc_decoder" if metadata.get("head") == "ctc" else "decoder")
    table.add_row("labels", plain(_value(info.pop("labels", []))))
    table.add_row("accuracy", plain(_accuracy(metadata.get("metrics"))))
    table.add_row("thresholds", plain(_thresholds(decoder)))
    table.add_row("", "")
    info["size"] = f"{decimal(info.pop('size_bytes'))}, {info.pop('parameters'):,} parameters"
    info["step"] = f"{info.pop('step_ms'):g} ms, of samples at {info.pop('sample_rate'):,} Hz"
    earlier = _earlier_runs(metadata.get("provenance"))
    # What is in the metadata needs no heading of its own.
    for name, value in (*_rows(_without_earlier_runs(info | metadata), "", []), *earlier):
        table.add_row(plain(name), plain(value))
    out.show(table)


def print_export(result: "Export") -> None:
    """Print the file, and how it compares with PyTorch."""
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


def print_differences(found: "dict[str, list[Difference]]") -> None:
    """Print a table for each recording: how much each chunking differs."""
    for file, of_file in found.items():
        out.line(file)
        table = bare_table("chunks", "steps", "features differ by", "log-posteriors by", "", gap=2)
        for d in of_file:
            verdict = "[green]ok[/]" if d.passed else "[bold red]too much[/]"
            features = "-" if d.features is None else f"{d.features:.1e}"
            figures = f"{d.steps:,}", features, f"{d.log_posteriors:.1e}"
            table.add_row(plain(d.chunking), *figures, verdict)
        out.show(table)


def _accuracy(metrics: Any) -> str:
    validation = metrics.get("validation") if isinstance(metrics, Mapping) else None
    if not isinstance(validation, Mapping) or not isinstance(validation.get("accuracy"), float):
        return "not recorded"
    text = f"{100 * validation['accuracy']:.2f} % of N={validation.get('n', '?')}"
    balanced = validation.get("balanced_accuracy")
    if isinstance(balanced, float):
        text += f", {100 * balanced:.2f} % balanced over the labels"
    carried = ", state carried" if validation.get("carried") is True else ""
    return f"{text} (validation{carried})"


def _thresholds(decoder: Any) -> str:
    if not isinstance(decoder, Mapping):
        return "the decoder's defaults"
    by_word = decoder.get("thresholds")
    by_word = by_word if isinstance(by_word, Mapping) else {}
    single = [f"{word} {_value(threshold)}" for word, threshold in by_word.items()]
    if "threshold" in decoder and not single:
        return f"{_value(decoder['threshold'])} for every word"
    if "threshold" in decoder:
        single.append(f"others {_value(decoder['threshold'])}")
    return ", ".join(single) or "the decoder's defaults"


def _earlier_runs(provenance: Any) -> Iterator[tuple[str, str]]:
    """A row for each run whose weights the next one began with, the latest first."""
    while isinstance(provenance, Mapping) and isinstance(provenance.get("begun_with"), Mapping):
        provenance = provenance["begun_with"]
        recipe, data = provenance.get("recipe"), provenance.get("data")
        training = recipe.get("training") if isinstance(recipe, Mapping) else None
        of_run = {
            "data": data.get("name") if isinstance(data, Mapping) else None,
            "epochs": training.get("epochs") if isinstance(training, Mapping) else None,
            "commit": provenance.get("commit"),
        }
        yield "began with", ", ".join(f"{name} {_value(value)}" for name, value in of_run.items())


def _without_earlier_runs(info: Mapping[str, Any]) -> dict[str, Any]:
    provenance = info.get("provenance")
    if not isinstance(provenance, Mapping):
        return dict(info)
    own = {name: value for name, value in provenance.items() if name != "begun_with"}
    return {**info, "provenance": own}


def _rows(nested: Mapping[str, Any], name: str, seen: list[Any]) -> Iterator[tuple[str, str]]:
    """A row for each table, with its values joined; at the top level, one for each value.

    A table that was already listed is left out: a recipe repeats the model's own settings.
    """
    settings = [
        _setting(key, value) for key, value in nested.items() if not isinstance(value, Mapping)
    ]
    if not name:
        yield from settings
    elif settings:
        yield name, ", ".join(" ".join(pair) for pair in settings)
    for key, value in nested.items():
        if isinstance(value, Mapping) and value not in seen:
            seen.append(value)
            yield from _rows(value, f"{name} {key}".strip().replace("_", " "), seen)


def _setting(key: str, value: Any) -> tuple[str, str]:
    """A setting's name and value, with the unit moved from the name to the value."""
    name, _, unit = key.rpartition("_")
    if unit in UNITS:
        return name.replace("_", " "), f"{_value(value)} {UNITS[unit]}"
    return key.replace("_", " "), _value(value)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_value(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(one)}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
