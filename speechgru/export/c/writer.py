"""Writes a model as a folder of C: the sources of the package, and the model's own files."""

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from speechgru.common.files import write_atomic
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.factory import ModelInfo, decoder_settings
from speechgru.errors import UsageError
from speechgru.export.c.model_files import (
    header,
    int8_bytes,
    table_bytes,
    tables_file,
    weights_file,
)
from speechgru.export.c.tables import network_tables
from speechgru.model.network import SpeechGRU
from speechgru.recognition.recognizer import stream_settings

#: Written first; a folder that has it holds an earlier export.
_MARK = "sg_model.h"


@dataclass(frozen=True)
class CSources:
    """A folder of C that was written.

    Args:
        int8_bytes: size of the 8-bit weights, their scales and biases.
        table_bytes: size of the frontend's tables and the normalizations.
        multiply_adds_per_second: products with weights, without the features.
    """

    folder: Path
    labels: tuple[str, ...]
    parameters: int
    int8_bytes: int
    table_bytes: int
    multiply_adds_per_second: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "labels": list(self.labels),
            "parameters": self.parameters,
            "int8_bytes": self.int8_bytes,
            "table_bytes": self.table_bytes,
            "multiply_adds_per_second": self.multiply_adds_per_second,
        }


def write_c(model: SpeechGRU, folder: Path, name: str = "a model") -> CSources:
    """Write a model as C; the files of an earlier export are replaced.

    Args:
        name: of the model, for a comment.

    Raises:
        UsageError: the sources lack a layer or a head that the model has, or a file that would be
            replaced is not of an export.
        DataError: the model's own settings are invalid.
        SpeechGRUError: the folder cannot be written.
    """
    model = model.cpu()
    check_model(model)
    detector = _detector(model)
    _, policy = stream_settings(model.metadata, config=detector)
    tables = network_tables(model)
    sources = _tree(files("speechgru.export.c") / "source")
    _check_replaced(folder, [path for path, _ in sources])
    generated = {
        _MARK: header(model, tables, detector, policy, name),
        "sg_tables.c": tables_file(model, tables, detector),
        "sg_weights_float.c": weights_file(tables, int8=False),
        "sg_weights_int8.c": weights_file(tables, int8=True),
    }
    for file, text in generated.items():
        write_atomic(folder / "src" / file, text)
    for path, content in sources:
        write_atomic(folder / path, content)
    steps_per_second = model.sample_rate / model.step_samples
    return CSources(
        folder,
        model.labels,
        model.parameter_count,
        int8_bytes(tables),
        table_bytes(model, tables),
        round(model.multiply_adds * steps_per_second),
    )


def _check_replaced(folder: Path, paths: list[Path]) -> None:
    """Check that a folder without an earlier export has none of its files."""
    if (folder / "src" / _MARK).exists():
        return
    for path in paths:
        if (folder / path).exists():
            raise UsageError(
                f"--c {folder}: {path} is there already, and not of an earlier export; "
                "choose another folder"
            )


def check_model(model: SpeechGRU) -> None:
    """Check that the sources have everything that the model has.

    Raises:
        UsageError: they do not; the message names the setting.
    """
    model.check_streams()
    config, features = model.config, model.features.config
    if config.cell != "gru":
        raise UsageError(f'--c: the C sources have the cell "gru" only; this is {config.cell!r}')
    if features.fft_samples & (features.fft_samples - 1):
        raise UsageError(
            f"--c: features.fft_samples {features.fft_samples} must be a power of two in C"
        )
    if not model.vocabulary.words:
        raise UsageError("--c: the model has no words that could be events")
    _detector(model)


def _detector(model: SpeechGRU) -> DetectorConfig:
    if tuple(model.outputs) != ("classify",):
        raise UsageError(
            '--c: the C sources have a detector, which needs heads = ["classify"]; '
            f"the model has {', '.join(model.outputs)}"
        )
    info = ModelInfo(
        model.labels, model.outputs, model.sample_rate, model.step_samples, model.metadata
    )
    config = decoder_settings(info)
    assert isinstance(config, DetectorConfig)
    return config


def _tree(folder: Traversable, path: Path = Path()) -> list[tuple[Path, bytes]]:
    """Every file below a folder, with its path from there."""
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _tree(entry, path / entry.name)
        else:
            found.append((path / entry.name, entry.read_bytes()))
    return found
