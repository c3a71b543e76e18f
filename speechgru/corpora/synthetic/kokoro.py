"""Kokoro (kokoro-onnx): one network and a file of neural voices in several languages."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from speechgru.audio.samples import SAMPLE_RATE, Samples, to_mono
from speechgru.corpora.synthetic.engine import Delivery
from speechgru.errors import DataError, SpeechGRUError, UsageError

#: The first letter of a voice's name tells its language, as espeak-ng spells it.
LANGUAGES = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "cmn",
}
#: Of the network.
_MIN_SPEED, _MAX_SPEED = 0.5, 2.0


class Kokoro:
    """The voices of one language in a folder with `kokoro*.onnx` and `voices*.bin`.

    Raises:
        SpeechGRUError: kokoro-onnx is not installed.
        UsageError: the folder lacks a file, or has no voice of the language.
        DataError: a file cannot be opened.
    """

    name = "kokoro"

    def __init__(self, language: str, folder: Path | None) -> None:
        if not is_installed():
            raise SpeechGRUError("Kokoro is not installed (pip install kokoro-onnx)")
        if folder is None:
            raise UsageError(
                "--engine kokoro: also needs --voices DIR, a folder with kokoro-v1.0.onnx and "
                "voices-v1.0.bin"
            )
        networks, voices = sorted(folder.glob("*.onnx")), sorted(folder.glob("voices*.bin"))
        if not (networks and voices):
            missing = "voices*.bin" if networks else "*.onnx"
            raise UsageError(f"--voices {folder}: no file {missing} for Kokoro")
        self._kokoro = _load(networks[0], voices[0])
        self._voices = [
            name
            for name in sorted(self._kokoro.get_voices())
            if LANGUAGES.get(name[0], "").startswith(language)
        ]
        if not self._voices:
            raise UsageError(f"--voices {folder}: no Kokoro voice of language {language}")

    def voices(self) -> Sequence[str]:
        """Names such as "af_heart"."""
        return self._voices

    def speak(self, text: str, voice: str, delivery: Delivery) -> Samples:
        """A text at 16 kHz, (S,); the pitch is changed by resampling."""
        speed = min(max(delivery.speed / delivery.pitch, _MIN_SPEED), _MAX_SPEED)
        try:
            frames, rate = self._kokoro.create(text, voice, speed, LANGUAGES[voice[0]])
        except Exception as error:  # whatever ONNX Runtime and the phonemizer raise
            raise SpeechGRUError(f"Kokoro cannot speak {text!r:.60}: {error}") from error
        return to_mono(frames, round(rate * delivery.pitch), SAMPLE_RATE, f"Kokoro, {voice}")

    def phonemes(self, texts: Sequence[str]) -> list[str]:
        """How each text is pronounced, in IPA."""
        language = LANGUAGES[self._voices[0][0]]
        return [self._kokoro.tokenizer.phonemize(text, language) for text in texts]


def is_installed() -> bool:
    """Whether the package is found."""
    return find_spec("kokoro_onnx") is not None


def _load(network: Path, voices: Path) -> Any:
    import kokoro_onnx

    try:
        return kokoro_onnx.Kokoro(str(network), str(voices))
    except Exception as error:  # whatever ONNX Runtime and NumPy raise
        raise DataError(f"{network}, {voices}: cannot be opened as Kokoro: {error}") from error
