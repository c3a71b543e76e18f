"""Piper (piper-tts): neural voices, each a file NAME.onnx beside NAME.onnx.json."""

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechgru.audio.samples import SAMPLE_RATE, Samples, to_mono
from speechgru.corpora.synthetic.engine import Delivery
from speechgru.errors import DataError, SpeechGRUError, UsageError

#: A file of many speakers counts as so many voices at most; some have hundreds.
_MOST_SPEAKERS = 200


class _Voice(NamedTuple):
    path: Path
    speaker: int | None


class Piper:
    """The voices of one language in a folder.

    Raises:
        SpeechGRUError: piper-tts is not installed.
        UsageError: the folder has no voice of the language.
        DataError: the description of a voice cannot be read.
    """

    name = "piper"

    def __init__(self, language: str, folder: Path | None) -> None:
        if not is_installed():
            raise SpeechGRUError("Piper is not installed (pip install piper-tts)")
        if folder is None:
            raise UsageError(
                "--engine piper: also needs --voices DIR, a folder of NAME.onnx files beside "
                "their NAME.onnx.json (python -m piper.download_voices)"
            )
        self._voices: dict[str, _Voice] = {}
        for path in sorted(folder.glob("*.onnx")):
            self._voices |= _described(path, language)
        if not self._voices:
            raise UsageError(
                f"--voices {folder}: no Piper voice of language {language} "
                "(NAME.onnx beside NAME.onnx.json)"
            )

    def voices(self) -> Sequence[str]:
        """Names of files, with the number of the speaker in files of several speakers."""
        return list(self._voices)

    def speak(self, text: str, voice: str, delivery: Delivery) -> Samples:
        """A text at 16 kHz, (S,); the pitch is changed by resampling."""
        from piper import SynthesisConfig

        path, speaker = self._voices[voice]
        loaded = _load(path)
        scale = delivery.pitch / delivery.speed * loaded.config.length_scale
        config = SynthesisConfig(speaker_id=speaker, length_scale=scale)
        try:
            chunks = [chunk.audio_float_array for chunk in loaded.synthesize(text, config)]
        except Exception as error:  # whatever ONNX Runtime and phonemizers raise
            raise SpeechGRUError(f"{path}: Piper cannot speak {text!r:.60}: {error}") from error
        frames = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        rate = round(loaded.config.sample_rate * delivery.pitch)
        return to_mono(frames, rate, SAMPLE_RATE, str(path))

    def phonemes(self, texts: Sequence[str]) -> list[str]:
        """How each text is pronounced, in IPA."""
        voice = _load(next(iter(self._voices.values())).path)
        return [" ".join("".join(sentence) for sentence in voice.phonemize(t)) for t in texts]


def is_installed() -> bool:
    """Whether the package is found; another package is named piper, too."""
    return find_spec("piper") is not None and find_spec("piper.voice") is not None


def _described(path: Path, language: str) -> dict[str, _Voice]:
    """The voices in a file, by name; none if it has no description, or speaks another language."""
    about = path.with_name(f"{path.name}.json")
    if not about.exists():
        return {}
    try:
        config = json.loads(about.read_text(encoding="utf-8"))
        of_language = str(config["espeak"]["voice"])
        speakers = int(config["num_speakers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{about}: not the description of a Piper voice: {error!r}") from error
    if not of_language.startswith(language):
        return {}
    if speakers <= 1:
        return {path.stem: _Voice(path, None)}
    return {f"{path.stem}-{i}": _Voice(path, i) for i in range(min(speakers, _MOST_SPEAKERS))}


@lru_cache(maxsize=4)
def _load(path: Path) -> Any:
    from piper import PiperVoice

    try:
        return PiperVoice.load(path)
    except Exception as error:  # whatever ONNX Runtime raises
        raise DataError(f"{path}: not a Piper voice: {error}") from error
