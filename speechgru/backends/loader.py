"""Opens a model's file, trained or exported, as a backend or a recognizer."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from speechgru.common.wording import did_you_mean
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.modelfile.bundled import bundled_model, bundled_models, find_model, why_no_model
from speechgru.modelfile.onnx import is_onnx
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import Recognizer, open_recognizer
from speechgru.recognition.speech import SpeechFinder

MODEL_SUFFIXES = (".onnx", ".safetensors")


def is_model(path: Path) -> bool:
    """Whether a path is a model, or should be one by its name; or a directory, perhaps of a run."""
    try:
        return path.suffix in MODEL_SUFFIXES or path.is_dir() or is_onnx(path)
    except OSError:  # the name is too long
        return False


def open_backend(path: Path, device: str = "cpu", threads: int = 1) -> Backend:
    """Open a model: exported (.onnx), or trained (.safetensors, which needs torch).

    Args:
        device: auto, cpu, cuda, cuda:N or mps; an exported model runs on the CPU.
        threads: cores for an exported model; torch has its own setting.

    Raises:
        DataError: the file is missing, truncated, damaged, not a speechgru model, or of a newer
            format.
        UsageError: there is no such device, or the model does not run there.
        SpeechGRUError: it needs torch, which is not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(why_no_model(path))
    if not path.exists() and path.suffix not in MODEL_SUFFIXES:
        near = did_you_mean(str(path), bundled_models())
        raise DataError(
            f"{path}: no such file, and no bundled model{near}; a model "
            f"({' or '.join(MODEL_SUFFIXES)}) is needed"
        )
    if is_onnx(path):
        if device not in ("auto", "cpu"):
            raise UsageError(f"--device {device}: {path} is an exported model; it runs on the CPU")
        from speechgru.backends.onnx import load_onnx

        return load_onnx(path, threads)
    try:
        from speechgru.backends.pytorch import TorchBackend
        from speechgru.backends.torch_device import select_device
        from speechgru.modelfile.safetensors import load_model
    except ModuleNotFoundError as error:
        raise SpeechGRUError(
            f"{path}: a trained model needs {error.name}, which is not installed; an exported one "
            "(.onnx) does not"
        ) from error

    return TorchBackend(load_model(path, select_device(device)))


def describe_model(path: Path) -> dict[str, Any]:
    """A model's header and what follows from it; reads the weights too, to find damage.

    Raises:
        DataError: as `open_backend`.
    """
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


def write_metadata(
    model: Path,
    metadata: Mapping[str, Any],
    output: Path | None = None,
    measured: Backend | None = None,
) -> None:
    """Write a model's file with other metadata, in place or to another file.

    Args:
        measured: the model that the metadata was found with, which must still be in the file.

    Raises:
        DataError: as `open_backend`, or the file has been replaced since `measured` was opened.
        SpeechGRUError: the file cannot be written.
    """
    current = open_backend(model)
    if measured is not None and current.header != measured.header:
        raise DataError(
            f"{model}: was replaced by another model in the meantime, to which these figures do "
            "not apply; nothing was written"
        )
    if is_onnx(model):
        from speechgru.common.files import write_atomic
        from speechgru.modelfile.onnx import with_header

        header = dict(current.header) | {"metadata": dict(metadata)}
        write_atomic(output or model, with_header(model.read_bytes(), header))
        return
    from speechgru.modelfile.safetensors import load_model, save_model

    network = load_model(model)
    network.metadata = dict(metadata)
    save_model(network, output or model)


@cache
def speech_finder() -> SpeechFinder:
    """How surely there is speech in a recording, as the bundled model hears it."""
    return SpeechFinder(open_backend(bundled_model()))


def load(path: str | Path | None = None) -> Recognizer:
    """A recognizer for a stream, from the bundled model or another one, with its own settings.

    Args:
        path: a model's file, the name of a model that ships with the package, or a run directory.

    Raises:
        DataError: as `open_backend`, or the model's own settings are invalid.
    """
    return open_recognizer(open_backend(bundled_model() if path is None else find_model(path)))
