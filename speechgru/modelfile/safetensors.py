"""A trained model on disk: a safetensors file, with everything but the weights in its header."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from speechgru.audio.files import audio_suffixes
from speechgru.common.files import why_no_file, write_atomic
from speechgru.common.settings import describe
from speechgru.errors import DataError
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.bundled import find_model, why_no_model
from speechgru.modelfile.header import FORMAT_VERSION, KEY, parse_header
from speechgru.modelfile.onnx import is_onnx


def save_model(model: SpeechGRU, path: Path) -> None:
    """Write a model atomically.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _stored(model).items()}
    write_atomic(Path(path), save(tensors, {KEY: json.dumps(header_of(model))}))


def header_of(model: SpeechGRU) -> dict[str, Any]:
    """Everything in a model except its weights, as its file has it."""
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
    """Read the header of a model's file, without the weights.

    Raises:
        DataError: missing, truncated, not a speechgru model, or of a newer format.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(why_no_model(path))
    if not path.is_file():
        raise DataError(f"{path}: {why_no_file(path)}; a model (.safetensors) is needed")
    if is_onnx(path):
        raise DataError(f"{path}: an exported model; the trained one (.safetensors) is needed here")
    if path.suffix.lower() in audio_suffixes():
        raise DataError(f"{path}: is a recording; a model (.onnx or .safetensors) is needed here")
    try:
        with safe_open(path, framework="pt") as file:
            raw = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a complete safetensors file: {error}") from error
    try:
        return parse_header(raw, "a safetensors")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def load_model(path: Path, device: torch.device | str = "cpu") -> SpeechGRU:
    """Read a model, ready to recognize (evaluation mode): a file, or the best of a run directory.

    Raises:
        DataError: missing, truncated, not a speechgru model, of a newer format, or inconsistent.
    """
    path = find_model(path, trained=True)
    header = read_header(path)
    try:
        config = ModelConfig.model_validate(header["model"])
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if sum(tensor.numel() for tensor in stored.values()) < _fewest_weights(config, header):
            raise DataError("the weights are fewer than the configuration needs")
        model = SpeechGRU(
            config,
            FeatureConfig.model_validate(header["features"]),
            header["labels"],
            header["unknown_words"],
            header["metadata"],
        )
    except (DataError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: the model is inconsistent: {_reason(error)}") from error
    expected = {name: (tensor.dtype, tensor.shape) for name, tensor in _stored(model).items()}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in stored.items()}
    if expected != found:
        names = (n for n in expected | found if expected.get(n) != found.get(n))
        raise DataError(
            f"{path}: the weights do not fit the configuration, first at {min(names)!r:.80}"
        )
    if not all(torch.isfinite(tensor).all() for tensor in stored.values()):
        raise DataError(f"{path}: a weight is not finite; the file is damaged")
    model.load_state_dict(stored, strict=False)
    return model.to(device).eval()


def _fewest_weights(config: ModelConfig, header: dict[str, Any]) -> int:
    """A lower bound, so that a small file cannot ask for the memory of a huge network."""
    layers = config.layers * 2 * config.hidden**2  # of the smallest cell
    convs = sum(a * b for a, b in pairwise((1, *config.front_channels)))
    labels = len(header["labels"]) + len(header["unknown_words"])
    return layers + (config.front == "conv") * convs + labels * ("classify" in config.heads)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        config = ModelConfig if error.title == ModelConfig.__name__ else FeatureConfig
        return f"{error.title}: {describe(error, config)}"
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _stored(model: SpeechGRU) -> dict[str, torch.Tensor]:
    """The state dictionary without what follows from the configuration."""
    state = model.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("features.")}
