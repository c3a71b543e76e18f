"""A model on disk: one safetensors file, weights with everything else as JSON in its header."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from speechgru.common.files import write_atomic
from speechgru.common.settings import describe
from speechgru.errors import DataError
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.header import FORMAT_VERSION, KEY, parse_header


def save_model(model: SpeechGRU, path: Path) -> None:
    """Write a model atomically.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _stored(model).items()}
    write_atomic(Path(path), save(tensors, {KEY: json.dumps(header_of(model))}))


def header_of(model: SpeechGRU) -> dict[str, Any]:
    """All of a model but its weights."""
    return {
        "format_version": FORMAT_VERSION,
        "labels": list(model.labels),
        "unknown_words": list(model.unknown_words),
        "outputs": {head: list(labels) for head, labels in model.outputs.items()},
        "features": model.features.config.model_dump(),
        "model": model.config.model_dump(mode="json"),
        "metadata": model.metadata,
    }


def read_header(path: Path) -> dict[str, Any]:
    """What a model file says of itself, without its weights.

    Raises:
        DataError: missing, truncated, not a speechgru model, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}; a model (.safetensors) is needed")
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a whole safetensors file: {error}") from error
    try:
        return parse_header(raw, "a safetensors")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def load_model(path: Path, device: torch.device | str = "cpu") -> SpeechGRU:
    """Read a model, ready to recognize (evaluation mode).

    Raises:
        DataError: missing, truncated, not a speechgru model, of a newer format, or inconsistent.
    """
    path = Path(path)
    header = read_header(path)
    try:
        model = SpeechGRU(
            ModelConfig.model_validate(header["model"]),
            FeatureConfig.model_validate(header["features"]),
            header["labels"],
            header["unknown_words"],
            header["metadata"],
        )
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (DataError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: the model is inconsistent: {_reason(error)}") from error
    expected = {name: tensor.shape for name, tensor in _stored(model).items()}
    found = {name: tensor.shape for name, tensor in stored.items()}
    if expected != found:
        odd = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise DataError(f"{path}: the weights do not fit the configuration, first at {odd!r}")
    if not all(torch.isfinite(tensor).all() for tensor in stored.values()):
        raise DataError(f"{path}: a weight is not finite; the file is damaged")
    model.load_state_dict(stored, strict=False)
    return model.to(device).eval()


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        config = ModelConfig if error.title == ModelConfig.__name__ else FeatureConfig
        return f"{error.title}: {describe(error, config)}"
    return str(error).splitlines()[0]


def _stored(model: SpeechGRU) -> dict[str, torch.Tensor]:
    """The state dictionary without what the configuration alone determines."""
    state = model.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("features.")}
