"""Chooses a speech engine among those installed."""

from pathlib import Path
from typing import Literal, get_args

from speechgru.corpora.synthetic import espeak, kokoro, piper
from speechgru.corpora.synthetic.engine import Engine
from speechgru.errors import SpeechGRUError, UsageError

EngineName = Literal["espeak-ng", "piper", "kokoro"]


def open_engine(name: str | None, language: str, voices: Path | None) -> Engine:
    """The engine of that name; without a name the one that `voices` belong to, else espeak-ng.

    Args:
        language: as espeak-ng spells it, such as "en" or "en-gb".
        voices: the folder with the files of Piper or Kokoro.

    Raises:
        UsageError: there is no such engine or folder, or no voice of the language.
        SpeechGRUError: the engine is not installed; no engine is.
    """
    if name is not None and name not in get_args(EngineName):
        raise UsageError(f"--engine {name}: {', '.join(get_args(EngineName))} are known")
    if voices is not None and not voices.is_dir():
        raise UsageError(f"--voices {voices}: not a folder")
    if name == "espeak-ng" and voices is not None:
        raise UsageError("--voices: goes with --engine piper or kokoro")
    match name or _guess(voices):
        case "piper":
            return piper.Piper(language, voices)
        case "kokoro":
            return kokoro.Kokoro(language, voices)
        case _:
            return espeak.Espeak(language)


def _guess(voices: Path | None) -> str:
    if voices is not None:
        for name, files in (("kokoro", "voices*.bin"), ("piper", "*.onnx.json")):
            if any(voices.glob(files)):
                return name
        raise UsageError(f"--voices {voices}: holds no voice of Piper or Kokoro")
    if espeak.is_installed():
        return "espeak-ng"
    installed = {"piper": piper.is_installed(), "kokoro": kokoro.is_installed()}
    if found := [name for name, is_there in installed.items() if is_there]:
        raise UsageError(f"{' and '.join(found)} also need --voices DIR, a folder with voices")
    raise SpeechGRUError(
        "no speech engine is installed: apt-get install espeak-ng, or pip install piper-tts or "
        "kokoro-onnx and name their voices with --voices DIR"
    )
