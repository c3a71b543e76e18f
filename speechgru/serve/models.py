"""The models that a server offers, by name."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechgru.backends.loader import describe_model, open_backend, write_metadata
from speechgru.decoding.detector import DetectorConfig
from speechgru.decoding.factory import DecoderConfig, decoder_settings, head_of, make_decoder
from speechgru.errors import UsageError
from speechgru.modelfile.bundled import bundled_model, find_model, is_bundled
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import stream_settings
from speechgru.recognition.state_policy import StatePolicy

#: Characters allowed in a name, which appears in URLs and in metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ServedModel:
    """An open model, with the settings of a stream that asks for no others."""

    name: str
    path: Path
    backend: Backend
    config: DecoderConfig
    policy: StatePolicy

    @property
    def is_bundled(self) -> bool:
        """Whether it is one of the package's own models."""
        return is_bundled(self.path)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that can be an event."""
        return self.backend.info.words

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the columns of a stream's log-posteriors, (V,)."""
        return tuple(self.backend.outputs[head_of(self.config)])

    @property
    def step_s(self) -> float:
        """Seconds from one answer to the next."""
        return self.backend.info.step_s

    def with_thresholds(
        self, threshold: float | None = None, thresholds: Mapping[str, float] | None = None
    ) -> DecoderConfig:
        """The decoder's settings with another threshold for all words, or thresholds for some.

        Raises:
            UsageError: the model does not have a word, or a threshold is out of range.
        """
        single = {} if threshold is not None else dict(self.config.thresholds)
        single |= thresholds or {}
        single = {unicodedata.normalize("NFC", word): value for word, value in single.items()}
        for word, value in single.items():
            if word not in self.words:
                raise UsageError(
                    f"threshold: the model has no word {word!r:.60}; it has {', '.join(self.words)}"
                )
            _check_threshold(word, value)
        if threshold is not None:
            _check_threshold("", threshold)
        general = self.config.threshold if threshold is None else float(threshold)
        return self.config.model_copy(update={"threshold": general, "thresholds": single})

    def with_config(self, config: DecoderConfig) -> "ServedModel":
        """The same model with other settings for new streams."""
        return replace(self, config=config)

    def thresholds(self) -> dict[str, float]:
        """The threshold of each word."""
        return {word: self.config.threshold_for(word) for word in self.words}


def open_models(texts: Sequence[str] = ()) -> dict[str, ServedModel]:
    """Open models by file, run directory or bundled name; `NAME=FILE` gives one another name.

    Without arguments this opens the bundled model. The first model is the default.

    Raises:
        DataError: a model cannot be read, or its own settings are invalid.
        UsageError: a name is not allowed or used twice, or a model needs whole clips.
    """
    models: dict[str, ServedModel] = {}
    for name, path in map(_split, texts or [str(bundled_model())]):
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"model name {name!r:.60}: up to 64 letters, digits, '.', '_' or '-' are needed; "
                "NAME=FILE gives a model another name"
            )
        if name in models:
            raise UsageError(f"two models are called {name}; NAME=FILE gives one another name")
        models[name] = open_model(name, path)
    return models


def open_model(name: str, path: Path) -> ServedModel:
    """Open a model and check that it runs on streams.

    Raises:
        DataError: it cannot be read, or its own settings are invalid.
        UsageError: it needs whole clips.
    """
    backend = open_backend(path)
    backend.check_streams()
    config = decoder_settings(backend.info)
    make_decoder(backend.info, config)
    _, policy = stream_settings(backend.metadata, config=config)
    return ServedModel(name, path, backend, config, policy)


def keep_thresholds(
    model: ServedModel, thresholds: Mapping[str, float]
) -> tuple[ServedModel, str | None]:
    """Change thresholds of some words, also in the model's file unless that is bundled.

    Returns the new model, and None or a sentence that says why the file was not changed.

    Raises:
        DataError: the file can no longer be read.
        SpeechGRUError: it cannot be written.
        UsageError: a word that the model does not have, or a threshold out of range.
    """
    changed = model.with_config(model.with_thresholds(thresholds=thresholds))
    if model.is_bundled:
        return changed, (
            f"{model.name} is bundled, so its file stays as it is: the thresholds hold until the "
            "server stops. Serve a copy to keep them"
        )
    if not isinstance(changed.config, DetectorConfig):
        return changed, "thresholds of a CTC decoder hold until the server stops"
    found = describe_model(model.path)
    if _network(found) != _network(model.backend.header):
        raise UsageError(
            f"{model.path}: holds another model than when the server opened it; restart the server"
        )
    metadata = found["metadata"]  # it may have been calibrated since
    settings = dict(metadata.get("decoder", {}))
    settings["thresholds"] = {**settings.get("thresholds", {}), **thresholds}
    config = DetectorConfig.parse(settings, f"{model.path}: the decoder's settings")
    write_metadata(model.path, {**metadata, "decoder": settings})
    return model.with_config(config), None


def _network(header: Mapping[str, Any]) -> list[object]:
    """What tells a model from another one, also of the same words."""
    found = {**header, **header["metadata"]}
    return [found.get(key) for key in ("labels", "graph", "provenance", "metrics")]


def model_names(models: Iterable[ServedModel]) -> str:
    """The names of models, for a message."""
    return ", ".join(model.name for model in models)


def _split(text: str) -> tuple[str, Path]:
    name, separator, file = text.partition("=")
    if separator and not Path(text).exists():
        return name, find_model(file)
    path = find_model(text)
    generic = path.stem == "model" and path.parent.name
    return (path.parent.name if generic else path.stem), path


def _check_threshold(word: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        name = f"threshold {word}" if word else "threshold"
        raise UsageError(f"{name} {value!r:.40}: a number above 0 and up to 1 is needed")
